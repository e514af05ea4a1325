"""Writes outputs to a folder atomically: a file under its final name is complete."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jaxstyle.data.layout import TEMPORARY, UNFINISHED
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError

LEAST_FREE = 64 * 1024
"""Bytes that must be free before a run begins, for its settings and some rows."""

_own = f"{os.getpid()}-{secrets.token_hex(4)}"
_numbers = itertools.count()
_making = threading.RLock()
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""Error codes of fsync on file systems that cannot sync folders, or on a folder without read permission."""


def write_file(path: Path, data: bytes, *, part: str = "", sync: bool = True, within: Path | None = None) -> None:
    """Writes a file under a temporary name, syncs it to the disk, renames it, and syncs the rename.

    Args:
        part: prefix of the temporary name, so that a shard sweeps only its own unfinished files.
        sync: False leaves the last step, `sync_folder`, to the caller, who may write many files to one folder.
        within: folder for the temporary file, on the same file system [default: the file's folder]

    Raises:
        StorageError: the file cannot be written.
    """
    with writing(path, part=part, sync=sync, within=within) as file:
        file.write(data)


@contextmanager
def writing(path: Path, *, part: str = "", sync: bool = True, within: Path | None = None) -> Iterator[BinaryIO]:
    """Like `write_file`, for a file that is written piece by piece; removes the temporary file after an error."""
    temporary = (within or path.parent) / f"{TEMPORARY}{part}{_own}-{next(_numbers)}"
    try:
        _make_folder(path.parent)
        _make_folder(temporary.parent)
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
            "Free space or correct the permissions, then run again.",
        ) from error


def withdraw(path: Path) -> None:
    """Deletes a file if it exists.

    Raises:
        StorageError: the file cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{printable(path)} cannot be removed ({error.strerror})", "Correct the permissions of its folder."
        ) from error


def sync_folder(folder: Path) -> None:
    """Syncs a folder, so that renames in it survive a power loss, if its file system can."""
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
    with _making:  # a folder that another thread finds has been synced
        if folder.is_dir():
            return
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def tells_case_apart(path: Path) -> bool:
    """Whether the file system of a path, existing or not, is case-sensitive. Writes nothing."""
    for there in (path.absolute(), *path.absolute().parents):
        try:
            if there.exists() and there.name.swapcase() != there.name:
                return not there.with_name(there.name.swapcase()).samefile(there)
        except FileNotFoundError:
            return True
        except OSError:  # this folder cannot be examined; try its parent
            continue
    return True


def existing(path: Path) -> Path:
    """Returns the path, or its nearest ancestor that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def check_writable(output: Path) -> None:
    """Checks, without writing, that the output folder can be written and has free space.

    Raises:
        StorageError: the folder cannot be written, or less than `LEAST_FREE` bytes are free.
    """
    there = existing(output)
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(
            f"{printable(there)} cannot be written (Permission denied)", "Correct its permissions or choose another."
        )
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE:
        raise StorageError(f"{printable(there)} has {free:,} bytes free", "Free space, then run again.")


def make_output_folder(output: Path) -> None:
    """Creates the output folder and checks that it can be written.

    Raises:
        StorageError: the folder cannot be created or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f"{TEMPORARY}{_own}-{next(_numbers)}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another run may have swept it
    except OSError as error:
        raise StorageError(
            f"the output folder {printable(output)} cannot be written ({error.strerror})",
            "Correct its permissions or choose another.",
        ) from error


def sweep(output: Path, part: str = "") -> int:
    """Deletes unfinished files of killed runs; returns their number. The caller holds the folder's lock.

    They lie in the output folder itself and in its `UNFINISHED`. Files of this process are kept.

    Args:
        part: delete only the files of this shard [default: files of all runs]

    Raises:
        StorageError: a file cannot be deleted.
    """
    swept = 0
    for folder in (output, output / UNFINISHED):
        if folder != output and folder.is_symlink():
            raise StorageError(f"{printable(folder)} is a link", "Delete it, then run again.")
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            what = f"{printable(folder)} cannot be listed ({error.strerror or error})"
            raise StorageError(what, "Delete it or correct its permissions, then run again.") from error
        for name in names:
            if name.startswith(TEMPORARY + part) and name != UNFINISHED and _own not in name:
                withdraw(folder / name)
                swept += 1
    return swept


def drop_unfinished(output: Path) -> None:
    """Deletes the folder of unfinished files if it is empty. The caller ensures that no other run uses it."""
    with suppress(OSError):
        (output / UNFINISHED).rmdir()


class FolderSink:
    """Stores outputs as files in a folder, with their keys as relative paths. See `base.Sink`.

    Unfinished files lie in one folder, so that `sweep` lists that folder and not the whole tree. If an output's folder
    is on another file system, its unfinished file lies beside it, and stays there if the run is killed.
    """

    def __init__(self, output: Path, part: tuple[int, int] = (1, 1)):
        """Args:
        part: shard i of n; (1, 1) is the whole folder.
        """
        self._output, self._alone = output, part == (1, 1)
        self._part = "" if self._alone else f"{part[0]}-of-{part[1]}-"
        self._elsewhere: set[Path] = set()

    @property
    def case_insensitive(self) -> bool:
        """Whether the folder's file system is case-insensitive."""
        return not tells_case_apart(self._output)

    def write(self, key: str, data: bytes) -> None:
        """Writes an output; `commit` makes it durable."""
        path = self._output / key
        if path.parent not in self._elsewhere:
            try:
                write_file(path, data, part=self._part, sync=False, within=self._output / UNFINISHED)
                return
            except StorageError as error:
                if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EXDEV):
                    raise
                self._elsewhere.add(path.parent)
        write_file(path, data, part=self._part, sync=False)

    def commit(self, keys: Iterable[str]) -> None:
        """Syncs the folders of these outputs."""
        for folder in {(self._output / key).parent for key in keys}:
            sync_folder(folder)

    def has(self, key: str) -> bool:
        """Whether the file is there."""
        return (self._output / key).is_file()

    def withdraw(self, key: str) -> None:
        """Deletes the file."""
        withdraw(self._output / key)

    def sweep(self) -> None:
        """Deletes unfinished files of killed runs: those of this shard, or all if this run has the whole folder."""
        sweep(self._output, self._part)

    def close(self) -> None:
        """Deletes the folder of unfinished files, unless other shards may be using it."""
        if self._alone:
            drop_unfinished(self._output)
