"""Walks files and folders: finds the inputs, their keys, and collisions between keys.

The key of an input is its path below the given folder. All given folders are walked together, as one tree. Collisions
are resolved within one listing of that tree, so that memory holds only the largest listing and the folders not yet
walked.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jaxstyle.data.layout import STEPS
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.errors import InputError


def discover(inputs: Iterable[Path | str], *, case_insensitive: bool = False) -> Iterator[Input]:
    """Yields all files below the inputs, each key once, in a stable order: a folder's files, then its folders, by name.

    Different files with the same key yield the first input's file as failed; so does a file with the key of a folder.
    Links to folders are not followed, and hidden files and folders are not walked: they are yielded as skipped.
    A folder that cannot be read is yielded as failed. Files are listed without being opened, so that they may have
    vanished since.

    Args:
        case_insensitive: whether the outputs' file system ignores case and Unicode form. If so, all files whose names
            differ only in these fail except the first; otherwise they get a note.

    Raises:
        InputError: an input does not exist or cannot be examined.
    """
    roots, files = _given(inputs)
    waiting = [roots]
    while waiting:
        below = yield from _level(waiting.pop(), files, case_insensitive)
        waiting += reversed(below)
        files = []


OF_A_RUN = "intermediate pictures of a run"
"""Reason for which `layout.STEPS` is skipped."""
_HIDDEN, _FILE, _FOLDER = range(3)


class _Folder(NamedTuple):
    """A real folder to list.

    Attributes:
        key: key with a slash at its end; "" for a given folder.
        turn: position among the inputs of the one that it lies in.
        taken: whether a file has a row with this key.
    """

    key: str
    path: Path
    turn: int
    taken: bool = False


class _Entry(NamedTuple):
    """A name in a listing. Entries sort in the order in which they are yielded.

    Attributes:
        stage: _HIDDEN for a hidden folder, _FOLDER for a folder to walk, _FILE for all else, links to folders included.
        above: key of its folder.
        turn: position among the inputs of the one that it lies in.
        folder: path of its folder.
        regular: whether it is known to be a regular file.
        hidden: whether its name begins with a dot, or it has a run's intermediate pictures.
    """

    stage: int
    above: str
    name: str
    turn: int
    folder: Path
    regular: bool
    hidden: bool


def _given(inputs: Iterable[Path | str]) -> tuple[list[_Folder], list[_Entry]]:
    """Divides the inputs into folders, each once, and files, which form the top listing."""
    folders: dict[tuple[int, int], _Folder] = {}
    files: list[_Entry] = []
    for turn, path in enumerate(map(Path, inputs)):
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null byte in the name
            raise InputError(
                f"the input {printable(path)} does not exist", "Give files or folders that exist."
            ) from error
        except OSError as error:
            raise _closed(path, error) from error
        if stat.S_ISDIR(found.st_mode):
            folders.setdefault((found.st_dev, found.st_ino), _Folder("", path, turn))
        else:
            regular = stat.S_ISREG(found.st_mode)
            files.append(_Entry(_FILE, "", path.name, turn, path.parent, regular, hidden=False))
    return list(folders.values()), files


def _closed(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the input {printable(path)} cannot be read ({error.strerror or error})",
        "Correct its permissions, or give another.",
    )


def _level(
    folders: list[_Folder], files: list[_Entry], case_insensitive: bool
) -> Generator[Input, None, list[list[_Folder]]]:
    """Yields the inputs in these folders and files; returns the subfolders, grouped by those to list together."""
    entries, failed = list(files), set[str]()
    for folder in folders:
        try:
            for entry in _listing(folder):
                entries.append(entry)
        except OSError as error:  # entries listed before the error are kept
            if not folder.key:
                raise _closed(folder.path, error) from error
            # The row of an unreadable folder takes the key with the slash if a file has the key without it.
            key = folder.key if folder.taken else folder.key[:-1]
            if key not in failed:
                failed.add(key)
                yield Input(key, folder.path, failed=f"folder cannot be read ({error.strerror or error})")
    return (yield from _merge(entries, case_insensitive))


def _listing(folder: _Folder) -> Iterator[_Entry]:
    with os.scandir(folder.path) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") or (entry.name == STEPS and not folder.key)
            try:
                regular = entry.is_file(follow_symlinks=False)
                walked = not regular and entry.is_dir(follow_symlinks=False)
            except OSError:  # the file system does not list file types and stat fails; `_look` reports the error
                regular = walked = False
            stage = _FILE if not walked else _HIDDEN if hidden else _FOLDER
            yield _Entry(stage, folder.key, entry.name, folder.turn, folder.path, regular, hidden)


def _merge(entries: list[_Entry], case_insensitive: bool) -> Generator[Input, None, list[list[_Folder]]]:
    """Like `_level`, for listed names. Calls stat only for names that collide or may be links."""
    entries.sort()
    groups = _alike([entry.name for entry in entries])
    settled: dict[int, Input | None] = {}
    taken: set[str] = set()
    below: dict[str, list[_Folder]] = {}
    for n, entry in enumerate(entries):
        if entry.stage == _FOLDER:
            key = entry.above + entry.name
            folder = _Folder(f"{key}/", entry.folder / entry.name, entry.turn, key in taken)
            below.setdefault(fold(entry.name), []).append(folder)
            continue
        if n not in groups:
            yield _look(entry)
            continue
        if n == groups[n][0]:
            group = [entries[member] for member in groups[n]]
            rows = resolve_collision([(_look(one), one.stage == _FOLDER) for one in group], case_insensitive)
            settled.update(zip(groups[n], rows, strict=True))
        found = settled.pop(n)
        if found:
            taken.add(found.key)
            yield found
    return list(below.values())


def _alike(names: Iterable[str]) -> dict[int, list[int]]:
    """Groups positions of names that are equal after folding; maps each position to its group, ascending.

    Unique names are left out.
    """
    first: dict[str, int] = {}
    groups: dict[int, list[int]] = {}
    for n, name in enumerate(names):
        leader = first.setdefault(fold(name), n)
        if leader != n:
            group = groups.setdefault(leader, [leader])
            group.append(n)
            groups[n] = group
    return groups


def fold(name: str) -> str:
    """A form of a name that all names share which differ only in case or Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _look(entry: _Entry) -> Input:
    key, path = entry.above + entry.name, entry.folder / entry.name
    if entry.hidden:
        folder = entry.stage == _HIDDEN or (not entry.regular and os.path.isdir(path))
        own = entry.name == STEPS
        return Input(key, path, OF_A_RUN if own else "hidden folder" if folder else "hidden file")
    if entry.regular or entry.stage == _FOLDER:
        return Input(key, path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        nothing = isinstance(error, FileNotFoundError) and os.path.islink(path)
        reason = "a link to nothing" if nothing else f"cannot be read ({error.strerror or error})"
        return Input(key, path, failed=reason)
    if stat.S_ISDIR(mode):
        return Input(key, path, "link to a folder")
    return Input(key, path, failed="" if stat.S_ISREG(mode) else "not a regular file")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # links to nothing
        return os.path.realpath(one) == os.path.realpath(other)


def resolve_collision(
    group: Sequence[tuple[Input, bool]], case_insensitive: bool, same: Callable[[Path, Path], bool] = _same
) -> list[Input | None]:
    """Resolves a collision of names that are equal after folding.

    Args:
        group: (input, whether it is a folder to walk).

    Returns:
        A row for each, or None for a folder and for a file whose key has a row already.
    """
    folders = {one.key: one for one, folder in reversed(group) if folder}
    files: dict[str, list[int]] = {}
    for n, (one, folder) in enumerate(group):
        if not folder:
            files.setdefault(one.key, []).append(n)
    rows: list[Input | None] = [None] * len(group)
    earlier = ""
    for key, members in files.items():
        row = _one_row([group[n][0] for n in members], folders.get(key), same)
        if not row.skipped:
            folder_key = next((other for other in folders if other != key), "")
            row = beside(row, earlier, folder_key, case_insensitive)
            earlier = earlier or key
        rows[members[0]] = row
    return rows


def _one_row(files: list[Input], folder: Input | None, same: Callable[[Path, Path], bool]) -> Input:
    """Returns the row of files with the same key, which may also be the key of a folder."""
    first, *others = sorted(files, key=lambda one: bool(one.skipped))
    if first.skipped:
        return first
    apart = "render them into two folders"
    if folder:
        both = f"{printable(first.locator)} and {printable(folder.locator)}"
        return replace(first, failed=f"a file in one input is a folder in another: {both}; {apart}")
    for other in others:
        if not same(Path(first.locator), Path(other.locator)):
            both = f"{printable(first.locator)} and {printable(other.locator)}"
            return replace(first, failed=f"two inputs have this name: {both}; {apart}")
    return first


def beside(row: Input, file: str, folder: str, case_insensitive: bool) -> Input:
    """Adds a note or failure to a row whose key equals an earlier file's or a folder's (each may be "") when folded."""
    if not (file or folder):
        return row
    if not case_insensitive:
        note = f"a name beside it differs only in case or Unicode form: {printable(folder or file)}"
        return replace(row, note=note)
    victim = f"take the place of the folder {printable(folder)}" if folder else f"replace that of {printable(file)}"
    reason = f"its output would {victim}, whose name differs only in case or Unicode form"
    return replace(row, failed=row.failed or reason)
