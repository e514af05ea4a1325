"""Reads the directories (IFDs) of a TIFF: its pictures, which of them is the full one, and whether it is RAW.

Pillow opens the first directory, which may be a thumbnail, and knows nothing of directories below it (SubIFDs).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

MOST_PAGES, MOST_VALUES = 4096, 1 << 22
"""Most directories of a file, and most entries and values of all of them together, that are read."""
_TYPES = {1: "B", 2: "B", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
_PAIRS_AND_FLOATS = {5: 8, 10: 8, 11: 4, 12: 8}
"""Bytes of the values of types that are not read."""
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUBPAGES, EXTRA_SAMPLES, FORMAT = 322, 323, 324, 325, 330, 338, 339
_RAW_TAGS = (33421, 33422, 50706)
"""Size and pattern of a sensor's colour filters, and DNG's version."""
_RAW_PHOTOMETRICS = (32803, 34892)
_READ = {
    SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES,
    TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUBPAGES, EXTRA_SAMPLES, FORMAT, *_RAW_TAGS,
}  # fmt: skip


class Broken(Exception):
    """The directories cannot be followed; the message says why."""


class Raw(Exception):
    """The file is camera RAW, or holds no picture of full size; the message says why."""


@dataclass(frozen=True)
class Page:
    """A directory of a TIFF.

    Attributes:
        tags: values of its tags of whole numbers and bytes.
        below: its SubIFDs.
    """

    tags: dict[int, tuple[int, ...]]
    below: tuple[Page, ...] = ()

    def first(self, tag: int, default: int = 0) -> int:
        """Returns the first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.first(WIDTH) * self.first(HEIGHT)

    @property
    def reduced(self) -> bool:
        """Whether it says that it is a reduced picture or a mask."""
        return bool(self.first(SUBFILE) & 5) or self.first(OLD_SUBFILE) == 2

    @property
    def raw(self) -> bool:
        """Whether it, or a page below it, holds a sensor's values."""
        own = self.first(PHOTOMETRIC) in _RAW_PHOTOMETRICS or any(tag in self.tags for tag in _RAW_TAGS)
        return own or any(page.raw for page in self.below)


def pages(file: BinaryIO) -> list[Page]:
    """Reads the directories of a TIFF or BigTIFF in their order.

    Raises:
        Broken: a directory lies outside the file, or the chain has a loop or too many members.
        struct.error: the file is too short.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    reader = _Reader(file, size, "<" if head[:2] == b"II" else ">", big=b"+" in head[2:4])
    at = reader.number(head[8:16] if reader.big else head[4:8])
    found: list[Page] = []
    seen: set[int] = set()
    while at:
        if at in seen or len(found) >= MOST_PAGES:
            raise Broken("is damaged: its directories form a loop")
        seen.add(at)
        page, at = reader.page(at)
        found.append(page)
    if not found:
        raise Broken("is damaged: it has no directory")
    return found


class _Reader:
    """Reads directories of one byte order and offset size."""

    def __init__(self, file: BinaryIO, size: int, order: str, big: bool):
        self.file, self.size, self.order, self.big = file, size, order, big
        self.left = MOST_VALUES

    def number(self, data: bytes) -> int:
        return struct.unpack(self.order + ("Q" if self.big else "L"), data)[0]

    def page(self, at: int, below: bool = True) -> tuple[Page, int]:
        """Reads a directory; returns it and the offset of the next one."""
        count_bytes, entry, width = (8, 20, 8) if self.big else (2, 12, 4)
        if at + count_bytes > self.size:
            raise Broken("is cut short, or still being copied: a directory lies beyond its end")
        self.file.seek(at)
        count = struct.unpack(self.order + ("Q" if self.big else "H"), self.file.read(count_bytes))[0]
        self._spend(count)
        body = self.file.read(count * entry + width)
        if count == 0 or len(body) < count * entry + width:
            raise Broken("is damaged or cut short: a directory is empty or lies beyond its end")
        tags = {}
        for n in range(count):
            tag, values = self._tag(body[n * entry : (n + 1) * entry])
            if values:
                tags[tag] = values
        offsets = tags.get(SUBPAGES, ()) if below else ()
        inner = tuple(self.page(offset, below=False)[0] for offset in offsets[:64])
        return Page(tags, inner), self.number(body[-width:])

    def _spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise Broken("is damaged: its directories have millions of values")

    def _tag(self, entry: bytes) -> tuple[int, tuple[int, ...]]:
        head = 12 if self.big else 8
        tag, kind, count = struct.unpack(self.order + ("HHQ" if self.big else "HHL"), entry[:head])
        code = _TYPES.get(kind)
        length = count * (struct.calcsize("=" + code) if code else _PAIRS_AND_FLOATS.get(kind, 0))
        data = entry[head:]
        if length > len(data):
            at = self.number(data)
            if at + length > self.size:
                raise Broken("is cut short, or still being copied: data of a tag lie beyond its end")
            if code and tag in _READ:
                self._spend(count)
                self.file.seek(at)
                data = self.file.read(length)
        if code is None or tag not in _READ:
            return tag, ()
        return tag, struct.unpack(f"{self.order}{count}{code}", data[:length])


def full_page(found: list[Page]) -> int:
    """Returns the index of the full picture: the first page that is not reduced.

    Raises:
        Raw: see there.
    """
    if any(page.raw for page in found):
        raise Raw("is camera RAW (its directories describe a sensor's values)")
    index = next((n for n, page in enumerate(found) if not page.reduced), -1)
    if index < 0:
        raise Raw("holds a reduced picture only, such as a RAW file's thumbnail")
    below = max((page.pixels for page in found[index].below), default=0)
    if below > found[index].pixels:
        raise Raw("has its full picture in a SubIFD, which is not read")
    return index
