"""Appends rows to an output folder's manifest, one for every input."""

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
    """The rows of an output folder; a key's last row replaces its earlier ones.

    `append` returns once the rows are on the disk. `close` removes rows that a retry has replaced. A truncated last
    line, left by a killed run, is dropped. The caller holds the lock of the folder or shard.

    Attributes:
        before: rows of earlier runs.
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
            raise self._unwritable(error, "Free space, or correct its permissions.") from error

    def append(self, *rows: Row) -> None:
        """Appends rows and syncs them to the disk. A key may be appended once in the life of this object.

        Raises:
            StorageError: the rows cannot be written; all of them are dropped.
        """
        lines = "".join(json.dumps(row.as_json()) + "\n" for row in rows).encode("ascii")
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            self._end += len(lines)
        except OSError as error:
            with contextlib.suppress(OSError):  # if it fails, a truncated line stays, as after a kill
                os.ftruncate(self._file.fileno(), self._end)
            raise self._unwritable(error) from error
        for row in rows:
            past = self.before.get(row.key)
            if past is not None:
                self._counts[past.status] -= 1
                self._replaced = True
            self._counts[row.status] += 1

    def close(self) -> None:
        """Closes the ledger; compacts the whole folder's ledger to one row a key.

        Raises:
            StorageError: the ledger cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from error
        if self._replaced and self.path.name == MANIFEST:
            compact(self.path.parent)

    def count(self, status: str) -> int:
        """Returns the number of inputs with this status, over all runs into the folder."""
        return self._counts[status]

    def _unwritable(self, error: OSError, remedy: str = "Free space, then run again.") -> StorageError:
        return StorageError(f"{printable(self.path)} cannot be written ({error.strerror})", remedy)


def _whole_bytes(path: Path) -> int:
    """Returns the number of bytes up to the end of the file's last complete line."""
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
