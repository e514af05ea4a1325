"""Opens Parquet files as untrusted input, and reads the pictures of a column row by row in bounded memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxstyle.data import pages
from jaxstyle.data.footer import MOST_ELEMENTS, MOST_FOOTER, Footer, damaged, read_footer
from jaxstyle.data.opening import open_regular
from jaxstyle.data.thrift import Damaged
from jaxstyle.errors import InputError, printable

CACHE = 2**26
"""Bytes of pictures that are kept after they were read."""
BUFFER = 2**16
"""Bytes of a column that are read at a time. Without it a column of a row group is read at once."""
REPACK = "Write the file again, for example with `pyarrow.parquet.write_table`."


class Opened(NamedTuple):
    """An open file.

    Attributes:
        path: as it was given.
        file: its handle, which is to be closed.
        found: its state when it was opened.
        parquet: the `pyarrow.parquet.ParquetFile` that reads it.
        footer: what it says of itself.
    """

    path: Path
    file: IO[bytes]
    found: os.stat_result
    parquet: Any
    footer: Footer

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.footer.starts[-1]


def modules(instead: str = "") -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Args:
        instead: what else the user could do.

    Raises:
        InputError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        remedy = "Install jaxstyle's extra 'parquet': `pip install pyarrow`."
        raise InputError(f"Parquet files need pyarrow, which cannot be imported ({error})",
                         f"{remedy} {instead}".rstrip()) from error  # fmt: skip
    return pyarrow, pyarrow.parquet


def errors() -> tuple[type[Exception], ...]:
    """What is raised for files that are damaged or cannot be read."""
    arrow, _ = modules()
    return (
        Damaged,
        arrow.ArrowException,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        OverflowError,
        MemoryError,
    )


def open_file(path: Path) -> Opened:
    """Opens a file; reads its footer alone.

    Raises:
        InputError: it does not exist, is no whole Parquet file, is encrypted, refers to other files, or its footer
            claims more than the bounds of `footer` allow.
    """
    _, parquet = modules()
    try:
        file = open_regular(path, follow=True)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"the input {printable(path)} does not exist", "Give files that exist.") from error
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror or error})",
                         "Give a Parquet file, and correct its permissions.") from error  # fmt: skip
    try:
        footer = read_footer(path, file)
        found = parquet.ParquetFile(
            file, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True,
            thrift_string_size_limit=MOST_FOOTER, thrift_container_size_limit=MOST_ELEMENTS,
        )  # fmt: skip
        return Opened(path, file, os.fstat(file.fileno()), found, footer)
    except InputError:
        file.close()
        raise
    except errors() as error:
        file.close()
        raise damaged(path, told(error)) from error
    except BaseException:
        file.close()
        raise


def told(error: BaseException) -> str:
    """What an error of pyarrow says, in one short line."""
    lines = str(error).splitlines() or [type(error).__name__]
    return f"{lines[0][:200].rstrip('. ')}"


def leaves(opened: Opened, column: str) -> list[int]:
    """The numbers of the columns on the disk that a column consists of."""
    return [n for n, path in enumerate(opened.footer.leaves) if path[0] == column]


def walk(opened: Opened, group: int, leaf: int) -> Iterator[pages.Page]:
    """Yields the pages of a column on the disk in a row group; raises what `pages.pages` raises."""
    return pages.pages(opened.file, *opened.footer.chunk(group, leaf))


class Rows:
    """Reads pictures of one column. Not thread-safe.

    Rows in ascending order are read once. A row before the last one that was read, if it is not among the `CACHE` bytes
    that were read last, begins its row group again.
    """

    def __init__(self, opened: Opened, column: str, most: int):
        """Args:
        column: binary, or a struct of `bytes` and `path`.
        most: bytes that a picture may have.
        """
        self.opened, self._column, self._most = opened, column, most
        kind = opened.parquet.schema_arrow.field(column).type
        parts = [kind.field(n).name for n in range(kind.num_fields)]
        self._projected = [f"{column}.{part}" for part in parts] or [column]
        self._group, self._next, self._batches = -1, 0, iter(list[Any]())
        self._broken: tuple[int, int, str] | None = None
        self._cache: OrderedDict[int, bytes | str] = OrderedDict()
        self._held = 0

    def __getitem__(self, row: int) -> bytes:
        """Returns the bytes of a picture.

        Raises:
            OSError: the row has none, or cannot be read.
        """
        if row not in self._cache:
            self._read(row)
        self._cache.move_to_end(row)
        value = self._cache[row]
        if isinstance(value, str):
            raise OSError(value)
        return value

    def close(self) -> None:
        """Closes the file."""
        self._batches = iter(())
        self.opened.file.close()

    def _read(self, row: int) -> None:
        """Reads on until the row is in the cache."""
        group = bisect_right(self.opened.footer.starts, row) - 1
        if self._broken and self._broken[0] == group and row >= self._broken[1]:
            raise OSError(self._broken[2])
        if group != self._group or row < self._next:
            self._group, self._next, self._batches = -1, self.opened.footer.starts[group], iter(())
        try:
            if self._group != group:
                self._check(group)
                self._batches = self.opened.parquet.iter_batches(
                    1, row_groups=[group], columns=self._projected, use_threads=False
                )  # one row, because a dictionary may make of a few bytes many pictures
                self._group = group
            while self._next <= row:
                batch = next(self._batches, None)
                if batch is None:
                    raise Damaged("its row group ends early")
                self._keep(self._next, self._picture(batch))
                self._next += 1
        except errors() as error:
            self._group = -1
            if isinstance(error, OSError) and error.errno:
                raise
            what = f"Parquet: {told(error)}"
            self._broken = (group, self._next, what)
            raise OSError(what) from error

    def _check(self, group: int) -> None:
        """Raises `Damaged` if the pages of a row group would fill the memory, or have other numbers of values."""
        expected = self.opened.footer.starts[group + 1] - self.opened.footer.starts[group]
        for leaf in leaves(self.opened, self._column):
            values = sum(page.values or 0 for page in walk(self.opened, group, leaf))
            if values != expected:
                raise Damaged(f"its row group has {expected} rows, and pages of {values}")

    def _picture(self, batch: Any) -> bytes | str:
        """The bytes of a batch's only row, or why it has none."""
        value = batch.column(batch.schema.get_field_index(self._column))[0].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            path = value.get("path") if isinstance(value, dict) else None
            named = f", only the path {printable(path)}, which is not opened" if path else ""
            return f"its row has no picture{named}"
        if len(data) > self._most:
            return f"has {len(data)} bytes, more than {self._most}. Raise --max-pixels if it is a picture"
        return bytes(data)

    def _keep(self, row: int, value: bytes | str) -> None:
        if row in self._cache:
            return
        self._cache[row] = value
        self._held += len(value)
        while self._held > CACHE and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._held -= len(old)
