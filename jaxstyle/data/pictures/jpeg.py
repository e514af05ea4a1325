"""Decodes JPEGs with libjpeg-turbo's own warnings, which Pillow hides: a warning of damaged pixels is an error.

simplejpeg calls the same library as Pillow, gives the same pixels, and takes the same time. It reports only the first
warning of a file; the cause of a harmless one is cut out, and the file is decoded again to hear of others.
"""

from __future__ import annotations

import io
import re

import numpy as np
import simplejpeg
from PIL import Image

from jaxstyle.data.pictures.complete.jpeg import with_more_data, without_junk

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Colour spaces by Pillow's modes."""
REUSED = 1 << 22, 1 << 25
"""Least and most bytes of a picture that is decoded to memory that later ones use again."""
_memory = bytearray()
HARMLESS_BYTES = 2
"""Most superfluous bytes behind the pixels that some encoders leave; more of them are pixels that did not fit."""


class Damaged(Exception):
    """libjpeg found damaged pixels; the message says what it said."""


def decode(data: bytes, mode: str, size: tuple[int, int], half: bool, notes: list[str]) -> np.ndarray:
    """Decodes a JPEG, at its size or at half of it, rounded up.

    Args:
        mode, size: that Pillow reports.
        notes: harmless warnings are appended.

    Returns:
        H x W uint8 of gray, or H x W x 3 of RGB or x 4 of CMYK, the latter not inverted. Valid until the next call.

    Raises:
        Damaged: see there.
    """
    width, height = ((side + 1) // 2 if half else side for side in size)
    try:
        known = simplejpeg.decode_jpeg_header(data, min_width=width, min_height=height, strict=False)[:2]
    except ValueError:
        return _without_warnings(data)
    if mode not in SPACES or known != (height, width):
        return _without_warnings(data)
    plain = _known_version(data)
    for _ in range(3):
        try:
            made = simplejpeg.decode_jpeg(
                plain, SPACES[mode], min_width=width, min_height=height, buffer=_buffer(width * height * len(mode))
            )
        except ValueError as error:
            message = str(error)
        else:
            made = 255 - made if mode == "CMYK" else made  # CMYK is stored inverted
            return made[..., 0] if mode == "L" else made
        found = re.search(r"(\d+) extraneous bytes before marker (0xd9)?", message)
        number = int(found[1]) if found and found[2] else 0
        cleaned = without_junk(plain, number) if found and number <= HARMLESS_BYTES else plain
        if cleaned == plain:
            break
        notes.append(f"warning: {message}")
        plain = cleaned
    raise Damaged(message)


def _buffer(length: int) -> bytearray | None:
    """Returns memory for the pixels of a large picture; fresh memory would take 5% more of the time."""
    global _memory
    if not REUSED[0] <= length <= REUSED[1]:
        return None
    if len(_memory) < length:
        _memory = bytearray(length)
    return _memory


def _known_version(data: bytes) -> bytes:
    """Returns the file with a JFIF version that libjpeg knows: its warning of another one would hide all others."""
    at = data.find(b"JFIF\0", 0, 64)
    if at < 0 or data[at + 5 : at + 6] in (b"\1", b"\2"):
        return data
    return data[: at + 5] + b"\1" + data[at + 6 :]


def _without_warnings(data: bytes) -> np.ndarray:
    """Decodes a JPEG of odd sampling, which simplejpeg does not know, by Pillow.

    A scan that ends too early is found by a second decoding, of a file with more data: it comes out differently.
    """
    with (
        Image.open(io.BytesIO(data), formats=["JPEG"]) as image,
        Image.open(io.BytesIO(with_more_data(data)), formats=["JPEG"]) as longer,
    ):
        image.load()
        if longer.convert("RGB").tobytes() != image.convert("RGB").tobytes():
            raise Damaged("nothing of a scan that ends too early")
        return np.array(image)
