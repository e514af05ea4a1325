"""Reads the footer of a Parquet file as untrusted input, before pyarrow does, which trusts much of it.

pyarrow 26 ends the process for a column that is encrypted, and allocates lists of the lengths that they claim.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import IO, NamedTuple

from jaxstyle.data.thrift import BINARY, INTEGERS, LIST, STRUCT, Damaged, Reader
from jaxstyle.errors import InputError, printable

MOST_FOOTER = 2**22
"""Bytes of a footer; in memory it is up to 25 times as large (measured)."""
MOST_ELEMENTS = 10_000
"""Columns and groups of columns of a file, and row groups."""
DEEPEST = 64
"""Levels of columns within columns."""
MOST_GROUP_ROWS, MOST_ROWS = 2**24, 10**8
"""Rows of a row group, and of a file."""
_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"


class Footer(NamedTuple):
    """What a footer says.

    Attributes:
        leaves: the columns on the disk, each by its name and the names of the columns that it is part of.
        starts: number of the first row of each row group, and of all rows.
        chunks: begin and length in the file, in bytes, of each column of each row group, a row group after the other.
        sizes: bytes of these once they are decompressed, and their values.
    """

    leaves: list[tuple[str, ...]]
    starts: list[int]
    chunks: array[int]
    sizes: array[int]

    def chunk(self, group: int, leaf: int) -> tuple[int, int]:
        """Begin and length of a column in a row group."""
        at = 2 * (group * len(self.leaves) + leaf)
        return self.chunks[at], self.chunks[at + 1]

    def size(self, group: int, leaf: int) -> tuple[int, int]:
        """Decompressed bytes and number of values of a column in a row group."""
        at = 2 * (group * len(self.leaves) + leaf)
        return self.sizes[at], self.sizes[at + 1]


def read_footer(path: Path, file: IO[bytes]) -> Footer:
    """Reads the footer of an open file.

    Raises:
        InputError: the file is damaged or encrypted, refers to other files, or is larger than the bounds.
        OSError: it cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    end = file.read(8)
    if end[4:] == _ENCRYPTED:
        raise _encrypted(path)
    length = int.from_bytes(end[:4], "little")
    file.seek(0)
    if end[4:] != _MAGIC or file.read(4) != _MAGIC or not 0 < length <= size - 12:
        raise damaged(path, "it does not begin and end as one")
    if length > MOST_FOOTER:
        raise InputError(f"{printable(path)} has a footer of {length} bytes, more than {MOST_FOOTER}",
                         "Divide the file, or write it with fewer and larger row groups.")  # fmt: skip
    file.seek(size - 8 - length)
    try:
        return _Parser(path, size - 8 - length).footer(Reader(file.read(length)))
    except (Damaged, OverflowError) as error:
        raise damaged(path, f"its footer: {error}") from error


def damaged(path: Path, why: str) -> InputError:
    """The error for a file that is not valid."""
    return InputError(
        f"{printable(path)} cannot be read as Parquet ({why})", "It is damaged, or cut short: copy it again."
    )


def _encrypted(path: Path) -> InputError:
    return InputError(f"{printable(path)} is encrypted, wholly or in part", "Decrypt it, then give it again.")


class _Parser:
    """Reads a footer.

    Args:
        end: bytes of the file before it.
    """

    def __init__(self, path: Path, end: int):
        self._path, self._end = path, end
        self._leaves: list[tuple[str, ...]] = []
        self._chunks, self._sizes = array("q"), array("q")

    def footer(self, reader: Reader) -> Footer:
        rows, starts = -1, [0]
        for number, kind in reader.fields():
            if number == 2 and kind == LIST:
                self._schema(reader)
            elif number == 3 and kind in INTEGERS:
                rows = reader.integer()
            elif number == 4 and kind == LIST:
                groups = reader.list(STRUCT)
                if len(groups) > MOST_ELEMENTS:
                    raise Damaged(f"it has {len(groups)} row groups, more than {MOST_ELEMENTS}")
                for _ in groups:
                    starts.append(starts[-1] + self._group(reader))
            elif number in (8, 9):
                raise _encrypted(self._path)
            elif number in (2, 3, 4) or kind <= 2:
                raise Damaged("a field is of another kind")
            else:
                reader.skip(kind)
        if not self._leaves or starts[-1] != rows:
            raise Damaged("the rows of its row groups do not add up")
        if rows > MOST_ROWS:
            raise InputError(f"{printable(self._path)} has {rows} rows, more than {MOST_ROWS}", "Divide it.")
        return Footer(self._leaves, starts, self._chunks, self._sizes)

    def _schema(self, reader: Reader) -> None:
        elements = reader.list(STRUCT)
        if len(elements) > MOST_ELEMENTS:
            raise Damaged(f"it has {len(elements)} columns, more than {MOST_ELEMENTS}")
        above: list[tuple[str, int]] = []  # what the next one is part of, and how many parts it still has
        for n in elements:
            name, children = _element(reader)
            if n and not above:
                raise Damaged("its columns do not add up")
            if above:
                above[-1] = (above[-1][0], above[-1][1] - 1)
            if children < 0 or len(above) > DEEPEST:
                raise Damaged("its columns are nested too deeply")
            if children or not n:
                above.append((name, children))
            else:
                self._leaves.append((*(one for one, _ in above[1:]), name))
            while above and not above[-1][1]:
                above.pop()
        if above:
            raise Damaged("its columns do not add up")

    def _group(self, reader: Reader) -> int:
        """Reads a row group; returns its rows."""
        rows, columns = -1, 0
        for number, kind in reader.fields():
            if number == 1 and kind == LIST:
                columns = len(chunks := reader.list(STRUCT))
                if columns != len(self._leaves):
                    break
                for _ in chunks:
                    self._chunk(reader)
            elif number == 3 and kind in INTEGERS:
                rows = reader.integer()
            elif number in (1, 3) or kind <= 2:
                raise Damaged("a field of a row group is of another kind")
            else:
                reader.skip(kind)
        if columns != len(self._leaves):
            raise Damaged(f"a row group has {columns} columns of {len(self._leaves)}")
        if not 0 <= rows <= MOST_GROUP_ROWS:
            raise Damaged(f"a row group has {rows} rows, and {MOST_GROUP_ROWS} are read at most")
        return rows

    def _chunk(self, reader: Reader) -> None:
        described = False
        for number, kind in reader.fields():
            if number == 1 and kind == BINARY and not reader.binary():
                continue
            if number == 1:
                raise InputError(f"{printable(self._path)} has columns in other files, which are not opened",
                                 "Write it again, into one file.")  # fmt: skip
            if number in (8, 9):
                raise _encrypted(self._path)
            if number == 3 and kind == STRUCT:
                self._described(reader)
                described = True
            elif number == 3 or kind <= 2:
                raise Damaged("a field of a column is of another kind")
            else:
                reader.skip(kind)
        if not described:
            raise Damaged("a column is not described")

    def _described(self, reader: Reader) -> None:
        found = {11: 0}  # without a dictionary
        for number, kind in reader.fields():
            if number in (5, 6, 7, 9, 11) and kind in INTEGERS:
                found[number] = reader.integer()
            elif kind > 2:
                reader.skip(kind)
        if not {5, 6, 7, 9} <= found.keys():
            raise Damaged("a column is not described")
        start, length = min(at for at in (found[9], found[11] or found[9])), found[7]
        if start < 4 or length < 0 or start + length > self._end or found[5] < 0 or found[6] < 0:
            raise Damaged("a column lies outside of the file")
        self._chunks.extend((start, length))
        self._sizes.extend((found[6], found[5]))


def _element(reader: Reader) -> tuple[str, int]:
    """Name and number of parts of a column."""
    name, children = None, 0
    for number, kind in reader.fields():
        if number == 4 and kind == BINARY:
            name = reader.binary().decode("utf-8", "surrogateescape")
        elif number == 5 and kind in INTEGERS:
            children = reader.integer()
        elif number in (4, 5):
            raise Damaged("a field of a column is of another kind")
        elif kind > 2:
            reader.skip(kind)
    if name is None:
        raise Damaged("a column has no name")
    return name, children
