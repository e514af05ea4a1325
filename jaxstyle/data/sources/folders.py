"""Inputs from files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxstyle.data.sources.base import Input, Locator, Stamp, printable
from jaxstyle.data.sources.walk import discover
from jaxstyle.errors import InputError


class FolderSource:
    """The files that were given and those below the folders that were given. See `base.Source`."""

    def __init__(self, inputs: Iterable[Path | str], *, case_insensitive: bool = False):
        """Args:
        case_insensitive: see `discover`.
        """
        self._paths, self._case_insensitive = [Path(path) for path in inputs], case_insensitive

    def check(self, output: Path) -> None:
        """Makes sure that the inputs exist and that the output folder is apart from them; lists the first folder."""
        if not self._paths:
            raise InputError("there is no input", "Give files or folders of photographs.")
        next(self.inputs(), None)
        refuse_overlap(output, self._paths)

    def inputs(self) -> Iterator[Input]:
        """All files, see `discover`."""
        return discover(self._paths, case_insensitive=self._case_insensitive)

    def open(self, locator: Locator) -> BinaryIO:
        """The file's content."""
        return Path(locator).open("rb")

    def stamp(self, locator: Locator) -> Stamp:
        """The file's length and its time of modification (st_mtime_ns)."""
        found = os.stat(locator)
        return Stamp(found.st_size, found.st_mtime_ns)


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Makes sure that no output is written among the inputs.

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
