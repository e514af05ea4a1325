"""Reads headers and pixels of a source's inputs. An input that is not a file is copied to one for the decoders."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from jaxstyle.data.sources.base import Locator, Source, printable
from jaxstyle.decode.pool import Decoders
from jaxstyle.decode.worker import UNKNOWN, Decoded, Probed, Stat
from jaxstyle.errors import ImageError

BLOCK = 2**20
"""Bytes of an input that are copied in one watched call."""


class Reader:
    """Decodes the inputs of a source, given by their locators. Thread-safe.

    Attributes:
        workers: number of decoder processes; 0 decodes in the calling process.
    """

    def __init__(
        self,
        source: Source,
        decoders: Decoders,
        watch: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ):
        """Args:
        watch: a context for each call of the source, given what it does.
        """
        self._source, self._decoders, self.workers = source, decoders, decoders.workers
        self._watch = watch

    def probe(self, locators: Sequence[Locator]) -> list[Probed]:
        """Reads headers, see `Decoders.probe`."""
        if all(isinstance(one, Path) for one in locators):
            return self._decoders.probe([Path(one) for one in locators])
        return [self._probe(one) for one in locators]

    def _probe(self, locator: Locator) -> Probed:
        if isinstance(locator, Path):
            return self._decoders.probe([locator])[0]
        with tempfile.TemporaryDirectory() as folder:
            try:
                path, stat = self._file(locator, folder)
            except OSError as error:
                return Probed(UNKNOWN, None, f"cannot be read ({error.strerror or error})")
            return dataclasses.replace(self._decoders.probe([path])[0], stat=stat)

    def read(self, locator: Locator, size: int, *, full_alpha: bool, metadata: str = "none") -> Decoded:
        """Decodes a picture, see `Decoders.read`.

        Raises:
            ImageError: the input cannot be read or decoded.
        """
        if isinstance(locator, Path):
            return self._decoders.read(locator, size, full_alpha=full_alpha, metadata=metadata)
        with tempfile.TemporaryDirectory() as folder:
            try:
                path, stat = self._file(locator, folder)
            except OSError as error:
                raise ImageError(f"cannot be read ({error.strerror or error})") from error
            found = self._decoders.read(path, size, full_alpha=full_alpha, metadata=metadata)
            return dataclasses.replace(found, stat=stat)

    def result(self, folder: Path, key: str, size: int) -> Decoded:
        """Decodes the output that an earlier run wrote for an input.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            return self._decoders.read(folder / key, size, full_alpha=False)
        except ImageError as error:
            raise ImageError(f"its start {printable(folder / key)}: {error.what}", error.remedy) from error

    def _file(self, locator: Locator, folder: str) -> tuple[Path, Stat]:
        """Copies an input's content to a file; returns its path and the input's stamp before copying."""
        path, what = Path(folder, "input"), "reading an input"
        with self._watch(what):
            stat, content = Stat(*self._source.stamp(locator)), self._source.open(locator)
        with content, path.open("wb") as copy:
            while True:
                with self._watch(what):
                    if not (block := content.read(BLOCK)):
                        return path, stat
                copy.write(block)
