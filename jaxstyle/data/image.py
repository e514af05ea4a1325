"""Decodes picture files to arrays of gamma-encoded sRGB, and encodes them.

- Orientation (EXIF or XMP) is applied, so arrays are upright.
- An ICC profile is converted to sRGB; an unusable profile is ignored and noted.
- Transparency is composited on white; outputs get the alpha channel if their format has one.
- 16-bit, 32-bit and float pictures are scaled, never clipped (see `srgb`).
- Of a file with several pictures (animation, pages) the first is used; their number is noted.
- The content decides the format, from a list; a truncated file is an error, not a half-gray picture.

8-bit pictures stay 8-bit until they have the working size. For 39 pictures at 40 to 512 pixels, the result differs from
shrinking in float32 by 0.26 levels (of 255) on average and by 0.44 in the worst picture, which is the rounding to
a level. Single pixels at hard edges differ by up to 30, since Lanczos's overshoot is clipped after each direction.
Profiles are converted before shrinking; converting afterwards costs 0.5 levels (Adobe RGB) to 4.5 (linear light).
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxstyle.data import srgb
from jaxstyle.data.bounds import check_size
from jaxstyle.data.srgb import Size, reason
from jaxstyle.errors import ImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
"""Formats that are opened. The list leaves out formats that run programs (EPS) and formats that no camera writes."""
HALVED_FROM = 6
"""Least ratio of a JPEG's long side to the working size at which the JPEG is decoded at half its size.

The result then differs from the float32 one by 0.5 levels on average and by 2.1 in the worst picture. Decoding at
a quarter (1.1 and 3.7 levels) or at half from a ratio of 4 on (0.8 and 3.4) is visible and not done.
"""

_ORIENTATION = 0x0112
_SIDES_SWAPPED = (5, 6, 7, 8)
_ALPHA_FORMATS = ("PNG", "WEBP", "TIFF", "AVIF")
_AS_JPEG = {"MPO": "JPEG"}
"""Output format by input format, where they differ."""


@dataclass(frozen=True)
class Header:
    """The header of a picture.

    Attributes:
        width, height: size in pixels, upright.
        format: Pillow's name of the format, by content.
        frames: number of pictures in the file.
    """

    width: int
    height: int
    format: str
    frames: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture, at the file's size or reduced.

    Attributes:
        levels: H x W x 3, gamma-encoded sRGB, composited on white: uint8, or float32 in [0, 1] if the file has more
            than 8 bits.
        alpha: uint8, H x W or at the file's size; None if every pixel is opaque.
        header: header with the file's width and height, upright, also for a reduced picture.
        notes: conversions that a user might not expect.
    """

    levels: np.ndarray
    alpha: np.ndarray | None
    header: Header
    notes: tuple[str, ...]

    @property
    def pixels(self) -> np.ndarray:
        """The levels as float32 in [0, 1], a new array at each call."""
        return to_float(self.levels)


class NotAPicture(ImageError):
    """The content has no format of `FORMATS`."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # registers the formats that Pillow was built with; AVIF may be missing
    return tuple(name for name in FORMATS if name in Image.OPEN)


def absent() -> tuple[str, ...]:
    """Returns the formats of `FORMATS` that the installed Pillow cannot open."""
    return tuple(name for name in FORMATS if _AS_JPEG.get(name, name) not in _formats())


def _open(source: Path | BinaryIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        what = "is no picture of a known format" if size else "is empty"
        raise NotAPicture(f"the file {what}") from error
    except Exception as error:  # on a hostile file a decoder may raise any type of error
        raise ImageError(f"cannot be opened ({reason(error)})") from error
    try:
        check_size(*image.size, max_pixels)
    except ImageError:
        image.__exit__()  # close() would close a caller's file as well
        raise
    return image


def _frames(image: Image.Image) -> int:
    """Returns the number of pictures in an open file."""
    try:
        return getattr(image, "n_frames", 1)  # reads further in a GIF or TIFF
    except Exception as error:  # as in `_open`
        raise ImageError(f"cannot be opened ({reason(error)})") from error


def _swapped(image: Image.Image) -> bool:
    """Whether the orientation swaps width and height; the picture is not loaded."""
    try:
        exif = Image.Image.getexif(image)  # PngImageFile.getexif would decode the picture to find EXIF after its pixels
    except Exception:  # damaged EXIF: the picture itself may be whole
        return False
    swapped = exif.get(_ORIENTATION, 1) in _SIDES_SWAPPED
    return swapped and _ORIENTATION not in getattr(image, "tag_v2", ())  # Pillow rotates a TIFF with this tag itself


def probe(source: Path | BinaryIO, max_pixels: int) -> Header:
    """Reads the header of a picture, by path or from an open file, without decoding it.

    For a PNG whose EXIF orientation follows its pixels, width and height are those before rotation; `read` finds
    the orientation.

    Raises:
        NotAPicture: the content has no format of `FORMATS`.
        ImageError: the file cannot be opened, or claims too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `read` notes the warnings
        with _open(source, max_pixels) as image:
            frames, (width, height) = _frames(image), image.size
            if _swapped(image):
                width, height = height, width
            return Header(width, height, image.format or "", frames)


def read(source: Path | BinaryIO, max_pixels: int, size: int | None = None, full_alpha: bool = False) -> Picture:
    """Decodes a picture completely, by path or from an open file. Not thread-safe, because it catches warnings.

    On one core of an AMD EPYC, a JPEG of 12 megapixels reduced to 512 pixels takes 0.06 s and 15 MiB (0.57 s and
    360 MiB in float32 throughout), a PNG 0.40 s and 52 MiB (0.80 s and 360 MiB).

    Args:
        max_pixels: pictures that claim more pixels are refused.
        size: long side of the reduced picture in pixels, see `work_size` [default: the file's size]
        full_alpha: keep the alpha channel at the file's size.

    Raises:
        NotAPicture, ImageError: as for `probe`; also if the pixels are cut short or damaged.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _open(source, max_pixels) as image:
            try:
                stored = _load(image, size)  # comes first: otherwise Pillow may not report a truncated PNG
            except Exception as error:  # as in `_open`
                raise ImageError(f"cannot be decoded ({reason(error)})") from error
            frames = _frames(image)
            notes = [f"first of {frames} pictures"] if frames > 1 else []
            try:
                upright, swapped = _upright(image, notes)
                width, height = stored[::-1] if swapped else stored
                work = (width, height) if size is None else work_size(width, height, size)
                levels, alpha = srgb.convert(upright, work, notes)
            except Exception as error:  # as in `_open`: this reads profiles and tags of the file
                raise ImageError(f"cannot be converted to sRGB ({reason(error)})") from error
            header = Header(width, height, image.format or "", frames)
    if alpha is not None:
        notes.append("transparency composited on white")
        alpha = alpha if full_alpha else srgb.shrink(alpha, work)
    notes += [f"warning: {message}" for message in dict.fromkeys(reason(w.message) for w in caught)]
    return Picture(levels, None if alpha is None else np.asarray(alpha), header, tuple(notes))


def _load(image: Image.Image, size: int | None) -> Size:
    """Decodes a picture, a large JPEG at half its size; returns the width and height of the file's picture."""
    width, height = image.size
    large = size is not None and max(width, height) >= HALVED_FROM * size
    draft = image.draft(None, (max(1, width // 2), max(1, height // 2))) if large else None  # None if not a JPEG
    image.load()
    return (width, height) if draft else image.size  # Pillow rotates a TIFF when it loads it


def _upright(image: Image.Image, notes: list[str]) -> tuple[Image.Image, bool]:
    """Applies the orientation; also returns whether it swapped width and height."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation == 1:
            return image, False
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged EXIF in a whole picture
        notes.append(f"orientation ignored ({reason(error)})")
        return image, False
    notes.append("orientation applied")
    return upright, orientation in _SIDES_SWAPPED


def work_size(width: int, height: int, size: int) -> Size:
    """Reduces the long side to `size` if it is longer; returns width and height, each at least 1."""
    long = max(width, height)
    if long <= size:
        return width, height
    return max(1, round(width * size / long)), max(1, round(height * size / long))


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resamples H x W or H x W x C floats in [0, 1] with an antialiasing Lanczos filter."""
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., c])).resize((width, height), Image.Resampling.LANCZOS)
        )
        for c in range(planes.shape[-1])
    ]
    return np.clip(np.stack(resized, -1), 0, 1).reshape((height, width, *pixels.shape[2:])).astype(np.float32)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Clips floats to [0, 1] and rounds them to uint8 levels."""
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def to_float(levels: np.ndarray) -> np.ndarray:
    """Converts uint8 levels to float32 in [0, 1]; returns floats unchanged."""
    return levels.astype(np.float32) / 255 if levels.dtype == np.uint8 else levels


def encode(pixels: np.ndarray, alpha: np.ndarray | None, format: str, quality: int) -> bytes:
    """Encodes a picture file, without metadata.

    Args:
        pixels: H x W x 3 in [0, 1].
        alpha: H x W in [0, 1]; dropped if the format has no alpha channel.
        format: Pillow's name of the format, as in `Header.format`.
        quality: 1 to 100, for the lossy formats.

    Raises:
        ImageError: the encoder failed.
    """
    format = _AS_JPEG.get(format, format)
    array = to_bytes(pixels)
    if alpha is not None and format in _ALPHA_FORMATS:
        array = np.concatenate([array, to_bytes(alpha)[..., None]], axis=2)
    known: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
        "AVIF": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
    }
    buffer = io.BytesIO()
    try:
        Image.fromarray(array).save(buffer, format, **known.get(format, {}))
    except Exception as error:  # the encoder is missing, out of memory, or has a size limit
        raise ImageError(f"the result cannot be written as {format} ({reason(error)})") from error
    return buffer.getvalue()


def claims_to_be_a_picture(path: Path) -> bool:
    """Whether the file's name has the extension of a picture format, in `FORMATS` or not."""
    Image.init()
    return path.suffix.lower() in Image.registered_extensions()


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Clips pixels to [0, 1]."""
    return np.clip(pixels, 0, 1)
