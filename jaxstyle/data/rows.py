"""The rows of an output folder as they are, damage and all, in about ten bytes of memory a row."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxstyle.data.ledger import STATUSES, find, hashed, last_rows, ledgers
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError


class Rows:
    """The ledgers, read twice: once for which row of a key is the last, once for those rows.

    The files stay open meanwhile, and rows that a run appends between the readings do not count.

    Attributes:
        malformed: (file name, number of the line, from 1).
        torn: names of files whose last line is cut off.
        written: latest change of a ledger, in seconds since 1970.
    """

    def __init__(self, output: Path):
        self.malformed: list[tuple[str, int]] = []
        self.torn: list[str] = []
        self._stack = ExitStack()
        self._files: list[tuple[str, BinaryIO, int]] = []
        hashes = array("Q")
        try:
            self._open(output)
            times = [os.fstat(file.fileno()).st_mtime for _, file, _ in self._files]
            for at, (name, file, _) in enumerate(self._files):
                lines = 0
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        self.torn.append(name)
                        break
                    lines, row = number, parse(line)
                    if row is None:
                        self.malformed.append((name, number))
                    else:
                        hashes.append(hashed(row["key"]))
                self._files[at] = (name, file, lines)
        except OSError as error:
            self._stack.close()
            raise unreadable(output, error) from error
        self.written = max(times, default=None)
        self._keys, last = last_rows(hashes)
        self._last = np.zeros(len(hashes), bool)
        self._last[last] = True

    def _open(self, output: Path) -> None:
        for attempt in range(3):
            try:
                self._files = [(path.name, self._stack.enter_context(path.open("rb")), 0) for path in ledgers(output)]
                return
            except FileNotFoundError:  # a run is folding a shard's ledger into the manifest: look again
                self._stack.close()
                if attempt == 2:
                    raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def last(self) -> Iterator[dict[str, Any]]:
        """The last row of every key."""
        at = 0
        for name, file, lines in self._files:
            try:
                file.seek(0)
                for _ in range(lines):
                    row = parse(file.readline())
                    if row is not None:
                        if self._last[at]:
                            yield row
                        at += 1
            except OSError as error:
                raise unreadable(name, error) from error

    def __contains__(self, key: str) -> bool:
        return find(self._keys, key) is not None


def parse(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or None."""
    try:
        row = json.loads(line)
        return row if isinstance(row["key"], str) and row["status"] in STATUSES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def unreadable(path: object, error: OSError) -> StorageError:
    """What to raise for it."""
    return StorageError(f"{printable(path)} cannot be read ({error.strerror or error})", "Mend its permissions.")
