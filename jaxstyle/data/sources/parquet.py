"""Reads inputs from Parquet files with a column of pictures, as Hugging Face datasets have it, one row at a time."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jaxstyle.data.bounds import most_bytes
from jaxstyle.data.parquet import REPACK, Opened, Rows, modules, open_file
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import Input, Locator, Stamp, is_parquet, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.sources.given import Shard, expanded, refuse_equal_names
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

SNIFFED = 16
"""Pictures at the beginning of a file whose formats are looked at, until one is known."""
OPEN = 2
"""Files that are open at a time."""
SUITABLE = "encoded pictures: a struct of `bytes` and `path` (Hugging Face's Image), or binary"
"""What can be images."""


@dataclass(frozen=True)
class Table:
    """The pictures of a file.

    Attributes:
        shard: the file, as it was when it was listed.
        column: name of the pictures.
        extension: of the keys.
        rows: their number.
        names: of all columns of the file.
    """

    shard: Shard
    column: str
    extension: str
    rows: int
    names: tuple[str, ...]

    def key(self, row: int) -> str:
        """The key of a row."""
        return f"{self.shard.prefix}/{self.column}/{row:08}.{self.extension}"


class ParquetSource:
    """Provides the rows of Parquet files. See `base.Source`.

    The key of row 12 of the column image in train-0.parquet is train-0/image/00000012.jpg, with the extension of the
    file's first pictures. `prepare` reads the footers, and the first row with a picture.
    """

    def __init__(self, inputs: Iterable[Path | str], *, settings: RenderSettings, case_insensitive: bool = False):
        """Args:
        settings: `dataset` and `max_pixels` of the run.
        """
        self._paths, self._settings = [*expanded(inputs, is_parquet)], settings
        self._lock, self._tables = threading.RLock(), list[Table]()
        self._open: OrderedDict[int, Rows] = OrderedDict()

    def check(self, output: Path) -> None:
        """Checks that the inputs are Parquet files, and that no output would replace one. `prepare` looks into them."""
        for path in self._paths:
            if not is_parquet(path):
                raise InputError(
                    f"the input {printable(path)} is no Parquet file, and another input is",
                    "Give Parquet files alone, or render the rest in a run of its own.",
                )
        modules()
        refuse_equal_names((path.stem, path) for path in self._paths)
        refuse_overlap(output, self._paths)

    def prepare(self) -> Iterator[None]:
        """Looks into the files, one a step.

        Raises:
            InputError: a file or its column cannot be used, or no file has rows.
        """
        tables = []
        for path in self._paths:
            tables.append(self._look(path))
            yield
        if not any(one.rows for one in tables):
            raise InputError(f"there are no rows in {', '.join(map(printable, self._paths))}", "Give other files.")
        with self._lock:
            self._tables = tables

    @property
    def roots(self) -> Sequence[Path]:
        """The given files."""
        return self._paths

    def tables(self) -> Sequence[Table]:
        """The pictures of each file; looks into them if `prepare` has not."""
        if not self._tables:
            for _ in self.prepare():
                pass
        return self._tables

    def inputs(self) -> Iterator[Input]:
        """Yields the rows of each file in their order, in which row groups are read once."""
        for number, one in enumerate(self.tables()):
            for row in range(one.rows):
                yield Input(one.key(row), f"{number}:{row}")

    def open(self, locator: Locator) -> BinaryIO:
        """Reads a row. One without a picture, and errors of Parquet, are OSErrors."""
        number, row = self._at(locator)
        with self._lock:
            shard = self.tables()[number].shard
            _check_unchanged(shard, os.stat(shard.path))
            rows = self._open.pop(number, None) or self._opened(number)
            self._open[number] = rows
            while len(self._open) > OPEN:
                self._open.popitem(last=False)[1].close()
            return io.BytesIO(rows[row])

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the length 0, since it is not known before the row is read, and the file's st_mtime_ns."""
        shard = self.tables()[self._at(locator)[0]].shard
        _check_unchanged(shard, os.stat(shard.path))
        return Stamp(0, shard.found.st_mtime_ns)

    def close(self) -> None:
        """Closes the files, unless a thread hangs that reads one; a later call opens them again."""
        if self._lock.acquire(timeout=1):
            try:
                for rows in self._open.values():
                    rows.close()
                self._open.clear()
                self._tables = []
            finally:
                self._lock.release()

    def _at(self, locator: Locator) -> tuple[int, int]:
        number, _, row = str(locator).partition(":")
        return int(number), int(row)

    def _opened(self, number: int) -> Rows:
        """Opens a file again.

        Raises:
            OSError: it has changed, or cannot be opened.
        """
        one = self.tables()[number]
        try:
            opened = open_file(one.shard.path)
        except InputError as error:
            raise OSError(error.what) from error
        rows = self._reader(opened, one.column)
        try:
            _check_unchanged(one.shard, opened.found)
        except OSError:
            rows.close()
            raise
        return rows

    def _look(self, path: Path) -> Table:
        opened = open_file(path)
        try:
            column = chosen(opened, self._settings.dataset)
            rows = self._reader(opened, column)
            names = tuple(opened.parquet.schema_arrow.names)
            return Table(Shard(path, opened.found), column, _extension(rows), opened.rows, names)
        finally:
            opened.file.close()

    def _reader(self, opened: Opened, column: str) -> Rows:
        return Rows(opened, column, most_bytes(self._settings.max_pixels))


def _check_unchanged(shard: Shard, now: os.stat_result) -> None:
    if not shard.is_same(now):
        raise OSError("its file has changed since the run began")


def chosen(opened: Opened, name: str | None) -> str:
    """The column of this name, or the only one that can be images.

    Raises:
        InputError: there is none; the message lists those that can.
    """
    path, schema = opened.path, opened.parquet.schema_arrow
    suitable = [field.name for field in schema if _is_suitable(field.type)]
    fields = ", ".join(f"{printable(field.name)} ({printable(field.type)})"[:100] for field in [*schema][:20])
    listed = ", ".join(map(printable, suitable[:20])) + ", ..." * (len(suitable) > 20)
    if name is not None and name not in schema.names:
        raise InputError(
            f"{printable(path)} has no column {printable(name)}",
            f"It has these that can be images: {listed}." if suitable else f"It has {fields}.",
        )
    if name is not None and name not in suitable:
        raise InputError(f"the column {printable(name)} of {printable(path)} holds no images",
                         f"It must be {SUITABLE}. The file has {fields}.")  # fmt: skip
    if name is None and len(suitable) != 1:
        raise InputError(
            f"{printable(path)} has {len(suitable) or 'no'} column{'s' * bool(suitable)} that can be images: "
            f"{listed if suitable else fields}",
            "Choose one with --dataset." if suitable else f"Images are {SUITABLE}.",
        )
    column: str = suitable[0] if name is None else name
    if schema.names.count(column) > 1:
        raise InputError(f"{printable(path)} has several columns {printable(column)}", "Rename one of them.")
    if not column or column in (".", "..") or {*column} & {*"/\\\0"} or len(column.encode()) > 200:
        raise InputError(f"{printable(path)} has its images in the column {printable(column)!r:.300}, a name that no "
                         "folder can have", REPACK)  # fmt: skip
    return column


def _is_suitable(kind: Any) -> bool:
    """Whether a column of this Arrow type can be images."""
    arrow, _ = modules()
    if not arrow.types.is_struct(kind):
        return _is_binary(kind)
    fields = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
    texts = (arrow.string(), arrow.large_string(), arrow.null())
    return ({"bytes"} <= {*fields} <= {"bytes", "path"} and len(fields) == kind.num_fields
            and _is_binary(fields["bytes"]) and fields.get("path", texts[0]) in texts)  # fmt: skip


def _is_binary(kind: Any) -> bool:
    arrow, _ = modules()
    return kind in (arrow.binary(), arrow.large_binary())


def _extension(rows: Rows) -> str:
    """The extension of the first picture whose format its first bytes tell."""
    for row in range(min(rows.opened.rows, SNIFFED)):
        try:
            start = rows[row][: kinds.MAGIC_BYTES]
        except OSError:
            continue
        if (kind := kinds.by_content(start)) in kinds.FORMATS:
            return kinds.usual_extension(kind)
    return "jpg"
