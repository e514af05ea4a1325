"""What an input is, and how its name is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        key: path relative to the given folder, with forward slashes; the output gets the same.
        path: of the file.
        skipped: reason not to look at it, or "".
        failed: reason that it cannot be looked at, or that its output would collide with another, or "".
        note: a remark for its row, or "".
    """

    key: str
    path: Path
    skipped: str = ""
    failed: str = ""
    note: str = ""


def printable(name: object) -> str:
    """A name that can be printed: bytes that are not UTF-8 and control characters are escaped."""
    text = str(name)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate: no file's name has one, a damaged ledger may
        data = text.encode("utf-8", "backslashreplace")
    shown = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
