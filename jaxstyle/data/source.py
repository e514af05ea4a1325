"""Files and folders into a list of inputs, each with a key: its path below the input it came from."""

from __future__ import annotations

import os
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
    seen: dict[str, Path] = {}
    for given in map(Path, inputs):
        for found in _walk(given) if given.is_dir() else _single(given):
            first = seen.setdefault(found.key, found.path)
            if first != found.path:
                if _same(first, found.path):
                    continue
                raise InputError(
                    f"{printable(first)} and {printable(found.path)} would both be written to {printable(found.key)}",
                    "Give their common parent folder, or render them into two folders.",
                )
            yield found


def printable(name: object) -> str:
    """A name that can be printed: bytes that are not UTF-8 are shown escaped."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _single(path: Path) -> Iterator[Input]:
    if not path.exists():
        raise InputError(f"the input {printable(path)} does not exist", "Give files or folders that exist.")
    yield Input(path.name, path)


def _walk(root: Path) -> Iterator[Input]:
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        folders.sort()
        for name in list(folders):
            hidden, link = name.startswith("."), (here / name).is_symlink()
            if hidden or link:
                folders.remove(name)
                yield Input(_key(root, here / name), here / name, "hidden folder" if hidden else "link to a folder")
        for name in sorted(files):
            path = here / name
            if name.startswith("."):
                yield Input(_key(root, path), path, "hidden file")
            elif not path.is_file():
                link = "a link to nothing" if path.is_symlink() else "not a regular file"
                yield Input(_key(root, path), path, failed=link)
            else:
                yield Input(_key(root, path), path)
        while unreadable:
            yield _unreadable(root, unreadable.pop())
    while unreadable:
        yield _unreadable(root, unreadable.pop())


def _unreadable(root: Path, error: OSError) -> Input:
    path = Path(error.filename)
    return Input(_key(root, path), path, failed=f"folder cannot be read ({error.strerror})")


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
