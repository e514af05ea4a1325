"""Bounds on the size of a picture and of its file, which are checked before it is decoded or read."""

from __future__ import annotations

from jaxstyle.errors import ImageError

LONGEST_SIDE = 40_000_000
"""Pixels. Pillow resizes no picture whose side exceeds 44.7 million, whatever its memory: a table overflows."""
PIXEL_BYTES, OTHER_BYTES = 16, 2**26
"""Most bytes of a picture file: for each pixel (four floats), and for all else."""


def most_bytes(max_pixels: int) -> int:
    """Bytes that the file of a picture of so many pixels may have."""
    return max_pixels * PIXEL_BYTES + OTHER_BYTES


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuses a picture with too many pixels or too long a side.

    Raises:
        ImageError: says which, and the size.
    """
    if width * height > max_pixels:
        raise ImageError(
            f"claims {width} x {height} pixels, more than {max_pixels}", "Raise --max-pixels if the size is right."
        )
    if max(width, height) > LONGEST_SIDE:
        raise ImageError(f"is {width} x {height} pixels, and a side may have {LONGEST_SIDE} at most", "Cut it up.")
