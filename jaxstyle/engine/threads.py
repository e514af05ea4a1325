"""The threads of a run as the main thread sees them: it starts them, takes their events, watches them and ends them.

The main thread alone writes the manifest and calls the `Progress`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import printable
from jaxstyle.engine.events import Broken, Example, Progress, Settled, Summary, Tell
from jaxstyle.engine.shared import Shared
from jaxstyle.engine.stop import Stop
from jaxstyle.engine.watchdog import Watchdog
from jaxstyle.planning import scales

COMMIT_SECONDS = 0.5
"""Longest that a row waits for others before it is synced to the disk."""
LOOK_SECONDS = 0.2
"""Between two looks of the main thread at the clock and at `Stop`."""
LEAVE_SECONDS = 2.0
"""Time that threads get to end when a run is left early."""


class Threads:
    """The threads of one run: `supervise`, then `leave`, in any case."""

    def __init__(
        self,
        shared: Shared,
        works: Sequence[Callable[[Shared], None]],
        progress: Progress,
        keep: Callable[[list[Row]], None],
        watchdog: Watchdog,
    ):
        """Args:
        works: what each thread does.
        keep: puts rows on the disk; called by the thread that calls `supervise`.
        watchdog: of the run; watches the device too from here on.
        """
        self._shared, self._progress, self._keep = shared, progress, keep
        self._rows: list[Row] = []
        self._written: list[str] = []
        self._examples: list[Example] = []
        self._settled, self._seconds = 0, 0.0
        self._watchdog = watchdog
        watchdog.device = lambda: shared.usage.since
        self._threads = [self._thread(work) for work in works]

    def supervise(self, stop: Stop, exceeded: Callable[[], str]) -> None:
        """Runs until every input has its row, or until the run is stopped and its batch is finished.

        Args:
            exceeded: why the run should stop now, or "".

        Raises:
            StorageError, DeviceError: a write or the device took too long.
            BaseException: the error that a thread failed with.
        """
        began = committed = time.monotonic()
        shared, working, stopping = self._shared, set(self._threads), False
        self._progress.begin(scales.total_evaluations(shared.ready.settings))
        if stop.reason:
            shared.queues.stop()
        for thread in self._threads:
            thread.start()
        while working:
            try:
                event = shared.events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                event = None
            if isinstance(event, threading.Thread):
                working.discard(event)
            elif isinstance(event, Broken):
                raise event.error
            elif event is not None:
                self._take(event)
            self._watchdog.check()
            now = time.monotonic()
            if event is None or now - committed >= COMMIT_SECONDS or not working:
                self._commit()
                committed = now
                if reason := exceeded():
                    stop.request(reason)
            if stop.reason and not stopping:
                stopping = True
                again = " A second signal quits at once." if stop.signal else ""
                self._progress.say(f"Stopping ({stop.reason}): finishing the images on the device.{again}")
                shared.queues.stop()
        self._seconds = time.monotonic() - began
        if self.unfinished and not stopping:
            raise AssertionError(f"{shared.jobs - self._settled} images have no row")

    @property
    def unfinished(self) -> bool:
        """Whether the run left inputs without a row."""
        return not self._shared.planned or self._settled < self._shared.jobs

    def leave(self) -> None:
        """Ends all threads and keeps the rows of what has been published."""
        self._shared.queues.abandon()
        deadline = time.monotonic() + LEAVE_SECONDS
        try:
            for thread in self._threads:
                while thread.is_alive() and time.monotonic() < deadline:
                    self._drain()  # the thread may wait for room in the events
                    thread.join(0.02)
        finally:
            self._shared.left.set()
        self._drain()
        self._commit()

    def account(self, summary: Summary) -> None:
        """Fills in what the threads know."""
        shared, usage = self._shared, self._shared.usage
        summary.seconds, summary.examples = self._seconds, self._examples
        if shared.device is not None:
            summary.occupancy = usage.spent / usage.offered if usage.offered else 0.0
            summary.device_seconds, summary.programs = usage.seconds, shared.device.n_compiled

    def _take(self, event: Settled | Tell) -> None:
        if isinstance(event, Tell):
            getattr(self._progress, event.name)(*event.arguments)
            return
        self._rows.append(event.row)
        if event.job is None:
            return
        self._settled += 1
        if event.row.status == "done":
            self._written.append(event.row.key)
            if event.example is not None:
                self._examples.append(event.example)

    def _drain(self) -> None:
        while not self._shared.events.empty():
            event = self._shared.events.get_nowait()
            if isinstance(event, Settled):
                self._take(event)

    def _commit(self) -> None:
        """Makes outputs durable, then their rows."""
        rows, self._rows = self._rows, []
        written, self._written = self._written, []
        with self._shared.calls.of(f"writing rows to {printable(self._shared.ready.output)}"):
            if written:
                self._shared.ready.sink.commit(written)
            if rows:
                self._keep(rows)

    def _thread(self, work: Callable[[Shared], None]) -> threading.Thread:
        def body() -> None:
            try:
                work(self._shared)
            except BaseException as error:
                self._shared.post(Broken(error))
            finally:
                self._shared.post(threading.current_thread())

        return threading.Thread(target=body, name=work.__name__, daemon=True)
