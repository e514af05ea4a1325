"""Buckets: the few array shapes that pictures of all sizes are filled up to, each compiled once."""

from __future__ import annotations

from fractions import Fraction

from jaxstyle.architecture import STRIDE
from jaxstyle.data.image import Header, Size, work_size

LONG_SIDES = tuple(Fraction(n, 8) for n in (8, 6, 4, 2, 1))
"""Long sides of buckets as parts of the working size; those under 1 are for pictures smaller than it."""
SHORT_SIDES = tuple(Fraction(n, 48) for n in (48, 39, 36, 32, 27, 24, 16, 8))
"""Short sides as parts of the long side: square, 5:4, 4:3, 3:2, 16:9, 2:1 and beyond."""


def bucket(work: Size, size: int) -> Size:
    """The smallest bucket that holds a picture of this working size; width and height in pixels.

    Args:
        size: long side of the working size of large pictures, see `RenderSettings.size`.
    """
    long, short = max(work), min(work)
    longs = (_round_up(part * size) for part in reversed(LONG_SIDES))
    long_side = next(side for side in longs if side >= long)
    shorts = (_round_up(part * long_side) for part in reversed(SHORT_SIDES))
    short_side = next(side for side in shorts if side >= short)
    return (long_side, short_side) if work[0] >= work[1] else (short_side, long_side)


def shape(header: Header, size: int) -> tuple[Size, Size]:
    """The working size and the bucket of a picture with this header."""
    work = work_size(header.width, header.height, size)
    return work, bucket(work, size)


def _round_up(length: Fraction) -> int:
    return max(STRIDE, -(-length // STRIDE) * STRIDE)
