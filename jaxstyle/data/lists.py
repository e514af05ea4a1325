"""Lists of pictures: CSV, TSV and JSON lines, whose rows name a picture and say more about it, such as its label."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jaxstyle.data.ledger import raw_lines
from jaxstyle.data.opening import open_regular
from jaxstyle.data.shallow import loads
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENCODING, ERRORS = "utf-8", "surrogateescape"
"""Bytes that are not UTF-8 stay as they are, since a path may have them."""


@dataclass(frozen=True)
class Entry:
    """One row of a list.

    Attributes:
        line: number of its first line, from 1.
        key: the picture's path below the list's folder, with forward slashes; "" if it has none.
        problem: why it names no picture below the list's folder, or "".
        values: all of its fields: texts, or the object of a JSON line.
    """

    line: int
    key: str = ""
    problem: str = ""
    values: Any = None


class ListFile:
    """A list, read row by row, again at each call. Paths are relative to its folder.

    Attributes:
        path: of the file.
        folder: that its paths begin in.
        column: name of the column of paths.
        head: names of all columns, once rows have been read; empty for JSON lines.
    """

    def __init__(self, path: Path, column: str):
        self.path, self.folder, self.column = path, path.parent, column
        self._json = path.suffix.lower() == ".jsonl"
        self._stamp: tuple[int, int] | None = None
        self.head: list[str] = []

    def entries(self) -> Iterator[Entry]:
        """Yields the rows; blank lines are left out.

        Raises:
            InputError: the file cannot be read, has no such column, or has changed since it was first read.
        """
        with self._opened() as file:
            yield from self._objects(file) if self._json else self._records(file)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with open_regular(self.path, follow=True) as file:
                found = os.fstat(file.fileno())
                stamp = (found.st_size, found.st_mtime_ns)
                self._stamp = self._stamp or stamp
                if stamp != self._stamp:
                    raise InputError(f"the list {printable(self.path)} was changed during the run", "Run again.")
                yield file
        except OSError as error:
            raise InputError(
                f"the list {printable(self.path)} cannot be read ({error.strerror or error})", "Correct it."
            ) from error

    def _objects(self, file: IO[bytes]) -> Iterator[Entry]:
        known = False
        for line, data in enumerate(raw_lines(file), 1):
            if data.isspace():
                continue
            try:
                values = loads(_text(data))
            except ValueError as error:
                yield Entry(line, problem=f"is no JSON ({error})")
                continue
            if not isinstance(values, dict):
                yield Entry(line, problem="is no JSON object")
                continue
            if not known and self.column not in values:
                raise self._lacking(values)
            known = True
            yield self._entry(line, values.get(self.column), values)

    def _records(self, file: IO[bytes]) -> Iterator[Entry]:
        reader = csv.reader(map(_text, raw_lines(file)), delimiter=SEPARATORS[self.path.suffix.lower()])
        at = -1
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if at < 0:
                    raise InputError(
                        f"the first line of the list {printable(self.path)} cannot be read ({error})", "Correct it."
                    ) from error
                yield Entry(line, problem=f"cannot be read ({error})")
                continue
            if not values:
                continue
            if at < 0:
                if self.column not in values:
                    raise self._lacking(values)
                at = values.index(self.column)
                self.head = values
                continue
            yield self._entry(line, values[at] if at < len(values) else None, values)

    def _entry(self, line: int, path: Any, values: Any) -> Entry:
        if not isinstance(path, str) or not path:
            return Entry(line, problem="has no path", values=values)
        below = path.removeprefix(os.path.join(os.path.abspath(self.folder), ""))
        parts = [part for part in below.split("/") if part not in ("", ".")]
        if below.startswith("/") or ".." in parts or not parts:
            what = f"has the path {printable(path)}, which leads out of the list's folder or goes through '..'"
            return Entry(line, problem=what, values=values)
        if "\0" in path:
            return Entry(line, problem="has a path with a null byte", values=values)
        return Entry(line, "/".join(parts), values=values)

    def _lacking(self, names: Any) -> InputError:
        some = ", ".join(printable(name) for name in list(names)[:20])
        return InputError(
            f"the list {printable(self.path)} has no column {printable(self.column)}; it has {some}",
            "Name the column of paths: --path-column NAME.",
        )

    def with_key(self, entry: Entry, key: str) -> bytes:
        """The row as a line of a list of the same format, with another path."""
        if self._json:
            return _bytes(json.dumps(entry.values | {self.column: key}) + "\n")
        values = list(entry.values)
        values[self.head.index(self.column)] = key
        return self.line(values)

    def begin(self) -> bytes:
        """The first line of a list with the same columns, once rows have been read; empty for JSON lines."""
        return b"" if self._json else self.line(self.head)

    def line(self, values: list[str]) -> bytes:
        """A line of CSV or TSV."""
        made = io.StringIO()
        csv.writer(made, delimiter=SEPARATORS[self.path.suffix.lower()]).writerow(values)
        return _bytes(made.getvalue())


def _text(data: bytes) -> str:
    return data.decode(ENCODING, ERRORS).removeprefix("\ufeff")


def _bytes(text: str) -> bytes:
    return text.encode(ENCODING, ERRORS)
