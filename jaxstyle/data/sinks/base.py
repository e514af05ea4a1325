"""What a sink of outputs must do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Sink(Protocol):
    """Where outputs go, each under the key of its input. Its methods may be called by several threads.

    Attributes:
        case_insensitive: keys that differ only in case or Unicode form would be one output.
    """

    @property
    def case_insensitive(self) -> bool: ...

    def write(self, key: str, data: bytes) -> None:
        """Writes an output as a whole: a reader sees the old one, if any, or the new one.

        Raises:
            StorageError: it cannot be written.
        """

    def commit(self, keys: Iterable[str]) -> None:
        """Makes outputs that were written durable; their rows are kept only after it.

        Raises:
            StorageError: a power loss might undo them.
        """

    def has(self, key: str) -> bool:
        """Whether there is an output under this key."""

    def withdraw(self, key: str) -> None:
        """Deletes an output whose row no longer says that it is done; it may be gone already.

        Raises:
            StorageError: it cannot be deleted.
        """

    def sweep(self) -> None:
        """Deletes unfinished outputs of killed runs. The caller holds the lock of the output folder."""

    def close(self) -> None:
        """Ends the use of the sink by this run."""
