"""The queues between many threads: every job comes out exactly once, and bounds hold."""

import queue
import random
import threading
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from jaxstyle.engine.queues import Queues
from jaxstyle.planning.contract import Group
from jaxstyle.planning.plan import Before

SECONDS = 60


@dataclass(frozen=True)
class Job:
    group: Group
    number: int = 0
    shot: str = ""
    before: Before | None = None
    style: str = ""
    locator: str = ""

    @property
    def key(self):
        return self.number


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


@pytest.mark.parametrize("seed", range(10))
def test_every_job_comes_out_exactly_once_whatever_the_threads_do(seed):
    """A planner, three decoders, a device, a publisher; pictures fail, turn out to be of another shape, get a second
    try; a stop. Of every other seed they are frames of shots."""
    number, rng = 2000, random.Random(seed)
    batch, spare, window = rng.choice([1, 2, 8]), rng.choice([0, 1, 5]), rng.choice([16, 64, 300])
    end = rng.randint(1, number // 2) if seed > 5 else 2 * number  # jobs before a stop
    shapes = rng.choice([1, 5, 24])
    length = rng.choice([1, 7, 90, 500])
    shots = [f"{n // length}" if seed % 2 else "" for n in range(number)]
    jobs = [Job(Group((32 * rng.randint(1, shapes), 32)), n, shot) for n, shot in enumerate(shots)]
    written = queue.Queue()
    fate = rng.choices(["well", "fails", "turned", "again"], [90, 5, 3, 2], k=number)
    queues, failed, ended, most = Queues(lambda _: batch, window=window, spare=spare), [], [], Counter()

    def look():
        with queues._change:
            held = {group: Counter(fate[job.number] for job in pile) for group, pile in queues._ready.items()}
            decoded = queues._decoding.total() + sum(pile.total() for pile in held.values())
            most["decoded"] = max(most["decoded"], decoded)
            most["pending"] = max(most["pending"], queues._pending.total())

    def planner():
        if all(queues.offer(job) for job in jobs):
            queues.end()

    turned = set()

    def decoder():
        while (taken := queues.job()) is not None:
            group, job = taken
            assert group == job.group
            look()
            if fate[job.number] == "fails":
                failed.append(job.number)
                queues.settled(job, done=False)
                queues.decoded(group, None)
            elif fate[job.number] == "turned" and job.number not in turned:
                turned.add(job.number)
                queues.requeue(replace(job, group=Group(group.bucket[::-1])))
                queues.decoded(group, None)
            else:
                queues.decoded(group, job)

    def device():
        while (chosen := queues.choose()) is not None:
            (group, pending), running = chosen, []
            assert pending > 0
            while True:
                wait = rng.choice([0, 0.0001]) if running else None
                while len(running) < batch and (job := queues.take(group, wait)) is not None:
                    running.append(job)
                look()
                if not running:
                    break
                job = running.pop(0)
                if fate[job.number] == "again" and not group.careful:
                    queues.requeue(replace(job, group=Group(group.bucket, True)))
                    continue
                assert group.careful == (fate[job.number] == "again")
                assert group == job.group and (fate[job.number] == "turned") == (job.number in turned)
                ended.append(job.number)
                before[job.number] = job.before
                queues.publishing(job)
                written.put(job)
                if len(ended) == end:
                    queues.stop()

        written.put(None)

    def publisher():
        while (job := written.get()) is not None:
            queues.settled(job, done=True)

    before = {}
    for thread in [Thread(work) for work in (planner, decoder, decoder, decoder, device, publisher)]:
        thread.end()
    last = {}
    for n in sorted(ended):
        assert before[n] == (Before(last[shots[n]], "") if shots[n] in last else None)
        if shots[n]:
            last[shots[n]] = n
    out = failed + ended
    assert len(set(out)) == len(out)
    assert sorted(out) == list(range(number)) if end > number else end <= len(ended) < end + batch
    assert most["pending"] <= window + 3 + batch  # and those that went back
    assert most["decoded"] <= 2 * (batch + spare)  # of the current group, and of others
    assert not queues._pending and not queues._decoding.total()
