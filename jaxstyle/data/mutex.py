"""Taking one lock file, and the mutex of an output folder.

The locks are filelock's. With flock the kernel frees the locks of a killed run. A file system that answers ENOSYS to
flock gets filelock's marker files, which filelock takes over when their process on the same host is dead (reliably
since 4.2.1). Any other refusal of flock is an error.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from jaxstyle.data.layout import LOCK
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import OutputLocked, StorageError

MUTEX_SECONDS = 60.0
"""Longest wait of a run for the mutex."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def mutex(output: Path, seconds: float | None = None) -> Iterator[None]:
    """Holds the mutex of a folder. Its file is never removed: two processes could then lock two files of one name.

    Args:
        seconds: longest wait; `MUTEX_SECONDS` if None.

    Raises:
        OutputLocked: others have held it for so long.
        StorageError: the folder cannot be written, or its file system has no locks.
    """
    path = output / LOCK
    seconds = MUTEX_SECONDS if seconds is None else seconds
    lock = take(path, seconds)
    if lock is None:
        raise OutputLocked(
            f"{printable(output)} is in use: other runs have been starting in it for {seconds:g} seconds",
            f"Wait for them, or use another output folder. If there are none, delete {printable(path)}.",
        )
    try:
        yield
    finally:
        lock.release()


def take(path: Path, seconds: float = 0) -> BaseFileLock | None:
    """A lock on this file, taken within so many seconds; None if another holds it.

    Everyone who may write to the folder may lock the file. filelock follows no link and does not wait for a pipe.
    """
    with as_storage_error(path.parent):
        lock = FileLock(path, mode=path.parent.stat().st_mode & 0o666)
        try:
            lock.acquire(timeout=seconds, poll_interval=0.02)
        except Timeout:
            return None
        return lock


@contextmanager
def as_storage_error(output: Path, verb: str = "written") -> Iterator[None]:
    """Makes a `StorageError` of an `OSError` in the block; `verb` says what cannot be done to the folder."""
    try:
        yield
    except OSError as error:
        what = f"{printable(output)} cannot be {verb}"
        remedy = "Make room or correct its permissions, or choose another."
        if error.errno in _NO_LOCKS:
            what = f"the file system of {printable(output)} has no file locks"
            remedy = "Choose an output folder on another file system, or mount this one with locks."
        raise StorageError(f"{what} ({error.strerror or error})", remedy) from error
