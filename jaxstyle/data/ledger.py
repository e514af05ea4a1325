"""Reads the rows of earlier runs into a few bytes of memory each, and compacts ledgers into one manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxstyle.data.layout import LEDGER, MANIFEST
from jaxstyle.data.opening import open_regular, unreadable
from jaxstyle.data.rows import STATUSES, Row, parse
from jaxstyle.data.sinks.folders import sync_folder, withdraw, writing
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import SettingsMismatch


class PastRow(NamedTuple):
    """The fields of a key's last row that a `Ledger` keeps.

    Attributes:
        status: status of the row.
        length, modified: length in bytes and time of the last change in nanoseconds of the input file.
        checksum: first 64 bits of the input's SHA-256; 0 if the row has none.
    """

    status: str
    length: int
    modified: int
    checksum: int


def ledgers(output: Path) -> list[Path]:
    """Lists the ledgers of an output folder: the manifest, then those of shards in the order of their last change.

    A row replaces the rows of the same key in earlier ledgers.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        names = os.listdir(output)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(output, error) from error
    shards = []
    for name in filter(LEDGER.fullmatch, names):
        with contextlib.suppress(FileNotFoundError):  # another run has just compacted it
            shards.append(((output / name).lstat().st_mtime_ns, name))
    return [output / name for name in [MANIFEST] * (MANIFEST in names) + [name for _, name in sorted(shards)]]


def checksum_bits(sha256: str) -> int:
    """Returns the first 64 bits of a hexadecimal checksum; 0 for ""."""
    return int(sha256[:16] or "0", 16)


def hashed(key: str) -> int:
    """Hashes a key to 64 bits; among ten million keys the probability of a collision is 3e-6."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def lines(path: Path) -> Iterator[tuple[bytes, Row]]:
    """Yields the lines of a ledger with their rows; leaves out a truncated last line.

    Raises:
        SettingsMismatch: a line is not a row.
        StorageError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    row = parse(line)
                except ValueError as error:
                    raise SettingsMismatch(
                        f"line {number} of {printable(path)} is not a row of a manifest: {error}",
                        "Correct it, or use another output folder.",
                    ) from error
                yield line, row
    except OSError as error:
        raise unreadable(path, error) from error


def last_rows(hashes: array[int]) -> tuple[np.ndarray, np.ndarray]:
    """Finds the last row of each key.

    Args:
        hashes: the hashed keys of rows, in the order of the rows.

    Returns:
        The distinct hashed keys, sorted, and the position of each key's last row.
    """
    every = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
    keys, backwards = np.unique(every[::-1], return_index=True)
    return keys, len(every) - 1 - backwards


def find(keys: np.ndarray, key: str) -> int | None:
    """Returns the position of a key among the keys of `last_rows`, or None."""
    wanted = np.uint64(hashed(key))
    at = int(np.searchsorted(keys, wanted))
    return at if at < len(keys) and keys[at] == wanted else None


class Ledger:
    """The last row of every key, looked up by key.

    Attributes:
        rows: number of rows read, including rows that later ones replace.
    """

    def __init__(self, paths: Sequence[Path]):
        """Reads ledgers in this order; raises the errors of `lines`."""
        keys, status = array("Q"), array("b")
        length, modified, checksum = array("q"), array("q"), array("Q")
        for path in paths:
            for _, row in lines(path):
                keys.append(hashed(row.key))
                status.append(STATUSES.index(row.status))
                length.append(row.input_bytes)
                modified.append(row.input_modified)
                checksum.append(checksum_bits(row.input_sha256))
        self.rows = len(keys)
        self._keys, last = last_rows(keys)
        self._fields = [np.array(column)[last] for column in (status, length, modified, checksum)]

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> PastRow | None:
        """Returns the last row of a key, or None."""
        at = find(self._keys, key)
        if at is None:
            return None
        status, length, modified, checksum = (int(column[at]) for column in self._fields)
        return PastRow(STATUSES[status], length, modified, checksum)

    def count(self, status: str) -> int:
        """Counts the keys with this status."""
        return int((self._fields[0] == STATUSES.index(status)).sum())


def compact(output: Path) -> None:
    """Merges all ledgers into one manifest with the last row of each key; the caller holds the folder's lock.

    A single manifest with one row a key is not rewritten. If the process is killed in between, some rows exist twice
    until the next call.

    Raises:
        SettingsMismatch, StorageError: see `lines`; a file cannot be written or removed.
    """
    paths = ledgers(output)
    keys = array("Q")
    for path in paths:
        keys.extend(hashed(row.key) for _, row in lines(path))
    _, last = last_rows(keys)
    if paths in ([], [output / MANIFEST]) and len(last) == len(keys):
        return
    kept = np.zeros(len(keys), bool)
    kept[last] = True
    with writing(output / MANIFEST) as file:
        at = 0
        for path in paths:
            for line, _ in lines(path):
                if kept[at]:
                    file.write(line)
                at += 1
    for path in paths:
        if path.name != MANIFEST:
            withdraw(path)


def forget(output: Path) -> None:
    """Deletes all ledgers.

    Raises:
        StorageError: a ledger cannot be removed.
    """
    for path in ledgers(output):
        withdraw(path)
    sync_folder(output)
