"""Packs the outputs of runs into HDF5 files, with the labels of the HDF5 file that they were rendered from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxstyle.data.audit import MAX_PIXELS
from jaxstyle.data.folder import Folder
from jaxstyle.data.hdf5 import Attribute, Found, attributes, datasets
from jaxstyle.data.packing import base, hdf5_file
from jaxstyle.data.packing.base import Entry, Origin
from jaxstyle.data.packing.hdf5_file import OURS, Contents
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import printable
from jaxstyle.data.sources.hdf5 import Hdf5Source, Table
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

Layout = Literal["auto", "arrays", "encoded"]


@dataclass
class Packed(base.Packed):
    """What `pack` did.

    Attributes:
        arrays: whether images are arrays; else the files of the outputs.
        carried, left: datasets of the source that went with the images, and those that did not.
    """

    arrays: bool = False
    carried: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def told(self, kind: str = "") -> list[str]:
        """What else there is to tell, for people."""
        told = super().told("images as arrays" if self.arrays else "images as encoded pictures")
        told += [f"Carried over by row: {', '.join(map(printable, self.carried))}"] if self.carried else []
        return told + ([f"Not carried over: {', '.join(map(printable, self.left))}"] if self.left else [])


def pack(output: Path, target: Path, sources: Sequence[Path], dataset: str | None, allow_missing: bool,
         per_file: int | None, layout: Layout, leave_out: Sequence[str]) -> Packed:  # fmt: skip
    """Writes the outputs to one HDF5 file or to several. See `packing.pack`."""
    if len(sources) > 1:
        raise InputError(f"{len(sources)} HDF5 files are given as inputs", "Pack each into a file of its own.")
    provider = None
    if sources:
        provider = Hdf5Source(sources, settings=RenderSettings(dataset=dataset, max_pixels=MAX_PIXELS))
    elif dataset is not None or leave_out:
        raise InputError("a dataset is named, and no input", "Add --input FILE.h5.")
    try:
        return _pack(output, target, provider, allow_missing, per_file, layout, leave_out)
    finally:
        if provider is not None:
            provider.close()


def _pack(output: Path, target: Path, provider: Hdf5Source | None, allow_missing: bool, per_file: int | None,
          layout: Layout, leave_out: Sequence[str]) -> Packed:  # fmt: skip
    table = None if provider is None else provider.tables()[0]
    folder, settings = base.opened(output)
    entries, missing = _entries(folder, provider, table)
    if not allow_missing:
        base.refuse_missing(missing, len(missing), output)
    if not entries:
        where = (
            "" if table is None else f" of {printable(table.path)} (their keys begin with {printable(table.prefix)})"
        )
        raise InputError(f"{printable(output)} has no outputs{where}", "Give the folder and the input of one run.")
    shape = _shape(entries, layout, table)
    carried, left = _carried(table, leave_out)
    groups = base.groups(entries, per_file)
    files = [target if per_file is None else _numbered(target, n) for n in range(len(groups))]
    _check_targets(files, target, table, per_file is not None)
    described: dict[str, dict[str, Attribute]] = {}
    source: Any = None if table is None else table.rows.file
    for one in carried:
        described[one.name], unread = attributes(source[one.name])
        left += [f"{one.name} (attribute {name})" for name in unread]
    channels_first = table is not None and table.channels_first
    made = Packed(files, 0, len(entries), len(missing), shape is not None, [one.name for one in carried], left)
    about = {"settings": settings, "source": "" if table is None else table.path.name, "missing": len(missing)}
    for n, (path, group) in enumerate(zip(files, groups, strict=True)):
        named = "images" if table is None else table.found.name
        told = about | {"part": f"{n + 1}/{len(files)}"}
        if table is not None:  # labels may have changed where the images did not
            told |= {"source_modified": os.stat(table.path).st_mtime_ns}
        contents = Contents(named, shape, group, carried, told, channels_first, described)
        if hdf5_file.digest_of(path) == contents.digest and not hdf5_file.differs(path, contents.digest):
            continue
        hdf5_file.write(path, contents, partial(base.read_output, folder), source)
        made.written += 1
    return made


def _entries(folder: Folder, provider: Hdf5Source | None, table: Table | None) -> tuple[list[Entry], list[str]]:
    """The outputs in their order, and the keys of inputs that have none."""
    entries: list[Entry] = []
    missing: list[str] = []
    covered = set[int]()
    for row in base.last_rows(folder):
        number = -1 if table is None else table.row_of(row.image or row.key)
        if number is None:
            continue
        covered.add(number)
        found = base.entry(row, number)
        if found and (provider is None or _is_current(provider, number, row)):
            entries.append(found)
        elif row.status != "skipped" or table is not None:
            missing.append(row.key)
    if table is not None:
        missing += [table.key(n) for n in range(table.found.shape[0]) if n not in covered]
    return sorted(entries), sorted(missing)


def _is_current(provider: Hdf5Source, number: int, row: Row) -> bool:
    """Whether an output was made from the present content of its row of the source."""
    locator = f"0:{number}"
    return Origin.of(row).is_current(provider.stamp(locator), partial(provider.open, locator))


def _shape(entries: Sequence[Entry], layout: Layout, table: Table | None) -> tuple[int, int, int] | None:
    """Height, width and channels if images are to be arrays; else None."""
    sizes = {one.size for one in entries}
    if layout == "encoded" or (layout == "auto" and len(sizes) > 1):
        return None
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[: base.SHOWN])
        raise InputError(f"the outputs have {len(sizes)} sizes ({shown})", "Use --layout encoded.")
    ((width, height),) = sizes
    return height, width, 4 if table is not None and table.length and table.image_shape[2] == 4 else 3


def _carried(table: Table | None, leave_out: Sequence[str]) -> tuple[list[Found], list[str]]:
    """The datasets of the source that have a row for each image, and the names of the others."""
    if table is None:
        return [], []
    found = [one for one in datasets(table.rows.file, table.path) if one.name != table.found.name]
    wanted = {name.strip("/") for name in leave_out}
    if unknown := wanted - {one.name for one in found}:
        raise InputError(f"{printable(table.path)} has no dataset {printable(min(unknown))}", "Correct --leave-out.")
    found = [one for one in found if not one.name.startswith(f"{OURS}/")]
    by_row = [one for one in found if one.shape[:1] == table.found.shape[:1] and one.name not in wanted]
    for one in by_row:
        if one.refused:
            what, _, remedy = one.refused.partition(". ")
            raise InputError(f"the dataset {printable(one.name)} of {printable(table.path)} {what}",
                             f"{remedy} Or leave it out: --leave-out {one.name}.")  # fmt: skip
    return by_row, [one.name for one in found if one not in by_row]


def _numbered(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}-{number:05}{target.suffix}")


def _check_targets(files: Sequence[Path], target: Path, table: Table | None, several: bool) -> None:
    """Checks that no file of others would be replaced, and that no file of an earlier packing would stay."""
    if not target.parent.is_dir():
        raise InputError(f"the output's folder {printable(target.parent)} does not exist", "Make it.")
    for path in files:
        if os.path.lexists(path):
            if table is not None and path.exists() and path.samefile(table.path):
                raise InputError(f"the output {printable(path)} is the input", "Choose another name.")
            if path.is_symlink() or hdf5_file.digest_of(path) is None:
                raise InputError(
                    f"{printable(path)} is there, and jaxstyle did not pack it, or it is damaged", "Move it away."
                )
    if several and os.path.lexists(extra := _numbered(target, len(files))):
        raise InputError(
            f"{printable(extra)} is of an earlier packing into more files than {len(files)}", "Delete it and the rest."
        )
