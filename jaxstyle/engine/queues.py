"""What waits for the device, by bucket: jobs of a bounded look-ahead, and a few of them decoded.

The planner offers jobs and waits while the window is full; decoders take jobs of the bucket that the device works on,
then of the one it is likely to take next; the device takes what they decoded. However many inputs there are, no more
jobs are offered than fill the window, and no more pictures decoded than two batches and a few.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from jaxstyle.data.image import Size
from jaxstyle.planning.contract import Group
from jaxstyle.planning.plan import Job

T = TypeVar("T")


class Queues(Generic[T]):
    """Thread-safe. Every method that waits returns when the run is stopped."""

    def __init__(self, batch: Callable[[Size], int], *, window: int, spare: int = 1):
        """Args:
        batch: lanes side by side for a bucket: as many jobs are worth starting with before more are pending.
        window: most jobs waiting, being decoded and decoded, all groups together.
        spare: decoded pictures beyond a batch of the group being worked on; as many again of other groups.
        """
        self._batch, self._window, self._spare = batch, window, spare
        self._change = threading.Condition()  # of a lock that its holder may take again
        self._waiting: dict[Group, deque[Job]] = defaultdict(deque)
        self._decoding: Counter[Group] = Counter()
        self._ready: dict[Group, deque[T]] = defaultdict(deque)
        self._known: Counter[Group] = Counter()  # of all three
        self._current: Group | None = None
        self._planned = self._stopped = self._ended = False
        self.abandoned = False

    # The planner's side.

    def offer(self, job: Job) -> bool:
        """Adds a job; waits while the window is full. False: the run has stopped and does not want it."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._known.total() < self._window)
            if not self._stopped:
                self._count(Group(job.bucket), 1)
                self._waiting[Group(job.bucket)].append(job)
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
        """Another `batch`, as soon as the device is pending."""
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

    def job(self) -> tuple[Group, Job] | None:
        """The next job to decode; waits for one. None: there will be no more, as the device has ended."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._wanted() or self._ended)
            group = self._wanted()
            if self._stopped or group is None:
                return None
            self._decoding[group] += 1
            return group, self._waiting[group].popleft()

    def decoded(self, group: Group, task: T | None) -> None:
        """A job of a group has become a task, or None: it has its row, or has gone back by `again`."""
        with self._change:
            self._decoding[group] -= 1
            if not self._stopped:
                self._count(group, -1)
                if task is not None:
                    self.ready(group, task)
            self._change.notify_all()

    def ready(self, group: Group, task: T) -> None:
        """Adds a task without a job: its picture is in memory already."""
        with self._change:
            if not self._stopped:
                self._count(group, 1)
                self._ready[group].append(task)
                self._change.notify_all()

    def requeue(self, group: Group, job: Job) -> None:
        """Adds a job without waiting for room, to be decoded again and so to cost no memory until its turn comes.

        It has turned out to belong to another group than was planned, or needs a second try.
        """
        with self._change:
            if not self._stopped:
                self._count(group, 1)
                self._waiting[group].append(job)
                self._change.notify_all()

    # The device's side.

    def anything(self) -> bool:
        """Whether there is anything to do; waits until that is pending."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._planned or self._known)
            self._end_if(not self._known)
            return not self._ended

    def choose(self) -> tuple[Group, int] | None:
        """The group to work on next, and how many tasks of it are pending; waits until it is worth it. None: all done.

        A full batch of a group is worth it, and so is the fullest group when the window is full or the plan is through.
        """
        with self._change:
            self._current = None
            self._change.notify_all()
            self._change.wait_for(lambda: self._stopped or self._worth() or (self._planned and not self._known))
            self._current = None if self._stopped else self._worth()
            self._end_if(self._current is None)
            self._change.notify_all()
            return None if self._current is None else (self._current, self._known[self._current])

    def take(self, group: Group, wait: float | None) -> T | None:
        """A decoded task of the group being worked on, or None: there is none (yet).

        Args:
            wait: seconds to wait for one that is pending and not decoded yet; None waits as long as it takes.
        """
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._ready[group] or not self._known[group], wait)
            if not self._ready[group]:
                return None
            self._count(group, -1)
            self._change.notify_all()
            return self._ready[group].popleft()

    def pending(self, group: Group) -> int:
        """Tasks of a group that wait, are being decoded, or are decoded."""
        with self._change:
            return self._known[group]

    # Inside, with the condition held.

    def _count(self, group: Group, change: int) -> None:
        self._known[group] += change
        if not self._known[group]:
            del self._known[group]

    def _end_if(self, nothing: bool) -> None:
        if nothing:
            self._ended = True
            self._change.notify_all()

    def _worth(self) -> Group | None:
        ready = self._planned or self._known.total() >= self._window
        groups = [group for group, pending in self._known.items() if ready or pending >= self._batch(group.bucket)]
        return max(groups, key=lambda group: (self._known[group], group), default=None)

    def _wanted(self) -> Group | None:
        """The group that decoders should serve, if there is room for what they bring."""
        current = self._current
        if current is not None and self._waiting[current]:
            held = self._decoding[current] + len(self._ready[current])
            return current if held < self._batch(current.bucket) + self._spare else None
        held = sum(n for group, n in self._decoding.items() if group != current)
        held += sum(len(tasks) for group, tasks in self._ready.items() if group != current)
        groups = [group for group, jobs in self._waiting.items() if jobs]
        best = max(groups, key=lambda group: (self._known[group], group), default=None)
        return best if best is not None and held < self._batch(best.bucket) + self._spare else None
