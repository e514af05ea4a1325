"""The threads of a run, and what passes between them.

    planner  ->  queues  ->  decoders  ->  queues  ->  device  ->  publishers  ->  main
                (jobs)                 (pictures)            (ended lanes)    (rows)

Every queue is bounded, so the slowest one sets the pace and memory does not grow with the number of inputs. The main
thread alone writes the ledger and talks to the caller; it also notices when another thread does not come back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from jaxstyle.data.image import Size
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import sweep, sync_folder
from jaxstyle.data.sources.folders import discover
from jaxstyle.decode.pool import Decoders
from jaxstyle.engine.events import Broken, Progress, Result, Summary, Tell
from jaxstyle.engine.lanes import BatchScheduler, Ended
from jaxstyle.engine.prepare import Prepared, prepare
from jaxstyle.engine.publish import problem, publish, row
from jaxstyle.engine.queues import Queues
from jaxstyle.engine.stop import Stop, Watchdog
from jaxstyle.errors import ImageError
from jaxstyle.planning.batches import chosen_batch
from jaxstyle.planning.contract import Device, Group
from jaxstyle.planning.plan import Job, Unchanged, in_shard
from jaxstyle.planning.preflight import Ready

WINDOW = 2048
"""Jobs that the planner may be ahead."""
COMMIT_SECONDS = 0.5
"""Longest that a row waits for others before it is synced to the disk."""
LOOK_SECONDS = 0.2
"""Between two looks of the main thread at the clock and at `Stop`."""
LEAVE_SECONDS = 2.0
"""What threads get to come to an end when a run is left early."""
EXAMPLES = 8
"""Results that a run remembers for its contact sheet."""


class Crew:
    """The threads of one run: `work`, then `leave`, in any case."""

    def __init__(
        self,
        ready: Ready,
        planned: Iterable[Job | Row | Unchanged],
        decoders: Decoders,
        device_for: Callable[[Ready], Device],
        progress: Progress,
        keep: Callable[[list[Row]], None],
    ):
        """Args:
        planned: what to do, as `plan` says.
        device_for: makes the `lanes.Device`, when there is something to render.
        keep: puts rows on the disk; called by the thread that calls `work`.
        """
        self._ready, self._settings, self._planned = ready, ready.settings, planned
        self._decoders, self._device_for, self._progress, self._keep = decoders, device_for, progress, keep
        index, parts = self._settings.part()
        self._part = "" if parts == 1 else f"{index}-of-{parts}-"
        batch = 2 if self._settings.batch == "auto" else int(self._settings.batch)
        self._queues: Queues[Prepared] = Queues(lambda _: batch, window=max(WINDOW, 4 * batch))
        self._scheduler: BatchScheduler[Prepared] | None = None
        self._device: Device | None = None
        self._making: float | None = None
        self._most_pixels = 2**63
        self._ended: queue.Queue[Ended[Prepared] | None] = queue.Queue(maxsize=2 * batch + 2)
        self._events: queue.Queue[Result | Tell | Broken | threading.Thread] = queue.Queue(maxsize=4096)
        self._writing: dict[int, float] = {}
        self._rows: list[Row] = []
        self._folders: set[Path] = set()
        self._examples: list[tuple[Path, Path]] = []
        self._left = threading.Event()
        self._through, self._jobs, self._settled = False, 0, 0
        self._watchdog = Watchdog(self._settings.stall_timeout, ready.output)
        self._seconds = 0.0
        self._hands = max(1, decoders.workers)
        works = [self._count, self._plan, self._render, *[self._decode] * self._hands, *[self._publish] * self._hands]
        self._threads = [self._thread(work) for work in works]

    # The main thread.

    def work(self, stop: Stop, exceeded: Callable[[], str]) -> None:
        """Runs until everything has its row, or the run is stopped and its batch finished.

        Args:
            exceeded: why the run should stop now, or "".

        Raises:
            StorageError, DeviceError: a write or the device did not come back in time.
            BaseException: whatever a thread ended with.
        """
        began = committed = time.monotonic()
        self._progress.begin(self._settings.evaluations)
        if stop.reason:
            self._queues.stop()
        for thread in self._threads:
            thread.start()
        working, stopping = set(self._threads), False
        while working:
            try:
                event = self._events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                event = None
            if isinstance(event, threading.Thread):
                working.discard(event)
            elif isinstance(event, Broken):
                raise event.error
            elif event is not None:
                self._take(event)
            now = time.monotonic()
            if event is None or now - committed >= COMMIT_SECONDS or not working:
                self._commit()
                committed = now
                if reason := exceeded():
                    stop.request(reason)
                self._watchdog.look(
                    self._scheduler.usage.since if self._scheduler else self._making, list(self._writing.values())
                )
            if stop.reason and not stopping:
                stopping = True
                self._progress.say(f"Stopping ({stop.reason}): finishing the images on the device.")
                self._queues.stop()
        self._seconds = time.monotonic() - began
        if self.unfinished and not stopping:
            raise AssertionError(f"{self._jobs - self._settled} images have no row")

    @property
    def unfinished(self) -> bool:
        """Whether the run left inputs."""
        return not self._through or self._settled < self._jobs

    def leave(self) -> None:
        """Ends all threads, and keeps what has been published."""
        self._queues.abandon()
        deadline = time.monotonic() + LEAVE_SECONDS
        try:
            for thread in self._threads:
                while thread.is_alive() and time.monotonic() < deadline:
                    self._drain()  # a thread may be waiting for room to say something
                    thread.join(0.02)
        finally:
            self._left.set()
        self._drain()
        self._commit()

    def account(self, summary: Summary) -> None:
        """Fills in what the threads know."""
        summary.seconds, summary.examples = self._seconds, self._examples
        if self._scheduler is not None and self._device is not None:
            usage = self._scheduler.usage
            summary.occupancy = usage.spent / usage.offered if usage.offered else 0.0
            summary.device_seconds, summary.programs = usage.seconds, self._device.n_compiled

    def _take(self, event: Result | Tell) -> None:
        if isinstance(event, Tell):
            getattr(self._progress, event.name)(*event.arguments)
            return
        self._rows.append(event.row)
        self._settled += event.path is not None
        if event.folder is not None:
            self._folders.add(event.folder)
            if event.row.status == "done" and event.path and len(self._examples) < EXAMPLES:
                self._examples.append((event.path, self._ready.output / event.row.key))

    def _drain(self) -> None:
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, Result):
                self._take(event)

    def _commit(self) -> None:
        rows, self._rows = self._rows, []
        folders, self._folders = self._folders, set()
        for folder in folders:
            sync_folder(folder)
        if rows:
            self._keep(rows)

    # The others.

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except BaseException as error:
                self._post(Broken(error))
            finally:
                self._post(threading.current_thread())

        return threading.Thread(target=body, name=work.__name__, daemon=True)

    def _post(self, event: Result | Tell | Broken | threading.Thread) -> None:
        self._put(self._events, event)

    def _put(self, where: queue.Queue, what: Any) -> None:
        """Waits for room, unless the run has been left."""
        while not self._left.is_set():
            try:
                where.put(what, timeout=LOOK_SECONDS)
                return
            except queue.Full:
                continue

    def _tell(self, name: str, *arguments: Any) -> None:
        self._post(Tell(name, arguments))

    def _count(self) -> None:
        sweep(self._ready.output, self._part, lambda: self._queues.abandoned)
        part, number = self._settings.part(), 0
        for one in discover(self._ready.inputs):
            number += in_shard(one.key, part)
            if self._queues.stopped:
                return
        self._tell("inputs", number)

    def _plan(self) -> None:
        finished = 0
        for planned in self._planned:
            if isinstance(planned, Unchanged):
                finished += 1
                if finished % 100 == 0:
                    self._tell("finished", 100)
            elif isinstance(planned, Row):
                self._post(Result(planned))
            else:
                self._jobs += self._queues.offer(planned)
                if self._jobs == self._settings.limit:
                    break
            if self._queues.stopped:
                return
        self._tell("finished", finished % 100)
        self._through = True
        self._queues.end()

    def _decode(self) -> None:
        while (taken := self._queues.job()) is not None:
            group, job = taken
            try:
                task = prepare(job, self._decoders, self._ready)
            except ImageError as error:
                self._post(Result(row(job, "failed", reason=str(error)), job.path))
                self._queues.decoded(group, None)
            else:
                place = Group(task.job.bucket, group.careful)
                if place != group:
                    self._queues.requeue(place, task.job)
                self._queues.decoded(group, task if place == group else None)

    def _render(self) -> None:
        try:
            if not self._queues.anything():
                return
            self._making = time.monotonic()
            self._device = self._device_for(self._ready)
            self._queues.suit(self._batch)
            self._scheduler = BatchScheduler(
                self._device, self._queues, self._settings.evaluations, lambda *told: self._tell("advance", *told)
            )
            while (chosen := self._queues.choose()) is not None:
                group, pending = chosen
                for ended in self._scheduler.run(
                    group, pending, self._batch(group.bucket), partial(self._halve, group)
                ):
                    if not group.careful and (wrong := problem(ended)):
                        job = dataclasses.replace(ended.task.job, first_problem=wrong)
                        self._queues.requeue(Group(group.bucket, True), job)
                    else:
                        self._put(self._ended, ended)
        finally:
            for _ in range(self._hands):
                self._put(self._ended, None)

    def _batch(self, bucket: Size) -> int:
        """Lanes side by side: as asked or as the device prefers, and no more than it has had room for."""
        assert self._device is not None
        wanted = chosen_batch(self._device, bucket, self._settings.batch)
        count = self._device.count
        return max(count, min(wanted, self._most_pixels // (bucket[0] * bucket[1]) // count * count))

    def _halve(self, group: Group, batch: int) -> None:
        width, height = group.bucket
        self._most_pixels = batch * width * height
        self._tell("say", f"The device is out of memory: going on with {batch} images of {width} x {height} at a time.")

    def _next(self) -> Ended[Prepared] | None:
        """The next lane to publish; None at the end, and as soon as the run has been left."""
        while not self._left.is_set():
            with contextlib.suppress(queue.Empty):
                return self._ended.get(timeout=LOOK_SECONDS)
        return None

    def _publish(self) -> None:
        me, output = threading.get_ident(), self._ready.output
        while (ended := self._next()) is not None:
            self._writing[me] = time.monotonic()
            made = publish(ended, self._settings, output, self._part)
            del self._writing[me]
            job = ended.task.job
            self._post(Result(made, job.path, (output / job.key).parent if made.status == "done" else None))
