"""How a run goes on: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from jaxstyle.data.manifest import Row
from jaxstyle.data.source import printable
from jaxstyle.engine.pipeline import Progress

LINE_SECONDS = 30.0
"""Between two lines in a log."""
NOTABLE = 20
"""Failed rows told one by one; the rest are only counted, the manifest has them all."""


class _Counts:
    """What both kinds show, and the words for it."""

    def __init__(self, stream: TextIO):
        self.stream, self.began = stream, time.monotonic()
        self.images = self.ended = self.failed = self.total = self.spent = 0
        self.loss = math.nan

    def begin(self, images: int, evaluations: int, finished: int) -> None:
        self.images, self.total, self.began = images, evaluations, time.monotonic()
        self.ended = self.spent = 0
        already = f", {finished} inputs finished before" if finished else ""
        self.say(f"{images} to render{already}")

    def advance(self, evaluations: int, loss: float) -> None:
        self.spent += evaluations
        self.loss = self.loss if math.isnan(loss) else loss

    def row(self, row: Row) -> None:
        self.ended += row.status == "done"
        self.failed += row.status == "failed"
        if row.status == "failed" and self.failed <= NOTABLE:
            self.say(f"failed: {printable(row.key)}: {row.reason}")

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def state(self) -> str:
        """Images, rate, loss and time left."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        parts = [f"{self.ended}/{self.images} images"]
        if self.spent and self.total:
            per_image = self.total / max(self.images, 1)
            parts.append(f"{self.spent / per_image / elapsed:.3g} images/s")
            parts.append(f"loss {self.loss:.4g}")
            parts.append(f"{_duration(elapsed * (self.total - self.spent) / self.spent)} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Lines(_Counts):
    """For logs."""

    _last = 0.0

    def advance(self, evaluations: int, loss: float) -> None:
        super().advance(evaluations, loss)
        now = time.monotonic()
        if now - max(self._last, self.began) >= LINE_SECONDS:
            self._last = now
            self.say(self.state())


class _Bar(_Counts):
    """For terminals."""

    def __init__(self, stream: TextIO):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        super().__init__(stream)
        columns = (BarColumn(bar_width=None), TextColumn("{task.description}", markup=False))
        self.rich = RichProgress(*columns, console=Console(file=stream), expand=True, transient=True)
        self._task = self.rich.add_task("starting", total=None)

    def begin(self, images: int, evaluations: int, finished: int) -> None:
        super().begin(images, evaluations, finished)
        self.rich.update(self._task, total=max(evaluations, 1), completed=0)

    def advance(self, evaluations: int, loss: float) -> None:
        super().advance(evaluations, loss)
        self.rich.update(self._task, completed=self.spent, description=self.state())

    def say(self, text: str) -> None:
        self.rich.console.print(text, markup=False, highlight=False)


@contextmanager
def progress(stream: TextIO) -> Iterator[Progress]:
    """A watcher for `render` that suits the stream."""
    if not stream.isatty():
        yield _Lines(stream)
        return
    bar = _Bar(stream)
    with bar.rich:
        yield bar
