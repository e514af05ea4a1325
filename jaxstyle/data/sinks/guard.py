"""Keeps outputs away from the inputs: compares where an output really lies with where the inputs lie, at each write."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jaxstyle.data.folder import Folder, Identity, identity
from jaxstyle.data.mounts import Place, mount_number, place_of, real_places
from jaxstyle.data.problems import AGAIN
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import ImageError

_REMEMBERED = 4096
"""Folders that a guard remembers as checked."""


class Guard:
    """Refuses outputs that would take the place of files of a run's user.

    Links below the output folder are refused by `Folder.parent`. What is left are folders that are mounted there,
    whose place the kernel tells, and files that have been moved there.
    """

    def __init__(self, protected: Sequence[Path]):
        """Args:
        protected: folders in which nothing may be written, and files that may not be replaced.
        """
        self._folders, self._files, self._roots = set[Identity](), set[Identity](), list[Path]()
        self._places: list[Place] = []
        for path in protected:
            with suppress(OSError, ValueError):
                found = os.stat(path)
                if stat.S_ISDIR(found.st_mode):
                    self._folders.add(identity(found))
                    self._roots.append(path)
                    self._places += real_places(path)
                else:
                    self._files.add(identity(found))
        self._checked: dict[str, Identity] = {}

    def check(self, folder: Folder, key: str, at: int) -> None:
        """Checks that an output may be written.

        Args:
            key: of the output.
            at: descriptor of the folder that will hold it.

        Raises:
            ImageError: its place is a link or no regular file, a file that the run reads, or among the inputs.
            OSError: its place is a folder.
        """
        above, _, name = key.rpartition("/")
        found = identity(os.fstat(at))
        if self._checked.get(above) != found:
            self._check_folder(folder, above, at, found)
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked[above] = found
        try:
            there = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return
        path = printable(folder / key)
        if stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(there.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "no regular file"
            raise ImageError(f"its output {path} cannot be written (there is {kind})", f"Move that away. {AGAIN}")
        if identity(there) in self._files or identity(there) in self._named(key):
            raise ImageError(f"its output would replace {path}, which this run reads", "Choose another output folder.")

    def _check_folder(self, folder: Folder, above: str, at: int, found: Identity) -> None:
        if found in self._folders or found in self._named(above):
            among = True
        elif mount_number(at) == mount_number(folder.handle):
            return  # it lies where the output folder lies, which was compared with the inputs before the run
        else:
            place = place_of(at)
            among = place is not None and any(place.overlaps(other) for other in self._places)
        if among:
            what = f"its output would be written among the inputs: {printable(folder / above)} is the same folder"
            raise ImageError(what, f"Unmount or move that folder. {AGAIN}")

    def _named(self, key: str) -> set[Identity]:
        """Returns what has this key in the input folders."""
        found = set()
        for root in self._roots:
            with suppress(OSError, ValueError):
                found.add(identity(os.stat(root / key)))
        return found
