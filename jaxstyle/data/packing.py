"""Packs the outputs of runs into HDF5 files, with the labels of the HDF5 file that they were rendered from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxstyle.data import packed_file
from jaxstyle.data.audit import MAX_PIXELS
from jaxstyle.data.fingerprint import MOST_BYTES
from jaxstyle.data.folder import Folder
from jaxstyle.data.hdf5 import Found, datasets
from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.ledger import ledgers
from jaxstyle.data.opening import open_regular
from jaxstyle.data.packed_file import OURS, Contents, Entry
from jaxstyle.data.problems import unreadable
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STYLE_ROWS, Row
from jaxstyle.data.sources.base import HDF5, printable
from jaxstyle.data.sources.hdf5 import Hdf5Source, Table
from jaxstyle.errors import InputError, StorageError
from jaxstyle.settings import RenderSettings

SHOWN = 5
"""Keys that a message names."""
Layout = Literal["auto", "arrays", "encoded"]


@dataclass
class Packed:
    """What `pack` did.

    Attributes:
        files: of the images, in their order.
        written: number of these that were written; the others had these contents already.
        images: number in all files.
        missing: inputs without an output.
        arrays: whether images are arrays; else the files of the outputs.
        carried, left: datasets of the source that went with the images, and those that did not.
    """

    files: list[Path]
    written: int
    images: int
    missing: int
    arrays: bool
    carried: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        return asdict(self) | {"files": [printable(path) for path in self.files]}

    def lines(self) -> list[str]:
        """The files, a line each."""
        return [printable(path) for path in self.files]

    def told(self) -> list[str]:
        """What else there is to tell, for people."""
        kind = "arrays" if self.arrays else "encoded pictures"
        told = [f"{self.images} images as {kind}, {self.missing} missing: {self.written} of {len(self.files)} files "
                "written, the others were there"]  # fmt: skip
        told += [f"Carried over by row: {', '.join(map(printable, self.carried))}"] if self.carried else []
        return told + ([f"Not carried over: {', '.join(map(printable, self.left))}"] if self.left else [])


def pack(
    output: Path,
    target: Path,
    *,
    source: Path | None = None,
    dataset: str | None = None,
    allow_missing: bool = False,
    per_file: int | None = None,
    layout: Layout = "auto",
    leave_out: Sequence[str] = (),
) -> Packed:
    """Writes the outputs of a folder to one HDF5 file or to several; those that are there already are only checked.

    Images stand in the order of the source's rows, or of their keys without a source. Datasets of the source with as
    many rows as images are carried over, so that row i of each belongs to image i.

    Args:
        output: output folder of runs, at work or finished.
        target: the file; with `per_file`, NAME.h5 stands for NAME-00000.h5 and so on.
        source: the HDF5 file whose rows were rendered.
        dataset: see `RenderSettings`.
        allow_missing: leave out inputs without an output, with their labels.
        per_file: most images of a file [default: all in one]
        layout: arrays, uint8 of one size; encoded, the files of the outputs; auto, arrays if all have one size.
        leave_out: datasets of the source that are not carried over.

    Raises:
        InputError: outputs are missing; the folder, the source or the target cannot be used.
        StorageError: a file cannot be read or written; an output is not as its row says.
    """
    if per_file is not None and per_file < 1:
        raise InputError(f"per-file is {per_file}", "It must be at least 1.")
    provider = None
    if source is not None:
        provider = Hdf5Source([source], settings=RenderSettings(dataset=dataset, max_pixels=MAX_PIXELS))
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
    folder, settings = _opened(output)
    entries, missing = _entries(folder, provider, table)
    if missing and not allow_missing:
        shown = ", ".join(map(printable, missing[:SHOWN])) + ", ..." * (len(missing) > SHOWN)
        raise InputError(
            f"{len(missing)} inputs have no output in {printable(output)}: {shown}",
            "Render them (`jaxstyle status` tells why they failed), or add --allow-missing to leave them out.",
        )
    if not entries:
        where = (
            "" if table is None else f" of {printable(table.path)} (their keys begin with {printable(table.prefix)})"
        )
        raise InputError(f"{printable(output)} has no outputs{where}", "Give the folder and the input of one run.")
    shape = _shape(entries, layout, table)
    carried, left = _carried(table, leave_out)
    groups = [entries[at : at + (per_file or len(entries))] for at in range(0, len(entries), per_file or len(entries))]
    files = [target if per_file is None else _numbered(target, n) for n in range(len(groups))]
    _check_targets(files, target, table, per_file is not None)
    made = Packed(files, 0, len(entries), len(missing), shape is not None, [one.name for one in carried], left)
    about = {"settings": settings, "source": "" if table is None else table.path.name, "missing": len(missing)}
    for n, (path, group) in enumerate(zip(files, groups, strict=True)):
        named = "images" if table is None else table.found.name
        attributes = about | {"part": f"{n + 1}/{len(files)}"}
        if table is not None:  # labels may have changed where the images did not
            attributes |= {"source_modified": os.stat(table.path).st_mtime_ns}
        contents = Contents(named, shape, group, carried, attributes)
        if packed_file.digest_of(path) == contents.digest and not packed_file.differs(path, contents.digest):
            continue
        source = None if table is None else table.rows.file
        packed_file.write(path, contents, partial(_read, folder), source)
        made.written += 1
    return made


def _opened(output: Path) -> tuple[Folder, str]:
    """The folder, and the text of its settings.json."""
    try:
        folder = Folder(output)
        if ledgers(folder):
            return folder, folder.read(SETTINGS, MOST_BYTES).decode()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        raise unreadable(output, error) from error
    raise InputError(f"{printable(output)} is not an output folder of jaxstyle", "Give the --output of a run.")


def _entries(folder: Folder, provider: Hdf5Source | None, table: Table | None) -> tuple[list[Entry], list[str]]:
    """The outputs in their order, and the keys of inputs that have none."""
    entries: list[Entry] = []
    missing: list[str] = []
    covered = set[int]()
    with LastRows(folder) as rows:
        for row in rows:
            number = -1 if table is None else table.row_of(row.image or row.key)
            if number is None or row.key.startswith(STYLE_ROWS):
                continue
            covered.add(number)
            whole = row.status == "done" and row.output_size is not None and row.output_sha256
            if whole and (provider is None or _is_current(provider, number, row)):
                assert row.output_size is not None
                entries.append(Entry(number, row.key, row.style, row.output_sha256, row.output_size))
            elif row.status != "skipped" or table is not None:
                missing.append(row.key)
    if table is not None:
        missing += [table.key(n) for n in range(table.found.shape[0]) if n not in covered]
    return sorted(entries), sorted(missing)


def _is_current(provider: Hdf5Source, number: int, row: Row) -> bool:
    """Whether an output was made from the present content of its row of the source."""
    stamp = provider.stamp(f"0:{number}")
    if stamp.length != row.input_bytes:
        return False
    if stamp.modified == row.input_modified:
        return True
    try:
        with provider.open(f"0:{number}") as file:
            return hashlib.sha256(file.read()).hexdigest() == row.input_sha256
    except OSError:
        return False


def _shape(entries: Sequence[Entry], layout: Layout, table: Table | None) -> tuple[int, int, int] | None:
    """Height, width and channels if images are to be arrays; else None."""
    sizes = {one.size for one in entries}
    if layout == "encoded" or (layout == "auto" and len(sizes) > 1):
        return None
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:SHOWN])
        raise InputError(f"the outputs have {len(sizes)} sizes ({shown})", "Use --layout encoded.")
    ((width, height),) = sizes
    return height, width, 4 if table is not None and table.found.shape[3:] == (4,) else 3


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
    if target.suffix.lower() not in HDF5:
        raise InputError(f"the output {printable(target)} is no HDF5 file by its name", "End it in .h5 or .hdf5.")
    if not target.parent.is_dir():
        raise InputError(f"the output's folder {printable(target.parent)} does not exist", "Make it.")
    for path in files:
        if os.path.lexists(path):
            if table is not None and path.exists() and path.samefile(table.path):
                raise InputError(f"the output {printable(path)} is the input", "Choose another name.")
            if path.is_symlink() or packed_file.digest_of(path) is None:
                raise InputError(
                    f"{printable(path)} is there, and jaxstyle did not pack it, or it is damaged", "Move it away."
                )
    if several and os.path.lexists(extra := _numbered(target, len(files))):
        raise InputError(
            f"{printable(extra)} is of an earlier packing into more files than {len(files)}", "Delete it and the rest."
        )


def _read(folder: Folder, entry: Entry) -> bytes:
    """Reads the file of an output, which must be as its row says."""
    what = printable(folder / entry.key)
    try:
        if entry.key.startswith("/") or ".." in entry.key.split("/"):
            raise ValueError("it leads out of the folder")
        with folder.parent(entry.key) as (at, name), open_regular(name, within=at) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise StorageError(f"the output {what} cannot be read ({error})", "Render it again.") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise StorageError(f"the output {what} does not have the checksum of its row",
                           "Delete it and render it again; `jaxstyle verify` finds others.")  # fmt: skip
    return data
