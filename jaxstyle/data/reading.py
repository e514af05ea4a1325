"""Reads the rows of an output folder, tolerating damaged lines, with about ten bytes of memory a row."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from jaxstyle.data.ledger import find, hashed, last_rows, ledgers
from jaxstyle.data.opening import open_regular, unreadable
from jaxstyle.data.rows import Row, parse
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError


class LastRows:
    """The last row of every key, in the order of the ledgers; a context manager that closes them.

    The ledgers are read twice: first to find the last row of each key, then to yield those rows. They stay open in
    between; rows that a run appends after the first reading are left out.

    Attributes:
        malformed: (file name, line number from 1) of lines that are not rows.
        torn: names of files whose last line is truncated.
        written: time of the latest change of a ledger, in seconds since 1970; None without ledgers.
    """

    def __init__(self, output: Path):
        """Reads the ledgers for the first time.

        Raises:
            StorageError: a ledger cannot be read.
        """
        self.malformed: list[tuple[str, int]] = []
        self.torn: list[str] = []
        self._stack = ExitStack()
        self._files: list[tuple[str, IO[bytes]]] = []
        hashes, valid = array("Q"), array("b")
        try:
            self._open(output)
            self.written = max((os.fstat(file.fileno()).st_mtime for _, file in self._files), default=None)
            self._lines = [self._scan(name, file, hashes, valid) for name, file in self._files]
        except OSError as error:
            self._stack.close()
            raise unreadable(error.filename or output, error) from error
        self._keys, last = last_rows(hashes)
        self._wanted = np.zeros(len(valid), bool)
        self._wanted[np.flatnonzero(np.array(valid))[last]] = True

    def _open(self, output: Path) -> None:
        for attempt in range(3):
            try:
                self._files = [(path.name, self._stack.enter_context(open_regular(path))) for path in ledgers(output)]
                return
            except FileNotFoundError:  # a run is compacting a shard's ledger into the manifest: retry
                self._stack.close()
                if attempt == 2:
                    raise

    def _scan(self, name: str, file: IO[bytes], hashes: array[int], valid: array[int]) -> int:
        """Reads a ledger; returns the number of its complete lines.

        Args:
            hashes: the hashed key of each row is appended.
            valid: 1 is appended for each line that is a row, 0 for others.
        """
        number = 0
        for line in file:
            if not line.endswith(b"\n"):
                self.torn.append(name)
                break
            number += 1
            try:
                hashes.append(hashed(parse(line).key))
            except ValueError:
                self.malformed.append((name, number))
                valid.append(False)
            else:
                valid.append(True)
        return number

    def __enter__(self) -> LastRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Row]:
        """Reads the ledgers again and yields the last row of every key.

        Raises:
            StorageError: a ledger cannot be read, or a line has changed since the first reading.
        """
        at = 0
        for (name, file), lines in zip(self._files, self._lines, strict=True):
            try:
                file.seek(0)
                for _ in range(lines):
                    line = file.readline()
                    if self._wanted[at]:
                        yield parse(line)
                    at += 1
            except OSError as error:
                raise unreadable(name, error) from error
            except ValueError as error:
                raise StorageError(f"{printable(name)} changed while it was read: {error}", "Try again.") from error

    def __contains__(self, key: str) -> bool:
        return find(self._keys, key) is not None
