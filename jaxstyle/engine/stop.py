"""What ends a run early: a signal, or a limit on failures or time. `watchdog` ends one that hangs."""

from __future__ import annotations

import _thread
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jaxstyle.engine.watchdog import GRACE_SECONDS, end_process
from jaxstyle.settings import RenderSettings

QUIT = "jaxstyle: quit; run the same command again to finish what is missing"
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
        self.signal = self.signal or signal_number  # before the reason, for which other threads look
        self.reason = self.reason or reason


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


class _Listener:
    """Takes signals on a thread of its own, so that the second one counts although the main thread hangs in a call.

    Python runs handlers in the main thread, between two of its calls. Its C handler writes each signal's number to a
    socket at once; this thread reads them.
    """

    def __init__(self, stop: Stop):
        self._stop, self._first, self._quit = stop, 0.0, 0
        self._here, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.socket.close()
        self._thread.join()
        self._here.close()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of the main thread: raises `Quit` once, when the thread has decided so."""
        del number, frame
        quitting, self._quit = self._quit, 0
        if quitting:
            raise Quit(quitting)

    def _listen(self) -> None:
        while numbers := self._here.recv(64):
            if any(map(self._heard, numbers)):
                break
        else:
            return
        until = time.monotonic() + GRACE_SECONDS  # when the process is ended
        while select.select([self._here], [], [], max(0.0, until - time.monotonic()))[0]:
            if not self._here.recv(64):  # `interrupt_main` is heard here too
                return
        end_process(QUIT, 128 + self._stop.signal)

    def _heard(self, number: int) -> bool:
        """Takes a signal; returns whether the run must end at once."""
        if not self._stop.signal:
            self._first = time.monotonic()
            self._stop.request(signal.Signals(number).name, number)
            return False
        if time.monotonic() - self._first < APART:
            return False
        self._stop.signal = self._quit = number
        _thread.interrupt_main(signal.Signals(number))
        return True


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """Handles SIGINT and SIGTERM: the first asks for a stop, a later one raises `Quit`. For the main thread only.

    If the main thread hangs in a call, the later one ends the process after `watchdog.GRACE_SECONDS`. The main thread
    blocks both signals, since the system would give them to it, and they would wait for the end of its call.
    """
    listener, numbers = _Listener(stop), (signal.SIGINT, signal.SIGTERM)
    listener.start()  # before the signals are blocked, which threads inherit
    old = {number: signal.signal(number, listener.handle) for number in numbers}
    wakeup = signal.set_wakeup_fd(listener.socket.fileno(), warn_on_full_buffer=False)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        listener.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what came meanwhile still meets our handler
        for number, handler in old.items():
            signal.signal(number, handler)
