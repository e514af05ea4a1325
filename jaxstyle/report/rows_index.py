"""Divides the rows of a folder into the columns of a report's page, and writes the index that the page loads first."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from jaxstyle import __version__
from jaxstyle.data import lock
from jaxstyle.data.fingerprint import read_about, read_settings
from jaxstyle.data.folder import Folder
from jaxstyle.data.ledger import hashed
from jaxstyle.data.pictures import kinds
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STATUSES, STYLE_ROWS, Row
from jaxstyle.data.sources.base import printable
from jaxstyle.report.chunks import Cells, Group, plain, rounded
from jaxstyle.report.pictures import Pictures
from jaxstyle.report.sources import SHOWN, relative
from jaxstyle.report.thumbnails import Wanted
from jaxstyle.report.timeline import Timeline

MOST_REASONS = 50
"""Reasons of failed and skipped inputs that the index counts, the most common ones."""


@dataclass(frozen=True)
class Asked:
    """What a report is made of.

    Attributes:
        output: output folder of runs, at work or finished.
        target: folder of the report.
        inputs: files and folders as `render` took them, where the photographs are; the rows do not say.
        styles: style pictures as `render` took them.
        dataset: see `RenderSettings`.
        thumbnails: most rows whose pictures get thumbnails.
    """

    output: Path
    target: Path
    inputs: Sequence[Path | str] = ()
    styles: Sequence[str] = ()
    dataset: str | None = None
    thumbnails: int = 1000


class Index(TypedDict):
    """What the page loads first: the argument of `Report.index` in data/index.js.

    Attributes:
        version: version of the jaxstyle that wrote the report, page and data.
        title: name of the output folder.
        counts: number of rows by status.
        reasons: the most common ones of failed and skipped rows, at most 50: [status, reason, number].
        styles: [name, address of the picture, name of its thumbnail, number of rows, own number].
        folders: [path of a folder of photographs, number of rows].
        bases: addresses of folders below which photographs lie.
        outputs: address of the output folder.
        chunks: the rows in their order: [number of rows, name of their file of columns, name of their file of
            details].
        settings, about: of settings.json.
        runs: of the last five runs: `run`, `start` in seconds since 1970, `width` of a bin in seconds, and for each bin
            `images` per second, `device`, seconds of the device per second, and `lanes`, the share of lanes that were
            occupied, null where no row tells.
        occupancy: the share of lanes that were occupied over all outputs; null where no row tells.
        working: number of runs at work.
        with_inputs: whether the report was told where the photographs are.
        written: time of the last row, in seconds since 1970; null without rows.
        malformed: number of lines of the ledgers that are not rows.
        refresh: seconds after which the page asks for the index again; 0 if it does not.
        generation: 16 hexadecimal digits that tell this index from others.
    """

    version: str
    title: str
    counts: dict[str, int]
    reasons: list[list[Any]]
    styles: list[list[Any]]
    folders: list[list[Any]]
    bases: list[str]
    outputs: str
    chunks: list[list[Any]]
    settings: dict[str, Any]
    about: dict[str, Any]
    runs: list[dict[str, Any]]
    occupancy: float | None
    working: int
    with_inputs: bool
    written: float | None
    malformed: int
    refresh: float
    generation: str


class RowsIndex:
    """The rows of one moment. Each row is added once, in the order of the ledgers.

    Attributes:
        styles: (name, address, name of the thumbnail, number of rows, its own number) by key.
        named: hashed keys of the outputs that the page names.
        inputs: hashed keys of the photographs whose files it names.
        wanted: the thumbnails that it names.
    """

    def __init__(self, asked: Asked, folder: Folder, pictures: Pictures, put: Callable[[str, bytes], object]):
        """Args:
        folder: the output folder, opened.
        put: writes a file of rows of this name.
        """
        self._asked, self._folder, self._pictures = asked, folder, pictures
        self._here = Path(os.path.abspath(asked.target))
        self._failed, self._others = Group(put), Group(put)
        self.styles: dict[str, list[Any]] = {}
        self._folders: Counter[str] = Counter()
        self._folder_numbers: dict[str, int] = {}
        self._bases: dict[str, int] = {}
        self._real: dict[str, bool] = {}
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._counts = dict.fromkeys(STATUSES, 0)
        self._timeline = Timeline()
        self._about = read_about(folder) or {}
        self.named, self.inputs = array("Q"), array("Q")
        self.wanted: list[Wanted] = []
        self._left = asked.thumbnails

    def add(self, row: Row) -> None:
        """Adds a row to its group, failed ones to the first."""
        self._counts[row.status] += 1
        if row.status != "done":
            self._reasons[row.status, row.reason or "no reason given"] += 1
        written = self._written(row)
        if written:
            self.named.append(hashed(row.key))
            self._timeline.add(row, written)
        thumbs = self._thumbs(row, written > 0)
        size = row.output_size or row.work_size or row.input_size or (1, 1)
        above = "" if row.key.startswith(STYLE_ROWS) else (row.image or row.key).rpartition("/")[0]
        self._folders[above] += 1
        cells: Cells = {
            "key": row.key,
            "image": row.image,
            "status": STATUSES.index(row.status),
            "reason": row.reason,
            "style": self._style(row),
            "folder": self._folder_numbers.setdefault(above, len(self._folder_numbers)),
            "loss": rounded(row.loss["total"]) if "total" in row.loss else None,
            "style_loss": rounded(row.loss["style"]) if "style" in row.loss else None,
            "seconds": rounded(row.seconds),
            "finished": round(written, 1),
            "width": size[0],
            "height": size[1],
            "shown": int(written > 0 and kinds.by_name(row.key) in SHOWN),
            "base": self._base(row),
            "thumb": thumbs["result"],
            "photo_thumb": thumbs["photograph"],
        }
        (self._failed if row.status == "failed" else self._others).add(row, cells)

    def finish(self, rows: LastRows) -> dict[str, Any]:
        """Writes the last chunks; returns the index, whose `generation` tells it from others."""
        self._failed.close()
        self._others.close()
        here, asked = self._here, self._asked
        reasons = sorted(self._reasons.items(), key=lambda item: (-item[1], item[0]))
        index = {
            "version": __version__,
            "title": printable(os.path.basename(os.path.abspath(asked.output))),
            "counts": self._counts,
            "reasons": [[*what, number] for what, number in reasons[:MOST_REASONS]],
            "styles": [*self.styles.values()],
            "folders": [[name, self._folders[name]] for name in self._folder_numbers],
            "bases": [relative(base, here) for base in self._bases],
            "outputs": relative(os.path.abspath(asked.output) + "/", here),
            "chunks": [list(one) for one in self._failed.made + self._others.made],
            "settings": plain(read_settings(self._folder)),
            "about": plain(self._about),
            "runs": self._timeline.as_json(),
            "occupancy": self._timeline.occupancy,
            "working": len(lock.holders(self._folder)),
            "with_inputs": bool(asked.inputs),
            "written": rows.written,
            "malformed": len(rows.malformed),
            "refresh": 0,
        }
        return index | {"generation": hashlib.sha256(json.dumps(index).encode()).hexdigest()[:16]}

    def chunk_names(self) -> Iterator[str]:
        """Names of the files that were written."""
        for _, columns, details in self._failed.made + self._others.made:
            yield from (columns, details)

    def _written(self, row: Row) -> float:
        """Modification time of a row's output in seconds since 1970; 0 if it has none that may be shown."""
        if row.status != "done":
            return 0.0
        above = row.key.rpartition("/")[0]
        if above not in self._real:
            self._real[above] = self._is_real(above)
        if not self._real[above]:
            return 0.0
        try:
            found = os.stat(row.key, dir_fd=self._folder.handle, follow_symlinks=False)
        except (OSError, ValueError):
            return 0.0
        return max(found.st_mtime, 1e-3) if stat.S_ISREG(found.st_mode) else 0.0

    def _is_real(self, folder: str) -> bool:
        """Whether a folder lies in the output folder and behind no link."""
        try:
            with self._folder.parent(f"{folder}/x" if folder else "x"):
                return True
        except (OSError, ValueError):
            return False

    def _style(self, row: Row) -> int:
        """The number of a row's style. The index has each style's name, address, thumbnail and number of rows."""
        if row.key.startswith(STYLE_ROWS):
            return -1
        known = self.styles.get(row.style)
        if known is None:
            wanted = self._pictures.style(row) if len(self.styles) < self._asked.thumbnails else None
            if wanted is not None:
                self.wanted.append(wanted)
            path = self._pictures.styles.path(row.style)
            shown = path is not None and kinds.by_name(path.name) in SHOWN
            address = relative(os.path.abspath(path), self._here) if path is not None and shown else ""
            name = row.style or printable(self._about.get("style", ""))
            known = [name, address, wanted.name if wanted else "", 0, len(self.styles)]
            self.styles[row.style] = known
        known[3] += 1
        return int(known[4])

    def _base(self, row: Row) -> int:
        """The number of the folder, from 1, below which a row's photograph has its key; 0 if it cannot be shown."""
        key = row.image or row.key
        base = self._pictures.photographs.base(key)
        if not base:
            return 0
        self.inputs.append(hashed(key))
        return self._bases.setdefault(base, len(self._bases)) + 1

    def _thumbs(self, row: Row, there: bool) -> dict[str, str]:
        """Names of a row's thumbnails, which are made later; "" for none."""
        names = {"result": "", "photograph": ""}
        if self._left <= 0:
            return names
        wanted = {"result": self._pictures.result(row) if there else None, "photograph": self._pictures.photograph(row)}
        for kind, one in wanted.items():
            if one is not None:
                names[kind] = one.name
                self.wanted.append(one)
        self._left -= any(names.values())
        return names
