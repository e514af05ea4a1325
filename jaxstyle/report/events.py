"""Writes a run's progress for other programs: one event a line, each a JSON object."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from jaxstyle.data.rows import Row
from jaxstyle.engine.events import ShardState, Summary

ADVANCE_SECONDS = 1.0
"""Least time between two events "advance"."""


class JsonEvents:
    """Writes events to a stream; a `Progress`.

    Every line is an object with `event`, its name, and `time`, in UTC. docs/reference.md lists the events with their
    fields.
    """

    def __init__(self, stream: TextIO):
        self._stream, self._last = stream, -math.inf
        self._spent, self._loss = 0, math.nan

    def begin(self, evaluations: int) -> None:
        self._write("begin", {"evaluations": evaluations})

    def inputs(self, number: int) -> None:
        self._write("inputs", {"number": number})

    def finished(self, number: int) -> None:
        self._write("finished", {"number": number})

    def advance(self, evaluations: int, loss: float) -> None:
        self._spent += evaluations
        self._loss = self._loss if math.isnan(loss) else loss
        if time.monotonic() - self._last >= ADVANCE_SECONDS:
            self._tell_advance()

    def row(self, row: Row) -> None:
        self._write("row", row.as_json())

    def say(self, text: str) -> None:
        self._write("message", {"text": text})

    def shards(self, states: Sequence[ShardState]) -> None:
        """Tells nothing: the events of all shards are one run's."""

    def end(self, summary: Summary, sheet: Path | None, shard: str | None) -> None:
        """See `ending.Listener`."""
        if self._spent:
            self._tell_advance()
        names = ("done", "skipped", "failed", "rendered", "stopped", "occupancy", "seconds", "device_seconds")
        values = {name: getattr(summary, name) for name in names}
        self._write(
            "end",
            {"shard": shard, "output": str(summary.output), **values, "sheet": None if sheet is None else str(sheet)},
        )

    def _tell_advance(self) -> None:
        self._last = time.monotonic()
        self._write("advance", {"evaluations": self._spent, "loss": None if math.isnan(self._loss) else self._loss})
        self._spent = 0

    def _write(self, event: str, values: Mapping[str, Any]) -> None:
        told = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with contextlib.suppress(OSError):  # the reader has gone: the run goes on
            print(json.dumps(told | dict(values)), file=self._stream, flush=True)
