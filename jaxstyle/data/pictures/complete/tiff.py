"""TIFF: strips and tiles that lie inside the file and hold data, checksums of deflated ones, and runs of zeros."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from jaxstyle.data.pictures import ifd
from jaxstyle.data.pictures.complete import zeros

_NONE, _JPEG, _DEFLATE = 1, (6, 7), (8, 32946)
_PALETTE, _YCBCR = 3, 6


def problem(file: BinaryIO) -> str:
    """Returns what shows that a TIFF file is not whole, or ""."""
    size = file.seek(0, os.SEEK_END)
    try:
        pages = ifd.pages(file)
        for page in pages:
            if found := _outside(page, size):
                return found
        return _pixels(file, pages[ifd.full_page(pages)])
    except ifd.Broken as error:
        return str(error)


def _parts(page: ifd.Page) -> list[tuple[int, int]]:
    """Returns the offset and the length of the strips or tiles of a page; lengths may be missing in an old file."""
    tiled = ifd.TILES in page.tags
    offsets = page.tags.get(ifd.TILES if tiled else ifd.STRIPS, ())
    lengths = page.tags.get(ifd.TILE_BYTES if tiled else ifd.STRIP_BYTES, ())
    return list(zip(offsets, lengths, strict=False))


def _number(page: ifd.Page) -> int:
    """Returns how many strips or tiles a page needs."""
    height, planes = page.first(ifd.HEIGHT), page.first(ifd.SAMPLES, 1) if page.first(ifd.PLANES, 1) == 2 else 1
    if ifd.TILES in page.tags:
        across, down = page.first(ifd.TILE_WIDTH) or 1, page.first(ifd.TILE_HEIGHT) or 1
        return -(-page.first(ifd.WIDTH) // across) * -(-height // down) * planes
    return -(-height // min(height or 1, page.first(ifd.ROWS, height) or height or 1)) * planes


def _outside(page: ifd.Page, size: int) -> str:
    parts = _parts(page)
    if parts and len(parts) < _number(page):
        return f"lacks {_number(page) - len(parts)} of its {_number(page)} strips or tiles"
    for offset, length in parts:
        if offset + length > size:
            return "is cut short, or still being copied: pixels lie beyond its end"
        if not length:
            return "has a strip or tile without data"
    return ""


def _pixels(file: BinaryIO, page: ifd.Page) -> str:
    """Looks at the data of the strips or tiles of a page."""
    compression, parts = page.first(ifd.COMPRESSION, 1), []
    for offset, length in _parts(page):
        file.seek(offset)
        data = file.read(length)
        parts.append(data)
        if compression in _DEFLATE and (found := _inflated(data)):
            return found
        if compression not in (_NONE, *_JPEG, *_DEFLATE) and (found := zeros.problem(data)):
            return found
    if compression == _NONE and page.first(ifd.PHOTOMETRIC) != _YCBCR:
        separate = page.first(ifd.PLANES, 1) == 2
        bits = page.first(ifd.BITS, 1) * (1 if separate else page.first(ifd.SAMPLES, 1))
        width = page.first(ifd.TILE_WIDTH) if ifd.TILES in page.tags else page.first(ifd.WIDTH)
        dim = 0 if page.first(ifd.PHOTOMETRIC) == _PALETTE else zeros.DIM
        return zeros.problem_of_rows(b"".join(parts), (width * bits + 7) // 8, dim)
    if compression in _JPEG:
        return zeros.problem(b"".join(parts), max(zeros.LONGEST, page.pixels // 256))
    return ""


def _inflated(data: bytes) -> str:
    """Decompresses a strip to compare its checksum, a block at a time."""
    stream = zlib.decompressobj()
    try:
        while data and not stream.eof:
            stream.decompress(data, 1 << 20)
            data = stream.unconsumed_tail
    except zlib.error as error:
        return f"is damaged: a strip or tile cannot be inflated ({error})"
    return "" if stream.eof else "is damaged: a strip or tile ends too early"
