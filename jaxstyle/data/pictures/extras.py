"""Pictures of kinds that optional packages read: HEIC, JPEG XL and camera RAW, opened without decoding them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from jaxstyle.data.pictures.complete.boxes import boxes

EIGHT_BIT = ("L", "LA", "RGB", "RGBA")
SRGB_GAMMA = (2.4, 12.92)
"""Exponent and slope of the toe of sRGB's curve, as LibRaw takes them."""
_TURNED = (5, 6)
"""LibRaw's numbers of quarter turns."""


class Unread(Exception):
    """A picture of a mode that is not read; the message says which."""


def opened(kind: str, file: BinaryIO) -> ImageFile:
    """Opens a picture: its width, height and number of pictures are known, its pixels are not decoded.

    Args:
        kind: one of `kinds.EXTRAS` whose package is installed.

    Raises:
        Exception: of any type, on a damaged or hostile file.
    """
    file.seek(0)
    image = _OPENERS[kind](file)
    image.format = kind
    return image


def _heic(file: BinaryIO) -> ImageFile:
    """A HEIC, which pillow-heif turns upright as its boxes say. EXIF's orientation does not count in one."""
    from pillow_heif import HeifImageFile, options

    options.DECODE_THREADS = 1  # a run has decoders of its own
    return HeifImageFile(file)


class _JpegXL(ImageFile):
    """A JPEG XL. The package's own class decodes where it opens; this one reads the header itself.

    A JPEG that was packed into a JPEG XL comes out as stored, with EXIF's orientation; others come out upright, and
    EXIF's orientation does not count (ISO/IEC 18181-2).
    """

    upright = False

    def _open(self) -> None:
        self._size = jpegxl_size(self.fp)  # type: ignore[arg-type]
        self._mode = "RGB"
        self._whole: BinaryIO = self.fp  # type: ignore[assignment]

    def load(self) -> Any:
        if self._im is None:
            from pillow_jxl.JpegXLImagePlugin import JXLImageFile

            self._whole.seek(0)
            made = JXLImageFile(self._whole)
            made.load()
            if made.mode not in EIGHT_BIT:
                raise Unread(f"it is a JPEG XL of the mode {made.mode}, and 8 bits of gray or RGB are read")
            self.info |= made.info
            self.upright, self._im, self._mode, self._size = not made.jpeg, made.im, made.mode, made.size
        return Image.Image.load(self)


class _Raw(ImageFile):
    """A camera RAW, developed by LibRaw to 8 bits of sRGB with the camera's white balance, upright."""

    upright = True

    def _open(self) -> None:
        import rawpy

        self._raw = rawpy.imread(self.fp)  # type: ignore[arg-type]
        sizes = self._raw.sizes
        size = (sizes.iwidth, sizes.iheight)
        self._size = size[::-1] if sizes.flip in _TURNED else size
        self._mode = "RGB"

    def load(self) -> Any:
        if self._im is None:
            import rawpy

            levels = self._raw.postprocess(
                use_camera_wb=True, output_color=rawpy.ColorSpace.sRGB, gamma=SRGB_GAMMA, output_bps=8
            )
            self._raw.close()
            made = Image.fromarray(np.ascontiguousarray(levels))
            self._im, self._mode, self._size = made.im, made.mode, made.size
        return Image.Image.load(self)


_OPENERS: dict[str, Callable[[BinaryIO], ImageFile]] = {"HEIC": _heic, "JPEG XL": _JpegXL, "camera RAW": _Raw}

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_BITS = (9, 13, 18, 30)


def jpegxl_size(file: BinaryIO) -> tuple[int, int]:
    """Reads the width and height of a JPEG XL, upright, from the first bits of its codestream.

    ISO/IEC 18181-1, SizeHeader and ImageMetadata. Bits come with the least significant one first.

    Raises:
        ValueError: it has no codestream.
        boxes.Broken: its container is damaged.
    """
    file.seek(0)
    start = file.read(12)
    at = 0
    if start[:2] != b"\xff\x0a":
        end = file.seek(0, 2)
        found = (first + (4 if name == b"jxlp" else 0) for name, first, _ in boxes(file, 0, end)
                 if name in (b"jxlc", b"jxlp"))  # fmt: skip
        at = next(found, end)
    file.seek(at)
    head = file.read(32)
    if head[:2] != b"\xff\x0a" or len(head) < 12:
        raise ValueError("it has no codestream")
    bits = int.from_bytes(head[2:], "little")

    def take(number: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << number) - 1), bits >> number
        return value

    small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if small else 1 + take(_BITS[take(2)])

    height = side()
    ratio = take(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side()
    turned = not take(1) and take(1) and take(3) + 1 >= 5  # all_default, extra_fields, orientation - 1
    return (height, width) if turned else (width, height)
