"""Runs of zeros where a whole file has none."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

LONGEST = 64
"""Longest run of zero bytes that is taken for compressed data. Longest ones found in whole files of flat, half flat,
graded and chequered pictures: 32 (JPEG 2000), 18 (TIFF with LZW or PackBits), 7 (AVIF), 2 (lossless WebP)."""
DIM = 8
"""Mean byte of a part of a row that is no continuation of black."""


def runs(data: bytes, longest: int = LONGEST, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields start and end of every run of more than `longest` zero bytes from a place on."""
    first = data.find(bytes(longest + 1), start)  # much faster than the expression
    if first >= 0:
        yield from (match.span() for match in re.compile(rb"\0{%d,}" % (longest + 1)).finditer(data, first))


def problem(data: bytes, longest: int = LONGEST, start: int = 0) -> str:
    """Returns the problem of compressed data with a run of more than `longest` zero bytes from a place on, or ""."""
    found = next(runs(data, longest, start), None)
    return missing(found[1] - found[0]) if found else ""


def missing(length: int) -> str:
    """Formats the problem of a run of zeros of some bytes."""
    return f"{length} bytes in its middle or at its end are zeros where pixels should be: an interrupted copy?"


def problem_of_rows(data: bytes, stride: int, dim: int = DIM) -> str:
    """Returns the problem of uncompressed rows with zeros from the middle of a row on, or to the middle of one, or "".

    Black areas are zeros too. Missing data hold at least one whole row and end in the middle of another, where the rest
    of the row above their start, or of the row below their end, has content.

    Args:
        data: the rows, of `stride` bytes each.
        dim: see `DIM`; 0 for values that are no brightness.
    """
    if stride <= 0:
        return ""
    for start, end in runs(data, max(2 * stride, LONGEST)):
        rest, into = -start % stride, end % stride
        above = data[max(0, start - stride) : max(0, start - stride + rest)]
        below = data[end - into + stride : end + stride] if into else b""
        if _has_content(above, dim) or _has_content(below, dim):
            return missing(end - start)
    return ""


def _has_content(part: bytes, dim: int) -> bool:
    values = np.frombuffer(part, np.uint8)
    return values.size > 1 and float(values.mean()) > dim and float((values > 0).mean()) > 0.5
