"""Writes a report of an output folder: a page with all pictures, their rows, and the settings of the run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data.audit import opened
from jaxstyle.data.fingerprint import read_settings
from jaxstyle.data.folder import Folder
from jaxstyle.data.reading import LastRows
from jaxstyle.data.sources.base import printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.decode.pool import Decoders, decoders_for
from jaxstyle.errors import SettingsError
from jaxstyle.report.chunks import script
from jaxstyle.report.pictures import Pictures
from jaxstyle.report.rows_index import Asked, RowsIndex
from jaxstyle.report.site import DATA, INDEX, PAGE, Site
from jaxstyle.report.sources import Photographs, StylePictures
from jaxstyle.report.thumbnails import Thumbnails, Wanted
from jaxstyle.settings import RenderSettings

TOLD = 10.0
"""Seconds between two messages."""


@dataclass
class Written:
    """A report that was written.

    Attributes:
        page: the page to open.
        rows: number of rows.
        thumbnails: number that were made now.
    """

    page: Path
    rows: int = 0
    thumbnails: int = 0

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        return {"page": printable(self.page), "rows": self.rows, "thumbnails": self.thumbnails}

    def lines(self) -> list[str]:
        """The page's path."""
        return [printable(self.page)]


def default_target(output: Path) -> Path:
    """The folder of the report of an output folder: beside it, with `-report` at the end of its name."""
    if output.name in ("", ".."):
        return Path(os.path.abspath(output) + "-report")
    return output.parent / f"{output.name}-report"


def write(asked: Asked, tell: Callable[[str], None] = lambda text: None) -> Written:
    """Writes a report; what a report of the same rows left is not written again.

    Args:
        tell: called with messages for people.

    Raises:
        InputError: the folder holds no results; the target holds other files or overlaps the pictures; an input or
            a style cannot be used.
        StorageError: a file cannot be read or written.
        ProcessError: no decoder process can be started.
    """
    with Gallery(asked) as gallery:
        written = Written(asked.target / PAGE, gallery.build())
        last = time.monotonic()

        def told(made: int) -> None:
            nonlocal last
            if time.monotonic() - last >= TOLD:
                last = time.monotonic()
                tell(f"{made} thumbnails made")

        written.thumbnails = gallery.make_thumbnails(told)
        return written


class Gallery:
    """A report that can be built again while the run goes on. A context manager that ends its decoder processes.

    Attributes:
        folder: output folder of the run.
        site: folder of the report.
        index: what the page loads first, see `build`.
        style_keys: key of each style of the index.
        named: hashed keys of the outputs that the page names, sorted; see `ledger.find`.
        pictures: where the pictures are.
        named_inputs: likewise, those of the photographs whose files it names.
    """

    def __init__(self, asked: Asked):
        """Raises the errors of `write` before anything is written."""
        self._asked, self.folder = asked, opened(asked.output)
        refuse_overlap(asked.target, [asked.output], "folders of results")
        if asked.inputs:
            refuse_overlap(asked.target, [one for one in asked.inputs if isinstance(one, Path)])
        settings = _settings(self.folder, asked.dataset)
        self._decoders: Decoders = decoders_for(settings)
        try:
            self._photographs = Photographs(asked.inputs, settings, asked.output, self._decoders)
            styles = StylePictures(asked.styles)
            self.pictures = Pictures(asked.output, self.folder, self._photographs, styles, self._decoders)
            self.site = Site(asked.target)
        except BaseException:
            self._decoders.close()
            raise
        self._thumbnails = Thumbnails(self.site, self._decoders.workers)
        self.index: dict[str, Any] = {}
        self.named, self.named_inputs = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self.style_keys: list[str] = []
        self._wanted: list[Wanted] = []

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoders.close()
        self._photographs.close()

    def build(self) -> int:
        """Writes the page and the rows as they are now; returns the number of rows.

        The index is written last, and then what it no longer names is deleted.

        Raises:
            StorageError: see `write`.
        """
        self.site.put_page()
        made = RowsIndex(self._asked, self.folder, self.pictures, partial(_put_data, self.site))
        with LastRows(self.folder) as rows:
            for row in rows:
                made.add(row)
            index = made.finish(rows)
        self.named, self.named_inputs = (np.unique(np.array(keys)) for keys in (made.named, made.inputs))
        self._wanted = made.wanted
        self.site.put(INDEX, script("index", index))
        self.index, self.style_keys = index, [*made.styles]
        self.site.sweep(made.chunk_names(), (one.name for one in made.wanted))
        return sum(index["counts"].values())

    def make_thumbnails(
        self, told: Callable[[int], None] = lambda made: None, ended: Callable[[], bool] = lambda: False
    ) -> int:
        """Makes the thumbnails that the page names and the report lacks; returns their number.

        Args:
            told: called now and then with the number made so far.
            ended: whether to begin nothing more.

        Raises:
            StorageError, ProcessError: see `write`.
        """
        return self._thumbnails.make(self._wanted, told, ended)


def _put_data(site: Site, name: str, data: bytes) -> None:
    site.put(f"{DATA}/{name}", data)


def _settings(folder: Folder, dataset: str | None) -> RenderSettings:
    """Settings for reading pictures as the run read them."""
    recorded = read_settings(folder)
    try:
        return RenderSettings(dataset=dataset, white_level=recorded.get("white_level"))
    except (SettingsError, TypeError, ValueError):
        return RenderSettings(dataset=dataset)
