"""Appends rows to an output folder's manifest, one for every input."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import IO

from jaxstyle.data.folder import Folder, identity
from jaxstyle.data.layout import MANIFEST, ledger_name
from jaxstyle.data.ledger import Ledger, compact, ledgers
from jaxstyle.data.problems import NO_ROOM, disturbed, storage_error
from jaxstyle.data.rows import LAST_RUN, STATUSES, Row
from jaxstyle.errors import StorageError


class Manifest:
    """The rows of an output folder; a key's last row replaces its earlier ones.

    `append` returns once the rows are on the disk. `close` removes rows that a retry has replaced. A truncated last
    line, left by a killed run, is dropped. The caller holds the lock of the folder or shard. In a folder with
    rows nothing is written before the first new one, so that a finished run needs no room.

    Attributes:
        before: rows of earlier runs.
        run: number of this run, which its rows carry; see `Row.run`.
    """

    def __init__(self, output: Path | Folder, part: tuple[int, int] = (1, 1), *, whole: bool = False):
        """Args:
            part: (i, n) for shard i of n, which appends to a ledger of its own; (1, 1) for the whole folder.
            whole: see `Ledger`.

        Raises:
            SettingsMismatch: a line of a ledger is not a row.
            StorageError: a ledger cannot be read.
        """
        self._name, self._file, self._end = ledger_name(part), None, 0  # type: str, IO[bytes] | None, int
        try:
            self._folder = output if isinstance(output, Folder) else Folder(output)
            there = ledgers(self._folder)
            self.before = Ledger(self._folder, there, whole=whole)
        except OSError as error:
            raise storage_error(output, "read", error) from error
        self.path = self._folder / self._name
        self.run = min(self.before.latest_run + 1, LAST_RUN - 1)
        self._counts = {status: self.before.count(status) for status in STATUSES}
        self._untidy = self.before.rows > len(self.before) or there not in ([], [MANIFEST])
        if not there and self._folder.refusal is None:
            try:
                self._open()  # a folder without rows has a manifest too
            except OSError as error:
                raise storage_error(self.path, "written", error) from error

    def append(self, *rows: Row) -> None:
        """Appends rows and syncs them to the disk. A key may be appended once in the life of this object.

        Raises:
            StorageError: the rows cannot be written, and all of them are dropped; or the folder or the ledger was
                moved, deleted or changed by others.
        """
        numbered = (dataclasses.replace(row, run=self.run) for row in rows)
        lines = "".join(json.dumps(row.as_json()) + "\n" for row in numbered).encode("ascii")
        if self._folder.refusal is not None:
            raise self._folder.refusal
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            self._folder.check()
            if os.fstat(self._file.fileno()).st_size != self._end:
                raise disturbed(self.path, "changed by another program")
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            self._end += len(lines)
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):  # if it fails, a truncated line stays, as after a kill
                    os.ftruncate(self._file.fileno(), self._end)
            raise storage_error(self.path, "written", error) from error
        for row in rows:
            past = self.before.get(row.key)
            if past is not None:
                self._counts[past.status] -= 1
                self._untidy = True
            self._counts[row.status] += 1

    def _open(self) -> None:
        """Opens the ledger and cuts off a truncated last line."""
        file = self._folder.open(self._name, "r+b", 0, extra=os.O_CREAT | os.O_APPEND)
        try:
            self._end = _whole_bytes(file)
            if self._end < os.fstat(file.fileno()).st_size:
                os.ftruncate(file.fileno(), self._end)
            self._folder.sync()
            self._folder.expect(self._name, identity(os.fstat(file.fileno())))
        except BaseException:
            file.close()
            raise
        self._file = file

    def close(self) -> None:
        """Closes the ledger; compacts the whole folder's ledgers to one row a key.

        Raises:
            StorageError: the ledger cannot be written, or the folder was moved or deleted during the run.
        """
        wrote = self._file is not None
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise storage_error(self.path, "written", error) from error
            self._folder.check()
            self._folder.expect(self._name, None)
        if self._untidy and self._name == MANIFEST and self._folder.refusal is None:
            try:
                compact(self._folder)
            except StorageError as error:
                full = isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM
                if wrote or not full:  # else the run has finished and the next one tidies up
                    raise

    def count(self, status: str) -> int:
        """Returns the number of inputs with this status, over all runs into the folder."""
        return self._counts[status]


def _whole_bytes(file: IO[bytes]) -> int:
    """Returns the number of bytes up to the end of the file's last complete line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - 65536)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
