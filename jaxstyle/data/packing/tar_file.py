"""Writes one shard of samples, whole under its final name, with a marker beside it that is written last."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxstyle.data.opening import read_regular, sha256_of
from jaxstyle.data.packing import base
from jaxstyle.data.packing.base import Entry, rename, temporary
from jaxstyle.data.problems import storage_error
from jaxstyle.data.samples import samples
from jaxstyle.data.sources.base import printable
from jaxstyle.data.tar import BLOCK, Headers, Member
from jaxstyle.errors import InputError

FORMAT = "jaxstyle shard 1"
"""Kind and version of the layout, the marker's `format`."""
MARKER = ".json"
"""What the name of a marker adds to its shard's."""
MOST_MARKER = 2**24
"""Bytes of a marker."""
AT_A_TIME = 2**20
"""Bytes that are copied at a time."""


@dataclass
class Packed(base.Packed):
    """What `pack` did.

    Attributes:
        members: written beside the images, such as labels.
        left: files of the source's archives that are in no sample.
    """

    members: int = 0
    left: int = 0

    def told(self, kind: str = "") -> list[str]:
        """What else there is to tell, for people."""
        told = [*super().told("images in samples"), f"Carried over beside them: {self.members} members"]
        return told + ([f"Not carried over: {self.left} files that are in no sample"] if self.left else [])


class Piece(NamedTuple):
    """A member of a sample that will be written.

    Attributes:
        name: its name in the archive.
        content: an output, or the member of the source that is copied.
    """

    name: str
    content: Entry | Member


def write(
    path: Path,
    content: Iterable[Sequence[Piece]],
    read: Callable[[Entry], bytes],
    source: IO[bytes] | None,
    about: dict[str, Any],
) -> None:
    """Writes a shard under a temporary name, reads it again, puts it on the disk, renames it, and writes its marker.

    The bytes depend on the samples alone: owners are 0, times too, and modes are 644.

    Args:
        content: the samples, in their order.
        read: returns the file of an output.
        source: the archive that members are copied from.
        about: what else the marker says: `digest`, settings and so on.

    Raises:
        StorageError: the shard cannot be written; an output is not as its row says.
        InputError: the source cannot be read, or another file lies in the shard's place.
    """
    try:
        with temporary(path) as (file, name):
            made = _Writer(file)
            for pieces in content:
                made.samples += 1
                for piece in pieces:
                    if isinstance(piece.content, Entry):
                        data = read(piece.content)
                        made.member(piece.name, len(data), [data])
                    else:
                        assert source is not None
                        made.member(piece.name, piece.content.size, _blocks(source, piece.content))
            made.end()
            file.flush()
            os.fsync(file.fileno())
            if problem := _differs(Path(name), made):
                raise OSError(f"read again, {problem}")
            if not os.path.lexists(path) or os.path.lexists(marker(path)):
                rename(name, path)
            elif sha256_of(path) != made.sha256:  # else a killed command has written it, and not its marker
                raise InputError(
                    f"{printable(path)} is there, and jaxstyle did not pack it, or it has no marker", "Move it away."
                )
        told = {"format": FORMAT, "samples": made.samples, "members": made.members, "bytes": made.length,
                "sha256": made.sha256} | about  # fmt: skip
        with temporary(marker(path)) as (file, name):
            file.write(json.dumps(told, indent=1).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
            rename(name, marker(path))
    except OSError as error:
        raise storage_error(path, "written", error) from error


class _Writer:
    """Writes members, and counts what it writes."""

    def __init__(self, file: IO[bytes]):
        self._file, self._total = file, hashlib.sha256()
        self.samples = self.members = self.length = 0

    @property
    def sha256(self) -> str:
        return self._total.hexdigest()

    def member(self, name: str, size: int, data: Iterable[bytes]) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        self._add(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        for block in data:
            self._add(block)
        self._add(bytes(-size % BLOCK))
        self.members += 1

    def end(self) -> None:
        end = self.length + 2 * BLOCK
        self._add(bytes(2 * BLOCK + -end % tarfile.RECORDSIZE))

    def _add(self, data: bytes) -> None:
        self._file.write(data)
        self._total.update(data)
        self.length += len(data)


def _blocks(source: IO[bytes], member: Member) -> Iterable[bytes]:
    """The data of a member.

    Raises:
        InputError: it cannot be read.
    """
    left = member.size
    try:
        source.seek(member.start)
        while left:
            data = source.read(min(left, AT_A_TIME))
            if not data:
                raise OSError("it is cut short")
            left -= len(data)
            yield data
    except OSError as error:
        raise InputError(
            f"the member {printable(member.name)} of the input cannot be read ({error})", "Copy the archive again."
        ) from error


def _differs(path: Path, made: _Writer) -> str:
    """Reads all of a shard; returns how it differs from what was written, or ""."""
    if sha256_of(path) != made.sha256:
        return "it has another checksum"
    try:
        with path.open("rb") as file:
            found = [(len(one.members), one.failed) for one in samples(Headers(file, path))]
    except InputError as error:
        return str(error)
    if failed := next((failed for _, failed in found if failed), ""):
        return f"a sample {failed}"
    counted = len(found), sum(number for number, _ in found)
    return "" if counted == (made.samples, made.members) else f"it has {counted[0]} samples of {made.samples}"


def marker(path: Path) -> Path:
    """The path of a shard's marker."""
    return path.with_name(path.name + MARKER)


def read_marker(path: Path) -> dict[str, Any] | None:
    """What the marker of a shard says; None if it has none, or one that jaxstyle did not write."""
    try:
        told = json.loads(read_regular(marker(path), MOST_MARKER))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("format") == FORMAT else None


def is_complete(path: Path, digest: str) -> bool:
    """Whether a shard is whole and has these contents."""
    told = read_marker(path)
    try:
        return (
            told is not None
            and told.get("digest") == digest
            and not path.is_symlink()
            and path.stat().st_size == told.get("bytes")
            and sha256_of(path) == told.get("sha256")
        )
    except OSError:
        return False


def refuse_others(path: Path) -> None:
    """Checks that no file of others lies in the place of a shard or of its marker.

    Raises:
        InputError: one does.
    """
    beside = marker(path)
    foreign = os.path.lexists(beside) and read_marker(path) is None
    for one in (path, beside):
        if one.is_symlink() or (os.path.lexists(one) and not one.is_file()) or (one == beside and foreign):
            raise InputError(
                f"{printable(one)} is there, and jaxstyle did not write it, or it is damaged", "Move it away."
            )


def prepare(target: Path, files: Sequence[Path]) -> None:
    """Makes the folder, and checks that no shard takes the place of a file of others."""
    if not target.parent.is_dir():
        raise InputError(f"the output's folder {printable(target.parent)} does not exist", "Make it.")
    for path in files:
        refuse_others(path)
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(target, "made", error) from error
