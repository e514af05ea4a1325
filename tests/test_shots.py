"""Frames in the queues: each waits for the one before, no wait is forever, and nothing is kept of finished shots."""

from collections import deque
from dataclasses import dataclass

import pytest
from test_queues import asleep, waiting

from jaxstyle.engine.queues import Queues
from jaxstyle.engine.shots import Shots
from jaxstyle.planning.contract import Group
from jaxstyle.planning.plan import Before

A = Group((32, 32))


@dataclass(frozen=True)
class Frame:
    """A job, as far as queues look at it."""

    key: str
    shot: str = "f#"
    style: str = ""
    before: Before | None = None
    group: Group = A

    @property
    def locator(self):
        return f"in/{self.key}"


def queues_of(*frames, batch=4, window=20):
    queues = Queues(lambda _: batch, window=window)
    for frame in frames:
        queues.offer(frame)
    return queues


def served(queues):
    """Takes one frame through decoder and device."""
    group, frame = queues.job()
    queues.decoded(group, frame)
    return queues.take(group, 0)


def test_a_frame_is_queued_once_the_one_before_has_its_row():
    queues = queues_of(Frame("1"), Frame("2"), Frame("3"), Frame("1", "g#"))
    queues.end()
    assert queues.choose() == (A, 2)  # the first ones
    one, other = served(queues), served(queues)
    assert (one.key, one.before, other.shot) == ("1", None, "g#") and queues.pending(A) == 0
    queues.settled(one, done=True)
    two = served(queues)
    assert two.key == "2" and two.before == Before("1", "in/1")
    queues.settled(two, done=False)  # broken
    three = served(queues)
    assert three.key == "3" and three.before == Before("1", "in/1")


def test_a_frame_that_comes_late_starts_from_the_one_before_too():
    queues = queues_of(Frame("1"))
    queues.anything(), queues.settled(served_after_choose(queues), done=True)
    queues.offer(Frame("2"))
    assert served_after_choose(queues).before == Before("1", "in/1")


def served_after_choose(queues):
    queues.set_batch(lambda _: 1)
    queues.choose()
    return served(queues)


def test_a_frame_that_an_earlier_run_has_made_is_the_start_of_the_next():
    queues = queues_of()
    queues.finished("f#", Before("7", "in/7"))
    queues.offer(Frame("8"))
    queues.offer(Frame("1", "g#"))
    queues.end(), queues.choose()
    assert [served(queues).before for _ in range(2)] == [Before("7", "in/7"), None]


def test_the_next_frame_has_the_style_of_the_one_before():
    shots = Shots()
    shots.add(Frame("1", style="broken")), shots.add(Frame("2", style="broken"))
    assert shots.ended(Frame("1", style="other"), done=True).style == "other"


def test_the_device_waits_for_a_frame_whose_predecessor_is_being_published():
    queues = queues_of(Frame("1"), Frame("2"), batch=1)
    queues.end(), queues.choose()
    one = served(queues)
    queues.publishing(one)
    assert queues.pending(A) == 1  # so that the batch does not shrink
    device = waiting(queues, queues.take, A, None)
    queues.settled(one, done=True)
    asleep(queues)  # the next frame has still to be decoded
    group, two = queues.job()
    queues.decoded(group, two)
    assert device.end().before == Before("1", "in/1")


def test_a_shot_that_ends_releases_the_device():
    queues = queues_of(Frame("1"), batch=1)
    queues.end(), queues.choose()
    one = served(queues)
    queues.publishing(one)
    device = waiting(queues, queues.take, A, None)
    queues.settled(one, done=True)
    assert device.end() is None and queues.choose() is None


def test_the_run_is_not_over_while_a_frame_is_being_published():
    queues = queues_of(Frame("1"), Frame("2"), batch=1)
    queues.end(), queues.choose()
    one = served(queues)
    queues.publishing(one)
    device = waiting(queues, queues.choose)
    queues.settled(one, done=True)
    assert device.end() == (A, 1)


def test_frames_that_wait_fill_the_window_and_the_device_begins():
    queues = queues_of(*(Frame(str(n)) for n in range(3)), batch=4, window=3)
    planner = waiting(queues, queues.offer, Frame("3"))
    assert queues.choose() == (A, 1)  # though a batch of four is not full, and the plan not complete
    served(queues)
    assert planner.end() is True


def test_a_stop_drops_the_frames_that_wait():
    queues = queues_of(Frame("1"), Frame("2"), batch=1)
    queues.choose()
    one = served(queues)
    queues.stop()
    queues.settled(one, done=True)
    assert queues.pending(A) == 0 and not queues.offer(Frame("3"))


def test_nothing_is_kept_of_finished_shots():
    shots, running = Shots(), deque()
    for n in range(50):
        running.append(shots.add(Frame("1", f"{n}#")))
        shots.add(Frame("2", f"{n}#"))
        if n >= 3:  # four shots at a time
            one = running.popleft()
            assert shots.ended(shots.ended(one, done=True), done=True) is None
        assert len(shots._shots) <= 4
    shots.finished("last#", Before("1", "in/1"))
    shots.finished("next#", Before("1", "in/1"))
    assert len(shots._shots) == 4 and shots.held == 3


@pytest.mark.parametrize("shot", ["", "f#"])
def test_other_jobs_pass(shot):
    queues = queues_of(Frame("1", shot), Frame("2", shot))
    queues.end()
    assert queues.choose() == (A, 1 if shot else 2)
