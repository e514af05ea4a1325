"""What a publication knows of objects: those that it wants, those of earlier publications, and those there now."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypedDict

from jaxstyle.data.stores import Found
from jaxstyle.errors import StorageError

RECORD = "_PUBLISHED.jsonl"
"""Object that says what publications of a folder wrote or were about to write."""
FORMAT = 1
"""Version of the record and of the commit marker."""
_TABLES = """
CREATE TABLE wanted (key TEXT PRIMARY KEY, sha256 TEXT, length INTEGER, stamp INTEGER) WITHOUT ROWID;
CREATE TABLE known (key TEXT, sha256 TEXT, stamp INTEGER, PRIMARY KEY (key, sha256)) WITHOUT ROWID;
CREATE TABLE present (key TEXT PRIMARY KEY, length INTEGER, stamp INTEGER) WITHOUT ROWID;
"""


class RecordHead(TypedDict):
    """The first line of a record.

    Attributes:
        folder: name of the output folder, as in the commit marker.
        format: version of the layout, 1.
    """

    folder: str
    format: int


class RecordLine(TypedDict):
    """Each further line: a content that a publication wrote, or was about to write. A key may have several.

    Attributes:
        key: path of the object below the URL.
        sha256: of the content, in hexadecimal.
        stamp: a number made of the object's entity tag or of its time of the last change; 0 if its writing may not have
            ended.
    """

    key: str
    sha256: str
    stamp: int


class Wanted(NamedTuple):
    """An object that the store should have.

    Attributes:
        key: path below the URL.
        sha256: of its content, in hexadecimal.
        length: in bytes.
    """

    key: str
    sha256: str
    length: int


class Version(NamedTuple):
    """A content that a publication of the folder wrote under a key, or was about to.

    Attributes:
        sha256: of the content.
        stamp: of the object, see `stores.Found`; 0 if its writing may not have ended.
    """

    sha256: str
    stamp: int


class Objects:
    """The objects of a publication, in a temporary file; a context manager. One thread may use it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._base = sqlite3.connect(Path(self._folder.name, "objects"), isolation_level=None)
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.executescript(_TABLES)

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._folder.cleanup()

    def want(self, one: Wanted) -> None:
        """Adds an object that the store should have; each key once."""
        self._base.execute("INSERT INTO wanted VALUES (?, ?, ?, 0)", one)

    def found(self, key: str, one: Found) -> None:
        """Adds an object that the store has."""
        self._base.execute("INSERT OR REPLACE INTO present VALUES (?, ?, ?)", (key, one.length, one.stamp))

    def written(self, key: str, stamp: int) -> None:
        """Says that an object is as it should be, and has this stamp."""
        self._base.execute("UPDATE wanted SET stamp = ? WHERE key = ?", (stamp, key))

    def versions(self, key: str) -> list[Version]:
        """The contents that earlier publications knew under a key."""
        return [Version(*one) for one in self._base.execute("SELECT sha256, stamp FROM known WHERE key = ?", (key,))]

    def pairs(self) -> Iterator[tuple[Wanted, int, int]]:
        """Every object that is wanted, with the length (-1 if it is absent) and the stamp of the one there, by key."""
        query = (
            "SELECT w.key, w.sha256, w.length, coalesce(p.length, -1), coalesce(p.stamp, 0) "
            "FROM wanted w LEFT JOIN present p ON w.key = p.key ORDER BY w.key"
        )
        for key, sha256, length, there, stamp in self._reading(query):
            yield Wanted(key, sha256, length), there, stamp

    def left(self) -> Iterator[Wanted]:
        """The objects that are still to be written, by key."""
        query = "SELECT key, sha256, length FROM wanted WHERE stamp = 0 ORDER BY key"
        return (Wanted(*one) for one in self._reading(query))

    def totals(self) -> tuple[int, int]:
        """Number and bytes of the objects that are wanted."""
        number, length = self._base.execute("SELECT count(*), coalesce(sum(length), 0) FROM wanted").fetchone()
        return number, length

    def number_left_over(self) -> int:
        """Number of objects there that an earlier publication wrote and this one does not want."""
        query = (
            "SELECT count(*) FROM present WHERE key IN (SELECT key FROM known) AND key NOT IN (SELECT key FROM wanted)"
        )
        return int(self._base.execute(query).fetchone()[0])

    def _reading(self, query: str) -> Iterator[tuple]:
        """Runs a query with a cursor of its own, a thousand rows at a time, by key: rows may change meanwhile."""
        rows = self._base.execute(query).fetchmany
        while some := rows(1000):
            yield from some

    def read_record(self, file: IO[bytes]) -> str:
        """Takes in a record; returns the name of the folder that it is of.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        head = json.loads(file.readline())
        if head["format"] != FORMAT:
            raise ValueError("another version")
        for line in file:
            one = json.loads(line)
            values = (str(one["key"]), str(one["sha256"]), int(one["stamp"]))
            self._base.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", values)
        return str(head["folder"])

    def write_record(self, file: IO[bytes], folder: str, *, ended: bool) -> None:
        """Writes a record: what was known, and what is wanted in its place.

        Args:
            folder: name of the folder.
            ended: whether all that is wanted is written; older contents of the same keys are then left out.
        """
        file.write(_line({"folder": folder, "format": FORMAT}))
        for one in self._lines(ended):
            file.write(_line(dict(zip(("key", "sha256", "stamp"), one, strict=True))))
        file.flush()

    def _lines(self, ended: bool) -> Iterator[tuple]:
        """Key, checksum and stamp of each line of a record."""
        apart = "key NOT IN (SELECT key FROM wanted)" if ended else (
            "NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = known.key AND w.sha256 = known.sha256)"
        )  # fmt: skip
        return self._reading(
            f"SELECT key, sha256, stamp FROM wanted UNION ALL SELECT key, sha256, stamp FROM known WHERE {apart} "
            "ORDER BY key, sha256"
        )


def _line(values: dict) -> bytes:
    return json.dumps(values).encode("ascii") + b"\n"


@contextmanager
def on_disk() -> Iterator[None]:
    """Turns errors of temporary files inside the block into a `StorageError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"a temporary file cannot be written ({error})",
            "Free space for temporary files, or set TMPDIR to a folder that has some.",
        ) from error
