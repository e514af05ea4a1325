"""Picture files to arrays of gamma-encoded sRGB and back. The policy for every odd kind of picture is here.

- Orientation (EXIF or XMP) is applied, so arrays are upright.
- An ICC profile is converted to sRGB; one that cannot be used is ignored and noted.
- Transparency is composited on white; the alpha channel goes back into outputs whose format has one.
- 16-bit, 32-bit and float pictures are scaled, never clipped (`srgb` says how).
- A file with several pictures (animation, pages) gives its first; their number is noted.
- Formats are recognised by content, from a list; a truncated file is an error, not a half-gray picture.

8-bit pictures stay 8-bit until they have the working size. Of 39 pictures at 40 to 512 pixels, the
result differs from shrinking in float32 by 0.26 levels (of 255) on average, by 0.44 in the worst picture: the rounding
to a level. Single pixels at hard edges differ by up to 30, since Lanczos's overshoot is clipped after each direction.
Profiles are converted before shrinking: after it, they would cost 0.5 levels (Adobe RGB) to 4.5 (linear light).
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
from jaxstyle.data.srgb import Size, reason
from jaxstyle.errors import ImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
"""Formats that are opened. Left out: formats that run programs (EPS), and formats that no camera writes."""
HALVED_FROM = 6
"""A JPEG is decoded at half its size if its long side is at least this many times the working size.

The result then differs from the float32 one by 0.5 levels on average, by 2.1 in the worst picture (1.1 and 3.7 at a
quarter of the size, 0.8 and 3.4 at half from 4 times on: visible, so neither is done).
"""

_ORIENTATION = 0x0112
_SIDES_SWAPPED = (5, 6, 7, 8)
_ALPHA_FORMATS = ("PNG", "WEBP", "TIFF", "AVIF")
_AS_JPEG = {"MPO": "JPEG"}
"""Format of the file: format that it is written as."""


@dataclass(frozen=True)
class Header:
    """What a picture's header says.

    Attributes:
        width, height: in pixels, upright.
        format: Pillow's name of the format, by content.
        frames: pictures in the file.
    """

    width: int
    height: int
    format: str
    frames: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture, as large as its file or reduced.

    Attributes:
        levels: H x W x 3, gamma-encoded sRGB, composited on white: uint8, or float32 in [0, 1] if the file is deeper.
        alpha: uint8, H x W or as large as the file; None where everything is opaque.
        header: its width and height are the file's, upright, also if the picture was reduced.
        notes: what was done that a user might not expect.
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
    """The content is of no format on the list."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # registers what Pillow was built with; AVIF may be missing
    return tuple(name for name in FORMATS if name in Image.OPEN)


def absent() -> tuple[str, ...]:
    """The formats of `FORMATS` that the installed Pillow does not open."""
    return tuple(name for name in FORMATS if _AS_JPEG.get(name, name) not in _formats())


def _open(source: Path | BinaryIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        what = "is no picture of a known format" if size else "is empty"
        raise NotAPicture(f"the file {what}") from error
    except Exception as error:  # a decoder raises any type on a hostile file: all mean "cannot be opened"
        raise ImageError(f"cannot be opened ({reason(error)})") from error
    width, height = image.size
    if width * height > max_pixels:
        image.__exit__()  # close() would close a caller's file as well
        raise ImageError(
            f"claims {width} x {height} pixels, more than {max_pixels}", "Raise --max-pixels if it is true."
        )
    return image


def _frames(image: Image.Image) -> int:
    """The number of pictures in an open file."""
    try:
        return getattr(image, "n_frames", 1)  # reads on in a GIF or TIFF
    except Exception as error:  # as in `_open`
        raise ImageError(f"cannot be opened ({reason(error)})") from error


def _swapped(image: Image.Image) -> bool:
    """Whether the orientation of a picture that is not loaded swaps width and height."""
    try:
        exif = Image.Image.getexif(image)  # PngImageFile's own decodes the picture, to look for EXIF behind the pixels
    except Exception:  # damaged EXIF: the picture itself may be whole
        return False
    swapped = exif.get(_ORIENTATION, 1) in _SIDES_SWAPPED
    return swapped and _ORIENTATION not in getattr(image, "tag_v2", ())  # Pillow has turned a TIFF with this tag


def probe(source: Path | BinaryIO, max_pixels: int) -> Header:
    """Reads the header of a picture, by path or from an open file, without decoding it.

    Width and height of a PNG whose EXIF orientation stands behind its pixels are those before turning; `read` finds
    the orientation.

    Raises:
        NotAPicture: the content is of no known format.
        ImageError: the file cannot be opened, or claims too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `read` notes them
        with _open(source, max_pixels) as image:
            frames, (width, height) = _frames(image), image.size
            if _swapped(image):
                width, height = height, width
            return Header(width, height, image.format or "", frames)


def read(source: Path | BinaryIO, max_pixels: int, size: int | None = None, full_alpha: bool = False) -> Picture:
    """Decodes a picture completely, by path or from an open file. Not thread-safe: it catches warnings.

    Reduced to 512 pixels, a JPEG of 12 megapixels takes 0.06 s and 15 MiB (0.57 s and 360 MiB in float32 throughout),
    a PNG 0.40 s and 52 MiB (0.80 s and 360 MiB), on one core of an AMD EPYC.

    Args:
        max_pixels: pictures that claim more pixels are refused.
        size: long side that the picture is reduced to, in pixels, see `work_size` [default: as large as it is]
        full_alpha: leave the alpha channel as large as the file's picture.

    Raises:
        NotAPicture, ImageError: as for `probe`; also if the pixels are cut short or damaged.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _open(source, max_pixels) as image:
            try:
                stored = _load(image, size)  # before anything else: Pillow does not report a cut PNG decoded in passing
            except Exception as error:  # as in `_open`
                raise ImageError(f"cannot be decoded ({reason(error)})") from error
            frames = _frames(image)
            notes = [f"first of {frames} pictures"] if frames > 1 else []
            try:
                upright, swapped = _upright(image, notes)
                width, height = stored[::-1] if swapped else stored
                work = (width, height) if size is None else work_size(width, height, size)
                levels, alpha = srgb.convert(upright, work, notes)
            except Exception as error:  # as in `_open`: profiles and tags of the file are read here
                raise ImageError(f"cannot be converted to sRGB ({reason(error)})") from error
            header = Header(width, height, image.format or "", frames)
    if alpha is not None:
        notes.append("transparency composited on white")
        alpha = alpha if full_alpha else srgb.shrink(alpha, work)
    notes += [f"warning: {message}" for message in dict.fromkeys(reason(w.message) for w in caught)]
    return Picture(levels, None if alpha is None else np.asarray(alpha), header, tuple(notes))


def _load(image: Image.Image, size: int | None) -> Size:
    """Decodes a picture, at half its size if it is a large JPEG; returns the width and height of the whole picture."""
    width, height = image.size
    large = size is not None and max(width, height) >= HALVED_FROM * size
    draft = image.draft(None, (max(1, width // 2), max(1, height // 2))) if large else None  # None if not a JPEG
    image.load()
    return (width, height) if draft else image.size  # Pillow turns a TIFF when it loads it


def _upright(image: Image.Image, notes: list[str]) -> tuple[Image.Image, bool]:
    """Applies the orientation; also says whether it swapped width and height."""
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
    """Width and height with the long side reduced to `size`; a smaller picture keeps its size, no side is under 1."""
    long = max(width, height)
    if long <= size:
        return width, height
    return max(1, round(width * size / long)), max(1, round(height * size / long))


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resamples H x W or H x W x C floats in [0, 1] with Lanczos's filter, which averages when it shrinks."""
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
    """Rounds floats in [0, 1] to uint8 levels; values outside are clipped."""
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def to_float(levels: np.ndarray) -> np.ndarray:
    """Converts uint8 levels to float32 in [0, 1]; floats are returned as they are."""
    return levels.astype(np.float32) / 255 if levels.dtype == np.uint8 else levels


def encode(pixels: np.ndarray, alpha: np.ndarray | None, format: str, quality: int) -> bytes:
    """Encodes a picture file, without metadata.

    Args:
        pixels: H x W x 3 in [0, 1].
        alpha: H x W in [0, 1]; left out where the format has no alpha channel.
        format: Pillow's name, as in `Header.format`.
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
    """Whether the file's name has the extension of a picture format, also of one that is not opened here."""
    Image.init()
    return path.suffix.lower() in Image.registered_extensions()


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Clips pixels to [0, 1]."""
    return np.clip(pixels, 0, 1)
