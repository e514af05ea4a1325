"""Protocol of sinks, which store outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from jaxstyle.data.folder import Folder


class Sink(Protocol):
    """Stores outputs, each under the key of its input. Several threads may call its methods.

    Attributes:
        case_insensitive: whether keys that differ only in case or Unicode form name the same output.
    """

    @property
    def case_insensitive(self) -> bool: ...

    def begin(self, folder: Folder, protected: Sequence[Path]) -> None:
        """Begins a run, which holds the lock of the output folder. Without it, the sink only answers `has`.

        Args:
            folder: the output folder.
            protected: input folders, in which no output may be written, and files of the run, which none may replace.
        """

    def write(self, key: str, data: bytes) -> None:
        """Writes an output atomically: a reader sees the old output, if any, or the whole new one.

        Raises:
            ImageError: this output cannot be written, and others may; it is a failed row.
            StorageError: no output can be written.
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
            ImageError: this output cannot be deleted.
            StorageError: no output can be deleted.
        """

    def clear_steps(self, key: str) -> None:
        """Deletes the intermediate pictures of an output, if there are any; see `data.layout.step_key`.

        Raises:
            ImageError, StorageError: see `withdraw`.
        """

    def sweep(self) -> None:
        """Deletes unfinished outputs of killed runs. The caller holds the lock of the output folder."""

    def close(self) -> None:
        """Releases what the sink holds, at the end of the run."""
