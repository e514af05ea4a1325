"""Shows the progress of a run: a bar on a terminal, a line every half minute in a log; or tells nothing, or events."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import printable
from jaxstyle.engine.events import ShardState
from jaxstyle.report import ending
from jaxstyle.report.events import JsonEvents

LINE_SECONDS = 30.0
"""Seconds between two lines of a log."""
NOTABLE = 20
"""Most failed rows that are printed. Further ones are counted; the manifest has all of them."""

PLAIN_TERMINALS = ("dumb", "unknown")
"""Values of $TERM for terminals that cannot redraw a line, which get lines like a log."""


class Counts:
    """Counts and prints the progress; base of both kinds.

    Attributes:
        rows, done, failed: inputs of this run that have a row, and those of a status.
        before: inputs that earlier runs finished.
        number: all of these and those without a row; None while they are being counted.
    """

    def __init__(self, stream: TextIO):
        self.stream, self.began = stream, time.monotonic()
        self.budget = 1
        self.number: int | None = None
        self.before = self.rows = self.done = self.failed = self.spent = self.settled = 0
        self.loss = math.nan

    def begin(self, evaluations: int) -> None:
        self.budget, self.began, self.number = evaluations, time.monotonic(), None
        self.before = self.rows = self.done = self.failed = self.spent = self.settled = 0

    def inputs(self, number: int) -> None:
        self.number = number
        already = f", {self.before} finished before" if self.before else ""
        self.say(f"{number} inputs{already}")

    def finished(self, number: int) -> None:
        self.before += number

    def advance(self, evaluations: int, loss: float) -> None:
        self.spent += evaluations
        self.loss = self.loss if math.isnan(loss) else loss

    def row(self, row: Row) -> None:
        self.rows += 1
        self.settled += row.evaluations
        self.done += row.status == "done"
        self.failed += row.status == "failed"
        if row.status == "failed" and self.failed <= NOTABLE:
            self.tell_failed(row)
            if self.failed == NOTABLE:
                self.say("failed: further ones are counted here and listed in the manifest")

    def tell_failed(self, row: Row) -> None:
        """Prints a failed row."""
        self.say(f"failed: {printable(row.key)}: {printable(row.reason)}")

    def shards(self, states: Sequence[ShardState]) -> None:
        """See `ClusterProgress`."""

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the stream is closed, or its disk is full: the run goes on
            print(text, file=self.stream, flush=True)

    end = staticmethod(ending.tell)

    def part(self) -> float:
        """Returns the finished share of the run, 0 to 1; 0 while the inputs are being counted."""
        if not self.number:
            return 0.0
        return min(1.0, (self.before + self.rows + self._in_lanes()) / self.number)

    def _in_lanes(self) -> float:
        """Returns the evaluations spent on images without a row, in images."""
        return max(0, self.spent - self.settled) / self.budget

    def state(self) -> str:
        """Formats images, rate, loss and time left."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        of = "" if self.number is None else f" of {self.number - self.before} inputs"
        parts = [f"{self.done} images, {self.rows}{of}" + (f" ({self.failed} failed)" if self.failed else "")]
        if self.spent:
            lanes = self._in_lanes()
            parts.append(f"{(self.done + lanes) / elapsed:.3g} images/s")
            parts.append(f"loss {self.loss:.4g}")
            mine = self.rows + lanes
            if self.number is not None and mine:
                parts.append(f"{duration(seconds_left(elapsed, mine, self.number - self.before))} left")
        return ", ".join(parts)


def seconds_left(elapsed: float, finished: float, number: int) -> float:
    """Estimates the time left, after `elapsed` seconds for `finished` images of a number."""
    return elapsed * max(0.0, number - finished) / finished


def duration(seconds: float) -> str:
    """Formats seconds as minutes:seconds or hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Lines(Counts):
    """Prints lines to a log."""

    _last = 0.0

    def advance(self, evaluations: int, loss: float) -> None:
        super().advance(evaluations, loss)
        now = time.monotonic()
        if now - max(self._last, self.began) >= LINE_SECONDS:
            self._last = now
            self.say(self.state())


@contextmanager
def listening(quiet: bool, log_json: bool) -> Iterator[ending.Listener]:
    """Yields the listener of a command: silent, events on standard output, or progress on standard error."""
    if quiet or log_json:
        yield JsonEvents(sys.stdout) if log_json else ending.Quiet()
        return
    with progress(sys.stderr) as listener:
        yield listener


@contextmanager
def progress(stream: TextIO) -> Iterator[ending.Listener]:
    """Yields a listener for `render`: a `Screen` if the stream is a terminal that can redraw lines, else lines."""
    if not stream.isatty() or os.environ.get("TERM", "").lower() in PLAIN_TERMINALS:
        yield _Lines(stream)
        return
    from jaxstyle.report.terminal import Screen

    screen = Screen(stream)
    with screen.live:
        yield screen
