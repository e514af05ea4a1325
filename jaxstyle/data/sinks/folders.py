"""Stores outputs as files below an output folder, each whole under its final name, and none through a link."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from jaxstyle.data.folder import Folder, Identity, as_folder, identity, require_free, sync
from jaxstyle.data.layout import STEPS, TEMPORARY, UNFINISHED, is_ledger, is_step
from jaxstyle.data.problems import OF_A_NAME, OF_A_SUBFOLDER, disturbed, picture_error, storage_error
from jaxstyle.data.sinks.guard import Guard
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import finish, is_own, unfinished
from jaxstyle.data.writing import write_file as write_file
from jaxstyle.errors import ImageError, StorageError


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
    """Checks, without writing, that a new output folder can be made, or one without rows be written.

    A folder with rows may belong to a finished run, which needs no room; see `Folder.require_room`.

    Raises:
        StorageError: the folder cannot be written, or less than `folder.LEAST_FREE` bytes are free.
    """
    there = existing(output)
    with suppress(OSError):
        if there == output.absolute() and any(map(is_ledger, os.listdir(there))):
            return
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(
            f"{printable(there)} cannot be written (Permission denied)", "Correct its permissions or choose another."
        )
    require_free(there, shutil.disk_usage(there).free)


def make_output_folder(output: Path) -> Folder:
    """Opens the output folder; makes it if it is absent.

    Raises:
        StorageError: the folder cannot be made or opened.
    """
    try:
        return Folder(output, create=True)
    except OSError as error:
        raise storage_error(f"the output folder {printable(output)}", "written", error) from error


def sweep(output: Path | Folder, part: str = "") -> int:
    """Deletes unfinished files of killed runs; returns their number. The caller holds the folder's lock.

    They lie in the output folder itself and in its `UNFINISHED`. Files of this process are kept, and so are folders of
    such a name, which no run makes.

    Args:
        part: delete only the files of this shard [default: files of all runs]

    Raises:
        StorageError: a file cannot be deleted.
    """
    with as_folder(output) as folder:
        if folder.refusal is not None:
            return 0
        swept = _sweep_in(folder.handle, folder.path, part)
        try:
            with folder.parent(f"{UNFINISHED}/x") as (at, _):
                swept += _sweep_in(at, folder / UNFINISHED, part)
        except FileNotFoundError:
            pass
        except OSError as error:
            what = f"{printable(folder / UNFINISHED)} cannot be listed ({error.strerror or error})"
            raise StorageError(what, "Delete it or correct its permissions, then run again.") from error
    return swept


def _sweep_in(at: int, path: Path, part: str) -> int:
    swept = 0
    readable = os.open(".", os.O_RDONLY, dir_fd=at)
    try:
        names = os.listdir(readable)
    finally:
        os.close(readable)
    for name in names:
        if name.startswith(TEMPORARY + part) and name != UNFINISHED and not is_own(name):
            try:
                if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=at)
                    swept += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(path / name, "removed", error) from error
    return swept


def drop_unfinished(output: Path | Folder) -> None:
    """Deletes the folder of unfinished files if it is empty. The caller ensures that no other run uses it."""
    with suppress(OSError, StorageError), as_folder(output) as folder:
        os.rmdir(UNFINISHED, dir_fd=folder.handle)


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
        self._elsewhere: set[str] = set()
        self._written_to: dict[str, Identity] = {}
        self._folder: Folder | None = None
        self._guard = Guard(())

    @property
    def case_insensitive(self) -> bool:
        """Whether the folder's file system is case-insensitive."""
        return not tells_case_apart(self._output)

    def begin(self, folder: Folder, protected: Sequence[Path]) -> None:
        """Writes into this open folder from now on."""
        self._folder, self._guard = folder, Guard(protected)

    def _opened(self) -> Folder:
        """The output folder; raises OSError if it does not exist."""
        if self._folder is None:
            self._folder = Folder(self._output)
        return self._folder

    def write(self, key: str, data: bytes) -> None:
        """Writes an output; `commit` makes it durable."""
        folder = self._opened()
        if folder.refusal is not None:
            raise folder.refusal
        for attempt in range(2):
            try:
                self._write(folder, key, data)
                return
            except FileNotFoundError as error:
                folder.check()
                if attempt:  # the first time, another program may have removed an empty folder
                    raise storage_error(folder / key, "written", error) from error
            except ValueError as error:  # a null byte or a lone surrogate
                raise picture_error(folder / key, error) from error
            except OSError as error:
                of_the_picture = error.errno in OF_A_NAME or (error.errno in OF_A_SUBFOLDER and folder.is_writable())
                if of_the_picture:
                    raise picture_error(folder / key, error) from error
                raise storage_error(folder / key, "written", error) from error

    def _write(self, folder: Folder, key: str, data: bytes) -> None:
        """Raises errors of the output's name as OSError or ValueError, those of unfinished files as StorageError."""
        above = key.rpartition("/")[0]
        with folder.parent(key, create=True) as (at, name):
            self._guard.check(folder, key, at)
            self._written_to[above] = identity(os.fstat(at))
            if above not in self._elsewhere:
                if self._rename_from_unfinished(folder, key, at, data):
                    return
                self._elsewhere.add(above)
            with unfinished(at, self._part) as (file, temporary):
                file.write(data)
                finish(file)
                os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)

    def _rename_from_unfinished(self, folder: Folder, key: str, at: int, data: bytes) -> bool:
        """Writes an output into the open folder `at` by way of `UNFINISHED`; False if `at` is on another disk."""
        refused, name = None, key.rpartition("/")[2]
        try:
            with folder.parent(f"{UNFINISHED}/x", create=True) as (within, _), unfinished(within, self._part) as new:
                file, temporary = new
                file.write(data)
                finish(file)
                try:
                    os.replace(temporary, name, src_dir_fd=within, dst_dir_fd=at)
                except OSError as error:
                    refused = error
        except OSError as error:
            raise storage_error(folder / key, "written", error) from error
        if refused is not None and refused.errno != errno.EXDEV:
            raise refused
        return refused is None

    def commit(self, keys: Iterable[str]) -> None:
        """Syncs the folders of these outputs, and checks that they lie in the folder that was given."""
        folder = self._opened()
        for above in {key.rpartition("/")[0] for key in keys}:
            path = folder / above
            try:
                with folder.parent(f"{above}/x" if above else "x") as (at, _):
                    moved = self._written_to.pop(above, None) not in (None, identity(os.fstat(at)))
                    sync(at, path)
            except OSError:
                moved = True
            if moved:
                raise disturbed(path)
        folder.check()

    def has(self, key: str) -> bool:
        """Whether the file is there."""
        try:
            with self._opened().parent(key) as (at, name):
                return stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        except (OSError, ValueError):
            return False

    def withdraw(self, key: str) -> None:
        """Deletes the file. What lies behind a link, or where an input lies, is no output and stays."""
        folder = self._opened()
        if folder.refusal is not None:
            raise folder.refusal
        try:
            with folder.parent(key) as (at, name):
                self._guard.check(folder, key, at)
                os.unlink(name, dir_fd=at)
        except (ImageError, FileNotFoundError, ValueError):
            return
        except OSError as error:
            if error.errno in OF_A_NAME:
                return
            if error.errno in OF_A_SUBFOLDER and folder.is_writable():
                raise ImageError(f"its old output {printable(folder / key)} cannot be removed ({error.strerror})",
                                 "Delete it.") from error  # fmt: skip
            raise storage_error(folder / key, "removed", error) from error

    def clear_steps(self, key: str) -> None:
        """Deletes the intermediate pictures of an output, and their folder if nothing else is in it."""
        folder = self._opened()
        place = f"{STEPS}/{key}"
        try:
            with folder.parent(f"{place}/x") as (at, _):
                readable = os.open(".", os.O_RDONLY, dir_fd=at)
                try:
                    names = os.listdir(readable)
                finally:
                    os.close(readable)
        except (OSError, ValueError):
            return
        for name in filter(is_step, names):
            self.withdraw(f"{place}/{name}")
        with suppress(OSError), folder.parent(place) as (at, name):
            os.rmdir(name, dir_fd=at)

    def sweep(self) -> None:
        """Deletes unfinished files of killed runs: those of this shard, or all if this run has the whole folder."""
        sweep(self._opened(), self._part)

    def close(self) -> None:
        """Deletes the folder of unfinished files, unless other shards may be using it."""
        if self._alone:
            drop_unfinished(self._folder or self._output)
