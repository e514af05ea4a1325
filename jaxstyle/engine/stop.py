"""What ends a run early: a signal, a limit on failures or time, a call that hangs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from jaxstyle.data.sources.base import printable
from jaxstyle.errors import DeviceError, StorageError
from jaxstyle.settings import RenderSettings

ASLEEP = 10.0
"""Seconds between two looks of the watchdog after which it assumes that this process was suspended."""
APART = 0.5
"""Seconds within which a second signal does not count: `timeout` sends each to the process and to its group."""
FEW = 100
"""Inputs that must have a row before a limit on the share of failures applies."""


class Stop:
    """A request to stop, from any thread or signal. The run then finishes its batch and begins nothing further.

    Attributes:
        reason: why, in words; "" while the run may go on.
        signal: the signal that asked for it, or 0.
    """

    def __init__(self) -> None:
        self.reason, self.signal = "", 0

    def request(self, reason: str, signal_number: int = 0) -> None:
        """Asks the run to stop. The first reason is kept, and so is the first signal, whichever came first."""
        self.reason = self.reason or reason
        self.signal = self.signal or signal_number


class Quit(BaseException):
    """A second signal came: the run ends at once."""

    def __init__(self, signal_number: int):
        self.signal = signal_number


class Limits:
    """The limits `max_failures` and `max_duration` of the settings; the time counts from here on."""

    def __init__(self, settings: RenderSettings):
        self._number, self._share = settings.failures()
        self._until = None if settings.seconds() is None else time.monotonic() + (settings.seconds() or 0)

    def exceeded(self, failed: int, looked_at: int) -> str:
        """Why the run should stop, or "".

        Args:
            failed: inputs that failed in this run.
            looked_at: inputs that have a row of this run.
        """
        if self._number is not None and failed > self._number:
            return f"{failed} inputs have failed, more than {self._number}"
        if self._share is not None and looked_at >= FEW and failed > self._share * looked_at:
            return f"{failed} of {looked_at} inputs have failed, more than {self._share:.0%}"
        if self._until is not None and time.monotonic() >= self._until:
            return "its time is up"
        return ""


class Watchdog:
    """Finds calls that hang. The main thread calls `look` several times a second."""

    def __init__(self, limit: float, output: Path):
        """Args:
        limit: seconds that a call of the device or the writing of an output may take.
        output: folder, for the message.
        """
        self._limit, self._output = limit, output
        self._looked = self._awake = time.monotonic()

    def look(self, device: float | None, writing: Sequence[float]) -> None:
        """Checks what is under way.

        Args:
            device: when the present call of the device began (time.monotonic), or None.
            writing: when the outputs that are being written were begun.

        Raises:
            DeviceError, StorageError: one takes too long.
        """
        now = time.monotonic()
        if now - self._looked > ASLEEP:
            self._awake = now
        self._looked = now
        if device is not None and now - max(device, self._awake) > self._limit:
            raise DeviceError(
                f"the device has not answered for {self._limit:g} s", "Run again, or raise --stall-timeout."
            )
        if any(now - max(began, self._awake) > self._limit for began in writing):
            raise StorageError(
                f"a file could not be written to {printable(self._output)} within {self._limit:g} s",
                "Look after the storage and run again, or raise --stall-timeout.",
            )


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """Handles SIGINT and SIGTERM: the first asks for a stop, a later one raises `Quit`. For the main thread only."""
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        del frame
        if stop.signal:
            if time.monotonic() - first < APART:
                return
            raise Quit(number)
        first = time.monotonic()
        stop.request(signal.Signals(number).name, number)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
