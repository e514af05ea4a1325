"""Reads the rows of an output folder, tolerating damaged lines, with about ten bytes of memory a row."""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from jaxstyle.data.folder import Folder
from jaxstyle.data.ledger import Keys, find, ledgers, raw_lines
from jaxstyle.data.problems import unreadable
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
        changed: times of the last change of the ledgers by their names, in seconds since 1970.
        ledger: name of the ledger that holds the row which was yielded last.
    """

    def __init__(self, output: Path | Folder):
        """Reads the ledgers for the first time.

        Raises:
            StorageError: a ledger cannot be read.
        """
        self.malformed: list[tuple[str, int]] = []
        self.torn: list[str] = []
        self.ledger = ""
        self._stack = ExitStack()
        self._files: list[tuple[str, IO[bytes]]] = []
        keys, valid = Keys(), array("b")
        try:
            self._open(output if isinstance(output, Folder) else Folder(output))
            self.changed = {name: os.fstat(file.fileno()).st_mtime for name, file in self._files}
            self._lines = [self._scan(name, file, keys, valid) for name, file in self._files]
        except OSError as error:
            self._stack.close()
            raise unreadable(error.filename or output, error) from error
        self._keys, last = keys.last_rows()
        self._wanted = np.zeros(len(valid), bool)
        self._wanted[np.flatnonzero(np.array(valid))[last]] = True

    def _open(self, folder: Folder) -> None:
        for attempt in range(3):
            try:
                self._files = [(name, self._stack.enter_context(folder.open(name))) for name in ledgers(folder)]
                return
            except FileNotFoundError:  # a run is compacting a shard's ledger into the manifest: retry
                self._stack.close()
                if attempt == 2:
                    raise

    def _scan(self, name: str, file: IO[bytes], keys: Keys, valid: array[int]) -> int:
        """Reads a ledger; returns the number of its complete lines.

        Args:
            keys: each row is added.
            valid: 1 is appended for each line that is a row, 0 for others.
        """
        number = 0
        keys.begin_ledger()
        for line in raw_lines(file):
            if not line.endswith(b"\n"):
                self.torn.append(name)
                break
            number += 1
            valid.append(False)
            if line.isspace():
                continue
            try:
                keys.add(parse(line))
            except ValueError:
                self.malformed.append((name, number))
            else:
                valid[-1] = True
        return number

    @property
    def written(self) -> float | None:
        """Time of the latest change of a ledger, in seconds since 1970; None without ledgers."""
        return max(self.changed.values(), default=None)

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
                for line in itertools.islice(raw_lines(file), lines):
                    if self._wanted[at]:
                        self.ledger = name
                        yield parse(line)
                    at += 1
            except OSError as error:
                raise unreadable(name, error) from error
            except ValueError as error:
                raise StorageError(f"{printable(name)} changed while it was read: {error}", "Try again.") from error

    def __contains__(self, key: str) -> bool:
        return find(self._keys, key) is not None
