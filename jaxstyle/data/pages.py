"""Walks the page headers of a Parquet column as untrusted input, so that no page is decompressed that is too large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from jaxstyle.data.thrift import BINARY, INTEGERS, STRUCT, Damaged, Reader

MOST_PAGE = 2**29
"""Bytes of a decompressed page. A writer may put all pictures of a row group into one."""
MOST_HEADER = 2**16
"""Bytes of a page's header."""
_UNCOMPRESSED, _COMPRESSED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8
_VALUES = 1


class Page(NamedTuple):
    """A page, as its header has it.

    Attributes:
        size: bytes once it is decompressed.
        values: number of a data page's values; None for other pages.
        is_dictionary: whether it holds the values that the data pages refer to.
    """

    size: int
    values: int | None
    is_dictionary: bool


def pages(file: IO[bytes], start: int, length: int) -> Iterator[Page]:
    """Yields the pages of a column chunk; reads their headers alone.

    Args:
        start, length: of the chunk in the file, in bytes.

    Raises:
        Damaged: a header is not valid, or its page larger than `MOST_PAGE`.
        OSError: the file cannot be read.
    """
    at, end = start, start + length
    while at < end:
        file.seek(at)
        reader = Reader(file.read(min(MOST_HEADER, end - at)))
        size, stored, values, dictionary = -1, -1, None, False
        for number, kind in reader.fields():
            if number == _UNCOMPRESSED and kind in INTEGERS:
                size = reader.integer()
            elif number == _COMPRESSED and kind in INTEGERS:
                stored = reader.integer()
            elif number in (_DATA, _DATA_2) and kind == STRUCT:
                values = _first(reader)
            elif kind in (STRUCT, BINARY, *INTEGERS):
                dictionary |= number == _DICTIONARY
                reader.skip(kind)
            else:
                raise Damaged("a page's header has an unknown field")
        if size < 0 or stored < 0 or (values is not None and values < 0):
            raise Damaged("a page's header is not valid")
        if size > MOST_PAGE:
            raise Damaged(f"a page has {size} bytes, more than {MOST_PAGE}. Write the file again with smaller row "
                          "groups")  # fmt: skip
        at += reader.at + stored
        if at > end:
            raise Damaged("a page reaches beyond its column")
        yield Page(size, values, dictionary)


def _first(reader: Reader) -> int:
    """The number of values in a struct of a data page's header."""
    values = -1
    for number, kind in reader.fields():
        if number == _VALUES and kind in INTEGERS:
            values = reader.integer()
        elif kind > 2:  # others are booleans, whose values are in their kinds
            reader.skip(kind)
    return values
