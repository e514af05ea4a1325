"""The style images of a run: which files the words after --style stand for, with their keys and weights."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxstyle.data.opening import open_regular
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import printable
from jaxstyle.data.sources.walk import discover
from jaxstyle.errors import InputError

LIST = ".txt"
"""Extension of a list of paths."""
MOST_BYTES = 64 * 2**20
"""Of a list of paths."""


class StyleFile(NamedTuple):
    """One style image.

    Attributes:
        key: its path below the given folder, the list's folder or the pattern's fixed part; else its file name.
        path: the file.
        weight: its share in a blend, or how often it is assigned, relative to the others.
    """

    key: str
    path: Path
    weight: float = 1.0


class Listed(NamedTuple):
    """The style images that the words stand for.

    Attributes:
        files: sorted by key, each once.
        several: whether a folder, a pattern or a list was among the words.
        roots: the given files and folders.
        matched: whether files lie elsewhere too: found by a pattern or named in a list.
        ignored: files in folders that are no pictures by their names, by extension.
    """

    files: list[StyleFile]
    several: bool
    roots: list[Path]
    matched: bool
    ignored: Counter[str]


def listed(words: Iterable[Path | str]) -> Listed:
    """Finds the style images.

    A word is a file, a folder (searched recursively), a pattern such as `paintings/*.jpg` (`**` for any depth), or a
    list: a .txt file with a path a line, relative to the list. `:2` at the end of a word or line is a weight.

    Raises:
        InputError: a word stands for nothing, or two files have one key; the message names them.
    """
    found: dict[str, StyleFile] = {}
    ignored: Counter[str] = Counter()
    several, matched, roots = False, False, []
    for word in words:
        path, weight = _weighted(word)
        text = str(path)
        if path.is_dir():
            several, entries = True, _in_folder(path, ignored)
            roots.append(path)
        elif path.suffix.lower() == LIST and path.is_file():
            several, matched, entries = True, True, _in_list(path)
            roots.append(path)
        elif not path.exists() and glob.has_magic(text):
            several, matched, entries = True, True, _matching(text)
        else:
            entries = iter([StyleFile(path.name, path)])
            roots.append(path)
        for one in entries:
            _add(found, one._replace(weight=one.weight * weight))
    if not found:
        raise InputError(
            "there is no style image" + (f" in {', '.join(map(printable, roots))}" if roots else ""),
            "Give a picture, or a folder of pictures.",
        )
    return Listed([found[key] for key in sorted(found)], several, roots, matched, ignored)


def _add(found: dict[str, StyleFile], one: StyleFile) -> None:
    before = found.setdefault(one.key, one)
    if before is not one and os.path.realpath(before.path) != os.path.realpath(one.path):
        raise InputError(
            f"two styles are called {printable(one.key)}: {printable(before.path)} and {printable(one.path)}",
            "Rename one of them: results are recorded under this name.",
        )


def _weighted(word: Path | str) -> tuple[Path, float]:
    """Divides a word into a path and a weight; what exists under the whole word is a path."""
    text = str(word)
    match = re.fullmatch(r"(.+):(\d+\.?\d*|\.\d+)", text, re.DOTALL)
    if isinstance(word, Path) or match is None or os.path.lexists(text):
        return Path(text), 1.0
    weight = float(match[2])
    if not 1e-6 <= weight <= 1e6:
        raise InputError(f"the style {printable(text)} has weight {match[2]}", "It must be 0.000001 to 1000000.")
    return Path(match[1]), weight


def _in_folder(folder: Path, ignored: Counter[str]) -> Iterator[StyleFile]:
    for one in discover([folder]):
        if one.failed and not kinds.by_name(one.key):  # a folder; what is called a picture becomes a row when read
            raise InputError(
                f"the style {printable(one.locator)}: {one.failed}", "Correct its permissions or its name."
            )
        if not one.skipped and kinds.by_name(one.key):
            yield StyleFile(one.key, Path(one.locator))
        else:
            ignored["hidden" if one.skipped else f".{kinds.extension(one.key)}".rstrip(".") or "no extension"] += 1


def _in_list(path: Path) -> Iterator[StyleFile]:
    try:
        with open_regular(path, follow=True) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        what = f"the list of styles {printable(path)} cannot be read ({error})"
        raise InputError(what, "It must be UTF-8, a path a line.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        given, weight = _weighted(line if os.path.lexists(line) else str(path.parent / line))
        if not given.is_file():
            what = f"line {number} of the list of styles {printable(path)} is {printable(line)}, which is no file"
            raise InputError(what, "Give a path a line, relative to the list's folder.")
        yield StyleFile(_key_below(given, path.parent), given, weight)


def _matching(pattern: str) -> Iterator[StyleFile]:
    base = Path(*_before_magic(Path(pattern).parts[:-1]))
    matches = sorted(filter(os.path.isfile, glob.iglob(pattern, recursive=True)))
    if not matches:
        raise InputError(f"no file matches the style {printable(pattern)}", "Give a pattern that some file matches.")
    for match in matches:
        yield StyleFile(_key_below(Path(match), base), Path(match))


def _before_magic(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _key_below(path: Path, folder: Path) -> str:
    """The key of a file: its path below the folder if it lies there, else its name."""
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else path.name


def suffix(key: str) -> str:
    """What an output's name says of its style, where an image has several: the key without extension.

    Slashes, and the tilde that separates it from the image's name, become `_`.
    """
    return re.sub(r"[/~]", "_", key.removesuffix(PurePosixPath(key).suffix))


def output_key(image: str, style: str) -> str:
    """The key of an image's output in one of several styles: `photos/a.jpg` in `monet/b.png` is
    `photos/a~monet_b.jpg`."""
    folder, slash, name = image.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    stem, ending = (stem, dot + extension) if stem else (name, "")
    return f"{folder}{slash}{stem}~{suffix(style)}{ending}"


def refuse_equal_suffixes(files: Iterable[StyleFile]) -> None:
    """Checks that outputs in several styles have different names, on file systems that ignore case too.

    Raises:
        InputError: names two styles.
    """
    seen: dict[str, str] = {}
    for one in files:
        before = seen.setdefault(suffix(one.key).casefold(), one.key)
        if before != one.key:
            raise InputError(
                f"the styles {printable(before)} and {printable(one.key)} would give outputs of one name",
                "Rename one of them.",
            )
