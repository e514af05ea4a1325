"""A device that counts its calls and has its own clock, and a scheduler on it: for the tests of engine/lanes.py."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from jaxstyle.engine import lanes
from jaxstyle.engine.lanes import BatchScheduler
from jaxstyle.engine.queues import Queues
from jaxstyle.planning.contract import Group, OutOfMemory, Result, Snapshot

GROUP = Group((32, 32))
RUNNING, BUDGET, CONVERGED = 0, 1, 2


class Task:
    """Its number is its picture; it converges after `length` evaluations."""

    def __init__(self, number, length, evaluations):
        self.number, self.length, self.evaluations = number, length, evaluations
        self.style = None
        self.inputs = {"content": np.full((32, 32, 3), number, np.float32)}


class Device:
    """A device that counts. Its clock, in seconds, is that of the scheduler.

    Args:
        tasks: by number.
        room: lanes that fit; or what is asked before each call, (call, lanes) -> whether it fits.
        each: evaluations a tick.
        tick: seconds that a tick takes.
    """

    count, precision = 1, "float32"

    def __init__(self, tasks, room=10**9, shrinks=True, each=1, tick=1.0):
        self.tasks, self.each, self.tick, self.calls, self.sizes = tasks, each, tick, [], []
        self.fitting = room if callable(room) else lambda call, lanes: lanes <= room
        self.shrinks, self.asked, self.put, self.ticks, self.clock = shrinks, [], [], [], 0.0

    def worth_shrinking(self, group, lanes, evaluations):
        self.asked.append((lanes, evaluations))
        return self.shrinks

    def call(self, name, size):
        self.calls.append((name, size))
        if not self.fitting(name, size):
            raise OutOfMemory(f"{name} of {size}")

    def batch(self, group, size):
        assert group == GROUP
        self.call("batch", size)
        self.sizes.append(size)
        return Batch(self, size)


class Batch:
    def __init__(self, device, size):
        self.device, self.lost = device, False
        self.tasks, self.spent, self.budget = [None] * size, np.zeros(size, int), np.zeros(size, int)

    def call(self, name):
        assert not self.lost, "a batch is lost after OutOfMemory, and used up by select"
        self.lost = True
        self.device.call(name, len(self.tasks))
        self.lost = False

    def put(self, lane, inputs, evaluations, style=None):
        number = int(inputs["content"][0, 0, 0])
        assert self.tasks[lane] is None or self._status()[lane] != RUNNING
        self.call("put")
        self.tasks[lane], self.spent[lane], self.budget[lane] = self.device.tasks[number], 0, evaluations
        self.device.put.append(number)

    def _status(self):
        ends = zip(self.tasks, self.spent, self.budget, strict=True)
        return np.array([CONVERGED if t and n >= t.length else RUNNING if t and n < b else BUDGET for t, n, b in ends])

    def advance(self, ticks):
        assert ticks >= 1
        self.call("advance")
        self.device.ticks.append(ticks)
        for _ in range(ticks):
            if not (self._status() == RUNNING).any():
                break
            self.device.clock += self.device.tick
            self.spent[self._status() == RUNNING] += self.device.each
        loss = np.array([t.number if t else np.nan for t in self.tasks])
        return Snapshot(self._status(), self.spent.copy(), loss, {"content": loss / 4, "style": loss * 3 / 4})

    def result(self, lane):
        self.call("result")
        image = self.tasks[lane].inputs["content"] + self.spent[lane] / 1000
        return Result(image, 1.0, {"content": 1.0}, 2.0, "float32")

    def select(self, lanes, size):
        assert len(lanes) <= size < len(self.tasks)
        self.call("select")
        self.lost = True
        self.device.sizes.append(size)
        smaller = Batch(self.device, size)
        for new, old in enumerate(lanes):
            smaller.tasks[new], smaller.spent[new] = self.tasks[old], self.spent[old]
            smaller.budget[new] = self.budget[old]
        return smaller


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The scheduler's time is the device's."""
    now = SimpleNamespace(device=None)
    fake = SimpleNamespace(perf_counter=lambda: now.device.clock, monotonic=lambda: now.device.clock)
    monkeypatch.setattr(lanes, "time", fake)
    monkeypatch.setattr(Rig, "clock", now)


class Rig:
    """A device, its scheduler, and queues of decoded tasks with these lengths."""

    clock = None

    def __init__(self, lengths, batch, budget=20, shrink=True, **options):
        self.tasks = [Task(n, length, budget) for n, length in enumerate(lengths)]
        self.device, self.batch = Device(self.tasks, **options), batch
        self.clock.device = self.device
        self.queues, self.smaller, self.reported = Queues(lambda _: batch, window=10**6), [], []
        for task in self.tasks:
            self.queues.ready(GROUP, task)
        self.queues.end()
        report = lambda *told: self.reported.append(told)  # noqa: E731
        self.scheduler = BatchScheduler(self.device, self.queues, report, shrink=shrink)

    def run(self, pending=None):
        group, there = self.queues.choose()
        return self.scheduler.run(group, there if pending is None else pending, self.batch, self.smaller.append)

    def all(self, pending=None):
        """Every task's end, by number; each is there once, with its own picture."""
        ended = list(self.run(pending))
        assert Counter(one.task.number for one in ended) == Counter(range(len(self.tasks)))
        for one in ended:
            if one.result is not None:
                expected = one.task.number + one.evaluations / 1000
                np.testing.assert_allclose(one.result.image, np.full((32, 32, 3), expected), rtol=1e-6)
                assert one.status == (CONVERGED if one.evaluations >= one.task.length else BUDGET)
                assert one.evaluations >= min(one.task.length, one.task.evaluations)
        return sorted(ended, key=lambda one: one.task.number)

    @property
    def occupancy(self):
        return self.scheduler.usage.spent / self.scheduler.usage.offered
