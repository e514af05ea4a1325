"""Where a report finds the photographs and the style pictures of a run, which the rows only name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jaxstyle.data import styles
from jaxstyle.data.opening import sha256_of
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.data.sources import close, source_for
from jaxstyle.data.sources.base import Locator, printable
from jaxstyle.decode.pool import Decoders
from jaxstyle.decode.reader import Reader
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

SHOWN = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP")
"""Formats that browsers open."""


class Photographs:
    """The inputs of a run by their keys."""

    def __init__(self, inputs: Sequence[Path | str], settings: RenderSettings, output: Path, decoders: Decoders):
        """Args:
        inputs: files, folders and URLs as `render` took them; none, and no photograph is found.
        settings: of the run.
        output: output folder of the run.

        Raises:
            InputError: an input cannot be used.
        """
        self._locators: dict[str, Locator | int] = {}
        self._bases: list[str] = []
        self._source = source_for("folders", inputs, settings, case_insensitive=False) if inputs else None
        self.reader = None if self._source is None else Reader(self._source, decoders)
        if self._source is not None:
            self._source.check(output)
            numbers: dict[str, int] = {}
            for one in self._source.inputs():
                base = _before(one.locator, one.key)  # of most inputs one string, so that a key takes few bytes
                self._locators[one.key] = numbers.setdefault(base, len(numbers)) if base else one.locator
            self._bases = [*numbers]

    def close(self) -> None:
        """Closes the files that it holds open."""
        if self._source is not None:
            close(self._source)

    def find(self, row: Row) -> Locator | None:
        """The place of a row's photograph, or None."""
        key = row.image or row.key
        found = self._locators.get(key)
        return Path(self._bases[found] + key) if isinstance(found, int) else found

    def path(self, key: str) -> Path | None:
        """The file of a photograph, by its key; None if it is none of the inputs, or no file of its own."""
        found = self._locators.get(key)
        if isinstance(found, int):
            return Path(self._bases[found] + key)
        return found if isinstance(found, Path) else None

    def base(self, key: str) -> str:
        """The absolute path of a photograph up to its key, if a browser can open its file; else ""."""
        path = self.path(key)
        if path is None or kinds.by_name(key) not in SHOWN:
            return ""
        return _before(Path(os.path.abspath(path)), key)


def _before(locator: Locator, key: str) -> str:
    """The part of a path before the key at its end; "" for other locators and paths."""
    path = os.fspath(locator) if isinstance(locator, Path) else ""
    return path.removesuffix(key) if path.endswith("/" + key) else ""


class StylePictures:
    """The style pictures of a run by their keys."""

    def __init__(self, words: Sequence[str]):
        """Args:
        words: files, folders, patterns and lists as `render` took them; none, and no picture is found.

        Raises:
            InputError: a word stands for nothing.
        """
        found = styles.listed(words).files if words else []
        for one in found:
            if not one.path.is_file():
                raise InputError(f"the style {printable(one.path)} does not exist", "Give files that exist.")
        self._paths = {one.key: one.path for one in found}
        self._only = found[0].path if len(found) == 1 else None

    def path(self, key: str) -> Path | None:
        """The file of a style; the key "" is the one style of a run."""
        return self._paths.get(key, None if key else self._only)

    def sha256(self, key: str, recorded: str) -> str:
        """Checksum of a style's file; "" without one."""
        path = self.path(key)
        try:
            return recorded or ("" if path is None else sha256_of(path))
        except OSError:
            return ""


def relative(path: str | Path, start: Path) -> str:
    """Returns the address of a file or folder for a page in a folder: percent-encoded, and always a path.

    Browsers take `..` out of an address before they follow links, and so does this.

    Args:
        path: a slash at its end stays.
        start: folder of the page.
    """
    end = "/" if str(path).endswith("/") else ""
    found = os.path.relpath(path, start)
    shown = quote(os.fsencode(found)) + end
    return shown if shown.startswith("../") else f"./{shown}"
