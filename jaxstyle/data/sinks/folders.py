"""Publishing files: a file under its final name is whole, whatever happens while it is written."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import InputError, StorageError

LEAST_FREE = 64 * 1024
"""Bytes that must be free before a run begins: room for its settings and some rows."""

_own = f"{os.getpid()}-{secrets.token_hex(4)}"
_numbers = itertools.count()
_making = threading.RLock()
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""What file systems answer that cannot sync a folder, or not one that may only be searched."""


def write_file(path: Path, data: bytes, *, part: str = "", sync: bool = True) -> None:
    """Writes a file: under a temporary name beside it, synced to the disk, renamed, the rename synced.

    Args:
        part: of a sharded run, so that a shard sweeps its own unfinished files only.
        sync: False leaves the last step, `sync_folder`, to the caller, who may have many files in one folder.

    Raises:
        StorageError: the file system refused.
    """
    with writing(path, part=part, sync=sync) as file:
        file.write(data)


@contextmanager
def writing(path: Path, *, part: str = "", sync: bool = True) -> Iterator[BinaryIO]:
    """As `write_file`, for a file that is written piece by piece; an error on the way leaves nothing behind."""
    temporary = path.parent / f"{TEMPORARY}{part}{_own}-{next(_numbers)}"
    try:
        _make_folder(path.parent)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{printable(path)} cannot be written ({error.strerror or error})",
            "Make room or mend the permissions, then run again.",
        ) from error


def withdraw(path: Path) -> None:
    """Removes a file that nothing stands behind any more; it may be gone already.

    Raises:
        StorageError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{printable(path)} cannot be removed ({error.strerror})", "Mend the permissions of its folder."
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power loss, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise StorageError(f"{printable(folder)} cannot be synced ({error.strerror})", "Run again.") from error


def _make_folder(folder: Path) -> None:
    with _making:  # who finds a folder there finds it synced
        if folder.is_dir():
            return
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def tells_case_apart(path: Path) -> bool:
    """Whether names that differ only in case are two names where this path is, or will be. Writes nothing."""
    for there in (path.absolute(), *path.absolute().parents):
        try:
            if there.exists() and there.name.swapcase() != there.name:
                return not there.with_name(there.name.swapcase()).samefile(there)
        except FileNotFoundError:
            return True
        except OSError:  # a folder that may not be looked at: its parent may
            continue
    return True


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Protects the inputs from their outputs.

    Raises:
        InputError: the output folder is, contains, or lies in one of the input folders.
    """
    resolved = output.resolve()
    for given in inputs:
        target = given.resolve()
        if given.is_dir():
            overlap = resolved.is_relative_to(target) or target.is_relative_to(resolved)
        else:
            overlap = resolved in (target.parent, given.parent.resolve())
        if overlap:
            raise InputError(
                f"the output folder {printable(output)} overlaps the input {printable(given)}",
                "Choose a folder apart from the inputs.",
            )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def check_writable(output: Path) -> None:
    """Asks, without writing, whether the output folder can be written, and has any room.

    Raises:
        StorageError: not so.
    """
    there = existing(output)
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"{printable(there)} cannot be written (Permission denied)", "Mend it or choose another.")
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE:
        raise StorageError(f"{printable(there)} has {free:,} bytes free", "Make room, then run again.")


def make_output_folder(output: Path, inputs: Iterable[Path]) -> None:
    """Makes the output folder and checks that it can be written.

    Raises:
        InputError: see `refuse_overlap`.
        StorageError: it cannot be made or written.
    """
    refuse_overlap(output, inputs)
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f"{TEMPORARY}{_own}-{next(_numbers)}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another run may have swept it
    except OSError as error:
        raise StorageError(
            f"the output folder {printable(output)} cannot be written ({error.strerror})",
            "Mend its permissions or choose another.",
        ) from error


def sweep(output: Path, part: str = "", until: Callable[[], bool] = lambda: False) -> int:
    """Removes what killed runs left unfinished; returns how many files. The caller holds the folder's lock.

    Args:
        part: of a sharded run: only its own; else everybody's. Files of this process are left alone.
        until: asked on the way whether to stop.

    Raises:
        StorageError: one cannot be removed.
    """
    swept = 0
    for folder, _, files in os.walk(output):
        for name in files:
            if until():
                return swept
            if name.startswith(TEMPORARY + part) and _own not in name:
                withdraw(Path(folder, name))
                swept += 1
    return swept
