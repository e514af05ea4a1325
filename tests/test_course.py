"""What is recorded of an image on its way: few points that a chart needs, and the share of lanes that were occupied."""

import dataclasses
import math

import pytest
from counting import Rig, clock  # noqa: F401

from jaxstyle.data.rows import Row, parse
from jaxstyle.planning import course
from jaxstyle.planning.course import MOST, NO_COURSE, Course, Point


def falling(number, terms=lambda n: {"content": 2.0, "style": 100 / n**2}):
    """A course of so many chunks of one evaluation, each a second in two lanes of which one is occupied."""
    made = NO_COURSE
    for n in range(1, number + 1):
        made = made.after(n, terms(n), 1.0, 2.0)
    return made


def test_of_many_chunks_a_row_has_few_points_and_the_chart_is_the_same():
    """The loss falls as n ** -2, by 6 powers of ten, of which the chart misses less than a line's width on average."""
    many = falling(1000)
    assert len(many.points) < 2 * MOST
    curve = many.fields()["curve"]
    spent = curve["evaluations"]
    assert {len(values) for values in curve.values()} == {MOST} and (spent[0], spent[-1]) == (1, 1000)
    assert list(spent) == sorted(set(spent)) and spent[1] < 10 and spent[-2] > 300
    missed = 0.0
    for n in range(1, 1000):
        k = next(k for k, at in enumerate(spent) if at > n)
        part = (n - spent[k - 1]) / (spent[k] - spent[k - 1])
        line = (1 - part) * math.log(curve["style"][k - 1]) + part * math.log(curve["style"][k])
        missed += abs(line - math.log(100 / n**2)) / 1000
    assert missed < math.log(1e6) * 1.8 / 140  # the line's width and the chart's height


def test_losses_have_three_digits_and_what_is_no_loss_is_no_point():
    found = falling(4, lambda n: {"style": [3e38, math.nan, 1.23456, 1e-7 / 3][n - 1]}).fields()
    assert found == {"curve": {"style": (1.23, 3.33e-8), "evaluations": (3, 4)}, "occupancy": 0.5, "lane_seconds": 8.0}
    assert NO_COURSE.fields() == {"curve": {}, "occupancy": 0.0, "lane_seconds": 0.0}


def test_stages_follow_one_another_and_their_ends_stay():
    two = NO_COURSE.then(falling(90), 0).then(falling(60, lambda n: {"style": 1 / n, "new": 1.0}), 90)
    found = two.fields()["curve"]
    assert found["stages"] == (90,) and {1, 90, 91, 150} <= set(found["evaluations"])
    assert len(found["evaluations"]) == MOST and found["new"][0] == 0.0 and found["content"][-1] == 0.0
    many = NO_COURSE
    for before in range(MOST):
        many = many.then(falling(1), before)
    assert len(many.then(falling(1), MOST).fields()["curve"]["evaluations"]) == MOST  # of however many stages


def test_an_image_that_is_continued_keeps_its_curve():
    """The row's course is that of the row's fields; rows of older versions, and odd ones, have none."""
    row = Row("a.png", "done", **falling(9).then(falling(3), 9).fields())
    assert Course.of(row).fields() == {"curve": row.curve, "occupancy": 0.5, "lane_seconds": 24.0}
    twice = Course.of(row).then(falling(5), 12)
    assert twice.points[-1] == Point(17, {"content": 2.0, "style": 4.0}) and twice.stages == (9, 12)
    assert twice.busy == pytest.approx(0.5 * 24 + 5) and twice.offered == 24 + 10
    assert Course.of(Row("a.png", "done", seconds=3.0, batch=4)) == NO_COURSE
    for occupancy, seconds in [(-3.0, 1.0), (1e299, 1e299), (0.5, 1e299), (0.5, -1.0)]:
        assert Course.of(Row("a.png", "done", occupancy=occupancy, lane_seconds=seconds)) == NO_COURSE
    odd = parse(b'{"key": "a", "status": "done", "curve": {"evaluations": [1, 2], "style": [1], "tv": [3.5, 2]}}')
    assert Course.of(odd).fields()["curve"] == {"tv": (3.5, 2.0), "evaluations": (1, 2)}
    none = dataclasses.replace(odd, curve={"evaluations": (1, 2), "stages": (4,)})
    assert Course.of(none).points == ()
    assert Course.of(dataclasses.replace(odd, curve={"stages": (3, 1, 3)})).stages == (1, 3)


@pytest.mark.parametrize(("lengths", "shrink"), [([10, 20, 30, 20, 10, 10, 40, 7], False), ([5, 9, 30], True)])
def test_the_rows_occupancy_is_that_of_the_run(lengths, shrink):
    """Weighted by the seconds of lanes, the rows' shares have the mean that the scheduler counts tick by tick."""
    rig = Rig(lengths, batch=4, budget=40, shrink=shrink, tick=0.1)  # lanes end within chunks of ten ticks
    ended = rig.all(pending=4)
    busy, offered = (sum(getattr(one.course, name) for one in ended) for name in ("busy", "offered"))
    assert 0.3 < rig.occupancy < 1 and busy / offered == pytest.approx(rig.occupancy)
    for one in ended:
        n = one.task.number
        assert one.course.points[-1] == (one.evaluations, {"content": n / 4, "style": 0.75 * n})
        if not shrink:
            assert one.course.offered == pytest.approx(4 * one.seconds)


def test_lanes_that_end_before_their_chunk_were_occupied_to_the_end():
    """The device stops where no lane runs, so that one image after the other in one lane is 1."""
    rig = Rig([12, 14, 13, 12], batch=1, budget=40, tick=0.1)
    ended = rig.all()
    assert rig.occupancy == 1 and [one.course.fields()["occupancy"] for one in ended] == [1.0] * 4
    assert max(rig.device.ticks) == 10  # a chunk takes a second


def test_points_are_at_the_ends_of_chunks_which_stay_where_they_were():
    rig = Rig([40, 40], batch=2, budget=40, tick=0.1)
    first, _ = rig.all()
    assert rig.device.ticks == [1, 10, 10, 10, 9]
    assert [one.evaluations for one in first.course.points] == [1, 11, 21, 31, 40]
    assert course.MOST == 12  # as docs and rows say
