"""Files that are given as inputs: patterns of names, names that collide, and files that change during the run."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxstyle.data.sources.base import is_tar, printable
from jaxstyle.data.sources.walk import fold
from jaxstyle.errors import InputError


class Shard(NamedTuple):
    """An archive, or another file of inputs, as it was when it was listed.

    Attributes:
        path: of the file.
        found: its state.
    """

    path: Path
    found: os.stat_result

    @property
    def prefix(self) -> str:
        """First part of the keys of its samples."""
        return self.path.stem

    def is_same(self, now: os.stat_result) -> bool:
        """Whether this is still the file that was listed."""
        names = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
        return all(getattr(now, name) == getattr(self.found, name) for name in names)


def expanded(inputs: Iterable[Path | str], is_ours: Callable[[Path], bool] = is_tar) -> Iterator[Path]:
    """The given files, and those that match patterns such as `train-*.tar`.

    Args:
        is_ours: whether a file is of the kind whose patterns are expanded.
    """
    for path in map(Path, inputs):
        if is_ours(path) and not os.path.lexists(path) and glob.has_magic(str(path)):
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                raise InputError(
                    f"no file matches the input {printable(path)}", "Give a pattern that some file matches."
                )
            yield from map(Path, found)
        else:
            yield path


def refuse_equal_names(named: Iterable[tuple[str, Path]]) -> None:
    """Checks that the inputs of different files have different keys.

    Args:
        named: first part of the keys of each file, and the file.

    Raises:
        InputError: names two files.
    """
    seen: dict[str, Path] = {}
    for prefix, path in named:
        before = seen.setdefault(fold(prefix), path)
        if before is not path:
            raise InputError(
                f"{printable(before)} and {printable(path)} would give outputs of one name",
                "Rename one of them, or give each an output folder.",
            )
