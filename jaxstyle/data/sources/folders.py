"""Reads inputs from files and folders."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxstyle.data.sources.base import Input, Locator, Stamp, printable
from jaxstyle.data.sources.walk import discover
from jaxstyle.errors import InputError


class FolderSource:
    """Provides the given files, and the files below the given folders. See `base.Source`."""

    def __init__(self, inputs: Iterable[Path | str], *, case_insensitive: bool = False):
        """Args:
        case_insensitive: see `discover`.
        """
        self._paths, self._case_insensitive = [Path(path) for path in inputs], case_insensitive

    def check(self, output: Path) -> None:
        """Checks that the inputs exist and that the output folder does not overlap them; lists the first folder."""
        if not self._paths:
            raise InputError("there is no input", "Give files or folders of photographs.")
        next(self.inputs(), None)
        refuse_overlap(output, self._paths)

    def inputs(self) -> Iterator[Input]:
        """Yields all files, see `discover`."""
        return discover(self._paths, case_insensitive=self._case_insensitive)

    def open(self, locator: Locator) -> BinaryIO:
        """Opens the file, which must be a regular one: another kind may have taken its place."""
        file = open(locator, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "Not a regular file", str(locator))
        return file

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the file's length and its modification time (st_mtime_ns)."""
        found = os.stat(locator)
        return Stamp(found.st_size, found.st_mtime_ns)


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Checks that no output is written among the inputs.

    Raises:
        InputError: the output folder is an input folder, contains one, or lies in one.
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
                "Choose a folder outside the inputs.",
            )
