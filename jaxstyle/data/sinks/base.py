"""Protocol of sinks, which store outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Sink(Protocol):
    """Stores outputs, each under the key of its input. Several threads may call its methods.

    Attributes:
        case_insensitive: whether keys that differ only in case or Unicode form name the same output.
    """

    @property
    def case_insensitive(self) -> bool: ...

    def write(self, key: str, data: bytes) -> None:
        """Writes an output atomically: a reader sees the old output, if any, or the whole new one.

        Raises:
            StorageError: the output cannot be written.
        """

    def commit(self, keys: Iterable[str]) -> None:
        """Makes written outputs durable; the caller appends their rows afterwards.

        Raises:
            StorageError: the sync failed; a power loss might undo the writes.
        """

    def has(self, key: str) -> bool:
        """Whether an output with this key exists."""

    def withdraw(self, key: str) -> None:
        """Deletes an output, if it exists, whose row is no longer done.

        Raises:
            StorageError: the output cannot be deleted.
        """

    def sweep(self) -> None:
        """Deletes unfinished outputs of killed runs. The caller holds the lock of the output folder."""

    def close(self) -> None:
        """Releases what the sink holds, at the end of the run."""
