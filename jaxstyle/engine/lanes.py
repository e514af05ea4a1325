"""The host's side of the lanes: keeps those of one lot busy, refills them, and hands out what has ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from jaxstyle.data.image import Size
from jaxstyle.engine.feed import Feed, Lot
from jaxstyle.errors import DeviceError
from jaxstyle.settings import CHUNK

RUNNING = 0
"""`style.solver.Status.RUNNING`; this file works without jax."""


class OutOfMemory(Exception):
    """The device has no room for a batch of this size."""


class Look(NamedTuple):
    """How the lanes stand; each N."""

    status: np.ndarray
    evaluations: np.ndarray
    loss: np.ndarray


class Result(NamedTuple):
    """What a lane holds.

    Attributes:
        image: H x W x 3 as optimised, not clipped.
        terms: the objective's terms, weights applied.
        start_loss: the objective before the first step.
        precision: of the convolutions.
    """

    image: np.ndarray
    terms: Mapping[str, float]
    start_loss: float
    precision: str


class Batch(Protocol):
    """Lanes side by side on a device. Every method may raise OutOfMemory, after which the batch is lost."""

    def put(self, lane: int, content: np.ndarray, init: np.ndarray) -> None:
        """Starts an image, H x W x 3 each, in a lane."""

    def advance(self, ticks: int) -> Look:
        """Some ticks of every lane that is running; returns when the device has done them."""

    def result(self, lane: int) -> Result:
        """What a lane holds."""

    def keep(self, lanes: Sequence[int], size: int) -> Batch:
        """A smaller batch, of these lanes in this order; this one is used up."""


class Device(Protocol):
    """Makes batches. It may be several devices that share every batch.

    Attributes:
        count: how many; lanes come in multiples of it.
        memory: bytes that batches may take, on all of them together.
        compiled: programs compiled for them so far.
    """

    @property
    def count(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def compiled(self) -> int: ...

    def takes(self, bucket: Size, lanes: int) -> int:
        """Bytes that so many lanes take, with what they share."""

    def fits(self, bucket: Size) -> int:
        """Most lanes of a bucket that the memory has room for; at least one a device, to be tried."""

    def suits(self, bucket: Size) -> int:
        """Lanes side by side for a bucket, if nobody asks for another number."""

    def batch(self, lot: Lot, size: int) -> Batch:
        """A batch of idle lanes."""

    def pays(self, lot: Lot, lanes: int, evaluations: int) -> bool:
        """Whether saving these evaluations of so many lanes is worth compiling a smaller batch."""


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
        status: `style.solver.Status`.
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


def rungs(batch: int, count: int = 1) -> list[int]:
    """The ladder of batch sizes: each half of the one before, so that a bucket compiles few programs.

    Args:
        count: of devices; all sizes are multiples of it.
    """
    ladder = [batch]
    while ladder[-1] > count:
        ladder.append(max(count, ladder[-1] // 2 // count * count))
    return ladder


def rung(batch: int, known: int, count: int = 1) -> int:
    """The largest size on the ladder that so many tasks fill; its smallest if they fill none."""
    return next(size for size in rungs(batch, count) if size <= max(known, count))


def side_by_side(device: Device, bucket: Size, asked: int | str) -> int:
    """Most lanes of a bucket: as many as were asked for and fit, or what suits the device ("auto").

    Rounded up to a multiple of the devices.
    """
    wanted = device.suits(bucket) if asked == "auto" else min(int(asked), device.fits(bucket))
    return -(-wanted // device.count) * device.count


class Lanes(Generic[T]):
    """Runs lots, one at a time, and remembers between them what the device had no room for."""

    def __init__(self, device: Device, feed: Feed[T], budget: int, report: Callable[[int, float], None]):
        """Args:
        budget: evaluations of an image.
        report: called after each chunk with the evaluations spent in it and the mean loss of the running lanes.
        """
        self.usage = Usage()
        self._device, self._feed, self._budget, self._report = device, feed, budget, report

    def run(self, lot: Lot, known: int, batch: int, smaller: Callable[[int], None]) -> Iterator[Ended[T]]:
        """Renders the tasks of a lot until there are none; each lane ends on its own and is refilled.

        When nothing is left to refill with, the lanes that still run move to smaller batches, if that pays. A batch
        that the device has no room for is halved, and its images begin again.

        Args:
            known: tasks to expect at least, failures aside.
            batch: most lanes.
            smaller: told the new size when the batch had to be halved.
        """
        again: deque[T] = deque()
        while True:
            tasks: list[T | None] = []
            try:
                yield from self._run(lot, rung(batch, known, self._device.count), tasks, again)
                return
            except OutOfMemory as error:
                lost = [task for task in tasks if task is not None]
                least = len(tasks) == self._device.count
                if least and not lost:
                    raise DeviceError(f"the device has no room for the network ({error})", "Use another.") from error
                if least:
                    for task in lost:
                        yield Ended(task, None, 0, RUNNING, 0.0)
                    lost = []
                else:
                    batch = rungs(len(tasks), self._device.count)[1]
                    smaller(batch)
                again.extend(lost)
                known = len(again) + self._feed.known(lot)

    def _run(self, lot: Lot, size: int, tasks: list[T | None], again: deque[T]) -> Iterator[Ended[T]]:
        tasks[:] = [None] * size  # the caller keeps this list, for what is lost if the memory is out
        lanes = self._on_device(self._device.batch, lot, size)
        seconds, spent, chunk = np.zeros(size), np.zeros(size, int), 0.0
        while not self._feed.abandoned:
            empty = all(task is None for task in tasks)
            for index in [i for i, task in enumerate(tasks) if task is None]:
                # A whole batch waits for its pictures; a few lanes only as long as idling in a chunk would cost.
                wait = None if empty else chunk * tasks.count(None) / len(tasks)
                task = again.popleft() if again else self._feed.take(lot, wait)
                if task is None:
                    break
                tasks[index], seconds[index], spent[index] = task, 0, 0
                self._on_device(lanes.put, index, task.content, task.init)
            active = [i for i, task in enumerate(tasks) if task is not None]
            if not active:
                return

            fit = min(size for size in rungs(len(tasks), self._device.count) if size >= len(active))
            left = self._budget - int(spent[active].min())
            last = fit < len(tasks) and not (again or self._feed.known(lot))
            if last and self._device.pays(lot, len(tasks) - fit, left):
                lanes = self._on_device(lanes.keep, active, fit)
                idle = [-1] * (fit - len(active))
                tasks[:] = [None if i < 0 else tasks[i] for i in (*active, *idle)]
                seconds, spent = seconds[[*active, *idle]], spent[[*active, *idle]]
                active = list(range(len(active)))

            ticks = max(1, min(CHUNK, self._budget - int(spent[active].max())))
            began = time.perf_counter()
            look: Look = self._on_device(lanes.advance, ticks)
            chunk = time.perf_counter() - began
            seconds[active] += chunk / len(active)
            used = int((look.evaluations - spent)[active].sum())
            self.usage.spent += min(used, ticks * len(active))  # some solvers evaluate more than once a tick
            self.usage.offered += ticks * len(tasks)
            self._report(used, float(look.loss[active].mean()))
            spent[active] = look.evaluations[active]

            for index in active:
                if look.status[index] != RUNNING:
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
