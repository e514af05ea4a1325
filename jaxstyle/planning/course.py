"""How an image's optimisation went: its loss by term after some evaluations, and how full its batches were."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxstyle.data.rows import Row

MOST = 12
"""Most points of a row's curve: with three terms about 350 bytes."""
DIGITS = 3
"""Significant digits of a loss there."""
MOST_LOSS = 1e30
"""A larger loss is no point: before its first evaluation a lane has the largest float32."""
FLOOR = 1e-6
"""Share of the total below which a term's changes are not looked at."""


class Point(NamedTuple):
    """The loss by term of the best image so far, weights applied, after some evaluations of the image."""

    evaluations: int
    terms: Mapping[str, float]


class Course(NamedTuple):
    """What was recorded of an image at the ends of its chunks.

    Attributes:
        points: in the order of their evaluations.
        stages: evaluations after which each stage but the first began.
        busy: seconds in which its lane worked on it.
        offered: its share of the seconds of all lanes of its batches: each chunk's time, times the lanes, divided by
            the lanes with an image. Over all images, `busy` / `offered` is the share of the lanes that were occupied.
    """

    points: tuple[Point, ...] = ()
    stages: tuple[int, ...] = ()
    busy: float = 0.0
    offered: float = 0.0

    @classmethod
    def of(cls, row: Row) -> Course:
        """The course that a row tells of, where its columns are of one length."""
        columns = {name: values for name, values in row.curve.items() if name != "stages"}
        spent = columns.pop("evaluations", ())
        terms = {name: values for name, values in columns.items() if len(values) == len(spent)}
        points = (Point(int(n), {name: values[k] for name, values in terms.items()}) for k, n in enumerate(spent))
        stages = tuple(sorted(set(map(int, row.curve.get("stages", ())))))
        return cls(tuple(points) if terms else (), stages, *row.lane_time)

    def after(self, evaluations: int, terms: Mapping[str, float], busy: float, offered: float) -> Course:
        """The course after one more chunk, which took so many seconds of lanes. Its points stay few."""
        points = self.points
        if terms and abs(sum(terms.values())) < MOST_LOSS:
            points = (*points, Point(evaluations, terms))
        points = points if len(points) < 2 * MOST else thinned(points, self.stages)
        return self._replace(points=points, busy=self.busy + busy, offered=self.offered + offered)

    def then(self, stage: Course, before: int) -> Course:
        """The course with that of another stage.

        Args:
            before: evaluations before that stage.
        """
        later = (one._replace(evaluations=one.evaluations + before) for one in stage.points)
        stages = (*self.stages, before) if before else self.stages
        points = thinned((*self.points, *later), stages)
        return Course(points, stages, self.busy + stage.busy, self.offered + stage.offered)

    def fields(self) -> dict[str, Any]:
        """The fields of a row, see `data.rows.Row`."""
        points, curve = thinned(self.points, self.stages), {}
        if points:
            names = dict.fromkeys(name for one in points for name in one.terms)
            curve = {name: tuple(float(f"{one.terms.get(name, 0.0):.{DIGITS}g}") for one in points) for name in names}
            curve |= {"evaluations": tuple(one.evaluations for one in points)}
            curve |= {"stages": self.stages} if self.stages else {}
        occupancy = float(f"{self.busy / self.offered:.{DIGITS}g}") if self.offered else 0.0
        return {"curve": curve, "occupancy": occupancy, "lane_seconds": float(f"{self.offered:.{DIGITS}g}")}


NO_COURSE = Course()


def thinned(points: Sequence[Point], stages: Sequence[int]) -> tuple[Point, ...]:
    """Leaves out points beyond `MOST`, one after the other that with the least area between its neighbours (Visvalingam
    and Whyatt 1993), as a chart with a logarithmic axis has it.

    The first and the last point of all stages stay as long as there are others.
    """
    if len(points) <= MOST:
        return tuple(points)
    names = tuple(dict.fromkeys(name for one in points for name in one.terms))
    kept, corners = list(points), [_Corner(one.evaluations, _heights(one, names)) for one in points]
    areas = [math.inf, *(_area(corners[n - 1 : n + 2], stages) for n in range(1, len(kept) - 1)), math.inf]
    while len(kept) > MOST:
        least = min(range(1, len(kept) - 1), key=areas.__getitem__)
        del kept[least], corners[least], areas[least]
        for n in {max(least - 1, 1), min(least, len(kept) - 2)}:
            areas[n] = _area(corners[n - 1 : n + 2], stages)
    return tuple(kept)


class _Corner(NamedTuple):
    """A point of the chart: its evaluations, and the logarithm of each term."""

    at: int
    heights: tuple[float, ...]


def _heights(point: Point, names: Sequence[str]) -> tuple[float, ...]:
    least = max(FLOOR * sum(point.terms.values()), 1e-30)
    return tuple(math.log(max(point.terms.get(name, 0.0), least)) for name in names)


def _area(corners: Sequence[_Corner], stages: Sequence[int]) -> float:
    """Twice the area of the triangle of three points, of the term that has the largest; infinite at a stage's end."""
    before, point, after = corners
    if stages and any(before.at <= stage < after.at for stage in stages):
        return math.inf
    left, right = point.at - before.at, after.at - point.at
    heights = zip(before.heights, point.heights, after.heights, strict=True)
    return max(abs((left + right) * here - right * first - left * last) for first, here, last in heights)
