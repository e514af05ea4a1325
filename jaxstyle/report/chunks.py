"""Writes rows as scripts of columns, some thousand rows each, that a page loads one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypedDict

from jaxstyle.data.rows import Row

CHUNK = 2000
"""Rows of a chunk."""
NAMESPACE = "Report"
"""Object of the page whose functions take the data."""
DETAILS = (
    "loss", "start_loss", "evaluations", "precision", "batch", "seed", "ended", "judgement", "input_size", "work_size",
    "output_size", "input_bytes", "output_bytes", "frames", "notes", "run",
    "occupancy", "curve",
)  # fmt: skip
"""Fields of a row that are loaded when its picture is opened."""

Columns = dict[str, list[Any]]


def script(function: str, *values: Any) -> bytes:
    """Returns a script that calls a function of the page. It is ASCII, so no text in it ends a line or a tag."""
    return _call(function, *map(_text, values))


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _call(function: str, *texts: str) -> bytes:
    return f"{NAMESPACE}.{function}({','.join(texts)});\n".encode("ascii")


def rounded(value: float) -> float | None:
    """Rounds a number to six digits; None for what JSON does not have."""
    return float(f"{value:.6g}") if abs(value) < 1e300 else None


class Cells(TypedDict):
    """The values of a row in the columns.

    Attributes:
        key, image, reason: the row's fields.
        status: 0 done, 1 skipped, 2 failed.
        style: number of its style in the index's `styles`; -1 for a broken style's own row.
        folder: number of its folder in the index's `folders`.
        loss, style_loss: total loss, and that of the style term; null without one.
        seconds: the row's field, in seconds.
        finished: time of the last change of the output's file, in seconds since 1970; 0 if it may not be shown.
        width, height: of the output in pixels, else of the optimised image or the input.
        shown: 1 if browsers can open the output, else 0.
        base: number of the photograph's folder in the index's `bases`, from 1; 0 if it cannot be shown.
        thumb, photo_thumb: names of the thumbnails of output and photograph, thumbs/NN/NAME.jpg, where NN are the
            first two letters of NAME; "" for none.
    """

    key: str
    image: str
    status: int
    reason: str
    style: int
    folder: int
    loss: float | None
    style_loss: float | None
    seconds: float | None
    finished: float
    width: int
    height: int
    shown: int
    base: int
    thumb: str
    photo_thumb: str


class Group:
    """Rows that follow one another in the page, divided into chunks.

    A chunk's file is named after its content, so that rows that are added change the last chunk alone.

    Attributes:
        made: (number of rows, name of the file of columns, name of that of details) of each chunk.
    """

    def __init__(self, put: Callable[[str, bytes], object]):
        """Args:
        put: writes a file of this name.
        """
        self._put, self._columns, self._details = put, Columns(), list[list[Any]]()
        self.made: list[tuple[int, str, str]] = []

    def add(self, row: Row, cells: Cells) -> None:
        """Adds a row, with the values of its columns."""
        for name, value in cells.items():
            self._columns.setdefault(name, []).append(value)
        self._details.append([*(plain(getattr(row, name)) for name in DETAILS[:-1]), row.curve])  # short as it is
        if len(self._details) == CHUNK:
            self.close()

    def close(self) -> None:
        """Writes the last chunk."""
        if not self._details:
            return
        names: list[str] = []
        contents: dict[str, Any] = {"rows": self._columns, "detail": {"fields": DETAILS, "rows": self._details}}
        for kind, content in contents.items():
            text = _text(content)
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            names.append(f"{kind}-{digest}.js")
            self._put(names[-1], _call(kind, _text(digest), text))
        self.made.append((len(self._details), names[0], names[1]))
        self._columns, self._details = {}, []


def plain(value: Any) -> Any:
    """Rounds all numbers in a JSON value, see `rounded`."""
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
