"""Appending to an output folder's manifest: one row for every input."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

from jaxstyle.data.layout import MANIFEST, ledger_name
from jaxstyle.data.ledger import Ledger, compact, ledgers
from jaxstyle.data.opening import open_regular
from jaxstyle.data.rows import STATUSES, Row
from jaxstyle.data.sinks.folders import sync_folder
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError


class Manifest:
    """The rows of an output folder; the last row of a key counts.

    Rows are appended, and are on the disk when `append` returns. `close` leaves one row a key where a retry added a
    second. A torn last line, which a killed run leaves, is dropped. The caller holds the lock of the folder or shard.

    Attributes:
        before: the rows of earlier runs.
    """

    def __init__(self, output: Path, part: tuple[int, int] = (1, 1)):
        """Args:
            part: (i, n) for shard i of n, which appends to a ledger of its own; (1, 1) for the whole folder.

        Raises:
            SettingsMismatch: a line of a ledger is not a row.
            StorageError: a ledger cannot be read or written.
        """
        self.path = output / ledger_name(part)
        try:
            there = ledgers(output)
            self.before = Ledger(there)
            if part == (1, 1) and (self.before.rows > len(self.before) or there not in ([], [self.path])):
                compact(output)
            if self.path.exists() and (whole := _whole_bytes(self.path)) < self.path.stat().st_size:
                os.truncate(self.path, whole)
            self._counts = {status: self.before.count(status) for status in STATUSES}
            self._replaced = False
            self._file = open_regular(self.path, "ab", buffering=0)
            self._end = self._file.seek(0, os.SEEK_END)
            sync_folder(output)
        except OSError as error:
            raise self._unwritable(error, "Make room, or correct its permissions.") from error

    def append(self, *rows: Row) -> None:
        """Appends rows, one a key in the life of this object; they are on the disk when this returns.

        Raises:
            StorageError: the rows cannot be written; none of them is kept.
        """
        lines = "".join(json.dumps(row.as_json()) + "\n" for row in rows).encode("ascii")
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            self._end += len(lines)
        except OSError as error:
            with contextlib.suppress(OSError):  # else a torn line stays, as after a kill, and appending must end
                os.ftruncate(self._file.fileno(), self._end)
            raise self._unwritable(error) from error
        for row in rows:
            past = self.before.get(row.key)
            if past is not None:
                self._counts[past.status] -= 1
                self._replaced = True
            self._counts[row.status] += 1

    def close(self) -> None:
        """Closes the ledger; that of the whole folder is left with one row a key.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from error
        if self._replaced and self.path.name == MANIFEST:
            compact(self.path.parent)

    def count(self, status: str) -> int:
        """Number of inputs with this status, over all runs into the folder."""
        return self._counts[status]

    def _unwritable(self, error: OSError, remedy: str = "Make room, then run again.") -> StorageError:
        return StorageError(f"{printable(self.path)} cannot be written ({error.strerror})", remedy)


def _whole_bytes(path: Path) -> int:
    """Bytes of a file up to the end of its last whole line."""
    with open_regular(path) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
