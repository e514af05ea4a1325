"""What earlier runs wrote into an output folder, in a few bytes a row, so that a million rows can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstyle.data.sinks.folders import withdraw, writing
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import SettingsMismatch, StorageError

NAME = "manifest.jsonl"
STATUSES = ("done", "skipped", "failed")


class Past(NamedTuple):
    """What the last row of a key said.

    Attributes:
        status: of the row.
        length, modified: of the input file, in bytes and nanoseconds.
        checksum: the first 64 bits of its SHA-256; 0 where the row has none.
    """

    status: str
    length: int
    modified: int
    checksum: int


def name(part: tuple[int, int]) -> str:
    """The ledger's file name: of the whole folder, or of shard i of n until it is folded in."""
    return NAME if part == (1, 1) else f"manifest-{part[0]}-of-{part[1]}.jsonl"


def ledgers(output: Path) -> list[Path]:
    """The ledgers of an output folder; those written to later come later, and count more."""
    whole = output / NAME
    parts = []
    for path in output.glob("manifest-*-of-*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # folded in by another run in this moment
            parts.append((path.stat().st_mtime_ns, path.name, path))
    return [*([whole] if whole.exists() else []), *(path for *_, path in sorted(parts))]


def checksum_bits(sha256: str) -> int:
    """The first 64 bits of a checksum in hexadecimal; 0 for none."""
    return int.from_bytes(bytes.fromhex(sha256[:16]))


def hashed(key: str) -> int:
    """64 bits for a key: two of ten million keys share them with a probability of 3e-6."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a ledger with their rows; a torn last line is left out.

    Raises:
        SettingsMismatch: a line is no row.
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    row = json.loads(line)
                    if not (isinstance(row["key"], str) and row["status"] in STATUSES):
                        raise ValueError
                    _values(row)
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    raise SettingsMismatch(
                        f"line {number} of {printable(path)} is no row of a manifest",
                        "Mend it, or use another output folder.",
                    ) from error
                yield line, row
    except OSError as error:
        raise StorageError(f"{printable(path)} cannot be read ({error.strerror})", "Mend its permissions.") from error


def _values(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """What a `Ledger` keeps of a row; rows of version 0.1 have no times and checksums."""
    length, modified = operator.index(row.get("input_bytes", 0)), operator.index(row.get("input_modified", 0))
    if max(abs(length), abs(modified)) >= 2**63:
        raise ValueError
    return STATUSES.index(row["status"]), length, modified, checksum_bits(row.get("input_sha256", ""))


def last_rows(hashes: array[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of the hashed keys of rows in their order: each key once, sorted, and the position of its last row."""
    every = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
    keys, backwards = np.unique(every[::-1], return_index=True)
    return keys, len(every) - 1 - backwards


def find(keys: np.ndarray, key: str) -> int | None:
    """Where a key stands among those of `last_rows`; None if it is not there."""
    wanted = np.uint64(hashed(key))
    at = int(np.searchsorted(keys, wanted))
    return at if at < len(keys) and keys[at] == wanted else None


class Ledger:
    """The last row of every key, looked up by key."""

    def __init__(self, paths: Sequence[Path]):
        keys, fields = array("Q"), [array("q"), array("q"), array("q"), array("Q")]
        for path in paths:
            for _, row in lines(path):
                keys.append(hashed(row["key"]))
                for column, value in zip(fields, _values(row), strict=True):
                    column.append(value)
        self.rows = len(keys)
        """Rows that were read, with those that later ones replaced."""
        self._keys, last = last_rows(keys)
        self._fields = [np.array(column)[last] for column in fields]

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> Past | None:
        """The last row of a key, or None."""
        at = find(self._keys, key)
        if at is None:
            return None
        status, length, modified, checksum = (int(column[at]) for column in self._fields)
        return Past(STATUSES[status], length, modified, checksum)

    def count(self, status: str) -> int:
        """Keys with this status."""
        return int((self._fields[0] == STATUSES.index(status)).sum())


def fold(output: Path) -> None:
    """Makes one manifest of all ledgers, with one row a key, the last one; the caller keeps others from writing.

    Nothing is rewritten where there is nothing to fold. A kill on the way leaves rows twice, which the next call mends.
    """
    paths = ledgers(output)
    keys = array("Q")
    for path in paths:
        keys.extend(hashed(row["key"]) for _, row in lines(path))
    _, last = last_rows(keys)
    if paths in ([], [output / NAME]) and len(last) == len(keys):
        return
    kept = np.zeros(len(keys), bool)
    kept[last] = True
    with writing(output / NAME) as file:
        at = 0
        for path in paths:
            for line, _ in lines(path):
                if kept[at]:
                    file.write(line)
                at += 1
    for path in paths:
        if path.name != NAME:
            withdraw(path)
