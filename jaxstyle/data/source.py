"""Files and folders into a list of inputs, each with a key: its path below the input it came from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxstyle.errors import InputError


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        key: path relative to the given folder, with forward slashes; the output gets the same.
        path: of the file.
        skipped: reason not to look at it, or "".
        failed: reason that it cannot be looked at, or "".
    """

    key: str
    path: Path
    skipped: str = ""
    failed: str = ""


def discover(inputs: Iterable[Path | str]) -> Iterator[Input]:
    """All files below the inputs, in a stable order, each file once.

    Folders are walked without following links to folders; hidden files and folders are skipped. Both are listed.

    Raises:
        InputError: an input does not exist, or two files would get the same output.
    """
    seen: dict[str, Input] = {}
    for given in map(Path, inputs):
        for found in _walk(given) if given.is_dir() else _single(given):
            first = seen.setdefault(found.key, found)
            if first is found:
                yield found
            elif not ((first.skipped and found.skipped) or _same(first.path, found.path)):
                both = f"{printable(first.path)} and {printable(found.path)}"
                raise InputError(
                    f"{both} would both be written to {printable(found.key)}",
                    "Give their common parent folder, or render them into two folders.",
                )


def printable(name: object) -> str:
    """A name that can be printed: bytes that are not UTF-8 are shown escaped."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # links to nothing
        return os.path.realpath(one) == os.path.realpath(other)


def _single(path: Path) -> Iterator[Input]:
    if not path.exists():
        raise InputError(f"the input {printable(path)} does not exist", "Give files or folders that exist.")
    yield _file(path.name, path)


def _walk(root: Path) -> Iterator[Input]:
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        folders.sort()
        for name in list(folders):
            hidden, link = name.startswith("."), os.path.islink(here / name)
            if hidden or link:
                folders.remove(name)
                yield Input(_key(root, here / name), here / name, "hidden folder" if hidden else "link to a folder")
        for name in sorted(files):
            path = here / name
            if name.startswith("."):
                yield Input(_key(root, path), path, "hidden file")
            else:
                yield _file(_key(root, path), path)
        while unreadable:
            yield _unreadable(root, unreadable.pop())
    while unreadable:
        yield _unreadable(root, unreadable.pop())


def _file(key: str, path: Path) -> Input:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        nothing = isinstance(error, FileNotFoundError) and os.path.islink(path)
        return Input(key, path, failed="a link to nothing" if nothing else f"cannot be read ({error.strerror})")
    return Input(key, path, failed="" if regular else "not a regular file")


def _unreadable(root: Path, error: OSError) -> Input:
    path = Path(error.filename)
    return Input(_key(root, path), path, failed=f"folder cannot be read ({error.strerror})")


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
