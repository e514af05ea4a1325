"""What waits for the device: bounded, served in the right order, and never stuck."""

import random
import threading
import time
from collections import Counter
from typing import NamedTuple

import pytest

from jaxstyle.engine.feed import Feed, Lot

A, B, C = (Lot(bucket) for bucket in ((32, 32), (64, 64), (64, 96)))
SECONDS = 60
"""Until a thread that should have ended counts as stuck."""


class Job(NamedTuple):
    bucket: tuple[int, int]
    number: int = 0


def feed_of(batch=4, window=20, spare=1, **jobs):
    """A feed with so many jobs of each lot: feed_of(A=3, B=5)."""
    feed = Feed(lambda _: batch, window=window, spare=spare)
    for name, number in jobs.items():
        offer(feed, globals()[name], number)
    return feed


def offer(feed, lot, number=1):
    return [feed.offer(Job(lot.bucket, n)) for n in range(number)]


def decode(feed, number=1):
    """Decodes so many jobs as one decoder does; returns their lots."""
    taken = []
    for _ in range(number):
        taken.append(feed.job())
        feed.decoded(*taken[-1])
    return [lot for lot, _ in taken]


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


def asleep(feed, number=1):
    """Returns when so many threads wait in the feed, having looked at its present state."""
    until = time.monotonic() + SECONDS
    while len(feed._change._waiters) != number:
        assert time.monotonic() < until, f"{len(feed._change._waiters)} threads wait, not {number}"
        time.sleep(0.001)


def waiting(feed, work, *arguments):
    """A thread that has begun to wait in the feed."""
    thread = Thread(work, *arguments)
    asleep(feed)
    return thread


def test_a_planner_ahead_of_all_others_waits_at_the_window():
    feed, most, offered, taken = Feed(lambda _: 4, window=50), [], [], []
    count = feed._count

    def watched(lot, change):
        count(lot, change)
        most.append(feed._known.total())

    def planner():
        for number in range(5000):
            assert feed.offer(Job((32 * (1 + number % 7), 32), number))
            offered.append(number)
        feed.end()

    feed._count = watched
    thread = waiting(feed, planner)
    assert len(offered) == 50 == max(most)  # nobody takes any
    while (chosen := feed.choose()) is not None:
        while feed.known(chosen[0]):
            decode(feed)
            taken.append(feed.take(chosen[0], 0).number)
    thread.end()
    assert sorted(taken) == list(range(5000)) == offered and max(most) == 50


def test_a_failed_job_makes_room_for_another():
    feed = feed_of(window=2, A=2)
    thread = waiting(feed, offer, feed, A)
    lot, _ = feed.job()
    asleep(feed)  # being decoded it still counts
    feed.decoded(lot, None)
    assert thread.end() == [True] and feed.known(A) == 2


def test_choose_waits_for_a_full_batch():
    feed = feed_of(batch=4, spare=0, A=3, B=3)
    decode(feed, 2)
    feed.job()  # all count, decoded or not
    thread = waiting(feed, feed.choose)
    offer(feed, B)
    assert thread.end() == (B, 4)
    offer(feed, A, 2)
    assert feed.choose() == (A, 5)  # of several the fullest
    feed = feed_of(batch=100, A=5, B=4)
    thread = waiting(feed, feed.choose)
    feed.suit(lambda bucket: 4 if bucket == B.bucket else 6)  # another batch, for each bucket its own
    assert thread.end() == (B, 4)


def test_choose_takes_the_fullest_lot_when_the_plan_is_through_or_the_window_full():
    feed = feed_of(batch=10, A=2, B=3, C=1)
    thread = waiting(feed, feed.choose)
    feed.end()
    assert thread.end() == (B, 3)
    feed = feed_of(batch=10, window=7, A=2, B=4)
    thread = waiting(feed, feed.choose)
    offer(feed, A)
    assert thread.end() == (B, 4)


def test_choose_has_nothing_once_the_plan_is_through_and_all_is_taken():
    feed = feed_of(A=2)
    decode(feed)
    feed.end()
    assert feed.choose() == (A, 2) and feed.take(A, None) and feed.take(A, 0) is None
    lot, _ = feed.job()
    assert feed.choose() == (A, 1)  # it may come
    thread = waiting(feed, feed.take, A, None)
    feed.decoded(lot, None)
    assert thread.end() is None and feed.choose() is None and feed.choose() is None


def test_decoders_serve_the_current_lot_then_the_fullest_other_within_its_room():
    assert decode(feed_of(batch=4, spare=1, A=2, B=3), 5) == [B, B, B, A, A]  # none is current yet
    feed = feed_of(batch=2, spare=1, A=6, B=4, C=3)
    assert feed.choose() == (A, 6)
    assert decode(feed, 3) == [A, A, A]  # a batch and a spare one
    thread = waiting(feed, feed.job)  # no room, although others wait
    assert feed.take(A, 0) and thread.end()[0] == A
    thread = waiting(feed, feed.job)
    feed.decoded(A, None)  # what is being decoded takes room too, and a failure leaves it
    feed.decoded(*thread.end())
    assert feed.take(A, 0) and decode(feed) == [A] and feed.known(A) == 3  # none is left to decode: now the next
    assert [*decode(feed, 2), feed.job()[0]] == [B, B, B]
    thread = waiting(feed, feed.job)
    offer(feed, A)  # the current lot goes first again, as soon as it has room
    asleep(feed)
    assert feed.take(A, 0)
    assert thread.end()[0] == A


def test_pictures_of_other_lots_that_fill_their_room_do_not_keep_the_current_lot_waiting():
    decode(feed := feed_of(batch=2, spare=1, window=12, B=4), 3)
    thread = waiting(feed, feed.job)  # B's room is taken
    offer(feed, A, 8)
    asleep(feed)
    assert feed.choose() == (A, 8)
    for turn in range(9):
        lot, job = thread.end()
        assert lot == A
        thread = Thread(feed.job)
        feed.decoded(lot, job)
        assert feed.take(A, None)
        if turn == 7:
            asleep(feed)
            offer(feed, A)  # another one, while it is current and the room of others is full
    assert feed.take(A, None) is None
    feed.end()
    assert feed.choose() == (B, 4)
    assert feed.take(B, 0) and thread.end()[0] == B


def test_take_waits_as_long_as_it_is_told():
    feed = feed_of(A=2)
    feed.end()
    feed.choose()
    assert feed.take(A, 0) is None and feed.take(A, 0.001) is None  # known, not decoded
    thread = waiting(feed, feed.take, A, None)
    decode(feed)
    assert thread.end() == Job(A.bucket, 0)
    decode(feed)
    assert feed.take(A, 0) == Job(A.bucket, 1)
    assert feed.take(A, None) is None  # no more are known: there is nothing to wait for
    offer(feed, A)
    feed.choose()
    lot, _ = feed.job()
    thread = waiting(feed, feed.take, A, None)
    feed.again(B, moved := Job(B.bucket, 7))
    feed.decoded(lot, None)
    assert thread.end() is None  # it belongs elsewhere
    assert feed.choose() == (B, 1) and decode(feed) == [B] and feed.take(B, None) == moved and feed.choose() is None


def test_a_job_that_is_to_be_decoded_again_waits_its_turn_in_its_lot_even_after_the_plan():
    feed, careful = feed_of(A=2), Lot(A.bucket, True)
    feed.end()
    decode(feed, 2)
    feed.choose()
    first, decoder = feed.take(A, 0), Thread(feed.job)  # which has nothing to do as yet, and does not go
    feed.again(careful, first)
    assert decoder.end() == (careful, first) and feed.known(careful) == 1 == feed.known(A)
    assert feed.take(A, 0).number == 1 and feed.take(A, 0) is None
    assert feed.choose() == (careful, 1) and feed.take(careful, 0) is None
    feed.decoded(careful, first)
    assert feed.take(careful, 0) is first
    decoder = waiting(feed, feed.job)
    assert feed.choose() is None and decoder.end() is None  # the device has ended, and so do decoders


def test_a_picture_that_is_in_memory_needs_no_decoder():
    feed = feed_of()
    feed.ready(A, "one")
    feed.ready(A, "two")
    feed.end()
    assert feed.choose() == (A, 2) and feed.take(A, 0) == "one" and feed.take(A, 0) == "two" and feed.choose() is None


def test_there_is_something_as_soon_as_one_job_is_known_and_nothing_once_the_plan_is_through():
    feed = feed_of()
    thread = waiting(feed, feed.anything)
    offer(feed, A)
    assert thread.end() is True
    feed = feed_of(A=1)
    feed.decoded(feed.job()[0], None)
    device, decoder = waiting(feed, feed.anything), Thread(feed.job)
    asleep(feed, 2)  # there was one, and more may come
    feed.end()
    assert device.end() is False and decoder.end() is None


@pytest.mark.parametrize("how", ["stop", "abandon"])
def test_a_stop_releases_everybody_and_nothing_further_begins(how):
    feed = feed_of(batch=2, window=4, spare=0, A=4)
    feed.choose()
    held = [feed.job(), feed.job()]
    threads = [Thread(offer, feed, A), Thread(feed.job), Thread(feed.take, A, None)]
    asleep(feed, 3)
    getattr(feed, how)()
    assert [thread.end() for thread in threads] == [[False], None, None]
    feed.decoded(*held[0])  # too late: it is dropped
    feed.again(*held[1])
    assert feed.known(A) == 0 and feed.take(A, None) is None
    assert not feed.offer(Job(A.bucket)) and feed.job() is None and feed.choose() is None and not feed.anything()
    assert feed.abandoned == (how == "abandon")
    for idle in ("choose", "anything"):  # a device that has nothing yet
        feed = feed_of()
        thread = waiting(feed, getattr(feed, idle))
        getattr(feed, how)()
        assert not thread.end()


@pytest.mark.parametrize("seed", range(10))
def test_every_job_comes_out_exactly_once_whatever_the_threads_do(seed):
    """A planner, three decoders, a device; pictures fail, turn out to be of another shape, get a second try; a stop."""
    number, rng = 2000, random.Random(seed)
    batch, spare, window = rng.choice([1, 2, 8]), rng.choice([0, 1, 5]), rng.choice([16, 64, 300])
    end = rng.randint(1, number // 2) if seed > 5 else 2 * number  # jobs before a stop
    shapes = rng.choice([1, 5, 24])
    jobs = [Job((32 * rng.randint(1, shapes), 32), n) for n in range(number)]
    fate = rng.choices(["well", "fails", "turned", "again"], [90, 5, 3, 2], k=number)
    feed, failed, ended, most = Feed(lambda _: batch, window=window, spare=spare), [], [], Counter()

    def look():
        with feed._change:
            held = {lot: Counter(fate[job.number] for job in pile) for lot, pile in feed._ready.items()}
            decoded = feed._decoding.total() + sum(pile.total() for pile in held.values())
            most["decoded"] = max(most["decoded"], decoded)
            most["known"] = max(most["known"], feed._known.total())

    def planner():
        if all(feed.offer(job) for job in jobs):
            feed.end()

    turned = set()

    def decoder():
        while (taken := feed.job()) is not None:
            lot, job = taken
            assert lot.bucket == job.bucket
            look()
            if fate[job.number] == "fails":
                failed.append(job.number)
                feed.decoded(lot, None)
            elif fate[job.number] == "turned" and job.number not in turned:
                turned.add(job.number)
                feed.again(Lot(lot.bucket[::-1]), job._replace(bucket=lot.bucket[::-1]))
                feed.decoded(lot, None)
            else:
                feed.decoded(lot, job)

    def device():
        while (chosen := feed.choose()) is not None:
            (lot, known), running = chosen, []
            assert known > 0
            while True:
                wait = rng.choice([0, 0.0001]) if running else None
                while len(running) < batch and (job := feed.take(lot, wait)) is not None:
                    running.append(job)
                look()
                if not running:
                    break
                job = running.pop(0)
                if fate[job.number] == "again" and not lot.careful:
                    feed.again(Lot(lot.bucket, True), job)
                    continue
                assert lot.careful == (fate[job.number] == "again")
                assert lot.bucket == job.bucket and (fate[job.number] == "turned") == (job.number in turned)
                ended.append(job.number)
                if len(ended) == end:
                    feed.stop()

    for thread in [Thread(work) for work in (planner, decoder, decoder, decoder, device)]:
        thread.end()
    out = failed + ended
    assert len(set(out)) == len(out)
    assert sorted(out) == list(range(number)) if end > number else end <= len(ended) < end + batch
    assert most["known"] <= window + 3 + batch  # and those that went back
    assert most["decoded"] <= 2 * (batch + spare)  # of the current lot, and of others
    assert not feed._known and not feed._decoding.total()
