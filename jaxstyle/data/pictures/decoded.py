"""Decodes an open picture: all of its pixels, upright, at the file's depth; a large JPEG at half its size."""

from __future__ import annotations

import dataclasses
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from jaxstyle.data.pictures import declared, deep, ifd, jpeg, kinds, srgb
from jaxstyle.data.pictures.opened import COPY_AGAIN, Opened, at_start, opened
from jaxstyle.data.pictures.srgb import Size, reason
from jaxstyle.errors import ImageError

HALVED_FROM = 6
"""Least ratio of a JPEG's long side to the working size at which the JPEG is decoded at half its size.

The result then differs from the float32 one by 0.5 levels on average and by 2.1 in the worst picture. Decoding at
a quarter (1.1 and 3.7 levels) or at half from a ratio of 4 on (0.8 and 3.4) is visible and not done.
"""
ORIENTATION = 0x0112
SIDES_SWAPPED = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SHOWS_NOTHING = "shows nothing: every pixel is transparent"


class Decoded(NamedTuple):
    """The pixels of a picture, upright: of 8 bits, perhaps at half the file's size, or deep ones.

    Attributes:
        pixels: an array is a JPEG's, as `jpeg.decode` returns it, valid until the next one is decoded.
        size: width and height of the file's picture, upright.
        depth: bits of the file's samples, of 8-bit pictures.
    """

    pixels: Image.Image | np.ndarray | deep.Deep
    size: Size
    depth: int = 8


def decode(found: Opened, max_pixels: int, size: int | None, notes: list[str]) -> Decoded:
    """Decodes an open picture completely.

    Args:
        size: long side of the working size, or None.
        notes: what was done that a user might not expect is appended.

    Raises:
        ImageError: it is damaged or cut short.
    """
    image, page = found.image, found.page
    separate = page is not None and page.first(ifd.PLANES, 1) == 2
    if separate and page and (image.mode == "LA" or max(page.tags.get(ifd.BITS, (1,))) > 8):
        # Pillow takes two bytes of such a file for two pixels, and gray for its own transparency.
        raise ImageError("is a TIFF of separate planes of more than 8 bits, or of gray and alpha", kinds.CONVERT)
    try:
        if deep.is_deep(image):
            pixels = _deep(found, max_pixels)
            turn = _orientation(image, notes)
            pixels = _turned(pixels, turn)
            height, width = pixels.values.shape[:2]
            return Decoded(pixels, (width, height))
        depth = _depth(found, notes)
        stored, whole = _load(found, size, notes)
    except jpeg.Damaged as error:
        raise ImageError(f"is damaged: libjpeg says {error}", COPY_AGAIN) from error
    except Exception as error:  # on a hostile file a decoder may raise any type of error
        raise ImageError(f"cannot be decoded ({reason(error)})") from error
    turn = _orientation(image, notes)
    if turn in _TURNS:
        info, stored = stored.info if isinstance(stored, Image.Image) else {}, _as_image(stored).transpose(_TURNS[turn])
        stored.info = info
    return Decoded(stored, whole[::-1] if turn in SIDES_SWAPPED else whole, depth)


def _as_image(pixels: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(pixels, Image.Image):
        return pixels
    return Image.fromarray(pixels, "CMYK") if pixels.shape[2:] == (4,) else Image.fromarray(pixels)


def convert(
    found: Opened, made: Decoded, work: Size, white_level: float | None, notes: list[str]
) -> tuple[np.ndarray, Image.Image | None]:
    """Converts a decoded picture to sRGB on white at its working size.

    Returns:
        H x W x 3 uint8, or float32 in [0, 1] of deep pictures; and the alpha channel (mode L) at the picture's full
        size, or None if every pixel is opaque.

    Raises:
        ImageError: its values have no scale, it shows nothing, or its profile or tags are damaged.
    """
    try:
        colours = declared.colours(found.image, found.file, notes)
        if isinstance(made.pixels, deep.Deep):
            values, alpha = deep.scaled(made.pixels, white_level, notes)
            return srgb.from_deep(values, alpha, colours, work, notes)
        if isinstance(made.pixels, np.ndarray) and made.pixels.shape == (*work[::-1], 3) and colours is None:
            return np.array(made.pixels), None  # saves two conversions
        return srgb.from_eight_bit(_as_image(made.pixels), colours, work, notes, made.depth)
    except deep.Unscaled as error:
        raise ImageError(str(error), deep.WHITE) from error
    except srgb.Invisible as error:
        raise ImageError(_SHOWS_NOTHING, "Give it an opaque background, or leave it out.") from error
    except Exception as error:  # as in `decode`: this reads profiles and tags of the file
        raise ImageError(f"cannot be converted to sRGB ({reason(error)})") from error


def _deep(found: Opened, max_pixels: int) -> deep.Deep:
    image = found.image
    if image.mode.startswith("I") or image.mode == "F":
        return deep.gray(image, found.page)
    if image.format == "PPM":
        return deep.ppm(image, found.file)
    with opened(found.file, max_pixels) as again:
        return deep.colour(image, again.image)


def _load(found: Opened, size: int | None, notes: list[str]) -> tuple[Image.Image | np.ndarray, Size]:
    """Decodes a picture of 8 bits; returns it, and the width and height of the file's picture."""
    image = found.image
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        half = size is not None and max(width, height) >= HALVED_FROM * size
        with at_start(found.file):
            data = found.file.read()
        return jpeg.decode(data, image.mode, image.size, half, notes), (width, height)
    box = first_frame(image, found.file)
    image.load()
    if image.format == "BMP" or (image.format == "TIFF" and found.page and ifd.EXTRA_SAMPLES not in found.page.tags):
        image.info["guessed alpha"] = True
    if box in (None, (0, 0, *image.size)):
        return image, image.size  # Pillow rotates a TIFF when it loads it
    notes.append("the first picture covers a part only; the rest is transparent")
    whole = Image.new("RGBA", image.size)
    whole.paste(image.convert("RGBA").crop(box), box)
    whole.info = dict(image.info)
    return whole, image.size


def first_frame(image: ImageFile, file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Returns left, top, right and bottom of the first picture of a GIF or an animated WebP; None of other files.

    Pillow fills the rest with black if the file has no transparency; browsers show it as transparent.
    """
    if image.format == "GIF":
        return image.tile[0].extents
    if image.format != "WEBP":
        return None
    with at_start(file):
        at = (data := file.read()).find(b"ANMF")
    if data[12:16] != b"VP8X" or not data[20] & 2 or not 0 < at < len(data) - 20:
        return None
    x, y, width, height = (int.from_bytes(data[at + n : at + n + 3], "little") for n in (8, 11, 14, 17))
    return 2 * x, 2 * y, 2 * x + width + 1, 2 * y + height + 1


def _depth(found: Opened, notes: list[str]) -> int:
    """Returns the bits of a picture's samples; notes where more than 8 of them are read as 8."""
    image, bits = found.image, 8
    with at_start(found.file):
        if image.format == "PNG":
            return dict(declared.png_head(found.file)).get(b"IHDR", bytes(8) + b"\x08")[8]
        if image.format == "AVIF":
            bits = declared.avif_depth(found.file)
        elif image.format == "HEIC":
            bits = int(image.info.get("bit_depth", 8))
        elif image.format == "JPEG2000":
            bits = declared.jpeg2000_depth(found.file)
        elif ";16" in deep.raw_mode(image):
            bits = 16
    if bits > 8:
        notes.append(f"{bits} bits a channel read as 8")
    return 8


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """Returns the orientation of a loaded picture by EXIF or XMP, 1 to 8."""
    if getattr(image, "upright", False):
        return 1
    try:
        number = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # damaged EXIF in a whole picture
        notes.append(f"orientation ignored ({reason(error)})")
        return 1
    if number not in _TURNS:
        return 1
    notes.append("orientation applied")
    return number


def _turned(pixels: deep.Deep, orientation: int) -> deep.Deep:
    def turn(array: np.ndarray) -> np.ndarray:
        array = array.swapaxes(0, 1) if orientation in SIDES_SWAPPED else array
        array = array[::-1] if orientation in (3, 4, 7, 8) else array
        return array[:, ::-1] if orientation in (2, 3, 6, 7) else array

    alpha = None if pixels.alpha is None else turn(pixels.alpha)
    return dataclasses.replace(pixels, values=turn(pixels.values), alpha=alpha)
