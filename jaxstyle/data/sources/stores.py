"""Reads inputs from an object store: the objects below prefixes, and single objects."""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jaxstyle.data.bounds import most_bytes
from jaxstyle.data.layout import STEPS
from jaxstyle.data.ledger import hashed
from jaxstyle.data.samples import recurring
from jaxstyle.data.sources.base import Input, Locator, Stamp, is_hdf5, is_list, is_parquet, is_tar, printable
from jaxstyle.data.sources.index import Indexed
from jaxstyle.data.sources.walk import OF_A_RUN, beside, fold
from jaxstyle.data.stores import BLOCK, Found, Place, Store, place_of, usable
from jaxstyle.errors import InputError
from jaxstyle.paths import is_url
from jaxstyle.settings import RenderSettings

CHANGED = "it has changed since the run began"
"""Error of an object that is not the one that was listed."""
LEADS_OUT = "its name has an empty part, . or .. in it, which no file can have: rename the object"
"""Reason of an object, or of all objects below a prefix, that has failed."""


class _Folder(NamedTuple):
    """A prefix to list.

    Attributes:
        key: with a slash at its end; "" for a given one.
        path: in the store.
    """

    key: str
    path: str


class StoreSource(Indexed):
    """Provides the objects at URLs of one store. See `base.Source`.

    The key of an object is its path below the given prefix, as of a file in a folder. `prepare` lists the objects once;
    keys, lengths and stamps are then kept in a temporary file. Memory holds the folders that wait to be listed, one
    page of a listing, and hashes of names, 16 bytes an object, which are sorted when the listing ends.
    """

    roots = ()

    def __init__(self, inputs: Iterable[Path | str], *, settings: RenderSettings, case_insensitive: bool = False):
        """Args:
        settings: `max_pixels` of the run.
        case_insensitive: see `walk.discover`.
        """
        super().__init__("the index of the objects")
        self._given = list(inputs)
        self._most, self._case_insensitive = most_bytes(settings.max_pixels), case_insensitive
        self._places: list[Place] = []
        self._opened: Store | None = None
        self._twice = self._alike = self._exact = self._folders = frozenset[int]()

    def check(self, output: Path) -> None:
        """Checks the URLs, and that the store can be opened. `prepare` is the first to ask it."""
        for n, one in enumerate(self._given, 1):
            if not is_url(one):
                raise InputError(f"the input {printable(one)} is no URL, and another input is",
                                 "Give URLs alone, and render the rest in a run of its own.")  # fmt: skip
            self._places.append(place_of(str(one), f"input {n}"))
        self._places = list(dict.fromkeys(self._places))
        first = self._places[0]
        for place in self._places:
            if place.scheme != first.scheme:
                raise InputError(f"the inputs {first} and {place} lie in two stores", "Give each a run of its own.")
            if not place.is_folder and any(kind(place.path) for kind in (is_tar, is_hdf5, is_list, is_parquet)):
                raise InputError(f"the input {printable(place)} is a dataset or a list by its name, and only pictures "
                                 "are read from stores", "Copy it to this machine.")  # fmt: skip
        self._opened = Store(first.scheme)

    def prepare(self) -> Iterator[None]:
        """Lists the objects and keeps the index, in steps of one call of the store.

        Raises:
            InputError: there is no object, or the store cannot be used.
        """
        store = self._store
        with self._new_index() as index:
            listing = _Listing(partial(self._add, index), self._most)
            folders = list[_Folder]()
            for place in self._places:
                with usable(place):
                    found = store.look(place.path)
                if found.folder or place.is_folder:
                    folders.append(_Folder("", place.path))
                elif place.path.rpartition("/")[0] not in {one.path for one in self._places}:
                    listing.add("", [found])
                yield
            waiting = [folders]
            while waiting:
                below: dict[str, list[_Folder]] = {}
                for folder in waiting.pop():
                    with usable(f"{self._places[0].scheme}://{folder.path}"):
                        for page in store.pages(folder.path):
                            for one in listing.add(folder.key, page):
                                below.setdefault(one.key, []).append(one)
                            yield
                waiting += [below[key] for key in sorted(below, reverse=True)]
            if not index.tell():
                where = ", ".join(printable(one) for one in self._places)
                raise InputError(f"there is no object in {where}", "Give another prefix.")
        with self._lock:
            self._index = index
            self._twice, self._alike = recurring(listing.keys), recurring(listing.folded)
            self._exact, self._folders = listing.clashes()

    def inputs(self) -> Iterator[Input]:
        """Yields the objects of a prefix, then those below its prefixes, by name."""
        first, seen = dict[str, str](), set[str]()
        for line in self._lines():
            one = Input(*line)
            if one.skipped or one.failed:
                yield one
            elif one.key not in seen:
                yield self._beside_others(one, first, seen)

    def _beside_others(self, one: Input, first: dict[str, str], seen: set[str]) -> Input:
        """The input, failed or with a note if other objects or prefixes have its name; see `walk`."""
        name = fold(one.key)
        if hashed(name) in self._alike:
            seen.add(one.key)
            if first.setdefault(name, one.key) != one.key:
                one = beside(one, first[name], "", self._case_insensitive)
            if hashed(one.key) in self._twice:
                one = replace(one, failed="two inputs have this name: render them into two folders")
        clash = hashed(one.key) in self._exact or (self._case_insensitive and hashed(name) in self._folders)
        if clash and not one.failed:
            one = replace(one, failed="its output would take the place of a folder: a prefix of the store has its name")
        return one

    def open(self, locator: Locator) -> BinaryIO:
        """Opens an object, which is read in blocks; at its end it must be the one that was listed."""
        length, stamp, path = _parts(locator)
        return io.BufferedReader(_Content(self._store, path, length, stamp), BLOCK)

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the length and the stamp of the listing; `open` finds out whether they still hold."""
        length, stamp, _ = _parts(locator)
        return Stamp(length, stamp)

    @property
    def _store(self) -> Store:
        with self._lock:
            if self._opened is None:
                self.check(Path())
            assert self._opened is not None
            return self._opened


class _Listing:
    """Writes the lines of the index, and keeps hashes of names."""

    def __init__(self, write: Callable[[Sequence[str]], None], most: int):
        """Args:
        write: adds a line to the index.
        most: bytes of an object that is read.
        """
        self._write, self._most = write, most
        self.keys, self.folded = array("Q"), array("Q")
        self._folder_keys, self._folder_folded = array("Q"), array("Q")

    def add(self, above: str, page: Sequence[Found]) -> list[_Folder]:
        """Adds a page of a folder's listing; returns the folders to list.

        Args:
            above: key of the folder.
        """
        below: list[_Folder] = []
        for one in page:
            key, skipped, failed = above + one.name, "", ""
            hidden = one.name.startswith(".") or (one.name == STEPS and not above)
            if one.name in ("", ".", "..") or "/" in one.name or "\0" in one.name:
                key, failed = f"/{one.path.lstrip('/')}", LEADS_OUT  # no other key begins with a slash
            elif hidden:
                skipped = OF_A_RUN if one.name == STEPS else "hidden folder" if one.folder else "hidden file"
            elif one.folder:
                below.append(_Folder(f"{key}/", one.path))
                self._folder_keys.append(hashed(key))
                self._folder_folded.append(hashed(fold(key)))
                continue
            elif not one.stamp:
                failed = "the store tells neither its entity tag nor its time, so that a change would pass unnoticed"
            elif one.length > self._most:
                failed = f"has {one.length} bytes, more than {self._most}. Raise --max-pixels if it is a picture."
            else:
                self.keys.append(hashed(key))
                self.folded.append(hashed(fold(key)))
            self._write([key, f"{one.length}:{one.stamp}:{one.path}", skipped, failed])
        return below

    def clashes(self) -> tuple[frozenset[int], frozenset[int]]:
        """Hashes of keys of objects that folders have too: exactly, and but for case and Unicode form."""
        pairs = ((self.keys, self._folder_keys), (self.folded, self._folder_folded))
        exact, alike = (
            frozenset(np.intersect1d(np.frombuffer(one, np.uint64), np.frombuffer(other, np.uint64)).tolist())
            for one, other in pairs
        )
        return exact, alike


class _Content(io.RawIOBase):
    """The content of an object, from its beginning to its end."""

    def __init__(self, store: Store, path: str, length: int, stamp: int):
        """Args:
        length, stamp: of the object that was listed.
        """
        self._store, self._path, self._length, self._stamp, self._at = store, path, length, stamp, 0
        self._checked = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads on.

        Raises:
            OSError: the object is absent, cannot be read or is another one than was listed.
        """
        if self._at == self._length:
            if not self._checked:
                self._refuse_another()
            return 0
        end = min(self._at + len(buffer), self._length)
        try:
            data = self._store.read(self._path, self._at, end)
        except FileNotFoundError:
            raise
        except OSError:
            self._refuse_another()
            raise
        buffer[: len(data)] = data
        self._at = end
        return len(data)

    def _refuse_another(self) -> None:
        now = self._store.look(self._path)
        if (now.length, now.stamp) != (self._length, self._stamp):
            raise OSError(CHANGED)
        self._checked = True


def _parts(locator: Locator) -> tuple[int, int, str]:
    length, stamp, path = str(locator).split(":", 2)
    return int(length), int(stamp), path
