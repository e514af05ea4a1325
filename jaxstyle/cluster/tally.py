"""What a coordinator knows of one shard: its attempts, the rows that they told, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxstyle.data.rows import Row
from jaxstyle.engine.events import ShardState


@dataclass
class Tally:
    """State of a shard.

    Attributes:
        attempt: number of the present one, from 1.
        tries: attempts that failed since the last one with a row.
        alive: when the attempt was last heard of (time.monotonic), None before it is at work.
        since: when it was first heard of.
        seconds: time at work of the attempts before.
        inputs: their number; None until told.
        rows, done, failed: all rows told, and those of a status.
        rows_before, finished, spent, settled: of the present attempt: rows told before it began, inputs that it found
            finished, evaluations told and those of its rows.
        known: inputs finished by earlier runs, as passed on to the listener.
        end: figures of the attempt that ended the shard.
        whole: whether the shard is finished.
        locked: since when its lock has been held by others.
        avoid: nodes on which attempts have failed.
    """

    attempt: int = 0
    tries: int = 0
    alive: float | None = None
    since: float | None = None
    seconds: float = 0.0
    inputs: int | None = None
    rows: int = 0
    done: int = 0
    failed: int = 0
    rows_before: int = 0
    finished: int = 0
    spent: int = 0
    settled: int = 0
    known: int = 0
    end: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    locked: float | None = None
    avoid: frozenset[str] = frozenset()

    def begin_attempt(self) -> None:
        """The next attempt begins."""
        self.attempt += 1
        self.alive, self.rows_before, self.finished, self.spent, self.settled = None, self.rows, 0, 0, 0

    def hear(self, now: float) -> None:
        """The present attempt gives a sign of life."""
        self.alive = now
        self.since = now if self.since is None else self.since

    def end_attempt(self, now: float) -> None:
        """The present attempt has ended."""
        self.seconds, self.since = self._seconds(now), None

    def add(self, row: Row, present: bool) -> None:
        """Counts a row, of the present attempt or of one before."""
        self.rows += 1
        self.done += row.status == "done"
        self.failed += row.status == "failed"
        self.settled += row.evaluations if present else 0

    def as_state(self, shard: int, state: str, now: float, evaluations: int) -> ShardState:
        """What a listener is told.

        Args:
            evaluations: budget of an image.
        """
        at_work = state == "at work"
        lanes = max(0, self.spent - self.settled) / evaluations if at_work else 0.0
        return ShardState(
            shard, state, self.done, self.failed, self.rows, lanes, self.inputs, self.known, self._seconds(now)
        )

    def _seconds(self, now: float) -> float:
        return self.seconds + (0.0 if self.since is None else now - self.since)
