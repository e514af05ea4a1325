"""The pictures of a row that get thumbnails: its result, its photograph and its style."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from jaxstyle.data.folder import Folder
from jaxstyle.data.rows import Row
from jaxstyle.decode.pool import Decoders
from jaxstyle.decode.worker import Decoded
from jaxstyle.errors import ImageError
from jaxstyle.report.sources import Photographs, StylePictures
from jaxstyle.report.thumbnails import SIZE, Wanted, name_of


class Pictures:
    """Finds a row's pictures.

    Attributes:
        photographs, styles: where they are.
    """

    def __init__(
        self, output: Path, folder: Folder, photographs: Photographs, styles: StylePictures, decoders: Decoders
    ):
        """Args:
        output, folder: the output folder of the run, and the same opened.
        """
        self._output, self._folder, self._decoders = output, folder, decoders
        self.photographs, self.styles = photographs, styles

    def result(self, row: Row) -> Wanted | None:
        """The thumbnail of a row's output; None without a checksum."""
        return _wanted(row.output_sha256, partial(self._read_result, row.key))

    def photograph(self, row: Row) -> Wanted | None:
        """The thumbnail of a row's photograph; None if it is not found or has no checksum."""
        locator, reader = self.photographs.find(row), self.photographs.reader
        if locator is None or reader is None:
            return None
        return _wanted(row.input_sha256, partial(reader.read, locator, SIZE, full_alpha=False))

    def style(self, row: Row) -> Wanted | None:
        """The thumbnail of a row's style; None if it is not found."""
        path = self.styles.path(row.style)
        if path is None:
            return None
        sha256 = self.styles.sha256(row.style, row.style_sha256)
        return _wanted(sha256, partial(self._decoders.read, path, SIZE, full_alpha=False))

    def _read_result(self, key: str) -> Decoded:
        """Decodes an output; one behind a link is none."""
        try:
            with self._folder.parent(key) as (at, name):
                if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    raise ImageError("is not a regular file")
        except OSError as error:
            raise ImageError(f"cannot be read ({error.strerror})") from error
        return self._decoders.read(self._output / key, SIZE, full_alpha=False)


def _wanted(sha256: str, read: partial[Decoded]) -> Wanted | None:
    name = name_of(sha256)
    return Wanted(name, sha256, read) if name else None
