"""Locks one file of an output folder, and provides the folder's mutex.

Where flock reaches every process that can see the folder, the lock is flock, and the kernel releases the locks of a
killed run. Elsewhere (no flock; NFS and Lustre mounted with local locks; FUSE) the file's existence is the lock: a
marker file, which states its process. A marker is taken over only if its process has ended for certain: its pid is
gone or has another start time, in the same boot and pid namespace; or the same kernel released the marker's own flock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from jaxstyle.data import identity as processes
from jaxstyle.data.folder import Folder, as_folder, identity
from jaxstyle.data.layout import LOCK
from jaxstyle.data.mounts import locks_reach_everyone
from jaxstyle.data.problems import remedy_for
from jaxstyle.data.shallow import loads
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import OutputLocked, StorageError

MUTEX_SECONDS = 60.0
"""Timeout of a run for taking the mutex."""
POLL_SECONDS = 0.02
"""Between two attempts to take a lock."""
MOST_BYTES = 4096
"""Of a marker file or a record."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Held:
    """A lock that this process holds.

    Attributes:
        identity: of the lock file.
    """

    def __init__(self, folder: Folder, name: str, file: IO[bytes], *, marker: bool):
        self._folder, self._name, self._file, self._marker = folder, name, file, marker
        self.identity = identity(os.fstat(file.fileno()))

    def release(self, *, remove: bool = False) -> None:
        """Releases the lock, once. A marker file is deleted; with `remove`, any lock file.

        A file that has taken the lock file's place belongs to somebody else and is kept.
        """
        if self._file.closed:
            return
        try:
            if (remove or self._marker) and identity(self._folder.stat(self._name)) == self.identity:
                os.unlink(self._name, dir_fd=self._folder.handle)
        except OSError:
            pass  # the folder is gone or read-only; the next run takes the lock over
        finally:
            self._file.close()  # releases the flock


@contextmanager
def mutex(output: Path | Folder, seconds: float | None = None) -> Iterator[None]:
    """Holds the mutex of a folder. Never delete its file: two processes could then lock two inodes.

    Args:
        seconds: timeout [default: `MUTEX_SECONDS`]

    Raises:
        OutputLocked: the timeout has passed.
        StorageError: the folder cannot be written, or its file system has no locks.
    """
    seconds = MUTEX_SECONDS if seconds is None else seconds
    with as_storage_error(output), as_folder(output) as folder:
        lock = take(folder, LOCK, seconds)
    if lock is None:
        raise OutputLocked(
            f"{printable(output)} is in use: other runs have been starting in it for {seconds:g} seconds",
            f"Wait for them, or use another output folder. If there are none, delete {printable(folder / LOCK)}.",
        )
    try:
        yield
    finally:
        lock.release()


def take(folder: Folder, name: str, seconds: float = 0) -> Held | None:
    """Locks a file of a folder; returns None if it is still locked after the timeout `seconds`.

    The file's mode lets every user lock it who may write to the folder.

    Raises:
        StorageError: the lock file cannot be made or is no regular file, or the file system has no locks.
    """
    deadline = time.monotonic() + seconds
    with as_storage_error(folder):
        while True:
            held = _attempt(folder, name)
            if held is not None or time.monotonic() >= deadline:
                return held
            time.sleep(POLL_SECONDS)


def is_marker(folder: Folder, name: str) -> bool:
    """Whether a lock file locks by its existence, so that one of a killed run may have to be deleted by hand."""
    with suppress(OSError):
        return folder.stat(name).st_size > 0 or not locks_reach_everyone(folder.handle)
    return False


def _attempt(folder: Folder, name: str) -> Held | None:
    if locks_reach_everyone(folder.handle):
        try:
            return _flocked(folder, name)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
    return _marked(folder, name)


def _flocked(folder: Folder, name: str) -> Held | None:
    for _ in range(100):
        try:
            file, made = _opened(folder, name), False
        except FileNotFoundError:
            try:
                file, made = _opened(folder, name, os.O_CREAT | os.O_EXCL), True  # so that no other's is removed below
            except FileExistsError:
                continue
        try:
            if not _flock(file):
                break
            if identity(folder.stat(name)) != identity(os.fstat(file.fileno())):
                continue
            stated = _stated(file)
            if stated is not None and not processes.has_ended(stated):  # a marker's process may use no flock
                break
            return Held(folder, name, os.fdopen(os.dup(file.fileno()), "r+b", 0), marker=False)
        except FileNotFoundError:  # its holder has just deleted it
            continue
        except OSError:
            if made:  # empty, it would be taken for a marker that is being written
                folder.remove(name)
            raise
        finally:
            file.close()
    return None


def _marked(folder: Folder, name: str) -> Held | None:
    """Makes a marker file; takes the place of one whose process has ended."""
    for _ in range(2):
        try:
            file = _opened(folder, name, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            if not _remove_stale(folder, name):
                return None
            continue
        held, device = Held(folder, name, file, marker=True), os.fstat(file.fileno()).st_dev
        try:
            mine = processes.own_identity() | {"device": device, "flock": _can_flock(file)}
            file.write(json.dumps(mine).encode())
        except OSError:
            held.release()
            raise
        return held
    return None


def _remove_stale(folder: Folder, name: str) -> bool:
    """Deletes a marker whose process has ended; returns whether there is none any more.

    A second marker, the right to delete the first, makes sure that nobody deletes the marker of a later holder.
    """
    if not _is_stale(folder, name):
        return not folder.has(name)
    right = _marked(folder, f"{name}.stale")
    if right is None:
        return False
    try:
        if _is_stale(folder, name):
            os.unlink(name, dir_fd=folder.handle)
        return True
    finally:
        right.release()


def _is_stale(folder: Folder, name: str) -> bool:
    try:
        file = _opened(folder, name)
    except FileNotFoundError:
        return False
    with file:
        stated = _stated(file)
        if not stated:  # it is being written, or an older version wrote it
            return False
        if processes.has_ended(stated):
            return True
        one_kernel = processes.is_same_kernel(stated) and stated.get("device") == os.fstat(file.fileno()).st_dev
        with suppress(OSError):
            return one_kernel and stated.get("flock") is True and _flock(file)
    return False


def _stated(file: IO[bytes]) -> Mapping[str, Any] | None:
    """Returns what a marker file states, {} if it is illegible, None if the file is empty."""
    file.seek(0)
    data = file.read(MOST_BYTES)
    if not data:
        return None
    try:
        return dict(loads(data))
    except (ValueError, TypeError):
        return {}


def _opened(folder: Folder, name: str, extra: int = 0) -> IO[bytes]:
    file = folder.open(name, "r+b", 0, extra=extra)
    if extra:
        found, wanted = os.fstat(file.fileno()), os.fstat(folder.handle).st_mode & 0o666
        if found.st_uid == os.geteuid() and found.st_mode & 0o777 != wanted:
            with suppress(OSError):  # some file systems have no modes
                os.fchmod(file.fileno(), wanted)
    return file


def _flock(file: IO[bytes]) -> bool:
    """Takes the flock of an open file; returns whether nobody else has it."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def _can_flock(file: IO[bytes]) -> bool:
    with suppress(OSError):
        return _flock(file)
    return False


@contextmanager
def as_storage_error(output: object, verb: str = "written") -> Iterator[None]:
    """Turns an `OSError` in the block into a `StorageError`: the folder "cannot be" `verb`."""
    try:
        yield
    except OSError as error:
        what, remedy = f"{printable(output)} cannot be {verb}", remedy_for(error)
        if error.errno in _NO_LOCKS:
            what = f"the file system of {printable(output)} has no file locks"
            remedy = "Choose an output folder on another file system, or mount this one with locks."
        raise StorageError(f"{what} ({error.strerror or error})", remedy) from error
