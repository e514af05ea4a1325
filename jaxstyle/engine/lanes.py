"""The host's side of the lanes: keeps those of one group busy, refills them, and hands out what has ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from jaxstyle.engine.queues import Queues
from jaxstyle.errors import DeviceError
from jaxstyle.planning.batches import batch_size, batch_sizes
from jaxstyle.planning.contract import Device, Group, OutOfMemory, Result, Snapshot
from jaxstyle.settings import CHUNK
from jaxstyle.style.status import Status


class Task(Protocol):
    """What a lane needs of a picture: both arrays of the bucket's size, H x W x 3."""

    @property
    def content(self) -> np.ndarray: ...
    @property
    def init(self) -> np.ndarray: ...


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class Ended(Generic[T]):
    """A lane's end.

    Attributes:
        result: None where the device had no room even for this image alone.
        status: `style.status.Status`.
        seconds: each chunk's time divided by the lanes that were running.
    """

    task: T
    result: Result | None
    evaluations: int
    status: int
    seconds: float


@dataclass
class Usage:
    """What the device did.

    Attributes:
        spent, offered: ticks of lanes with an image that was running, and of all lanes.
        seconds: in the device's calls, compiling included.
        since: when the call that the device is in began (time.monotonic), or None.
    """

    spent: int = 0
    offered: int = 0
    seconds: float = 0.0
    since: float | None = None


class BatchScheduler(Generic[T]):
    """Runs groups, one at a time, and remembers between them what the device had no room for."""

    def __init__(self, device: Device, queues: Queues[T], budget: int, report: Callable[[int, float], None]):
        """Args:
        budget: evaluations of an image.
        report: called after each chunk with the evaluations spent in it and the mean loss of the running lanes.
        """
        self.usage = Usage()
        self._device, self._queues, self._budget, self._report = device, queues, budget, report

    def run(self, group: Group, pending: int, batch: int, smaller: Callable[[int], None]) -> Iterator[Ended[T]]:
        """Renders the tasks of a group until there are none; each lane ends on its own and is refilled.

        When nothing is left to refill with, the lanes that still run move to smaller batches, if that pays. A batch
        that the device has no room for is halved, and its images begin again.

        Args:
            pending: tasks to expect at least, failures aside.
            batch: most lanes.
            smaller: told the new size when the batch had to be halved.
        """
        again: deque[T] = deque()
        while True:
            tasks: list[T | None] = []
            try:
                yield from self._run(group, batch_size(batch, pending, self._device.count), tasks, again)
                return
            except OutOfMemory as error:
                lost = [task for task in tasks if task is not None]
                least = len(tasks) == self._device.count
                if least and not lost:
                    raise DeviceError(f"the device has no room for the network ({error})", "Use another.") from error
                if least:
                    for task in lost:
                        yield Ended(task, None, 0, Status.RUNNING, 0.0)
                    lost = []
                else:
                    batch = batch_sizes(len(tasks), self._device.count)[1]
                    smaller(batch)
                again.extend(lost)
                pending = len(again) + self._queues.pending(group)

    def _run(self, group: Group, size: int, tasks: list[T | None], again: deque[T]) -> Iterator[Ended[T]]:
        tasks[:] = [None] * size  # the caller keeps this list, for what is lost if the memory is out
        lanes = self._on_device(self._device.batch, group, size)
        seconds, spent, chunk = np.zeros(size), np.zeros(size, int), 0.0
        while not self._queues.abandoned:
            empty = all(task is None for task in tasks)
            for index in [i for i, task in enumerate(tasks) if task is None]:
                # A whole batch waits for its pictures; a few lanes only as long as idling in a chunk would cost.
                wait = None if empty else chunk * tasks.count(None) / len(tasks)
                task = again.popleft() if again else self._queues.take(group, wait)
                if task is None:
                    break
                tasks[index], seconds[index], spent[index] = task, 0, 0
                self._on_device(lanes.put, index, {"content": task.content, "init": task.init}, self._budget)
            active = [i for i, task in enumerate(tasks) if task is not None]
            if not active:
                return

            fit = min(size for size in batch_sizes(len(tasks), self._device.count) if size >= len(active))
            left = self._budget - int(spent[active].min())
            last = fit < len(tasks) and not (again or self._queues.pending(group))
            if last and self._device.worth_shrinking(group, len(tasks) - fit, left):
                lanes = self._on_device(lanes.select, active, fit)
                idle = [-1] * (fit - len(active))
                tasks[:] = [None if i < 0 else tasks[i] for i in (*active, *idle)]
                seconds, spent = seconds[[*active, *idle]], spent[[*active, *idle]]
                active = list(range(len(active)))

            ticks = max(1, min(CHUNK, self._budget - int(spent[active].max())))
            began = time.perf_counter()
            look: Snapshot = self._on_device(lanes.advance, ticks)
            chunk = time.perf_counter() - began
            seconds[active] += chunk / len(active)
            used = int((look.evaluations - spent)[active].sum())
            self.usage.spent += min(used, ticks * len(active))  # some solvers evaluate more than once a tick
            self.usage.offered += ticks * len(tasks)
            self._report(used, float(look.loss[active].mean()))
            spent[active] = look.evaluations[active]

            for index in active:
                if look.status[index] != Status.RUNNING:
                    result = self._on_device(lanes.result, index)
                    task, tasks[index] = tasks[index], None
                    assert task is not None
                    yield Ended(task, result, int(spent[index]), int(look.status[index]), float(seconds[index]))

    def _on_device(self, call, *arguments):
        self.usage.since = time.monotonic()
        began = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.usage.since = None
            self.usage.seconds += time.perf_counter() - began
