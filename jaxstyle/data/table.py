"""The manifest as a table (CSV, Parquet or JSON lines): one row for each key, nested fields in columns of their own."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from jaxstyle.data.audit import opened
from jaxstyle.data.packing.base import rename, temporary
from jaxstyle.data.parquet import modules
from jaxstyle.data.problems import storage_error
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import finish
from jaxstyle.errors import InputError

Format = Literal["csv", "parquet", "jsonl"]
BLOCK = 4096
"""Rows that are written at a time; of a Parquet file, those of a row group."""
MOST_NAMES = 1000
"""Most names of terms and figures, each of which is a column."""
FORMULAS = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")
"""Beginnings of cells that a spreadsheet may take for a formula, in full width too; and the apostrophe."""

_SIZES = ("input_size", "work_size", "output_size")
_NESTED = ("loss", "judgement")
_KINDS = {"int": "whole", "float": "number"}


class Column(NamedTuple):
    """One column.

    Attributes:
        name: of the column.
        kind: "text", "whole" (64 bits) or "number" (float64).
        value: its value in a row; None where the row has none.
    """

    name: str
    kind: str
    value: Callable[[Row], Any]


class Written(NamedTuple):
    """What was written.

    Attributes:
        rows: number of rows.
        malformed: number of lines of the ledgers that are not rows; they are left out.
    """

    rows: int
    malformed: int


def write(output: Path, target: Path | None, format: Format) -> Written:
    """Writes the last row of every key, in the order of the ledgers, also of a folder that a run is writing to.

    Memory does not grow with the rows, except for what `LastRows` takes. The ledgers are read three times.

    Args:
        output: the output folder of runs.
        target: the file, which appears when it is complete; None for the standard output.

    Raises:
        InputError: the folder is none of a run's, or the target cannot be used.
        StorageError: a file cannot be read or written.
    """
    folder = opened(output)
    if target is not None:
        _check_target(output, target, format)
    elif format == "parquet":
        raise InputError("a Parquet file does not go to the standard output", "Name a file: -o rows.parquet.")
    write_rows = _parquet if format == "parquet" else _csv if format == "csv" else _jsonl
    if format == "parquet":
        modules("CSV and JSON lines need nothing.")
    with LastRows(folder) as rows:
        found = columns(rows)
        with _text_or_bytes(target, format) as file:
            number = write_rows(file, found, rows)
        return Written(number, len(rows.malformed))


def columns(rows: Iterable[Row]) -> list[Column]:
    """The columns: those of every row, and one for each term of the losses and each figure of the judgements.

    Raises:
        InputError: the rows have more than `MOST_NAMES` names of terms and figures.
    """
    names: dict[str, set[str]] = {nested: set() for nested in _NESTED}
    for row in rows:
        for nested, known in names.items():
            known.update(getattr(row, nested))
        if sum(map(len, names.values())) > MOST_NAMES:
            raise InputError(f"the rows have more than {MOST_NAMES} names of terms and figures",
                             "This is no manifest of jaxstyle.")  # fmt: skip
    found: list[Column] = []
    for field in dataclasses.fields(Row):
        if field.name in _SIZES:
            found += [_side(field.name, n, side) for n, side in enumerate(("width", "height"))]
        elif field.name in _NESTED:
            found += [_part(field.name, name) for name in sorted(names[field.name])]
        elif field.name == "notes":
            found.append(Column("notes", "text", lambda row: "; ".join(row.notes)))
        elif field.name == "curve":
            found.append(Column("curve", "text", lambda row: json.dumps(row.curve) if row.curve else ""))
        else:
            found.append(_plain(field.name, _KINDS.get(str(field.type), "text")))
    return found


def _plain(name: str, kind: str) -> Column:
    return Column(name, kind, lambda row: getattr(row, name))


def _side(field: str, n: int, side: str) -> Column:
    def value(row: Row) -> int | None:
        size = getattr(row, field)
        return None if size is None else size[n]

    return Column(f"{field.removesuffix('_size')}_{side}", "whole", value)


def _part(field: str, name: str) -> Column:
    return Column(f"{field}_{name}", "number", lambda row: getattr(row, field).get(name))


def _values(found: list[Column], row: Row) -> Iterator[Any]:
    """The row's values: texts that can be encoded as UTF-8, whole numbers, floats, None."""
    for column in found:
        value = column.value(row)
        if value is not None:
            value = utf8(value) if column.kind == "text" else float(value) if column.kind == "number" else value
        yield value


def utf8(text: str) -> str:
    """Escapes what is not UTF-8, such as a byte of an old file name, as `\\xe9`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable(text)
    return text


def cell(value: Any) -> Any:
    """A value as a CSV file has it: a text that begins as a formula or with an apostrophe gets an apostrophe in front.

    So a spreadsheet that opens the file runs nothing, and whoever reads it otherwise takes one apostrophe off.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _csv(file: IO[str], found: list[Column], rows: Iterable[Row]) -> int:
    writer, number = csv.writer(file), 0  # ends lines with \r\n (RFC 4180), and so quotes cells with either
    writer.writerow([cell(utf8(column.name)) for column in found])
    for number, row in enumerate(rows, 1):  # noqa: B007
        writer.writerow(map(cell, _values(found, row)))
    return number


def _jsonl(file: IO[str], found: list[Column], rows: Iterable[Row]) -> int:
    names, number = [column.name for column in found], 0
    for number, row in enumerate(rows, 1):  # noqa: B007
        file.write(json.dumps(dict(zip(names, (column.value(row) for column in found), strict=True))) + "\n")
    return number


def _parquet(file: IO[bytes], found: list[Column], rows: Iterable[Row]) -> int:
    arrow, parquet = modules("CSV and JSON lines need nothing.")
    types = {"text": arrow.string(), "whole": arrow.int64(), "number": arrow.float64()}
    schema = arrow.schema([(utf8(column.name), types[column.kind]) for column in found])
    waiting, number = iter(rows), 0
    with parquet.ParquetWriter(file, schema) as writer:
        while block := [list(_values(found, row)) for row in itertools.islice(waiting, BLOCK)]:
            columns = zip(*block, strict=True)
            arrays = [arrow.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))
            number += len(block)
    return number


def _check_target(output: Path, target: Path, format: Format) -> None:
    """Checks that the table replaces no picture, no other file of another name, and nothing in an output folder."""
    place = printable(target)
    if target.suffix.lower() != f".{format}":
        raise InputError(f"the table {place} is {format} and is not called so", f"End its name in .{format}.")
    if not target.parent.is_dir():
        raise InputError(f"the table's folder {printable(target.parent)} does not exist", "Make it.")
    if target.resolve().is_relative_to(output.resolve()):
        raise InputError(f"the table {place} would lie in the output folder", "Choose a place outside.")
    if target.exists() and not target.is_file():
        raise InputError(f"the table {place} is no file", "Choose another name.")


@contextmanager
def _text_or_bytes(target: Path | None, format: Format) -> Iterator[Any]:
    """The open target: of bytes for Parquet, else of text in UTF-8. What a killed export left of it is deleted."""
    if target is None:
        yield sys.stdout
        return
    try:
        with temporary(target) as (file, name):
            yield file if format == "parquet" else _Text(file)
            finish(file)
            rename(name, target)
    except OSError as error:
        raise storage_error(target, "written", error) from error


class _Text:
    """Writes texts to a binary file. Unlike io.TextIOWrapper it does not close the file at its end."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())
