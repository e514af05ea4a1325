"""What the formats of packed outputs share: the outputs of a folder, which are current, and temporary files."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jaxstyle.data.fingerprint import MOST_BYTES
from jaxstyle.data.folder import Folder, sync
from jaxstyle.data.layout import SETTINGS, TEMPORARY
from jaxstyle.data.ledger import ledgers
from jaxstyle.data.opening import open_regular
from jaxstyle.data.problems import unreadable
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STYLE_ROWS, Row
from jaxstyle.data.sources.base import Stamp, printable
from jaxstyle.data.writing import temporary_name
from jaxstyle.errors import InputError, StorageError

SHOWN = 5
"""Keys that a message names."""


class Entry(NamedTuple):
    """One output.

    Attributes:
        row: of the source's datasets; -1 in other formats and without a source.
        key: of the output.
        style: key of its style, or "".
        sha256: checksum of the output's file, in hexadecimal.
        size: its width and height.
        image: key of its input.
    """

    row: int
    key: str
    style: str
    sha256: str
    size: tuple[int, int]
    image: str = ""


@dataclass
class Packed:
    """What `pack` did.

    Attributes:
        files: of the images, in their order.
        written: number of these that were written; the others had these contents already.
        images: number in all files.
        missing: inputs without an output.
    """

    files: list[Path]
    written: int
    images: int
    missing: int

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        return asdict(self) | {"files": [printable(path) for path in self.files]}

    def lines(self) -> list[str]:
        """The files, a line each."""
        return [printable(path) for path in self.files]

    def told(self, kind: str = "images") -> list[str]:
        """What else there is to tell, for people.

        Args:
            kind: what the images are.
        """
        return [f"{self.images} {kind}, {self.missing} missing: {self.written} of {len(self.files)} files "
                "written, the others were there"]  # fmt: skip


def opened(output: Path) -> tuple[Folder, str]:
    """The output folder, and the text of its settings.json.

    Raises:
        InputError: it is none.
        StorageError: it cannot be read.
    """
    try:
        folder = Folder(output)
        if ledgers(folder):
            return folder, folder.read(SETTINGS, MOST_BYTES).decode()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        raise unreadable(output, error) from error
    raise InputError(f"{printable(output)} is not an output folder of jaxstyle", "Give the --output of a run.")


def last_rows(folder: Folder) -> Iterator[Row]:
    """The last row of every image."""
    with LastRows(folder) as rows:
        for row in rows:
            if not row.key.startswith(STYLE_ROWS):
                yield row


def entry(row: Row, number: int = -1) -> Entry | None:
    """The output of a row, or None if it has no whole one.

    Args:
        number: see `Entry.row`.
    """
    if row.status != "done" or row.output_size is None or not row.output_sha256:
        return None
    return Entry(number, row.key, row.style, row.output_sha256, row.output_size, row.image or row.key)


class Origin(NamedTuple):
    """The input that an output was made from, as its row says. See `Row`."""

    length: int
    modified: int
    sha256: str

    @classmethod
    def of(cls, row: Row) -> Origin:
        """That of a row."""
        return cls(row.input_bytes, row.input_modified, row.input_sha256)

    def is_current(self, stamp: Stamp, open: Callable[[], BinaryIO]) -> bool:
        """Whether it is the input's present content.

        Args:
            stamp: of the input.
            open: opens its content.
        """
        if stamp.length != self.length:
            return False
        if stamp.modified == self.modified:
            return True
        try:
            with open() as file:
                return hashlib.sha256(file.read()).hexdigest() == self.sha256
        except OSError:
            return False


def refuse_missing(missing: Sequence[str], number: int, output: Path) -> None:
    """Raises the error for inputs without an output, if there are any.

    Args:
        missing: keys of some of them, at least `SHOWN` if there are as many.
    """
    if number:
        shown = ", ".join(map(printable, missing[:SHOWN])) + ", ..." * (number > SHOWN)
        raise InputError(
            f"{number} inputs have no output in {printable(output)}: {shown}",
            "Render them (`jaxstyle status` tells why they failed), or add --allow-missing to leave them out.",
        )


def groups(entries: Sequence[Entry], per_file: int | None) -> list[Sequence[Entry]]:
    """The entries of each file."""
    step = per_file or len(entries)
    return [entries[at : at + step] for at in range(0, len(entries), step)]


def read_output(folder: Folder, entry: Entry) -> bytes:
    """Reads the file of an output, which must be as its row says.

    Raises:
        StorageError: it is not, or cannot be read.
    """
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


@contextmanager
def temporary(path: Path) -> Iterator[tuple[Any, str]]:
    """Yields a new file beside the path, and its name; deletes those that killed processes left for the same path.

    The writer holds a lock of its file, by which others know that it lives.
    """
    part = f"{hashlib.sha256(path.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}-"
    for left in glob.glob(f"{glob.escape(str(path.parent))}/{TEMPORARY}{part}*"):
        with suppress(OSError), open_regular(left, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(left)
    name = str(path.with_name(temporary_name(part)))
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file, name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


def rename(name: str, path: Path) -> None:
    """Renames a file that is on the disk, and puts the rename there."""
    os.replace(name, path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        sync(handle, path.parent)
    finally:
        os.close(handle)
