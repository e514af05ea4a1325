"""The plan of a run: every input becomes a job, or a row that says why not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxstyle.data.annotations import Annotations
from jaxstyle.data.image import Header, Size
from jaxstyle.data.layout import is_reserved
from jaxstyle.data.ledger import Ledger
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import Input, Locator, printable
from jaxstyle.data.styles import output_key
from jaxstyle.decode.reader import Reader
from jaxstyle.decode.worker import UNKNOWN, Probed, Stat
from jaxstyle.planning import scales
from jaxstyle.planning.contract import Group
from jaxstyle.planning.course import NO_COURSE, Course
from jaxstyle.planning.preflight import Ready, is_unchanged, row_to_continue
from jaxstyle.settings import RenderSettings

GROUP = 64
"""Most headers that are asked for at a time."""
ITS_STYLE = "its style cannot be read"
"""Reason of an input whose style may not be replaced by another."""
NOT_A_PICTURE = "not a picture"
"""How the reason begins for which an input is skipped by its content."""


_NOTHING_SPENT: dict[str, Any] = {"evaluations_before": 0, "seconds_before": 0.0, "course": NO_COURSE}


class Before(NamedTuple):
    """A frame whose output has been written: its key and its locator."""

    key: str
    locator: Locator


@dataclass(frozen=True)
class Job:
    """One picture to render.

    Attributes:
        key, locator, image, style, position, plain: see `data.sources.base.Input`.
        length, modified: stamp of the input, in bytes and nanoseconds.
        header: of the picture.
        stages: at which sizes it is optimised, in their order.
        note: for its row.
        stage: index of the stage that it is at.
        previous: image that the stage before made, H x W x 3 float32 of that stage's working size; None at the first.
        evaluations_before, seconds_before, course: of the stages before, what was spent and how it went.
        first_problem: what was wrong with a first try; empty on the first.
        shot: see `data.sources.base.Input`.
        before: the last frame of its shot before it that has an output.
        continued: row of the output that it starts from, whose evaluations and seconds count as spent; else None.
    """

    key: str
    locator: Locator
    length: int
    modified: int
    header: Header
    stages: tuple[scales.Stage, ...]
    note: str = ""
    image: str = ""
    style: str = ""
    position: int = 0
    stage: int = 0
    previous: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)
    evaluations_before: int = 0
    seconds_before: float = 0.0
    course: Course = NO_COURSE
    first_problem: str = ""
    shot: str = ""
    before: Before | None = None
    continued: Row | None = None
    plain: str = ""

    @property
    def work(self) -> Size:
        """The working size of its present stage."""
        return self.stages[self.stage].work

    @property
    def bucket(self) -> Size:
        """The size of the array of its present stage."""
        return self.stages[self.stage].bucket

    @property
    def evaluations(self) -> int:
        """The budget of its present stage."""
        return self.stages[self.stage].evaluations

    @property
    def last(self) -> bool:
        """Whether its present stage is the last."""
        return self.stage == len(self.stages) - 1

    @property
    def group(self) -> Group:
        """The tasks that it can be optimised beside."""
        return Group(self.bucket, bool(self.first_problem), self.stage, not self.last)

    def next_stage(self, made: np.ndarray, evaluations: int, seconds: float, course: Course = NO_COURSE) -> Job:
        """The job of the next stage.

        Args:
            made: image of the present stage, H x W x 3 of its working size.
            evaluations, seconds: spent in the present stage.
            course: of the present stage.
        """
        return dataclasses.replace(
            self,
            stage=self.stage + 1,
            previous=made,
            evaluations_before=self.evaluations_before + evaluations,
            seconds_before=self.seconds_before + seconds,
            course=self.course.then(course, self.evaluations_before),
        )

    def second_try(self, problem: str) -> Job:
        """The job begun again, with more care."""
        again = dataclasses.replace(self, stage=0, previous=None, first_problem=problem, **_NOTHING_SPENT)
        return again if self.continued is None else again._spent_by(self.continued)

    def continuing(self, row: Row) -> Job:
        """The job that takes an output up to the evaluations of all its stages, at its last stage."""
        rest = sum(stage.evaluations for stage in self.stages) - row.evaluations
        return dataclasses.replace(
            self,
            stages=(self.stages[-1]._replace(evaluations=rest),),
            continued=row,
        )._spent_by(row)

    def _spent_by(self, row: Row) -> Job:
        spent: dict[str, Any] = {
            "evaluations_before": row.evaluations,
            "seconds_before": row.seconds,
            "course": Course.of(row),
        }
        return dataclasses.replace(self, **spent)

    def with_header(self, header: Header, settings: RenderSettings) -> Job:
        """The job of a picture that has another header than was planned."""
        job = dataclasses.replace(self, header=header, stages=scales.stages(header, settings))
        return job if self.continued is None else job.continuing(self.continued)

    def begun_anew(self, settings: RenderSettings, note: str) -> Job:
        """The job from its first stage on, without the output that it was to continue."""
        job = dataclasses.replace(self, continued=None, **_NOTHING_SPENT)
        return dataclasses.replace(
            job.with_header(self.header, settings), note="; ".join(filter(None, (self.note, note)))
        )

    def in_style(self, style: str, output_format: str) -> Job:
        """The job with another style."""
        several = self.image not in ("", self.plain)
        plain = output_key(self.image, style) if several else self.plain or self.key
        key = kinds.output_name(plain, output_format)
        return dataclasses.replace(self, key=key, style=style, plain="" if key == plain else plain)

    def output_size(self, settings: RenderSettings) -> Size:
        """Width and height of the picture that will be written."""
        return (self.header.width, self.header.height) if settings.output_size == "input" else self.stages[-1].work


class Unchanged(NamedTuple):
    """An input that an earlier run has finished and that has not changed since; `frame` is the input if it is one."""

    key: str
    frame: Input | None = None


def planned(
    ready: Ready,
    before: Ledger,
    reader: Reader,
    inputs: Iterable[Input],
    watch: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Job | Row | Unchanged]:
    """The plan of a run, given the rows of earlier runs into its folder. See `plan`.

    Args:
        watch: a context for each call of storage, given what it does.
    """

    def unchanged(one: Input) -> bool:
        with watch(f"looking at the input {printable(one.key)}"):
            return is_unchanged(one, before, ready)

    def to_continue(one: Input) -> Row | None:
        with watch("reading the manifest"):
            return row_to_continue(one, before, ready)

    found = plan(inputs, ready.settings, unchanged, reader, to_continue)
    return found if ready.annotations is None else map(partial(_if_fit, annotations=ready.annotations), found)


def _if_fit(one: Job | Row | Unchanged, annotations: Annotations) -> Job | Row | Unchanged:
    """A job, or its row if the picture has another size than its annotations are for."""
    if not isinstance(one, Job) or one.continued is not None:  # whose output is there already
        return one
    problem = annotations.misfit(one.image or one.key, (one.header.width, one.header.height))
    stat = Stat(one.length, one.modified)
    failed = Input(one.key, one.locator, image=one.image, style=one.style, note=one.note)
    return _row(failed, "failed", problem, stat) if problem else one


def plan(
    inputs: Iterable[Input],
    settings: RenderSettings,
    unchanged: Callable[[Input], bool],
    reader: Reader,
    to_continue: Callable[[Input], Row | None] = lambda one: None,
) -> Iterator[Job | Row | Unchanged]:
    """A job or a row for every input that has changed, in their order. Reads headers only.

    Headers are read for groups of inputs that grow, so that the first jobs come at once. After a frame that has changed
    all of its shot count as changed, since each starts from the one before.

    Args:
        unchanged: whether an input has its row already and need not be looked at.
        reader: reads the headers.
        to_continue: the row of an unchanged input whose output is to be optimised further, or None.
    """
    waiting = iter(inputs)
    size, changed = 4, ""
    while group := list(itertools.islice(waiting, size)):
        size = min(2 * size, GROUP)
        past: list[bool | Row] = []
        for one in group:
            same = (not one.shot or one.shot != changed) and unchanged(one)
            past.append(same and (to_continue(one) or same))
            if one.shot and not same:
                changed = one.shot
        asked = [one for one, old in zip(group, past, strict=True) if old is not True]
        opened = [one.locator for one in asked if not (one.failed or one.skipped)]
        probed = iter(reader.probe(opened))
        for one, old in zip(group, past, strict=True):
            if old is True:
                yield Unchanged(one.key, one if one.shot else None)
            elif isinstance(old, Row):
                job = _judge(one, next(probed), settings)
                yield job.continuing(old) if isinstance(job, Job) else Unchanged(one.key)
            elif one.failed or one.skipped:
                yield _row(one, "failed" if one.failed else "skipped", one.failed or one.skipped)
            else:
                yield _judge(one, next(probed), settings)


def _judge(one: Input, probed: Probed, settings: RenderSettings) -> Job | Row:
    """A job, or a row: what nobody calls a picture is skipped, and a picture that cannot be rendered has failed."""
    own, named = one.key.split("/")[0], one.image or one.key
    if probed.header is None:
        kind = kinds.by_name(named)
        if not probed.picture and not kind:
            return _row(one, "skipped", f"{NOT_A_PICTURE}: {probed.problem}", probed.stat)
        unread = not probed.picture and not kinds.is_read(kind)
        problem = f"is {kind} by its name, which is not read. {kinds.remedy(kind)}" if unread else probed.problem
        return _row(one, "failed", problem, probed.stat)
    stat, header = probed.stat, probed.header
    if is_reserved(one.key):
        return _row(one, "failed", f"its output would take the place of the run's own {own}: rename it", stat)
    if problem := kinds.refused(named, header.format, settings.output_format):
        return _row(one, "failed", problem, stat)
    stages = scales.stages(header, settings)
    note = "; ".join(filter(None, (one.note, kinds.naming_note(named, header.format, settings.output_format))))
    return Job(
        one.key, one.locator, stat.length, stat.modified, header, stages, note, one.image, one.style, one.position,
        shot=one.shot, plain=one.plain,
    )  # fmt: skip


def skipped_kind(row: Row) -> str:
    """What a skipped input is, in a word: its extension, or the reason where that says more."""
    if row.reason.startswith(NOT_A_PICTURE):
        name = row.image or row.key
        return f".{kinds.extension(name)}" if kinds.extension(name) else "without an extension"
    return row.reason


def _row(one: Input, status: Literal["skipped", "failed"], reason: str, stat: Stat = UNKNOWN) -> Row:
    notes = (one.note,) if one.note else ()
    return Row(
        one.key, status, reason, one.image, one.style, input_bytes=stat.length, input_modified=stat.modified,
        notes=notes,
    )  # fmt: skip
