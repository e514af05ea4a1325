"""The folder of a report: files that appear under their names only when they are complete, and are written once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.opening import read_regular
from jaxstyle.data.problems import storage_error
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import finish, is_own, unfinished
from jaxstyle.errors import InputError

MARK = "report.json"
"""File that tells a report from other folders."""
PAGE = "index.html"
ASSETS = "page"
"""Folder of the page's own scripts and styles."""
DATA = "data"
"""Folder of the rows."""
INDEX = f"{DATA}/index.js"
THUMBS = "thumbs"
"""Folder of the thumbnails, in one folder for each value of a name's first two digits."""
CHUNK_NAME = re.compile(r"(?:rows|detail)-[0-9a-f]{16}\.js")
THUMB_NAME = re.compile(r"[0-9a-f]{20}\.jpg")


class Site:
    """The folder of a report, which holds nothing but one.

    Attributes:
        assets: names of the page's own scripts and style sheets.
    """

    def __init__(self, path: Path):
        """Opens the folder, or makes it.

        Raises:
            InputError: the folder holds files and is no report.
            StorageError: it cannot be made or read.
        """
        self.path = path
        self.assets = {one.name: one for one in _shipped() if one.name != PAGE}
        try:
            self.folder = Folder(path, create=True)
            names = self.folder.names()
        except OSError as error:
            raise storage_error(path, "written", error) from error
        if MARK not in names and any(not name.startswith(TEMPORARY) for name in names):
            raise InputError(f"{printable(path)} holds files and is no report", "Choose an empty folder with -o.")
        self.put(MARK, json.dumps({"jaxstyle": "report"}).encode() + b"\n")

    def put_page(self) -> None:
        """Writes the page, its scripts and its style sheet."""
        for one in _shipped():
            self.put(one.name if one.name == PAGE else f"{ASSETS}/{one.name}", one.read_bytes())

    def put(self, key: str, data: bytes) -> bool:
        """Writes a file unless it has these bytes already; returns whether it was written.

        Args:
            key: its path below the folder. No part of it is followed through a link.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            with self.folder.parent(key, create=True) as (at, name):
                if _has(at, name, data):
                    return False
                with unfinished(at) as (file, temporary):
                    file.write(data)
                    finish(file)
                    os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        except OSError as error:
            raise storage_error(self.path / key, "written", error) from error
        return True

    def has(self, key: str) -> bool:
        """Whether the folder has this file."""
        try:
            with self.folder.parent(key) as (at, name):
                os.stat(name, dir_fd=at, follow_symlinks=False)
        except OSError:
            return False
        return True

    def sweep(self, chunks: Iterable[str], thumbs: Iterable[str]) -> None:
        """Deletes chunks and thumbnails that the index no longer names, and what killed commands left.

        Args:
            chunks: names of files in `DATA` to keep.
            thumbs: names of thumbnails to keep, without folder and extension.

        Raises:
            StorageError: a file cannot be deleted.
        """
        self._sweep(DATA, CHUNK_NAME, set(chunks))
        kept = {f"{name}.jpg" for name in thumbs}
        for group in sorted({*self._names(THUMBS)}):
            self._sweep(f"{THUMBS}/{group}", THUMB_NAME, kept)

    def _names(self, folder: str) -> list[str]:
        try:
            with self.folder.parent(f"{folder}/x") as (at, _):
                readable = os.open(".", os.O_RDONLY, dir_fd=at)
                try:
                    return os.listdir(readable)
                finally:
                    os.close(readable)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_error(self.path / folder, "read", error) from error

    def _sweep(self, folder: str, ours: re.Pattern[str], kept: set[str]) -> None:
        for name in self._names(folder):
            left = name.startswith(TEMPORARY) and not is_own(name)
            if left or (ours.fullmatch(name) and name not in kept):
                try:
                    with self.folder.parent(f"{folder}/{name}") as (at, last):
                        os.unlink(last, dir_fd=at)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise storage_error(self.path / folder / name, "removed", error) from error


def _shipped() -> list[Traversable]:
    """The files of the page in the package."""
    return [one for one in files("jaxstyle.report").joinpath(ASSETS).iterdir() if one.is_file()]


def thumb_key(name: str) -> str:
    """Returns the path of a thumbnail below the folder."""
    return f"{THUMBS}/{name[:2]}/{name}.jpg"


def _has(at: int, name: str, data: bytes) -> bool:
    try:
        return read_regular(name, len(data), within=at) == data
    except (OSError, ValueError):
        return False
