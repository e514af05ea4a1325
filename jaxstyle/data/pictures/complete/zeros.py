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


def runs(data: bytes, longest: int = LONGEST) -> Iterator[tuple[int, int]]:
    """Yields start and end of every run of more than `longest` zero bytes."""
    if bytes(longest + 1) in data:  # fast
        yield from (match.span() for match in re.finditer(rb"\0{%d,}" % (longest + 1), data))


def problem(data: bytes, longest: int = LONGEST) -> str:
    """Returns the problem of compressed data with a run of more than `longest` zero bytes, or ""."""
    found = next(runs(data, longest), None)
    return missing(found[1] - found[0]) if found else ""


def missing(length: int) -> str:
    """Formats the problem of a run of zeros of some bytes."""
    return f"{length} bytes in its middle or at its end are zeros where pixels should be: an interrupted copy?"


def problem_of_rows(data: bytes, stride: int) -> str:
    """Returns the problem of uncompressed rows with zeros from the middle of a row on, or "".

    Black areas are zeros too. These begin where the row above has content, run to the end of their row and through
    at least the whole next row.

    Args:
        data: the rows, of `stride` bytes each.
    """
    if stride <= 0:
        return ""
    for start, end in runs(data, max(2 * stride, LONGEST)):
        row_end = -(-start // stride) * stride
        above = np.frombuffer(data[max(0, start - stride) : max(0, row_end - stride)], np.uint8)
        if above.size >= 8 and above.mean() > DIM and (above > 0).mean() > 0.5:
            return missing(end - start)
    return ""
