"""Continuous batching: runs the lanes of one group, refills a lane when it ends, and returns its image."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from jaxstyle.engine.queues import Queues
from jaxstyle.errors import DeviceError
from jaxstyle.planning.batches import batch_size, batch_sizes, ticks_of_call
from jaxstyle.planning.contract import Batch, Device, Group, OutOfMemory, Result, Snapshot
from jaxstyle.planning.course import NO_COURSE, Course
from jaxstyle.planning.painting import Painting
from jaxstyle.style.status import Status

COMPILE_SECONDS = 3600.0
"""Time that compiling may take beyond the stall timeout before a call of the device counts as hanging."""


class Task(Protocol):
    """A decoded picture for a lane.

    Attributes:
        inputs: arrays, see `planning.contract.Batch.put`.
        evaluations: most evaluations of the picture.
        style: style of the picture.
    """

    @property
    def inputs(self) -> Mapping[str, np.ndarray]: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def style(self) -> Painting: ...


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class Ended(Generic[T]):
    """An ended lane.

    Attributes:
        task: the task that was in the lane.
        result: the image; None if the device had no memory even for this image alone.
        evaluations: evaluations spent on the image.
        status: value of `style.status.Status`.
        seconds: its share of the device's time: each chunk's time divided by its running lanes.
        course: how it went.
        sizes: sizes of its batches, one after the other; several only where the last images move to smaller ones.
        notes: for its row.
    """

    task: T
    result: Result | None
    evaluations: int
    status: int
    seconds: float
    sizes: tuple[int, ...] = ()
    course: Course = NO_COURSE
    notes: tuple[str, ...] = ()


@dataclass
class Usage:
    """Counters of the device's work.

    Attributes:
        spent: ticks of lanes whose image was running.
        offered: ticks of all lanes.
        seconds: seconds in calls of the device, including compilation.
        since: start of the present call (time.monotonic), or for a call that compiles `COMPILE_SECONDS` later; None
            between calls.
    """

    spent: int = 0
    offered: int = 0
    seconds: float = 0.0
    since: float | None = None

    @contextmanager
    def call(self, *, compiles: bool = False) -> Iterator[None]:
        """Measures a call of the device; one that compiles gets `COMPILE_SECONDS` beyond the stall timeout."""
        began = time.perf_counter()
        self.since = time.monotonic() + (COMPILE_SECONDS if compiles else 0)
        try:
            yield
        finally:
            self.since = None
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True)
class Saving(Generic[T]):
    """Intermediate pictures.

    Attributes:
        every: evaluations between two pictures of an image.
        before: evaluations that a task's image had spent before it was put into a lane.
        save: called with a task, its image, all evaluations of the image, and the lane's status, at the first look at
            or after each multiple of `every`.
    """

    every: int
    before: Callable[[T], int]
    save: Callable[[T, Result, int, int], None]


@dataclass
class _Lane(Generic[T]):
    """One place of the batch: its task, if any, what was spent on it, and the sizes of its batches."""

    task: T | None = None
    sizes: tuple[int, ...] = ()
    evaluations: int = 0
    seconds: float = 0.0
    course: Course = NO_COURSE


@dataclass
class _Filled(Generic[T]):
    """The lanes of the present batch; `run` requeues their tasks if the device runs out of memory."""

    lanes: list[_Lane[T]] = field(default_factory=list)

    def active(self) -> list[int]:
        return [index for index, lane in enumerate(self.lanes) if lane.task is not None]

    def tasks(self) -> list[T]:
        return [lane.task for lane in self.lanes if lane.task is not None]


class BatchScheduler(Generic[T]):
    """Runs one group after the other on a device."""

    def __init__(
        self,
        device: Device,
        queues: Queues[T],
        report: Callable[[int, float], None],
        usage: Usage | None = None,
        *,
        shrink: bool = False,
        saving: Saving[T] | None = None,
    ):
        """Args:
        report: called after each chunk with the evaluations spent in it and the mean loss of the running lanes; called
            for a lost batch with minus the evaluations spent on its images, and NaN.
        usage: counters to update [default: new ones]
        shrink: begin with a batch that the tasks fill, and move the last lanes to smaller batches. Otherwise all
            batches have one size, and lanes without a task are idle: an image's size of batch decides its rounding.
        saving: of intermediate pictures; a chunk then ends where the next one is due.
        """
        self.usage, self._shrink = usage or Usage(), shrink
        self._device, self._queues, self._report, self._saving = device, queues, report, saving

    def run(self, group: Group, pending: int, batch: int, smaller: Callable[[int], None]) -> Iterator[Ended[T]]:
        """Renders the tasks of a group until none is left or a later stage has priority.

        Each lane ends on its own and is refilled. With `shrink`, if no task is left, the running lanes move to smaller
        batches when that saves more time than compiling takes. If the device runs out of memory, the batch is halved
        and its images start again.

        Args:
            pending: least number of tasks to expect, failures aside.
            batch: lanes; with `shrink`, most lanes.
            smaller: called with the new size when the batch is halved.

        Raises:
            DeviceError: the device has no memory for the network.
        """
        again: deque[T] = deque()
        count = self._device.count
        while True:
            filled: _Filled[T] = _Filled()
            try:
                yield from self._run(group, batch_size(batch, pending, count) if self._shrink else batch, filled, again)
                return
            except OutOfMemory as error:
                lost, size = filled.tasks(), len(filled.lanes)
                if spent := sum(lane.evaluations for lane in filled.lanes):
                    self._report(-spent, float("nan"))
                if size > count:
                    batch = batch_sizes(size, count)[1]
                    smaller(batch)
                    again.extend(lost)
                elif lost:
                    yield from (Ended(task, None, 0, Status.RUNNING, 0.0) for task in lost)
                else:
                    raise DeviceError(
                        f"the device has no room for the network ({error})", "Use a device with more memory."
                    ) from error
                pending = len(again) + self._queues.pending(group)

    def _run(self, group: Group, size: int, filled: _Filled[T], again: deque[T]) -> Iterator[Ended[T]]:
        filled.lanes = [_Lane() for _ in range(size)]
        with self.usage.call(compiles=True):
            batch = self._device.batch(group, size)
        ticks, chunk = 1, 0.0  # the first chunk has one tick and measures its time
        while not self._queues.abandoned:
            self._fill(group, batch, filled, again, chunk)
            active = filled.active()
            if not active:
                return
            smaller = self._smaller(group, filled, again) if self._shrink else None
            if smaller is not None:
                with self.usage.call(compiles=True):
                    batch = batch.select(active, smaller)
                idle = [_Lane[T]() for _ in range(smaller - len(active))]
                filled.lanes = [filled.lanes[index] for index in active] + idle
                active, ticks = list(range(len(active))), 1
                for lane in filled.lanes[: len(active)]:
                    lane.sizes += (smaller,)
            ticks = max(1, min([ticks, *(self._left(filled.lanes[index]) for index in active)]))
            if self._saving is not None:
                ticks = min([ticks, *(self._until_saved(filled.lanes[index], self._saving) for index in active)])
                earlier = [lane.evaluations for lane in filled.lanes]
            began = time.perf_counter()
            with self.usage.call():
                snapshot = batch.advance(ticks)
            chunk = time.perf_counter() - began
            ran = self._account(filled, active, snapshot, ticks, chunk)
            ticks = ticks_of_call(ran, chunk)
            if self._saving is not None:
                self._save(batch, filled, active, snapshot, earlier, self._saving)
            yield from self._ended(batch, filled, active, snapshot)

    def _fill(self, group: Group, batch: Batch, filled: _Filled[T], again: deque[T], chunk: float) -> None:
        """Puts tasks into the idle lanes.

        If all lanes are idle, it blocks for the first task; else it waits for each task at most the time that the idle
        lanes would waste in one chunk.
        """
        empty = not filled.tasks()
        for index, lane in enumerate(filled.lanes):
            if lane.task is not None:
                continue
            idle = sum(other.task is None for other in filled.lanes) / len(filled.lanes)
            task = again.popleft() if again else self._queues.take(group, None if empty else chunk * idle)
            if task is None:
                return
            filled.lanes[index] = _Lane(task, (len(filled.lanes),))
            with self.usage.call():
                batch.put(index, task.inputs, task.evaluations, task.style)

    def _smaller(self, group: Group, filled: _Filled[T], again: deque[T]) -> int | None:
        """Returns a smaller batch size for the running lanes; None if a task is pending or it would save no time."""
        lanes, active = filled.lanes, filled.active()
        size = min(s for s in batch_sizes(len(lanes), self._device.count) if s >= len(active))
        if size == len(lanes) or again or self._queues.pending(group):
            return None
        left = max(self._left(lanes[index]) for index in active)
        return size if self._device.worth_shrinking(group, len(lanes) - size, left) else None

    @staticmethod
    def _left(lane: _Lane[T]) -> int:
        """Returns the evaluations left in a lane's budget."""
        assert lane.task is not None
        return lane.task.evaluations - lane.evaluations

    @staticmethod
    def _until_saved(lane: _Lane[T], saving: Saving[T]) -> int:
        """Returns the evaluations up to a lane's next intermediate picture, at least 1."""
        assert lane.task is not None
        return saving.every - (saving.before(lane.task) + lane.evaluations) % saving.every

    def _save(
        self, batch: Batch, filled: _Filled[T], active: list[int], now: Snapshot, earlier: list[int], saving: Saving[T]
    ) -> None:
        """Saves the images of the lanes that have come to a multiple of `every` in the last chunk.

        Args:
            earlier: evaluations of the lanes before the chunk.
        """
        for index in active:
            lane = filled.lanes[index]
            assert lane.task is not None
            before = saving.before(lane.task)
            if (before + lane.evaluations) // saving.every > (before + earlier[index]) // saving.every:
                with self.usage.call():
                    result = batch.result(index)
                saving.save(lane.task, result, before + lane.evaluations, int(now.status[index]))

    def _account(self, filled: _Filled[T], active: list[int], snapshot: Snapshot, ticks: int, chunk: float) -> int:
        """Adds a chunk's evaluations and seconds to lanes and counters; returns its ticks until no lane ran."""
        used, share = 0, chunk / len(active)
        most = max(int(snapshot.evaluations[index]) - filled.lanes[index].evaluations for index in active)
        ticks = max(1, min(ticks, most))  # a tick of some solvers takes more than one evaluation
        for index in active:
            lane, spent = filled.lanes[index], int(snapshot.evaluations[index])
            own, lane.evaluations = spent - lane.evaluations, spent
            used += own
            lane.seconds += share
            terms = {name: float(values[index]) for name, values in snapshot.terms.items()}
            worked = chunk * min(1.0, own / ticks)
            lane.course = lane.course.after(spent, terms, worked, share * len(filled.lanes))
        self.usage.spent += min(used, ticks * len(active))
        self.usage.offered += ticks * len(filled.lanes)
        self._report(used, float(snapshot.loss[active].mean(dtype=np.float64)))
        return ticks

    def _ended(self, batch: Batch, filled: _Filled[T], active: list[int], snapshot: Snapshot) -> Iterator[Ended[T]]:
        """Yields the images of the lanes that have ended, and empties these lanes."""
        for index in active:
            status = int(snapshot.status[index])
            if status != Status.RUNNING:
                with self.usage.call():
                    result = batch.result(index)
                lane, filled.lanes[index] = filled.lanes[index], _Lane()
                assert lane.task is not None
                yield Ended(lane.task, result, lane.evaluations, status, lane.seconds, lane.sizes, lane.course)
