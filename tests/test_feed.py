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
    """What the feed needs of one."""

    bucket: tuple[int, int]
    number: int = 0


def feed_of(batch=4, window=20, spare=1, **jobs):
    """A feed with so many jobs of each lot: feed_of(A=3, B=5)."""
    feed = Feed(lambda _: batch, window=window, spare=spare)
    for name, number in jobs.items():
        offer(feed, globals()[name], number)
    return feed


def offer(feed, lot, number=1):
    for n in range(number):
        assert feed.offer(Job(lot.bucket, n))


def decode(feed, number=1):
    """Decodes so many jobs as one decoder does; returns their lots."""
    lots = []
    for _ in range(number):
        lot, job = feed.job()
        lots.append(lot)
        feed.decoded(lot, job)
    return lots


class Thread(threading.Thread):
    """Calls something; `end` gives back what came of it."""

    def __init__(self, work, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.error, self.made = work, arguments, None, None
        self.start()

    def run(self):
        try:
            self.made = self.work(*self.arguments)
        except BaseException as error:
            self.error = error

    def end(self):
        self.join(SECONDS)
        assert not self.is_alive(), f"{self.work} is stuck"
        if self.error:
            raise self.error
        return self.made


def asleep(feed, number=1):
    """Returns when so many threads wait in the feed, having looked at its present state."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with feed._change:
            if len(feed._change._waiters) == number:
                return
        time.sleep(0.001)
    pytest.fail(f"{len(feed._change._waiters)} threads wait, not {number}")


def test_a_planner_ahead_of_all_others_waits_at_the_window():
    feed, most, offered = Feed(lambda _: 4, window=50), [], []
    count = feed._count

    def watched(lot, change):
        count(lot, change)
        most.append(feed._known.total())

    feed._count = watched

    def planner():
        for number in range(5000):
            assert feed.offer(Job((32 * (1 + number % 7), 32), number))
            offered.append(number)
        feed.end()

    thread = Thread(planner)
    asleep(feed)
    assert len(offered) == 50 == max(most)  # nobody takes any
    taken = []
    while (chosen := feed.choose()) is not None:
        while feed.known(chosen[0]):
            decode(feed)
            taken.append(feed.take(chosen[0], 0).number)
    thread.end()
    assert sorted(taken) == list(range(5000)) == offered
    assert max(most) == 50


def test_a_failed_job_makes_room_for_another():
    feed = feed_of(window=2, A=2)
    thread = Thread(offer, feed, A)
    asleep(feed)
    lot, _ = feed.job()
    asleep(feed)  # being decoded it still counts
    feed.decoded(lot, None)
    thread.end()
    assert feed.known(A) == 2


def test_choose_waits_for_a_full_batch():
    feed = feed_of(batch=4, A=3, B=3, C=3)
    thread = Thread(feed.choose)
    asleep(feed)
    assert thread.is_alive()
    offer(feed, B)
    assert thread.end() == (B, 4)


def test_choose_counts_jobs_whether_decoded_or_not():
    feed = feed_of(batch=4, spare=0, A=3)
    decode(feed, 2)
    feed.job()
    thread = Thread(feed.choose)
    asleep(feed)
    offer(feed, A)
    assert thread.end() == (A, 4)


def test_choose_takes_the_fullest_lot_when_the_plan_is_through():
    feed = feed_of(batch=10, A=2, B=3, C=1)
    thread = Thread(feed.choose)
    asleep(feed)
    feed.end()
    assert thread.end() == (B, 3)


def test_choose_takes_the_fullest_lot_when_the_window_is_full():
    feed = feed_of(batch=10, window=7, A=2, B=4)
    thread = Thread(feed.choose)
    asleep(feed)
    offer(feed, A)
    assert thread.end() == (B, 4)


def test_of_several_full_batches_the_fullest_is_taken():
    assert feed_of(batch=2, A=2, B=5, C=4).choose() == (B, 5)


def test_a_batch_for_each_bucket_counts_and_another_may_come_later():
    feed = feed_of(batch=100, A=5, B=4)
    thread = Thread(feed.choose)
    asleep(feed)
    feed.suit(lambda bucket: 4 if bucket == B.bucket else 6)
    assert thread.end() == (B, 4)


def test_choose_has_nothing_when_the_plan_is_through_and_all_is_taken():
    feed = feed_of(A=1)
    decode(feed)
    feed.end()
    assert feed.choose() == (A, 1)
    assert feed.take(A, None).bucket == A.bucket
    assert feed.choose() is None and feed.choose() is None


def test_choose_waits_for_what_is_being_decoded_to_fail():
    feed = feed_of(A=1)
    lot, _ = feed.job()
    feed.end()
    chosen = feed.choose()
    assert chosen == (A, 1)  # it may come
    thread = Thread(feed.take, A, None)
    asleep(feed)
    feed.decoded(lot, None)
    assert thread.end() is None and feed.choose() is None


def test_decoders_serve_the_current_lot_then_the_fullest_other_within_its_room():
    feed = feed_of(batch=2, spare=1, A=5, B=4, C=3)
    assert feed.choose() == (A, 5)
    assert decode(feed, 3) == [A, A, A]  # a batch and a spare one
    thread = Thread(feed.job)
    asleep(feed)  # no room, although others wait
    assert feed.take(A, 0) and feed.take(A, 0)
    lot, job = thread.end()
    assert lot == A
    feed.decoded(lot, job)
    assert decode(feed) == [A]
    assert feed.known(A) == 3  # none is left to decode: now the next
    assert decode(feed, 3) == [B, B, B]
    thread = Thread(feed.job)
    asleep(feed)
    offer(feed, A)  # the current lot goes first again, as soon as it has room
    asleep(feed)
    assert feed.take(A, 0)
    assert thread.end()[0] == A


def test_what_is_being_decoded_takes_room_too():
    feed = feed_of(batch=2, spare=1, A=9)
    feed.choose()
    jobs = [feed.job() for _ in range(3)]
    thread = Thread(feed.job)
    asleep(feed)
    feed.decoded(jobs[0][0], None)  # a failure leaves its room
    assert thread.end()[0] == A


def test_before_a_lot_is_chosen_the_fullest_is_decoded():
    feed = feed_of(batch=4, spare=1, A=2, B=3)
    assert decode(feed, 5) == [B, B, B, A, A]


def test_pictures_of_other_lots_that_fill_their_room_do_not_keep_the_current_lot_waiting():
    feed = feed_of(batch=2, spare=1, window=12, B=4)
    decode(feed, 3)
    thread = Thread(feed.job)
    asleep(feed)  # B's room is taken
    offer(feed, A, 8)
    asleep(feed)
    assert feed.choose() == (A, 8)
    for _ in range(8):
        lot, job = thread.end()
        assert lot == A
        thread = Thread(feed.job)
        feed.decoded(lot, job)
        assert feed.take(A, None)
    asleep(feed)
    offer(feed, A)  # another one, while it is current and the room of others is full
    lot, job = thread.end()
    assert lot == A
    feed.decoded(lot, job)
    assert feed.take(A, None) and feed.take(A, None) is None
    feed.end()
    assert feed.choose() == (B, 4)


def test_a_lot_chosen_while_others_fill_the_room_is_decoded():
    feed = feed_of(batch=2, spare=1, window=8, B=3)
    decode(feed, 3)
    offer(feed, A, 5)
    thread = Thread(feed.job)
    asleep(feed)
    assert feed.choose() == (A, 5)
    assert thread.end()[0] == A


def test_take_waits_as_long_as_it_is_told():
    feed = feed_of(A=2)
    feed.end()
    feed.choose()
    assert feed.take(A, 0) is None and feed.take(A, 0.001) is None  # known, not decoded
    thread = Thread(feed.take, A, None)
    asleep(feed)
    decode(feed)
    assert thread.end() == Job(A.bucket, 0)
    decode(feed)
    assert feed.take(A, 0) == Job(A.bucket, 1)
    assert feed.take(A, None) is None  # no more are known: there is nothing to wait for


def test_take_gives_up_when_the_last_one_turns_out_to_belong_elsewhere():
    feed = feed_of(A=1)
    feed.end()
    feed.choose()
    lot, job = feed.job()
    thread = Thread(feed.take, A, None)
    asleep(feed)
    feed.decoded(lot, job, B)
    assert thread.end() is None
    assert (feed.known(A), feed.known(B)) == (0, 1)
    assert feed.choose() == (B, 1) and feed.take(B, None) == job
    assert feed.choose() is None


def test_again_comes_first_and_in_a_lot_of_its_own_if_told():
    feed = feed_of(A=2)
    feed.end()
    decode(feed, 2)
    feed.choose()
    first = feed.take(A, 0)
    feed.again(A, first)
    assert feed.take(A, 0) is first
    careful = Lot(A.bucket, True)
    feed.again(careful, first)
    assert feed.known(careful) == 1 == feed.known(A)
    assert feed.take(A, 0).number == 1 and feed.take(A, 0) is None
    assert feed.choose() == (careful, 1) and feed.take(careful, 0) is first
    assert feed.choose() is None


def test_there_is_something_as_soon_as_one_job_is_known_and_nothing_once_the_plan_is_through():
    feed = feed_of()
    thread = Thread(feed.anything)
    asleep(feed)
    offer(feed, A)
    assert thread.end() is True
    empty = feed_of()
    thread = Thread(empty.anything)
    asleep(empty)
    empty.end()
    assert thread.end() is False
    failed = feed_of(A=1)
    lot, _ = failed.job()
    failed.decoded(lot, None)
    thread = Thread(failed.anything)
    asleep(failed)  # there was one, but more may come
    failed.end()
    assert thread.end() is False


def test_decoders_go_home_when_the_plan_is_through_and_nothing_waits():
    feed = feed_of(A=1)
    decode(feed)
    thread = Thread(feed.job)
    asleep(feed)
    feed.end()
    assert thread.end() is None


@pytest.mark.parametrize("how", ["stop", "abandon"])
def test_a_stop_releases_everybody_and_nothing_further_begins(how):
    feed = feed_of(batch=2, window=4, spare=0, A=4)
    feed.choose()
    held = [feed.job(), feed.job()]
    waiting = [Thread(offer_one, feed), Thread(feed.job), Thread(feed.take, A, None)]
    asleep(feed, 3)
    getattr(feed, how)()
    assert [thread.end() for thread in waiting] == [False, None, None]
    for lot, job in held:
        feed.decoded(lot, job)  # too late: it is dropped
    feed.again(A, held[0][1])
    assert feed.known(A) == 0 and feed.take(A, None) is None
    assert not feed.offer(Job(A.bucket)) and feed.job() is None and feed.choose() is None and not feed.anything()
    assert feed.abandoned == (how == "abandon")


def offer_one(feed):
    return feed.offer(Job(A.bucket))


@pytest.mark.parametrize("method", ["choose", "anything"])
def test_a_stop_releases_a_device_that_has_nothing_yet(method):
    feed = feed_of()
    thread = Thread(getattr(feed, method))
    asleep(feed)
    feed.stop()
    assert not thread.end()


@pytest.mark.parametrize("seed", range(6))
def test_every_job_comes_out_exactly_once_whatever_the_threads_do(seed):
    """A planner, three decoders and a device; pictures fail, turn out to be of another shape, or get a second try."""
    number, rng = 2000, random.Random(seed)
    batch, spare, window = rng.choice([1, 2, 8]), rng.choice([0, 1, 5]), rng.choice([16, 64, 300])
    lots = [Lot((32 * n, 32)) for n in range(1, rng.choice([2, 6, 25]))]
    jobs = [Job(rng.choice(lots).bucket, n) for n in range(number)]
    fate = [rng.choices(["well", "fails", "turned", "again"], [90, 5, 3, 2])[0] for _ in jobs]
    feed, out, lock = Feed(lambda _: batch, window=window, spare=spare), [], threading.Lock()
    most = Counter()

    def look():
        with feed._change:
            ready = [job for pile in feed._ready.values() for job in pile if fate[job.number] in ("well", "fails")]
            most["decoded"] = max(most["decoded"], len(ready) + feed._decoding.total())
            most["known"] = max(most["known"], sum(n for lot, n in feed._known.items() if not lot.careful))
            assert feed._known.total() == feed._decoding.total() + sum(
                len(pile) for piles in (feed._waiting, feed._ready) for pile in piles.values()
            )

    def planner():
        for job in jobs:
            assert feed.offer(job)
        feed.end()

    def decoder():
        while (taken := feed.job()) is not None:
            lot, job = taken
            assert lot.bucket == job.bucket
            look()
            if fate[job.number] == "fails":
                with lock:
                    out.append(job.number)
                feed.decoded(lot, None)
            else:
                feed.decoded(lot, job, Lot(lot.bucket[::-1]) if fate[job.number] == "turned" else None)

    def device():
        waits = random.Random(seed)
        while (chosen := feed.choose()) is not None:
            lot, known = chosen
            assert known > 0
            running = []
            while True:
                wait = waits.choice([0, 0.0001]) if running else None
                while len(running) < batch and (job := feed.take(lot, wait)) is not None:
                    running.append(job)
                look()
                if not running:
                    break
                job = running.pop(0)
                if fate[job.number] == "again" and not lot.careful:
                    feed.again(Lot(lot.bucket, True), job)
                else:
                    assert lot.careful == (fate[job.number] == "again")
                    assert lot.bucket == (job.bucket[::-1] if fate[job.number] == "turned" else job.bucket)
                    with lock:
                        out.append(job.number)

    threads = [Thread(work) for work in (planner, decoder, decoder, decoder, device)]
    for thread in threads:
        thread.end()
    assert Counter(out) == Counter(range(number))
    assert most["known"] <= window
    assert most["decoded"] <= 2 * (batch + spare)  # of the current lot, and of others
    assert not feed._known and not feed._decoding.total()


@pytest.mark.parametrize("seed", range(4))
def test_a_stop_in_the_middle_of_everything_lets_all_threads_end(seed):
    rng = random.Random(seed)
    feed, end = Feed(lambda _: 4, window=40), rng.randrange(300)
    taken = []

    def planner():
        number = 0
        while feed.offer(Job((32 * (1 + number % 5), 32), number)):
            number += 1

    def decoder():
        while (given := feed.job()) is not None:
            feed.decoded(given[0], None if given[1].number % 11 == 0 else given[1])

    def device():
        while (chosen := feed.choose()) is not None:
            while (job := feed.take(chosen[0], None)) is not None:
                taken.append(job.number)
                if len(taken) > end:
                    feed.stop()

    threads = [Thread(work) for work in (planner, decoder, decoder, decoder, device)]
    for thread in threads:
        thread.end()
    assert len(taken) == len(set(taken)) == end + 1
