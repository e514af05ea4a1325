"""Where workers leave their news and the coordinator collects them, both about once a second."""

from __future__ import annotations

from jaxstyle.cluster.messages import GO_ON, HOLD, STOP, Call, News

MOST_CALLS = 100_000
"""Calls that wait for the coordinator, beyond which workers keep theirs for later."""


class Board:
    """News of all workers, by attempt; Ray makes an actor of it. Should it be lost, a new one knows all it needs."""

    def __init__(self) -> None:
        self._news: dict[tuple[int, int], list[Call]] = {}
        self._waiting, self._stop = 0, False

    def tell(self, shard: int, attempt: int, calls: list[Call]) -> str:
        """Takes news of an attempt, or a sign of life if there are none; returns an answer, see `messages`."""
        if calls and self._waiting > MOST_CALLS:
            return HOLD
        self._news.setdefault((shard, attempt), []).extend(calls)
        self._waiting += len(calls)
        return STOP if self._stop else GO_ON

    def take(self, stop: bool) -> list[News]:
        """Returns what has been told since the last time.

        Args:
            stop: tell the workers to stop.
        """
        self._stop = stop
        taken, self._news, self._waiting = self._news, {}, 0
        return [News(shard, attempt, calls) for (shard, attempt), calls in taken.items()]
