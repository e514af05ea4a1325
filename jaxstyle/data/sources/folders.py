"""Reads inputs from files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from jaxstyle.data.mounts import real_places
from jaxstyle.data.opening import open_regular
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
        self._output: Path | None = None

    def check(self, output: Path) -> None:
        """Checks that the inputs exist and that the output folder does not overlap them; lists the first folder."""
        if not self._paths:
            raise InputError("there is no input", "Give files or folders of photographs.")
        if next(self.inputs(), None) is None:
            where = ", ".join(map(printable, self._paths))
            raise InputError(
                f"there is no file in {where}", "Give files, or folders with files. Is a disk not mounted?"
            )
        refuse_overlap(output, self._paths)
        self._output = output

    @property
    def roots(self) -> Sequence[Path]:
        """The given files and folders."""
        return self._paths

    def inputs(self) -> Iterator[Input]:
        """Yields all files, see `discover`. Links into the output folder that `check` was given are failed."""
        found = discover(self._paths, case_insensitive=self._case_insensitive)
        return found if self._output is None else map(self._unless_an_output, found)

    def _unless_an_output(self, one: Input) -> Input:
        if one.failed or one.skipped or not os.path.islink(one.locator):
            return one
        target = os.path.realpath(one.locator)
        if not Path(target).is_relative_to(os.path.realpath(self._output or "")):
            return one
        return replace(one, failed=f"is a link into the output folder, to {printable(target)}: copy that file")

    def open(self, locator: Locator) -> BinaryIO:
        """Opens the file, which must be a regular one: another kind may have taken its place."""
        return cast(BinaryIO, open_regular(locator, follow=True))

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the file's length and its modification time (st_mtime_ns)."""
        found = os.stat(locator)
        return Stamp(found.st_size, found.st_mtime_ns)


def refuse_overlap(output: Path, inputs: Iterable[Path], what: str = "input") -> None:
    """Checks that no output is written among the inputs, by whatever name or mount they are reached.

    Raises:
        InputError: the output folder is an input folder, contains one, or lies in one; or it holds a given file.
    """
    resolved = output.resolve()
    there = next(path for path in (resolved, *resolved.parents) if path.exists())
    absent = resolved.relative_to(there)
    places = [one._replace(path=one.path / absent) for one in real_places(there)[: 1 if absent.parts else None]]
    for given in inputs:
        target = given.resolve()
        if given.is_dir():
            overlap = _is_in(resolved, target) or _is_in(target, resolved)
            overlap |= any(one.overlaps(other) for one in places for other in real_places(target))
        else:
            overlap = _is_in(target, resolved) or _is_same(given.parent, resolved)
            overlap |= any(other.path.is_relative_to(one.path) and one.device == other.device
                           for one in places[:1] for other in real_places(target))  # fmt: skip
        if overlap:
            raise InputError(
                f"the output folder {printable(output)} overlaps the {what} {printable(given)}",
                f"Choose a folder outside the {what.removesuffix('s')}s.",
            )


def _is_in(path: Path, folder: Path) -> bool:
    """Whether a real path is a folder or lies in it, by name, or by inode where a folder has several names."""
    return path.is_relative_to(folder) or any(_is_same(one, folder) for one in (path, *path.parents))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
