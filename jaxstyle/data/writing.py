"""Writes files atomically: a file under its final name is complete."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jaxstyle.data.folder import Folder, sync
from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.opening import open_regular
from jaxstyle.data.problems import storage_error

_own = f"{os.getpid()}-{secrets.token_hex(8)}"
_numbers = itertools.count()


def temporary_name(part: str = "") -> str:
    """Returns a new name for an unfinished file, which nobody can foresee.

    Args:
        part: prefix, so that a shard sweeps only its own unfinished files.
    """
    return f"{TEMPORARY}{part}{_own}-{next(_numbers)}"


def is_own(name: str) -> bool:
    """Whether this process made the name of an unfinished file."""
    return _own in name


@contextmanager
def unfinished(within: int, part: str = "") -> Iterator[tuple[IO[bytes], str]]:
    """Yields a new file and its temporary name, and deletes the file afterwards unless it was renamed.

    Args:
        within: descriptor of the folder to make it in.
        part: see `temporary_name`.

    Raises:
        OSError: the file cannot be made.
    """
    name = temporary_name(part)
    with open_regular(name, "xb", within=within) as file:
        try:
            yield file, name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=within)


def finish(file: IO[bytes]) -> None:
    """Puts a file's content on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def writing(path: Path | tuple[Folder, str]) -> Iterator[IO[bytes]]:
    """Like `write_file`, for a file that is written piece by piece."""
    try:
        folder, name = path if isinstance(path, tuple) else (Folder(path.parent, create=True), path.name)
        if folder.refusal is not None:
            raise folder.refusal
        with unfinished(folder.handle) as (file, temporary):
            yield file
            finish(file)
            os.replace(temporary, name, src_dir_fd=folder.handle, dst_dir_fd=folder.handle)
        sync(folder.handle, folder.path)
    except OSError as error:
        what = path[0] / path[1] if isinstance(path, tuple) else path
        raise storage_error(what, "written", error) from error


def write_file(path: Path | tuple[Folder, str], data: bytes) -> None:
    """Writes a file under a temporary name, syncs it to the disk, renames it, and syncs the rename.

    Args:
        path: of the file, whose folder is made if it is absent; or an open folder and the file's name in it.

    Raises:
        StorageError: the file cannot be written.
    """
    with writing(path) as file:
        file.write(data)
