"""What waits for the device, by bucket: jobs of a bounded look-ahead, and a few of them decoded.

The planner offers jobs and waits while the window is full; decoders take jobs of the bucket that the device works on,
then of the one it is likely to take next; the device takes what they decoded. However many inputs there are, no more
jobs are offered than fill the window, and no more pictures decoded than two batches and a few.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from jaxstyle.data.image import Size
from jaxstyle.engine.plan import Job


class Lot(NamedTuple):
    """Tasks that one compiled program can work on.

    Attributes:
        bucket: size of the arrays.
        careful: of tasks that came to a bad end and get a second, more careful try.
    """

    bucket: Size
    careful: bool = False


T = TypeVar("T")


class Feed(Generic[T]):
    """Thread-safe. Every method that waits returns when the run is stopped."""

    def __init__(self, batch: Callable[[Size], int], *, window: int, spare: int = 1):
        """Args:
        batch: lanes side by side for a bucket: as many jobs are worth starting with before more are known.
        window: most jobs waiting, being decoded and decoded, all lots together.
        spare: decoded pictures beyond a batch of the lot being worked on; as many again of other lots.
        """
        self._batch, self._window, self._spare = batch, window, spare
        self._change = threading.Condition()  # of a lock that its holder may take again
        self._waiting: dict[Lot, deque[Job]] = defaultdict(deque)
        self._decoding: Counter[Lot] = Counter()
        self._ready: dict[Lot, deque[T]] = defaultdict(deque)
        self._known: Counter[Lot] = Counter()  # of all three
        self._current: Lot | None = None
        self._planned = self._stopped = self._ended = False
        self.abandoned = False

    # The planner's side.

    def offer(self, job: Job) -> bool:
        """Adds a job; waits while the window is full. False: the run has stopped and does not want it."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._known.total() < self._window)
            if not self._stopped:
                self._count(Lot(job.bucket), 1)
                self._waiting[Lot(job.bucket)].append(job)
                self._change.notify_all()
            return not self._stopped

    @property
    def stopped(self) -> bool:
        """Whether nothing further may begin."""
        return self._stopped

    def end(self) -> None:
        """The plan is through: no further jobs."""
        with self._change:
            self._planned = True
            self._change.notify_all()

    def suit(self, batch: Callable[[Size], int]) -> None:
        """Another `batch`, as soon as the device is known."""
        with self._change:
            self._batch = batch
            self._change.notify_all()

    def abandon(self) -> None:
        """Stops, and lets lanes end unfinished."""
        self.abandoned = True
        self.stop()

    def stop(self) -> None:
        """Lets nothing further begin: whatever waits is dropped, lanes are not refilled."""
        with self._change:
            self._stopped = True
            for pile in (self._waiting, self._ready, self._known):
                pile.clear()
            self._change.notify_all()

    # The decoders' side.

    def job(self) -> tuple[Lot, Job] | None:
        """The next job to decode; waits for one. None: there will be no more, as the device has ended."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._wanted() or self._ended)
            lot = self._wanted()
            if self._stopped or lot is None:
                return None
            self._decoding[lot] += 1
            return lot, self._waiting[lot].popleft()

    def decoded(self, lot: Lot, task: T | None) -> None:
        """A job of a lot has become a task, or None: it has its row, or has gone back by `again`."""
        with self._change:
            self._decoding[lot] -= 1
            if not self._stopped:
                self._count(lot, -1)
                if task is not None:
                    self.ready(lot, task)
            self._change.notify_all()

    def ready(self, lot: Lot, task: T) -> None:
        """Adds a task without a job: its picture is in memory already."""
        with self._change:
            if not self._stopped:
                self._count(lot, 1)
                self._ready[lot].append(task)
                self._change.notify_all()

    def again(self, lot: Lot, job: Job) -> None:
        """Adds a job without waiting for room, to be decoded again and so to cost no memory until its turn comes.

        It has turned out to belong to another lot than was planned, or needs a second try.
        """
        with self._change:
            if not self._stopped:
                self._count(lot, 1)
                self._waiting[lot].append(job)
                self._change.notify_all()

    # The device's side.

    def anything(self) -> bool:
        """Whether there is anything to do; waits until that is known."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._planned or self._known)
            self._end_if(not self._known)
            return not self._ended

    def choose(self) -> tuple[Lot, int] | None:
        """The lot to work on next, and how many tasks of it are known; waits until it is worth it. None: all done.

        A full batch of a lot is worth it, and so is the fullest lot when the window is full or the plan is through.
        """
        with self._change:
            self._current = None
            self._change.notify_all()
            self._change.wait_for(lambda: self._stopped or self._worth() or (self._planned and not self._known))
            self._current = None if self._stopped else self._worth()
            self._end_if(self._current is None)
            self._change.notify_all()
            return None if self._current is None else (self._current, self._known[self._current])

    def take(self, lot: Lot, wait: float | None) -> T | None:
        """A decoded task of the lot being worked on, or None: there is none (yet).

        Args:
            wait: seconds to wait for one that is known and not decoded yet; None waits as long as it takes.
        """
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._ready[lot] or not self._known[lot], wait)
            if not self._ready[lot]:
                return None
            self._count(lot, -1)
            self._change.notify_all()
            return self._ready[lot].popleft()

    def known(self, lot: Lot) -> int:
        """Tasks of a lot that wait, are being decoded, or are decoded."""
        with self._change:
            return self._known[lot]

    # Inside, with the condition held.

    def _count(self, lot: Lot, change: int) -> None:
        self._known[lot] += change
        if not self._known[lot]:
            del self._known[lot]

    def _end_if(self, nothing: bool) -> None:
        if nothing:
            self._ended = True
            self._change.notify_all()

    def _worth(self) -> Lot | None:
        ready = self._planned or self._known.total() >= self._window
        lots = [lot for lot, known in self._known.items() if ready or known >= self._batch(lot.bucket)]
        return max(lots, key=lambda lot: (self._known[lot], lot), default=None)

    def _wanted(self) -> Lot | None:
        """The lot that decoders should serve, if there is room for what they bring."""
        current = self._current
        if current is not None and self._waiting[current]:
            held = self._decoding[current] + len(self._ready[current])
            return current if held < self._batch(current.bucket) + self._spare else None
        held = sum(n for lot, n in self._decoding.items() if lot != current)
        held += sum(len(tasks) for lot, tasks in self._ready.items() if lot != current)
        lots = [lot for lot, jobs in self._waiting.items() if jobs]
        best = max(lots, key=lambda lot: (self._known[lot], lot), default=None)
        return best if best is not None and held < self._batch(best.bucket) + self._spare else None
