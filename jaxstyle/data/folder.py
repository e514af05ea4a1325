"""An output folder, opened once: every file in it is reached through its descriptor, and never through a link."""

from __future__ import annotations

import errno
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jaxstyle.data.opening import CLOSED, NOT_THROUGH_LINKS, open_regular, read_regular
from jaxstyle.data.problems import disturbed, storage_error, unreadable
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError

LEAST_FREE = 64 * 1024
"""Bytes that must be free before anything is rendered, for settings and some rows."""

_DIRECTORY = CLOSED | getattr(os, "O_DIRECTORY", 0)
_WALK = _DIRECTORY | NOT_THROUGH_LINKS | getattr(os, "O_PATH", os.O_RDONLY)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""Error codes of fsync on file systems that cannot sync folders, or on a folder without read permission."""
_making = threading.RLock()

Identity = tuple[int, int]
"""Device and inode of a file or folder."""


def identity(found: os.stat_result) -> Identity:
    """Returns the device and the inode."""
    return found.st_dev, found.st_ino


class Folder:
    """An output folder. Its descriptor is closed when the last reference to this object goes.

    Attributes:
        path: for messages, and for the comparison of `check`.
        handle: descriptor.
        refusal: why this run may only read the folder, or None; see `lock.locked`.
    """

    def __init__(self, path: Path, *, create: bool = False):
        """Opens the folder. Links in its own path are followed.

        Args:
            create: make the folder and its parents if they are absent.

        Raises:
            OSError: it cannot be made or opened.
        """
        self.path, self.refusal = Path(path), None  # type: Path, StorageError | None
        self._absolute = self.path.absolute()
        if create:
            self._absolute.mkdir(parents=True, exist_ok=True)
        self.handle = os.open(self._absolute, os.O_RDONLY | _DIRECTORY)
        weakref.finalize(self, os.close, self.handle)  # a thread that hangs may still use it after the run
        self.identity = identity(os.fstat(self.handle))
        self._expected: dict[str, Identity] = {}

    def __truediv__(self, name: str) -> Path:
        """Returns the path of a file in it, for messages."""
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Lists the folder."""
        return os.listdir(self.handle)

    def stat(self, name: str) -> os.stat_result:
        """Returns the state of a file; links are not followed."""
        return os.stat(name, dir_fd=self.handle, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether the folder has this name, of whatever kind."""
        with suppress(FileNotFoundError):
            return bool(self.stat(name))
        return False

    def open(self, name: str, mode: str = "rb", buffering: int = -1, *, extra: int = 0) -> IO[bytes]:
        """Opens a regular file in it; see `open_regular`."""
        try:
            return open_regular(name, mode, buffering, within=self.handle, extra=extra)
        except OSError as error:
            error.filename = str(self.path / name)
            raise

    def read(self, name: str, most: int | None = None) -> bytes:
        """Reads a regular file in it; see `read_regular`."""
        return read_regular(name, most, within=self.handle)

    def remove(self, name: str) -> None:
        """Deletes a file in it, if it exists.

        Raises:
            StorageError: it cannot be deleted.
        """
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.handle)
        except OSError as error:
            raise storage_error(self / name, "removed", error) from error

    def sync(self) -> None:
        """Syncs the folder, so that renames in it survive a power loss."""
        sync(self.handle, self.path)

    @contextmanager
    def parent(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Opens the folder that holds an output: yields its descriptor and the output's name in it.

        Every part of the path is opened from the one above, and none through a link.

        Args:
            key: path below this folder, separated by `/`.
            create: make folders that are absent.

        Raises:
            OSError: a part is a link or a file, is absent, or cannot be opened; `filename` is its path.
            ValueError: the key is no path below this folder.
        """
        *folders, name = key.split("/")
        if not name or any(part in ("", ".", "..") for part in (*folders, name)):
            raise ValueError(f"{key!r} is no path below a folder")
        at = os.dup(self.handle)
        try:
            for n, part in enumerate(folders):
                try:
                    below = _enter(at, part, create)
                except OSError as error:
                    where = str(self.path / "/".join(folders[: n + 1]))
                    raise OSError(error.errno, error.strerror, where) from error
                os.close(at)
                at = below
            yield at, name
        finally:
            os.close(at)

    def expect(self, name: str, found: Identity | None) -> None:
        """Has `check` find this file under this name from now on, or with None no longer look for it."""
        if found is None:
            self._expected.pop(name, None)
        else:
            self._expected[name] = found

    def check(self) -> None:
        """Checks that the folder and the run's own files in it have not been moved, deleted or replaced.

        Raises:
            StorageError: one has; rows and outputs would no longer lie in the folder that was given.
        """
        where: Path = self.path
        try:
            moved = identity(os.stat(self._absolute)) != self.identity
            for name, expected in self._expected.copy().items():
                if moved:
                    break
                where = self / name
                moved = identity(self.stat(name)) != expected
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        except OSError as error:
            raise unreadable(where, error) from error
        if moved:
            raise disturbed(where)

    def is_writable(self) -> bool:
        """Whether a file can be made in the folder itself at the moment. The file is removed again."""
        from jaxstyle.data.writing import temporary_name

        name = temporary_name()
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CLOSED, 0o666, dir_fd=self.handle))
            os.unlink(name, dir_fd=self.handle)
        except OSError:
            return False
        return True

    def require_room(self) -> None:
        """Checks that this run may write, and that there is room for its first rows.

        Raises:
            StorageError: the folder can only be read, or less than `LEAST_FREE` bytes are free.
        """
        if self.refusal is not None:
            raise self.refusal
        room = os.fstatvfs(self.handle)
        require_free(self.path, room.f_bavail * room.f_frsize)


def require_free(path: object, free: int) -> None:
    """Checks that `LEAST_FREE` bytes are free.

    Raises:
        StorageError: fewer are.
    """
    if free < LEAST_FREE:
        raise StorageError(f"{printable(path)} has {free:,} bytes free", "Free space, then run again.")


@contextmanager
def as_folder(place: Path | Folder) -> Iterator[Folder]:
    """Yields an open folder as it is, and a path's folder opened for the block.

    Raises:
        StorageError: it cannot be opened.
    """
    if isinstance(place, Folder):
        yield place
        return
    try:
        folder = Folder(place)
    except OSError as error:
        raise unreadable(place, error) from error
    yield folder


def sync(handle: int, path: object) -> None:
    """Syncs an open folder, if its file system can.

    Raises:
        StorageError: the sync failed.
    """
    try:
        readable = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=handle)  # `handle` may be an O_PATH descriptor
        try:
            os.fsync(readable)
        finally:
            os.close(readable)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise StorageError(f"{printable(path)} cannot be synced ({error.strerror})", "Run again.") from error


def _enter(at: int, name: str, create: bool) -> int:
    """Opens a folder in an open folder; with `create`, makes it if it is absent, and syncs the making."""
    try:
        if not create:
            return os.open(name, _WALK, dir_fd=at)
        with _making:  # a folder that another thread finds has been synced
            try:
                return os.open(name, _WALK, dir_fd=at)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                sync(at, name)
                return os.open(name, _WALK, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and _is_link(at, name):
            raise OSError(errno.ELOOP, "Is a symbolic link") from error
        raise


def _is_link(at: int, name: str) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    return False
