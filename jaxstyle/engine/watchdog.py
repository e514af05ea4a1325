"""Notices calls that hang: a thread that only reads clocks, and does no I/O of its own until the limit has passed."""

from __future__ import annotations

import itertools
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from jaxstyle.errors import DeviceError, JaxstyleError, StorageError

LOOK_SECONDS = 0.2
"""Between two looks at the clocks."""
ASLEEP = 10.0
"""Seconds between two looks after which it assumes that this process was suspended."""
GRACE_SECONDS = 5.0
"""Time that the run has, after a limit has passed or a second signal has come, to keep its rows and end by itself."""
TELL_SECONDS = 0.5
"""Most time for the last message, where stderr may hang as well."""


class Call(NamedTuple):
    """A call that is under way.

    Attributes:
        began: when it began (time.monotonic).
        what: what it does, for the message.
        extra: seconds that it may take beyond the limit.
    """

    began: float
    what: str
    extra: float


class Calls:
    """The calls of storage that are under way, of all threads of a run."""

    def __init__(self) -> None:
        self._under_way: dict[int, Call] = {}
        self._numbers = itertools.count()

    @contextmanager
    def of(self, what: str, extra: float = 0.0) -> Iterator[None]:
        """Counts the block as a call. See `Call`."""
        number = next(self._numbers)
        self._under_way[number] = Call(time.monotonic(), what, extra)
        try:
            yield
        finally:
            del self._under_way[number]

    def watched(self, function: Callable[[], None], what: str) -> Callable[[], None]:
        """Returns a function that counts as a call."""

        def calling() -> None:
            with self.of(what):
                function()

        return calling

    def under_way(self) -> list[Call]:
        """Lists the calls; another thread may call it at any time."""
        return list(self._under_way.values())


class Watchdog:
    """Ends a run in which a call hangs. A context manager, whose end is that of the run.

    Attributes:
        calls: of the run.
        error: what has hung; the caller's thread raises it as soon as it can. If the process is there for this run
            and has not ended `GRACE_SECONDS` later, it is ended with the error's exit code. A library call whose own
            thread hangs returns when that call does.
    """

    def __init__(self, limit: float, calls: Calls, *, own_process: bool):
        """Args:
        limit: seconds that a call may take.
        own_process: the process is there for this run.
        """
        self.error: JaxstyleError | None = None
        self.device: Callable[[], float | None] = lambda: None
        """When the present call of the device began (time.monotonic), or None."""
        self.calls, self._limit, self._own_process = calls, limit, own_process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises the error, if there is one."""
        if self.error is not None:
            raise self.error

    def _watch(self) -> None:
        looked = awake = time.monotonic()
        while self.error is None:
            if self._over.wait(LOOK_SECONDS):
                return
            now = time.monotonic()
            awake = now if now - looked > ASLEEP else awake
            looked = now
            self.error = self._found(now, awake)
        if not self._over.wait(GRACE_SECONDS) and self._own_process:
            end_process(f"jaxstyle: {self.error}", self.error.exit_code)

    def _found(self, now: float, awake: float) -> JaxstyleError | None:
        """Returns the error for a call that has taken too long; time before `awake` does not count."""
        device = self.device()
        if device is not None and now - max(device, awake) > self._limit:
            what = f"the device has not answered for {self._limit:g} s"
            return DeviceError(what, "Run again, or raise --stall-timeout.")
        for call in self.calls.under_way():
            if now - max(call.began, awake) > self._limit + call.extra:
                remedy = "Look after the storage and run again, or raise --stall-timeout."
                return StorageError(f"{call.what} takes longer than {self._limit + call.extra:g} s", remedy)
        return None


def end_process(text: str, code: int) -> None:
    """Ends the process at once, although its main thread may hang. The text is lost if stderr hangs too."""
    thread = threading.Thread(target=_tell, args=(text,), daemon=True)
    thread.start()
    thread.join(TELL_SECONDS)
    os._exit(code)


def _tell(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # stderr is closed, or there is none
        descriptor = sys.stderr.fileno()
        if select.select([], [descriptor], [], TELL_SECONDS)[1]:
            os.write(descriptor, f"{text}\n".encode(errors="backslashreplace"))
