"""The shards at work in an output folder, and those that were: their rows, last sign of life, and whether they run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from jaxstyle.data.layout import ledger_name
from jaxstyle.data.lock import Part, Seen, stated
from jaxstyle.data.rows import Row


@dataclass
class ShardStatus:
    """A shard whose ledger is not united with the manifest yet, or that has a lock or a record.

    Attributes:
        part: the shard, as in "2/5"; "0/5" is the coordinator of five on a cluster, which has no rows.
        state: "at work"; "killed", where it has left the record of its lock; "ended"; "unknown", where the locks cannot
            be tried and its process may be on another machine.
        done, skipped, failed: inputs by the status of their last row, where that is in this shard's ledger.
        seen: its last sign of life, its last row or its start, in seconds since 1970, in JSON as an ISO time in UTC;
            None without either.
        host, pid: machine and process of the run; "" and 0 if it has left no record.
        since: its start, as an ISO time in UTC, or "".
    """

    part: str
    state: str
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seen: float | None = None
    host: str = ""
    pid: int = 0
    since: str = ""

    @property
    def coordinates(self) -> bool:
        """Whether it is the coordinator of the others."""
        return self.part.startswith("0/")

    @property
    def name(self) -> str:
        """Its part, for people."""
        return "coordinator" if self.coordinates else self.part

    def as_json(self) -> dict[str, Any]:
        """Returns values for a JSON file; `seen` is an ISO time in UTC."""
        return asdict(self) | {"seen": None if self.seen is None else iso(self.seen)}

    def line(self) -> str:
        """Returns the shard in one line of text."""
        counts = "" if self.coordinates else f" {self.done} done, {self.skipped} skipped, {self.failed} failed;"
        seen = "" if self.seen is None else f", last sign of life {iso(self.seen)}"
        return f"{'' if self.coordinates else 'shard '}{self.name}:{counts} {self.state}{seen}"


class Shards:
    """Counts the rows of shards."""

    def __init__(self, seen: Mapping[Part, Seen], changed: Mapping[str, float]):
        """Args:
        seen: see `lock.survey`.
        changed: times of the last change of the folder's ledgers by their names, in seconds since 1970.
        """
        parts = {part: one for part, one in seen.items() if part[1] > 1 or part[0] == 0}
        for name in changed:
            if found := re.fullmatch(r"manifest-([0-9]{1,9})-of-([0-9]{1,9})\.jsonl", name):
                parts.setdefault((int(found[1]), int(found[2])), Seen(None, False))
        self._by_ledger = {}
        for (i, n), one in sorted(parts.items(), key=lambda item: (item[0][1], item[0][0])):
            name, about = ledger_name((i, n)), stated(one.record or {})
            times = [changed[name]] if name in changed else []
            with suppress(ValueError, TypeError):
                times.append(datetime.fromisoformat(about["since"]).timestamp())
            self._by_ledger[name] = ShardStatus(f"{i}/{n}", one.state, seen=max(times, default=None), **about)

    def add(self, ledger: str, row: Row) -> None:
        """Counts a row of a ledger."""
        if (one := self._by_ledger.get(ledger)) is not None:
            setattr(one, row.status, getattr(one, row.status) + 1)

    def found(self) -> list[ShardStatus]:
        """All shards, in the order of their numbers."""
        return [*self._by_ledger.values()]


def iso(time: float) -> str:
    """Formats seconds since 1970 as an ISO time in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
