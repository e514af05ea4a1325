"""What waits for the device: bounded, served in the right order, and never stuck."""

import threading
import time
from typing import NamedTuple

import pytest

from jaxstyle.engine.queues import Queues
from jaxstyle.planning.contract import Group

A, B, C = (Group(bucket) for bucket in ((32, 32), (64, 64), (64, 96)))
SECONDS = 60
"""Until a thread that should have ended counts as stuck."""


class Job(NamedTuple):
    group: Group
    number: int = 0
    shot: str = ""


def queues_of(batch=4, window=20, spare=1, **jobs):
    """A queues with so many jobs of each group: queues_of(A=3, B=5)."""
    queues = Queues(lambda _: batch, window=window, spare=spare)
    for name, number in jobs.items():
        offer(queues, globals()[name], number)
    return queues


def offer(queues, group, number=1):
    return [queues.offer(Job(group, n)) for n in range(number)]


def decode(queues, number=1):
    """Decodes so many jobs as one decoder does; returns their groups."""
    taken = []
    for _ in range(number):
        taken.append(queues.job())
        queues.decoded(*taken[-1])
    return [group for group, _ in taken]


class Thread(threading.Thread):
    """Calls something; `end` gives back what came of it."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.made = work, arguments, AssertionError("an error ended it")
        self.start()

    def run(self):
        self.made = self.work(*self.arguments)

    def end(self):
        self.join(SECONDS)
        assert not self.is_alive(), f"{self.work} is stuck"
        if isinstance(self.made, AssertionError):
            raise self.made
        return self.made


def asleep(queues, number=1):
    """Returns when so many threads wait in the queues, having looked at its present state."""
    until = time.monotonic() + SECONDS
    while len(queues._change._waiters) != number:
        assert time.monotonic() < until, f"{len(queues._change._waiters)} threads wait, not {number}"
        time.sleep(0.001)


def waiting(queues, work, *arguments):
    """A thread that has begun to wait in the queues."""
    thread = Thread(work, *arguments)
    asleep(queues)
    return thread


def test_a_planner_ahead_of_all_others_waits_at_the_window():
    queues, most, offered, taken = Queues(lambda _: 4, window=50), [], [], []
    count = queues._count

    def watched(group, change):
        count(group, change)
        most.append(queues._pending.total())

    def planner():
        for number in range(5000):
            assert queues.offer(Job(Group((32 * (1 + number % 7), 32)), number))
            offered.append(number)
        queues.end()

    queues._count = watched
    thread = waiting(queues, planner)
    assert len(offered) == 50 == max(most)  # nobody takes any
    while (chosen := queues.choose()) is not None:
        while queues.pending(chosen[0]):
            decode(queues)
            taken.append(queues.take(chosen[0], 0).number)
    thread.end()
    assert sorted(taken) == list(range(5000)) == offered and max(most) == 50


def test_a_failed_job_makes_room_for_another():
    queues = queues_of(window=2, A=2)
    thread = waiting(queues, offer, queues, A)
    group, _ = queues.job()
    asleep(queues)  # being decoded it still counts
    queues.decoded(group, None)
    assert thread.end() == [True] and queues.pending(A) == 2


def test_choose_waits_for_a_full_batch():
    queues = queues_of(batch=4, spare=0, A=3, B=3)
    decode(queues, 2)
    queues.job()  # all count, decoded or not
    thread = waiting(queues, queues.choose)
    offer(queues, B)
    assert thread.end() == (B, 4)
    offer(queues, A, 2)
    assert queues.choose() == (A, 5)  # of several the fullest
    queues = queues_of(batch=100, A=5, B=4)
    thread = waiting(queues, queues.choose)
    queues.set_batch(lambda bucket: 4 if bucket == B.bucket else 6)  # another batch, for each bucket its own
    assert thread.end() == (B, 4)


def test_choose_takes_the_fullest_lot_when_the_plan_is_through_or_the_window_full():
    queues = queues_of(batch=10, A=2, B=3, C=1)
    thread = waiting(queues, queues.choose)
    queues.end()
    assert thread.end() == (B, 3)
    queues = queues_of(batch=10, window=7, A=2, B=4)
    thread = waiting(queues, queues.choose)
    offer(queues, A)
    assert thread.end() == (B, 4)


def test_choose_has_nothing_once_the_plan_is_through_and_all_is_taken():
    queues = queues_of(A=2)
    decode(queues)
    queues.end()
    assert queues.choose() == (A, 2) and queues.take(A, None) and queues.take(A, 0) is None
    group, _ = queues.job()
    assert queues.choose() == (A, 1)  # it may come
    thread = waiting(queues, queues.take, A, None)
    queues.decoded(group, None)
    assert thread.end() is None and queues.choose() is None and queues.choose() is None


def test_decoders_serve_the_current_lot_then_the_fullest_other_within_its_room():
    assert decode(queues_of(batch=4, spare=1, A=2, B=3), 5) == [B, B, B, A, A]  # none is current yet
    queues = queues_of(batch=2, spare=1, A=6, B=4, C=3)
    assert queues.choose() == (A, 6)
    assert decode(queues, 3) == [A, A, A]  # a batch and a spare one
    thread = waiting(queues, queues.job)  # no room, although others wait
    assert queues.take(A, 0) and thread.end()[0] == A
    thread = waiting(queues, queues.job)
    queues.decoded(A, None)  # what is being decoded takes room too, and a failure leaves it
    queues.decoded(*thread.end())
    assert (
        queues.take(A, 0) and decode(queues) == [A] and queues.pending(A) == 3
    )  # none is left to decode: now the next
    assert [*decode(queues, 2), queues.job()[0]] == [B, B, B]
    thread = waiting(queues, queues.job)
    offer(queues, A)  # the current group goes first again, as soon as it has room
    asleep(queues)
    assert queues.take(A, 0)
    assert thread.end()[0] == A


def test_pictures_of_other_lots_that_fill_their_room_do_not_keep_the_current_lot_waiting():
    decode(queues := queues_of(batch=2, spare=1, window=12, B=4), 3)
    thread = waiting(queues, queues.job)  # B's room is taken
    offer(queues, A, 8)
    asleep(queues)
    assert queues.choose() == (A, 8)
    for turn in range(9):
        group, job = thread.end()
        assert group == A
        thread = Thread(queues.job)
        queues.decoded(group, job)
        assert queues.take(A, None)
        if turn == 7:
            asleep(queues)
            offer(queues, A)  # another one, while it is current and the room of others is full
    assert queues.take(A, None) is None
    queues.end()
    assert queues.choose() == (B, 4)
    assert queues.take(B, 0) and thread.end()[0] == B


def test_take_waits_as_long_as_it_is_told():
    queues = queues_of(A=2)
    queues.end()
    queues.choose()
    assert queues.take(A, 0) is None and queues.take(A, 0.001) is None  # pending, not decoded
    thread = waiting(queues, queues.take, A, None)
    decode(queues)
    assert thread.end() == Job(A, 0)
    decode(queues)
    assert queues.take(A, 0) == Job(A, 1)
    assert queues.take(A, None) is None  # no more are pending: there is nothing to wait for
    offer(queues, A)
    queues.choose()
    group, _ = queues.job()
    thread = waiting(queues, queues.take, A, None)
    queues.requeue(moved := Job(B, 7))
    queues.decoded(group, None)
    assert thread.end() is None  # it belongs elsewhere
    assert (
        queues.choose() == (B, 1)
        and decode(queues) == [B]
        and queues.take(B, None) == moved
        and queues.choose() is None
    )


def test_a_job_that_is_to_be_decoded_again_waits_its_turn_in_its_lot_even_after_the_plan():
    queues, careful = queues_of(A=2), Group(A.bucket, True)
    queues.end()
    decode(queues, 2)
    queues.choose()
    first, decoder = queues.take(A, 0), Thread(queues.job)  # which has nothing to do as yet, and does not go
    queues.requeue(first := first._replace(group=careful))
    assert decoder.end() == (careful, first) and queues.pending(careful) == 1 == queues.pending(A)
    assert queues.take(A, 0).number == 1 and queues.take(A, 0) is None
    assert queues.choose() == (careful, 1) and queues.take(careful, 0) is None
    queues.decoded(careful, first)
    assert queues.take(careful, 0) is first
    decoder = waiting(queues, queues.job)
    assert queues.choose() is None and decoder.end() is None  # the device has ended, and so do decoders


def test_a_picture_that_is_in_memory_needs_no_decoder():
    queues = queues_of()
    queues.ready(A, "one")
    queues.ready(A, "two")
    queues.end()
    assert (
        queues.choose() == (A, 2)
        and queues.take(A, 0) == "one"
        and queues.take(A, 0) == "two"
        and queues.choose() is None
    )


def test_there_is_something_as_soon_as_one_job_is_pending_and_nothing_once_the_plan_is_through():
    queues = queues_of()
    thread = waiting(queues, queues.anything)
    offer(queues, A)
    assert thread.end() is True
    queues = queues_of(A=1)
    queues.decoded(queues.job()[0], None)
    device, decoder = waiting(queues, queues.anything), Thread(queues.job)
    asleep(queues, 2)  # there was one, and more may come
    queues.end()
    assert device.end() is False and decoder.end() is None


@pytest.mark.parametrize("how", ["stop", "abandon"])
def test_a_stop_releases_everybody_and_nothing_further_begins(how):
    queues = queues_of(batch=2, window=4, spare=0, A=4)
    queues.choose()
    held = [queues.job(), queues.job()]
    threads = [Thread(offer, queues, A), Thread(queues.job), Thread(queues.take, A, None)]
    asleep(queues, 3)
    getattr(queues, how)()
    assert [thread.end() for thread in threads] == [[False], None, None]
    queues.decoded(*held[0])  # too late: it is dropped
    queues.requeue(held[1][1])
    assert queues.pending(A) == 0 and queues.take(A, None) is None
    assert not queues.offer(Job(A)) and queues.job() is None and queues.choose() is None and not queues.anything()
    assert queues.abandoned == (how == "abandon")
    for idle in ("choose", "anything"):  # a device that has nothing yet
        queues = queues_of()
        thread = waiting(queues, getattr(queues, idle))
        getattr(queues, how)()
        assert not thread.end()
