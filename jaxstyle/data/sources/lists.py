"""Reads inputs from the files that a list names: CSV, TSV or JSON lines."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxstyle.data.ledger import hashed
from jaxstyle.data.lists import Entry, ListFile
from jaxstyle.data.sources.base import Input, is_list, printable
from jaxstyle.data.sources.folders import FolderSource, refuse_overlap
from jaxstyle.data.sources.walk import beside, fold
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

TWICE = "the list names it more than once"
"""Note of a picture that has several rows in a list."""


class ListSource(FolderSource):
    """Provides the files that a list names, in its order, each once. See `base.Source`.

    Keys are paths below the list's folder. A row that names no file below it is a failed input with the list's name and
    the line as its key; a file that does not exist is one like any that cannot be read. Memory holds 16 bytes a row
    while the list is looked at for names that occur twice, and afterwards only these names.
    """

    def __init__(self, inputs: Iterable[Path | str], *, settings: RenderSettings, case_insensitive: bool = False):
        """Args:
        settings: `path_column` of the run.
        """
        super().__init__(inputs, case_insensitive=case_insensitive)
        self._settings = settings
        self._list: ListFile | None = None
        self._twice, self._alike = frozenset[int](), frozenset[int]()

    def check(self, output: Path) -> None:
        """Checks that there is one list, that it names something, and that the output does not take its place."""
        if not self._opened():
            raise InputError(f"the list {printable(self._paths[0])} has no rows", "Give a list that names pictures.")
        refuse_overlap(output, self._paths)
        self._output = output

    @property
    def roots(self) -> Sequence[Path]:
        """The list and its folder. Outputs may lie below that folder, but not in the place of a file of it."""
        return [*self._paths, *(path.parent for path in self._paths)]

    def _opened(self) -> int:
        """Looks for names that occur twice; returns the number of rows."""
        others = [path for path in self._paths if not is_list(path)]
        if others or len(self._paths) > 1:
            raise InputError(
                f"there is another input beside the list: {printable((others or self._paths[1:])[0])}",
                "Give the list alone, and render the rest in a run of its own.",
            )
        self._list, rows = ListFile(self._paths[0], self._settings.path_column), 0
        exact, alike = array("Q"), array("Q")
        for rows, entry in enumerate(self._list.entries(), 1):  # noqa: B007
            exact.append(hashed(entry.key))
            alike.append(hashed(fold(entry.key)))
        self._twice, self._alike = _repeated(exact), _repeated(alike)
        return rows

    def inputs(self) -> Iterator[Input]:
        """Yields the files in the order of the list. Files in the output folder that `check` was given are failed."""
        if self._list is None:
            self._opened()
        assert self._list is not None
        output = None if self._output is None else os.path.realpath(self._output)
        first: dict[str, str] = {}
        seen = set[str]()
        for entry in self._list.entries():
            if not entry.key:
                yield self._broken(self._list, entry)
                continue
            one = Input(entry.key, self._list.folder / entry.key)
            name = fold(entry.key)
            if hashed(name) in self._alike:
                if entry.key in seen:
                    continue
                seen.add(entry.key)
                if first.setdefault(name, entry.key) != entry.key:
                    one = beside(one, first[name], "", self._case_insensitive)
                if hashed(entry.key) in self._twice:
                    one = replace(one, note="; ".join(filter(None, (one.note, TWICE))))
            if output is not None and not one.failed and Path(os.path.realpath(one.locator)).is_relative_to(output):
                one = replace(one, failed="lies in the output folder: give another, or leave it out of the list")
            yield one

    def _broken(self, of: ListFile, entry: Entry) -> Input:
        return Input(f"{of.path.name}:{entry.line}", of.path, failed=f"line {entry.line} of the list {entry.problem}")


def _repeated(hashes: array[int]) -> frozenset[int]:
    """The numbers that occur more than once."""
    values, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True) if hashes else ([], np.array([]))
    return frozenset(int(one) for one in np.asarray(values)[counts > 1])
