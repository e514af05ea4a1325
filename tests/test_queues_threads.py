"""The queues between many threads: every job comes out exactly once, and bounds hold."""

import random
import threading
from collections import Counter
from typing import NamedTuple

import pytest

from jaxstyle.engine.queues import Queues
from jaxstyle.planning.contract import Group

SECONDS = 60


class Job(NamedTuple):
    group: Group
    number: int = 0


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
    """A planner, three decoders, a device; pictures fail, turn out to be of another shape, get a second try; a stop."""
    number, rng = 2000, random.Random(seed)
    batch, spare, window = rng.choice([1, 2, 8]), rng.choice([0, 1, 5]), rng.choice([16, 64, 300])
    end = rng.randint(1, number // 2) if seed > 5 else 2 * number  # jobs before a stop
    shapes = rng.choice([1, 5, 24])
    jobs = [Job(Group((32 * rng.randint(1, shapes), 32)), n) for n in range(number)]
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
                queues.decoded(group, None)
            elif fate[job.number] == "turned" and job.number not in turned:
                turned.add(job.number)
                queues.requeue(job._replace(group=Group(group.bucket[::-1])))
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
                    queues.requeue(job._replace(group=Group(group.bucket, True)))
                    continue
                assert group.careful == (fate[job.number] == "again")
                assert group == job.group and (fate[job.number] == "turned") == (job.number in turned)
                ended.append(job.number)
                if len(ended) == end:
                    queues.stop()

    for thread in [Thread(work) for work in (planner, decoder, decoder, decoder, device)]:
        thread.end()
    out = failed + ended
    assert len(set(out)) == len(out)
    assert sorted(out) == list(range(number)) if end > number else end <= len(ended) < end + batch
    assert most["pending"] <= window + 3 + batch  # and those that went back
    assert most["decoded"] <= 2 * (batch + spare)  # of the current group, and of others
    assert not queues._pending and not queues._decoding.total()
