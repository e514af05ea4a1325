"""Reads the rows of earlier runs into a few bytes of memory each, and compacts ledgers into one manifest."""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxstyle.data.folder import Folder, as_folder
from jaxstyle.data.layout import LEDGER, MANIFEST
from jaxstyle.data.problems import disturbed, unreadable
from jaxstyle.data.rows import STATUSES, Row, parse
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import writing
from jaxstyle.errors import SettingsMismatch

LONGEST_LINE = 2**24
"""Most bytes of a line; a longer one is not a row."""


class PastRow(NamedTuple):
    """The fields of a key's last row that a `Ledger` keeps.

    Attributes:
        status: status of the row.
        length, modified: length in bytes and time of the last change in nanoseconds of the input file.
        checksum: first 64 bits of the input's SHA-256; 0 if the row has none.
        style: 64 bits of its style's key and of the stamp of the style's file, see `style_stamp`.
        style_checksum: first 64 bits of the SHA-256 of the style's file; 0 if the row has none.
        masks: first 64 bits of `Row.masks_sha256`; 0 if the row has none.
    """

    status: str
    length: int
    modified: int
    checksum: int
    style: int = 0
    style_checksum: int = 0
    masks: int = 0


def ledgers(output: Path | Folder) -> list[str]:
    """Lists the ledgers of an output folder: the manifest, then those of shards in the order of their last change.

    Of the rows of a key the one of the latest run counts, see `Row.run`. Between rows of one number, a row replaces
    those in earlier ledgers.

    Raises:
        StorageError: the folder cannot be read.
    """
    try:
        folder = output if isinstance(output, Folder) else Folder(output)
        names, shards = folder.names(), []
        for name in filter(LEDGER.fullmatch, names):
            with contextlib.suppress(FileNotFoundError):  # another run has just compacted it
                shards.append((folder.stat(name).st_mtime_ns, name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(output, error) from error
    return [MANIFEST] * (MANIFEST in names) + [name for _, name in sorted(shards)]


def checksum_bits(sha256: str) -> int:
    """Returns the first 64 bits of a hexadecimal checksum; 0 for ""."""
    return int(sha256[:16] or "0", 16)


def hashed(key: str, purpose: str = "") -> int:
    """Hashes a key to 64 bits; among ten million keys the probability of a collision is 3e-6.

    Args:
        purpose: hashes for different purposes are unrelated; at most 16 letters.
    """
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose.encode()).digest(), "little")


def style_stamp(key: str, length: int, modified: int) -> int:
    """Hashes a style's key and the stamp of its file to 64 bits."""
    return hashed(f"{key}\0{length}\0{modified}")


def raw_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines of a file; of a line over `LONGEST_LINE` bytes yields that many, and a newline instead of the
    rest. Memory stays bounded, whatever the file is."""
    read = partial(file.readline, LONGEST_LINE)
    for line in iter(read, b""):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := read()) and not rest.endswith(b"\n"):
                continue
            line = line[:100] + b"\n" if rest else line  # it is torn if the file ends with it
        yield line


def lines(folder: Folder, name: str) -> Iterator[tuple[bytes, Row]]:
    """Yields the lines of a ledger with their rows; leaves out blank lines and a truncated last line.

    Raises:
        SettingsMismatch: a line is not a row.
        StorageError: the file cannot be read.
    """
    for _, line, row in placed_lines(folder, name):
        yield line, row


def placed_lines(folder: Folder, name: str) -> Iterator[tuple[int, bytes, Row]]:
    """Like `lines`, with the byte at which each line begins."""
    path, end = folder / name, 0
    try:
        with folder.open(name) as file:
            for number, line in enumerate(raw_lines(file), 1):
                begin, end = end, file.tell()
                if not line.endswith(b"\n"):
                    return
                if line.isspace():
                    continue
                try:
                    row = parse(line)
                except ValueError as error:
                    raise SettingsMismatch(
                        f"line {number} of {printable(path)} is not a row of a manifest: {error}",
                        "Correct it, or use another output folder.",
                    ) from error
                yield begin, line, row
    except OSError as error:
        raise unreadable(path, error) from error


class Keys:
    """Hashed keys and run numbers of rows, collected in the order of the rows; 12 bytes a row.

    Rows without a number come before all with one, except in a ledger whose earlier rows have one: there an older
    version has appended them later.
    """

    def __init__(self) -> None:
        self._hashes, self._runs = array("Q"), array("i")
        self._least = 0

    def begin_ledger(self) -> None:
        """The next row is the first of another ledger."""
        self._least = 0

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, row: Row) -> None:
        """Adds the next row."""
        self._hashes.append(hashed(row.key))
        self._runs.append(row.run or self._least)
        self._least = max(self._least, row.run)

    @property
    def latest_run(self) -> int:
        """The largest number of a run; 0 without rows."""
        return int(np.frombuffer(self._runs, np.int32).max()) if self._runs else 0

    def last_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Finds the row of each key that counts: the last one of those with the largest run number.

        Returns:
            The distinct hashed keys, sorted, and the position of each key's row.
        """
        if not self._hashes:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        every, runs = np.frombuffer(self._hashes, np.uint64), np.frombuffer(self._runs, np.int32)
        order = None
        if (runs[1:] < runs[:-1]).any():  # ledgers are not in the order of their runs
            order = np.argsort(runs, kind="stable")
            every = every[order]
        keys, backwards = np.unique(every[::-1], return_index=True)
        last = len(every) - 1 - backwards
        return keys, last if order is None else order[last]


def find(keys: np.ndarray, key: str) -> int | None:
    """Returns the position of a key among the keys of `last_rows`, or None."""
    wanted = np.uint64(hashed(key))
    at = int(np.searchsorted(keys, wanted))
    return at if at < len(keys) and keys[at] == wanted else None


class Ledger:
    """The last row of every key, looked up by key.

    Attributes:
        rows: number of rows read, including rows that later ones replace.
        latest_run: largest number of a run in them.
    """

    def __init__(self, output: Path | Folder, names: Sequence[str], *, whole: bool = False):
        """Reads ledgers of a folder in this order; raises the errors of `lines`.

        Args:
            whole: keep the places of rows, 9 bytes each, so that `row` can read them again.
        """
        keys, status = Keys(), array("b")
        self._output, self._names, places = output, list(names), (array("i"), array("q"))
        length, modified, checksum = array("q"), array("q"), array("Q")
        style, style_checksum, masks = array("Q"), array("Q"), array("Q")
        for index, name in enumerate(names):
            keys.begin_ledger()
            with as_folder(output) as folder:
                for begin, _, row in placed_lines(folder, name):
                    keys.add(row)
                    if whole:
                        places[0].append(index)
                        places[1].append(begin)
                    status.append(STATUSES.index(row.status))
                    length.append(row.input_bytes)
                    modified.append(row.input_modified)
                    checksum.append(checksum_bits(row.input_sha256))
                    several = row.style_bytes != 0  # else the run had one style
                    stamp = style_stamp(row.style, row.style_bytes, row.style_modified) if several else 0
                    style.append(stamp)
                    style_checksum.append(checksum_bits(row.style_sha256) if several else 0)
                    if row.masks_sha256 or masks:  # most folders have none
                        masks.extend([0] * (len(status) - 1 - len(masks)))
                        masks.append(checksum_bits(row.masks_sha256))
        self.rows, self.latest_run = len(keys), keys.latest_run
        self._keys, last = keys.last_rows()
        columns = (status, length, modified, checksum, style, style_checksum, *([masks] if masks else []))
        self._fields = [np.array(column)[last] for column in columns]
        self._places = [np.array(column)[last] for column in places] if whole else None

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> PastRow | None:
        """Returns the last row of a key, or None."""
        at = find(self._keys, key)
        if at is None:
            return None
        status, *others = (int(column[at]) for column in self._fields)
        return PastRow(STATUSES[status], *others)

    def row(self, key: str) -> Row | None:
        """Reads the last row of a key again, from its file; None if there is none.

        Raises:
            SettingsMismatch, StorageError: see `lines`; the ledger was changed by another program.
        """
        at = find(self._keys, key)
        if at is None or self._places is None:
            return None
        index, begin = (int(column[at]) for column in self._places)
        with as_folder(self._output) as folder:
            path = folder / self._names[index]
            try:
                with folder.open(self._names[index]) as file:
                    file.seek(begin)
                    found = parse(file.readline(LONGEST_LINE))
            except OSError as error:
                raise unreadable(path, error) from error
            except ValueError as error:
                raise disturbed(path, "changed by another program") from error
        if found.key != key:
            raise disturbed(path, "changed by another program")
        return found

    def count(self, status: str) -> int:
        """Counts the keys with this status."""
        return int((self._fields[0] == STATUSES.index(status)).sum())


def compact(output: Path | Folder) -> None:
    """Merges all ledgers into one manifest with the last row of each key; the caller holds the folder's lock.

    A single manifest with one row a key is not rewritten. If the process is killed in between, some rows exist twice
    until the next call.

    Raises:
        SettingsMismatch, StorageError: see `lines`; a file cannot be written or removed.
    """
    with as_folder(output) as folder:
        names = ledgers(folder)
        keys = Keys()
        for name in names:
            keys.begin_ledger()
            for _, row in lines(folder, name):
                keys.add(row)
        _, last = keys.last_rows()
        if names in ([], [MANIFEST]) and len(last) == len(keys):
            return
        kept = np.zeros(len(keys), bool)
        kept[last] = True
        with writing((folder, MANIFEST)) as file:
            at = 0
            for name in names:
                for line, _ in lines(folder, name):
                    if kept[at]:
                        file.write(line)
                    at += 1
        for name in names:
            if name != MANIFEST:
                folder.remove(name)


def forget(output: Path | Folder) -> None:
    """Deletes all ledgers.

    Raises:
        StorageError: a ledger cannot be removed.
    """
    with as_folder(output) as folder:
        for name in ledgers(folder):
            folder.remove(name)
        folder.sync()
