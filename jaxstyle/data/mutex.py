"""Locks one file, and provides the mutex of an output folder.

The locks are filelock's. With flock the kernel releases the locks of a killed run. If flock fails with ENOSYS, filelock
uses marker files, and takes them over once their process on the same host is dead (reliably since 4.2.1). Any
other failure of flock is an error.
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
"""Timeout of a run for taking the mutex."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def mutex(output: Path, seconds: float | None = None) -> Iterator[None]:
    """Holds the mutex of a folder. Never delete its file: two processes could then lock two inodes.

    Args:
        seconds: timeout [default: `MUTEX_SECONDS`]

    Raises:
        OutputLocked: the timeout has passed.
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
    """Locks a file; returns None if it is still locked after the timeout `seconds`.

    The file's mode lets every user lock it who may write to the folder. filelock does not follow a symbolic link or
    block on a pipe.
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
    """Turns an `OSError` in the block into a `StorageError`: the folder "cannot be" `verb`."""
    try:
        yield
    except OSError as error:
        what = f"{printable(output)} cannot be {verb}"
        remedy = "Free space or correct its permissions, or choose another."
        if error.errno in _NO_LOCKS:
            what = f"the file system of {printable(output)} has no file locks"
            remedy = "Choose an output folder on another file system, or mount this one with locks."
        raise StorageError(f"{what} ({error.strerror or error})", remedy) from error
