"""The queues of a run between the planner, the decoders and the device: jobs and decoded pictures, by group.

The planner offers jobs and blocks while the window is full. Decoders take jobs of the group that the device works on,
then of the group that it will probably take next. The device takes the decoded pictures. The number of jobs never
exceeds the window, and the number of decoded pictures never exceeds two batches and a few, however many inputs there
are. A frame of a film waits until the one before has its row.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from jaxstyle.data.image import Size
from jaxstyle.engine.shots import Shots
from jaxstyle.planning.contract import Group
from jaxstyle.planning.plan import Before, Job

T = TypeVar("T")


class Queues(Generic[T]):
    """Thread-safe. Every method that blocks returns when the run is stopped."""

    def __init__(self, batch: Callable[[Size], int], *, window: int, spare: int = 1):
        """Args:
        batch: (bucket) -> lanes of a full batch; a group with fewer jobs waits for more.
        window: most jobs of all groups together: waiting, being decoded and decoded, and frames that wait for others.
        spare: most decoded pictures of the current group beyond a full batch; the other groups together may have a
            full batch and as many.
        """
        self._batch, self._window, self._spare = batch, window, spare
        self._change = threading.Condition()  # its lock is reentrant
        self._waiting: dict[Group, deque[Job]] = defaultdict(deque)
        self._decoding: Counter[Group] = Counter()
        self._ready: dict[Group, deque[T]] = defaultdict(deque)
        self._pending: Counter[Group] = Counter()  # the sum of the three above
        self._shots, self._published = Shots(), set[str]()  # shots of which a frame is being published
        self._current: Group | None = None
        self._planned = self._stopped = self._ended = False
        self.abandoned = False

    # The planner's side.

    def offer(self, job: Job) -> bool:
        """Adds a job; blocks while the window is full. Returns False if the run has stopped and drops the job."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._held() < self._window)
            queued = self._shots.add(job) if job.shot else job
            return not self._stopped if queued is None else self.requeue(queued)

    def finished(self, shot: str, frame: Before) -> None:
        """Says that an earlier run has made the output of a frame."""
        with self._change:
            self._shots.finished(shot, frame)

    @property
    def stopped(self) -> bool:
        """Whether the run takes no further jobs."""
        return self._stopped

    def end(self) -> None:
        """Marks the plan as complete: `offer` is not called again."""
        with self._change:
            self._planned = True
            self._change.notify_all()

    def set_batch(self, batch: Callable[[Size], int]) -> None:
        """Replaces `batch` once the device is known."""
        with self._change:
            self._batch = batch
            self._change.notify_all()

    def abandon(self) -> None:
        """Stops the run without finishing the running lanes."""
        self.abandoned = True
        self.stop()

    def stop(self) -> None:
        """Drops all queued jobs and tasks; running lanes are finished and not refilled."""
        with self._change:
            self._stopped = True
            for pile in (self._waiting, self._ready, self._pending):
                pile.clear()
            self._change.notify_all()

    # The decoders' side.

    def job(self) -> tuple[Group, Job] | None:
        """Returns the next job to decode, with its group; blocks until there is one. None if the run is over."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._wanted() or self._ended)
            group = self._wanted()
            if self._stopped or group is None:
                return None
            self._decoding[group] += 1
            return group, self._waiting[group].popleft()

    def decoded(self, group: Group, task: T | None) -> None:
        """Reports a decoded job of a group; `task` is None if it failed and has its row, or was requeued."""
        with self._change:
            self._decoding[group] -= 1
            if not self._stopped:
                self._count(group, -1)
                if task is not None:
                    self.ready(group, task)
            self._change.notify_all()

    def ready(self, group: Group, task: T) -> None:
        """Adds a decoded picture."""
        with self._change:
            if not self._stopped:
                self._count(group, 1)
                self._ready[group].append(task)
                self._change.notify_all()

    def requeue(self, job: Job) -> bool:
        """Adds a job without blocking; returns False if the run has stopped.

        The caller uses it for a job whose group differs from the plan, which has a further stage, or which is retried.
        Its picture is decoded again later, so that it takes no memory until then.
        """
        with self._change:
            if not self._stopped:
                self._count(job.group, 1)
                self._waiting[job.group].append(job)
                self._change.notify_all()
            return not self._stopped

    def settled(self, job: Job, *, done: bool) -> None:
        """Says that a job has its row; the frame that waits for it is queued.

        Args:
            done: whether it has an output.
        """
        if not job.shot:
            return
        with self._change:
            self._published.discard(job.shot)
            following = None if self._stopped else self._shots.ended(job, done=done)
            if following is not None:
                self.requeue(following)
            self._change.notify_all()

    # The device's side.

    def publishing(self, job: Job) -> None:
        """Says that a job's picture is being published, so that a further frame of its shot may come."""
        if job.shot:
            with self._change:
                self._published.add(job.shot)

    def anything(self) -> bool:
        """Whether there is a job to render; blocks until one is planned or the plan is complete."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._planned or self._pending)
            self._end_if(not self._pending)
            return not self._ended

    def choose(self) -> tuple[Group, int] | None:
        """Returns the group to work on next, with the number of its pending tasks; None if the run is over.

        Blocks until a group has a full batch, the window is full, or the plan is complete. `_rank` orders the groups.
        """
        with self._change:
            self._current = None
            self._change.notify_all()
            self._change.wait_for(lambda: self._stopped or self._best() or self._over())
            self._current = None if self._stopped else self._best()
            self._end_if(self._current is None)
            self._change.notify_all()
            return None if self._current is None else (self._current, self._pending[self._current])

    def take(self, group: Group, wait: float | None) -> T | None:
        """Returns a decoded picture of the current group; None if there is none (yet) or a later stage has priority.

        Args:
            wait: timeout in seconds for a pending picture to be decoded; None waits without a timeout.
        """

        def settled() -> bool:
            nothing = not self._pending[group] and not self._published
            return bool(self._stopped or self._overtaken(group) or self._ready[group] or nothing)

        with self._change:
            self._change.wait_for(settled, wait)
            if self._overtaken(group) or not self._ready[group]:
                return None
            self._count(group, -1)
            self._change.notify_all()
            return self._ready[group].popleft()

    def pending(self, group: Group) -> int:
        """Returns the number of a group's tasks: waiting, being decoded, or decoded; and those that a frame being
        published may lead to."""
        with self._change:
            return self._pending[group] + len(self._published)

    # Private; the caller holds the condition.

    def _count(self, group: Group, change: int) -> None:
        self._pending[group] += change
        if not self._pending[group]:
            del self._pending[group]

    def _held(self) -> int:
        return self._pending.total() + self._shots.held

    def _over(self) -> bool:
        return self._planned and not self._pending and not self._published

    def _end_if(self, nothing: bool) -> None:
        if nothing:
            self._ended = True
            self._change.notify_all()

    def _full(self, group: Group) -> bool:
        return self._pending[group] >= self._batch(group.bucket)

    def _rank(self, group: Group) -> tuple[int, int, Group]:
        """Sort key: a later stage with a full batch comes first, since its jobs hold images; then the largest group."""
        return (group.stage if self._full(group) else 0, self._pending[group], group)

    def _overtaken(self, group: Group) -> bool:
        """Whether a group of a later stage has a full batch; this group is then not refilled."""
        return any(other.stage > group.stage and self._full(other) for other in self._pending)

    def _best(self) -> Group | None:
        ready = self._planned or self._held() >= self._window
        return max((group for group in self._pending if ready or self._full(group)), key=self._rank, default=None)

    def _wanted(self) -> Group | None:
        """Returns the group whose pictures to decode next, or None if the decoded pictures are at their limit."""
        current = self._current
        if current is not None and self._waiting[current] and not self._overtaken(current):
            held = self._decoding[current] + len(self._ready[current])
            return current if held < self._batch(current.bucket) + self._spare else None
        held = sum(n for group, n in self._decoding.items() if group != current)
        held += sum(len(tasks) for group, tasks in self._ready.items() if group != current)
        best = max((group for group, jobs in self._waiting.items() if jobs), key=self._rank, default=None)
        return best if best is not None and held < self._batch(best.bucket) + self._spare else None
