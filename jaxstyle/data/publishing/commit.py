"""One publication: what differs from the objects there is written and checked, and the commit marker comes last."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import IO, Any, TypedDict

from jaxstyle.data.folder import Folder
from jaxstyle.data.packing.base import SHOWN, Entry, read_output
from jaxstyle.data.publishing.record import FORMAT, RECORD, Objects, Version, Wanted
from jaxstyle.data.stores import Place, Store, stamp_of_md5
from jaxstyle.errors import InputError, printable

MARKER = "_SUCCESS.json"
"""Commit marker: it is there only while all objects of a publication are."""
AT_ONCE = 8
"""Objects that are copied side by side."""
GROUP = 64
"""Objects that are asked for at a time."""
IN_MEMORY = 2**20
"""Bytes of a record that stay in memory; a longer one is in a temporary file."""

Watch = Callable[[str], AbstractContextManager[Any]]


class Marker(TypedDict):
    """The commit marker.

    Attributes:
        format: version of the layout, 1.
        folder: name by which the output folder knows its objects again, 32 hexadecimal digits.
        objects: number of outputs.
        bytes: their total length.
        missing: number of failed inputs, which have no output.
        manifest_sha256, settings_sha256: SHA-256 of the objects manifest.jsonl and settings.json, in hexadecimal.
    """

    format: int
    folder: str
    objects: int
    bytes: int
    missing: int
    manifest_sha256: str
    settings_sha256: str


class Publication:
    """One publication under way."""

    def __init__(self, folder: Folder, store: Store, place: Place, objects: Objects, watch: Watch, name: str,
                 own: Mapping[str, bytes], files: Mapping[str, str]):  # fmt: skip
        """Args:
        name: of the folder in records and markers.
        own: contents of objects that are no outputs.
        files: paths of files of others.
        """
        self._folder, self._store, self._place, self._objects = folder, store, place, objects
        self._watch, self._name, self._own, self._files = watch, name, own, files
        self._marker: bytes | None = None

    def compare(self) -> None:
        """Finds out what is to be written, and refuses what this folder may not overwrite. Nothing is changed.

        Raises:
            InputError: an object is in the way.
        """
        self._list()
        self._read_record()
        foreign: list[str] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            there = ((one, length, stamp, self._objects.versions(one.key))
                     for one, length, stamp in self._objects.pairs() if length >= 0)  # fmt: skip
            while some := list(itertools.islice(there, GROUP)):
                for (one, _, stamp, versions), sha256 in zip(some, pool.map(self._sha256, some), strict=True):
                    if sha256 == one.sha256:
                        self._objects.written(one.key, stamp)
                    elif sha256 not in {version.sha256 for version in versions}:
                        foreign.append(one.key)
                if len(foreign) > SHOWN:
                    break
        if foreign:
            shown = ", ".join(map(printable, foreign[:SHOWN])) + ", ..." * (len(foreign) > SHOWN)
            raise InputError(f"{printable(self._place)} has objects that no publication of this folder wrote: {shown}",
                             "Give another prefix, or delete them.")  # fmt: skip

    def _list(self) -> None:
        waiting = [self._place.path]
        while waiting:
            pages = self._store.pages(waiting.pop())
            while True:
                with self._watch(f"listing {self._place}"):
                    try:
                        page = next(pages, None)
                    except FileNotFoundError:  # there is nothing yet
                        page = None
                if page is None:
                    break
                for one in page:
                    if one.folder:
                        waiting.append(one.path)
                    else:
                        self._objects.found(one.path.removeprefix(f"{self._place.path}/"), one)

    def _read_record(self) -> None:
        """Takes in what earlier publications wrote.

        Raises:
            InputError: they were of another folder, or something else lies in the place of the record or the marker.
        """
        self._marker = None if (marker := self._get(MARKER)) is None else _content(marker)
        record = self._get(RECORD)
        names = {self._name} if self._marker is None else {""}
        try:
            if record is not None:
                with record:
                    names = {self._objects.read_record(record)}
                if self._marker is not None:
                    marker = json.loads(self._marker)
                    names.add(marker["folder"] if marker.get("format", FORMAT) == FORMAT else "")
        except (ValueError, KeyError, TypeError, RecursionError):
            names = {""}
        if names != {self._name}:
            raise InputError(f"{printable(self._place)} has a {RECORD} or {MARKER} that no publication of this folder "
                             "wrote", "Give another prefix, or use a newer jaxstyle if one wrote it.")  # fmt: skip

    def _get(self, key: str) -> IO[bytes] | None:
        """The content of an object, in a temporary file; None if it is absent."""
        file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        try:
            with self._watch(f"reading {key}"):
                length = self._store.look(self._path(key)).length
                for block in self._store.blocks(self._path(key), length):
                    file.write(block)
        except FileNotFoundError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _path(self, key: str) -> str:
        return f"{self._place.path}/{key}"

    def _sha256(self, pair: tuple[Wanted, int, int, list[Version]]) -> str:
        """Checksum of the object there; "" if it is none that this folder knows or wants."""
        one, length, stamp, versions = pair
        for version in versions:
            if version.stamp == stamp != 0:
                return version.sha256
        if not versions and length != one.length:
            return ""
        with self._watch(f"reading {printable(one.key)}"):
            return self._store.sha256(self._path(one.key), length)

    def commit(self, marker: bytes) -> int:
        """Writes what is to be written, then the marker; returns the number of objects that were written."""
        left = self._objects.left()
        first = next(left, None)
        if self._marker is not None:
            if self._marker == marker and first is None:
                return 0
            with self._watch(f"deleting {MARKER}"):
                self._store.remove(self._path(MARKER))
        written = 0
        if first is not None:
            self._put_record(ended=False)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                waiting = self._objects.left()
                while some := list(itertools.islice(waiting, GROUP)):
                    for one, stamp in zip(some, pool.map(self._copy, some), strict=True):
                        self._objects.written(one.key, stamp)
                    written += len(some)
        self._put_record(ended=True)
        self._put(MARKER, marker)
        return written

    def _put_record(self, *, ended: bool) -> None:
        with tempfile.NamedTemporaryFile() as file:
            self._objects.write_record(file, self._name, ended=ended)
            with self._watch(f"writing {RECORD}"):
                self._store.write_file(self._path(RECORD), file.name)

    def _copy(self, one: Wanted) -> int:
        """Writes an object and checks it; returns its stamp."""
        if one.key in self._files:
            with self._watch(f"writing {printable(one.key)}"):
                self._store.write_file(self._path(one.key), self._files[one.key])
            return self._checked(one, "")
        data = self._own.get(one.key)
        if data is None:
            data = read_output(self._folder, Entry(-1, one.key, "", one.sha256, (0, 0)))
        self._put(one.key, data)
        return self._checked(one, hashlib.md5(data, usedforsecurity=False).hexdigest())

    def _put(self, key: str, data: bytes) -> None:
        with self._watch(f"writing {printable(key)}"):
            self._store.write(self._path(key), data)

    def _checked(self, one: Wanted, md5: str) -> int:
        """The stamp of an object that has just been written.

        Args:
            md5: of its content; an object whose entity tag it is need not be read again.

        Raises:
            OSError: its length or its checksum is another.
        """
        with self._watch(f"checking {printable(one.key)}"):
            found = self._store.look(self._path(one.key))
            same = found.length == one.length
            if same and not (md5 and found.stamp == stamp_of_md5(md5)):
                same = self._store.sha256(self._path(one.key), found.length) == one.sha256
        if not same:
            raise OSError(f"{one.key} is not in the store what was written")
        return found.stamp or -1


def _content(file: IO[bytes]) -> bytes:
    with file:
        return file.read()
