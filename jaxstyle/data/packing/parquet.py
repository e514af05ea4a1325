"""Packs the outputs of runs into Parquet files, with the other columns of the files that they were rendered from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jaxstyle.data.audit import MAX_PIXELS
from jaxstyle.data.packing import base, parquet_file
from jaxstyle.data.packing.base import Entry
from jaxstyle.data.packing.outputs import Outputs, settings_of
from jaxstyle.data.packing.parquet_file import STYLE, Contents
from jaxstyle.data.parquet import open_file
from jaxstyle.data.problems import storage_error
from jaxstyle.data.sources.base import is_parquet, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.sources.given import expanded, refuse_equal_names
from jaxstyle.data.sources.parquet import ParquetSource, Table
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings


@dataclass
class Packed(base.Packed):
    """What `pack` did.

    Attributes:
        carried: columns of the source that went with the images.
    """

    carried: list[str] = field(default_factory=list)

    def told(self, kind: str = "") -> list[str]:
        """What else there is to tell, for people."""
        told = super().told("images")
        return told + ([f"Carried over by row: {', '.join(map(printable, self.carried))}"] if self.carried else [])


def pack(output: Path, target: Path, sources: Sequence[Path], dataset: str | None, allow_missing: bool,
         leave_out: Sequence[str]) -> Packed:  # fmt: skip
    """Writes a Parquet file for each of the source's. See `packing.pack`."""
    sources = [*expanded(sources, is_parquet)]
    if other := next((path for path in sources if not is_parquet(path)), None):
        raise InputError(f"the input {printable(other)} is no Parquet file, and another input is", "Leave it out.")
    refuse_equal_names((path.stem, path) for path in sources)
    folder, settings = base.opened(output)
    refuse_overlap(target, [output, *sources])
    provider = ParquetSource(sources, settings=RenderSettings(dataset=dataset, max_pixels=MAX_PIXELS))
    with closing(provider), closing(Outputs(folder, [path.stem for path in sources])) as outputs:
        return _pack(output, target, provider, outputs, partial(base.read_output, folder), settings_of(settings),
                     allow_missing, leave_out)  # fmt: skip


def _pack(
    output: Path,
    target: Path,
    provider: ParquetSource,
    outputs: Outputs,
    read: Callable[[Entry], bytes],
    settings: Any,
    allow_missing: bool,
    leave_out: Sequence[str],
) -> Packed:
    """Checks all files, then writes those that are not there."""
    tables = provider.tables()
    made = Packed([target / one.shard.path.name for one in tables], 0, 0, 0)
    lacking, missing, styles = list[int](), list[str](), set[str]()
    for n, table in enumerate(tables):
        entries = _entries(provider, n, outputs)
        absent = sorted({*range(table.rows)} - {row for row, _ in entries})
        missing += [table.key(row) for row in absent[: base.SHOWN - len(missing)]]
        lacking.append(len(absent))
        styles |= {entry.style for _, entry in entries}
        made.images += len(entries)
    made.missing, styled = sum(lacking), len(styles) > 1
    if not allow_missing:
        base.refuse_missing(missing, made.missing, output)
    if not made.images:
        first = tables[0].shard
        raise InputError(f"{printable(output)} has no outputs of {printable(first.path)} (their keys begin with "
                         f"{printable(first.prefix)}/)", "Give the folder and the inputs of one run.")  # fmt: skip
    for table in tables:
        made.carried = _carried(table, styled, leave_out)
    _prepare(target, made.files)
    for n, (table, path) in enumerate(zip(tables, made.files, strict=True)):
        about = {"settings": settings, "source": table.shard.path.name, "missing": lacking[n]}
        source = open_file(table.shard.path)
        with closing(source.file):
            # columns may have changed where the images did not
            about |= {"source_bytes": source.found.st_size, "source_modified": source.found.st_mtime_ns}
            entries = _entries(provider, n, outputs)
            contents = Contents(table.column, _carried(table, styled, leave_out), styled, entries, about)
            if not path.exists() or parquet_file.differs(path, contents, source):
                parquet_file.write(path, contents, source, read)
                made.written += 1
    return made


def _entries(provider: ParquetSource, number: int, outputs: Outputs) -> list[tuple[int, Entry]]:
    """The rows of a file that have current outputs, with these."""
    table = provider.tables()[number]
    found, entries = outputs.of(table.shard.prefix), list[tuple[int, Entry]]()
    try:
        stamp = provider.stamp(f"{number}:0")
    except OSError as error:
        raise InputError(f"{printable(table.shard.path)}: {error}", "Pack it again.") from error
    for row in range(table.rows):
        of_row = found.get(table.key(row), ())
        if all(one.origin.is_current(stamp, partial(provider.open, f"{number}:{row}")) for one in of_row):
            entries += [(row, one.entry) for one in of_row]
    return entries


def _carried(table: Table, styled: bool, leave_out: Sequence[str]) -> list[str]:
    """The columns of a file that go with the images.

    Raises:
        InputError: a name stands for several columns, for the styles, or for none.
    """
    path, names = table.shard.path, table.names
    for name in leave_out:
        if name not in names or name == table.column:
            raise InputError(f"{printable(path)} has no other column {printable(name)}", "Correct --leave-out.")
    kept = [name for name in names if name != table.column and name not in leave_out]
    if several := next((name for name in kept if kept.count(name) > 1), None):
        raise InputError(f"{printable(path)} has several columns {printable(several)}", "Leave it out: --leave-out.")
    if styled and STYLE in kept:
        raise InputError(f"{printable(path)} has a column {STYLE}, the name of the styles", f"Add --leave-out {STYLE}.")
    return kept


def _prepare(target: Path, files: Sequence[Path]) -> None:
    """Makes the folder, and checks that no file takes the place of one of others."""
    if not target.parent.is_dir():
        raise InputError(f"the output's folder {printable(target.parent)} does not exist", "Make it.")
    for path in files:
        if os.path.lexists(path) and (path.is_symlink() or parquet_file.about(path) is None):
            raise InputError(
                f"{printable(path)} is there, and jaxstyle did not pack it, or it is damaged", "Move it away."
            )
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(target, "made", error) from error
