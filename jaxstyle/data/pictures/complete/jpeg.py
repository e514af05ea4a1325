"""JPEG: an end marker after the last scan, and scans for all coefficients of all components."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from jaxstyle.data.pictures.complete import zeros

CUT = "ends before its end marker: cut short, or still being copied"
END, _SCAN, _TABLES = 0xD9, 0xDA, 0xC4
_ALONE = (0x01, 0xD8)
BLOCKS_A_ZERO = 2
"""Blocks for each byte of a run of zeros that may mean a flat area: two codes of two bits a block."""
_MORE = bytes(range(37, 237, 2)) * 10
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class _Scans:
    """The precision that scans have given to the coefficients of components."""

    def __init__(self) -> None:
        self.levels: dict[int, list[int]] = {}
        self.blocks = 0

    def frame(self, segment: bytes) -> None:
        height, width = (int.from_bytes(segment[n : n + 2], "big") for n in (1, 3))
        factors = [(segment[7 + 3 * n] >> 4 or 1, segment[7 + 3 * n] & 15 or 1) for n in range(segment[5])]
        across, down = (max(pair[n] for pair in factors) for n in (0, 1))
        self.blocks = sum((width * h // (8 * across) + 1) * (height * v // (8 * down) + 1) for h, v in factors)
        self.levels = {segment[6 + 3 * n]: [-1] * 64 for n in range(segment[5])}

    def scan(self, segment: bytes) -> None:
        number = segment[0]
        first, last, approximation = segment[1 + 2 * number : 4 + 2 * number]
        for component in segment[1 : 1 + 2 * number : 2]:
            for k in range(first, min(last, 63) + 1):
                self.levels[component][k] = approximation & 15

    def problem(self, lossless: bool) -> str:
        if lossless:
            return ""
        missing = sum(level != 0 for levels in self.levels.values() for level in levels)
        return f"lacks the scans of {missing} of {64 * len(self.levels)} coefficients" if missing else ""


def problem(file: BinaryIO) -> str:
    """Returns what shows that the first picture of a JPEG or MPO file is not whole, or ""."""
    data = file.read()
    scans, lossless, zeros_are_flat = _Scans(), False, False
    for code, _, start, end in _places(data):
        segment = data[start + 4 : end]
        if code == END:
            longest = zeros.LONGEST + (scans.blocks // BLOCKS_A_ZERO if zeros_are_flat else 0)
            return scans.problem(lossless) or zeros.problem(data[data.find(b"\xff\xda") : start], longest)
        zeros_are_flat |= code == _TABLES and _zeros_are_flat(segment)
        if code in _FRAMES:
            scans.frame(segment)
            lossless = code in (0xC3, 0xC7, 0xCB, 0xCF)
        elif code == _SCAN:
            scans.scan(segment)
    return CUT


def _zeros_are_flat(tables: bytes) -> bool:
    """Whether zero bits may mean flat areas in one of the Huffman tables of a segment.

    The code of zeros alone is the first one. For a flat area it has to mean the end of a block. In JPEG's own tables it
    means a coefficient of -1, so that many zeros would be a block of which no photograph has any.
    """
    while len(tables) > 17:
        if tables[0] >> 4 and not tables[17] & 15:
            return True
        tables = tables[17 + sum(tables[1:17]) :]
    return False


def without_junk(data: bytes, number: int) -> bytes:
    """Returns the file without bytes that belong to no segment and no scan, and without `number` bytes before its end.

    Args:
        number: bytes behind the pixels that libjpeg calls superfluous.
    """
    kept, after_scan = [], False
    for code, junk, start, end in _places(data):
        after = data[start - junk : start] if after_scan else b""
        kept += [after[: len(after) - number] if code == END else after, data[start:end]]
        after_scan = code == _SCAN
    return b"".join(kept)


def with_more_data(data: bytes) -> bytes:
    """Returns the file with more data at the end of every scan: a decoder reads them only if a scan ends too early."""
    made, after_scan = [], False
    for code, junk, start, end in _places(data):
        made += [data[start - junk : start], _MORE if after_scan else b"", data[start:end]]
        after_scan = code == _SCAN
    return b"".join(made)


def _markers(data: bytes) -> list[int]:
    """Returns where markers may begin: no zero byte follows, no restart marker, and no fill byte."""
    values = np.frombuffer(data, np.uint8)
    found = np.flatnonzero(values[:-1] == 0xFF)
    code = values[found + 1]
    return found[(code != 0) & (code != 0xFF) & (code >> 3 != 0xD0 >> 3)].tolist()


def _places(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields marker, bytes before it that belong to no segment, start and end of each segment to the end marker."""
    at, markers = 0, _markers(data)
    while (n := bisect.bisect_left(markers, at)) < len(markers):
        start, end = markers[n], markers[n] + 2
        code = data[start + 1]
        if code not in (END, *_ALONE):
            end += int.from_bytes(data[end : end + 2], "big")
        if len(data) < end:
            return
        yield code, start - at, start, end
        if code == END:
            return
        at = end
