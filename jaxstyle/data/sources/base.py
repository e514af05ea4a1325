"""What an input is, and what a source of inputs must do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

Locator = Path | str
"""Where a source finds an input: the path of a file that any process can open, or a string for the source alone."""


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        key: path relative to the given folder, with forward slashes; the output gets the same.
        locator: of its content.
        skipped: reason not to look at it, or "".
        failed: reason that it cannot be looked at, or that its output would collide with another, or "".
        note: a remark for its row, or "".
    """

    key: str
    locator: Locator
    skipped: str = ""
    failed: str = ""
    note: str = ""


class Stamp(NamedTuple):
    """What tells whether an input has changed: length in bytes and time of the last change in nanoseconds."""

    length: int
    modified: int


class Source(Protocol):
    """Where inputs come from. Its methods may be called by several threads."""

    def check(self, output: Path) -> None:
        """Makes sure that there are inputs and that outputs written to this folder overwrite none of them.

        Raises:
            InputError: says which input and why.
        """

    def inputs(self) -> Iterator[Input]:
        """All inputs in a stable order, each key once.

        Raises:
            InputError: an input that was asked for by name does not exist or cannot be read.
        """

    def open(self, locator: Locator) -> BinaryIO:
        """The content of an input.

        Raises:
            OSError: it cannot be read.
        """

    def stamp(self, locator: Locator) -> Stamp:
        """The present stamp of an input.

        Raises:
            OSError: it cannot be looked at.
        """


def printable(name: object) -> str:
    """A name that can be printed: bytes that are not UTF-8 and control characters are escaped."""
    text = str(name)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate: no file's name has one, a damaged ledger may
        data = text.encode("utf-8", "backslashreplace")
    shown = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
