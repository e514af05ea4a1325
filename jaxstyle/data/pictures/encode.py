"""Encodes pictures to files of the formats that inputs have."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from jaxstyle.data.pictures import png16, tags, tiff16
from jaxstyle.data.pictures.kinds import GRAY, output_format
from jaxstyle.data.pictures.metadata import HEADER
from jaxstyle.errors import ImageError

_ALPHA_FORMATS = ("PNG", "WEBP", "TIFF", "AVIF")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Clips floats to [0, 1] and rounds them to uint8 levels."""
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def encode(
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    format: str,
    quality: int,
    name: str = "",
    *,
    bits: int = 8,
    tagged: bool = False,
    exif: bytes = b"",
) -> bytes:
    """Encodes a picture file.

    Args:
        pixels: H x W x 3 in [0, 1].
        alpha: H x W in [0, 1]; dropped if the format has no alpha channel.
        format: Pillow's name of the format, as in `image.Header.format`.
        quality: 1 to 100, for the lossy formats.
        name: of the file; a PPM called .pgm or .pfm becomes that.
        bits: of a channel, 8 or 16; 16 for PNG and TIFF only.
        exif: as `metadata.carried` returns it; dropped if the format has no place for it.
        tagged: say that the colours are sRGB, see `tags.colour_options`.

    Raises:
        ImageError: the encoder failed.
    """
    format = output_format(name, format)
    try:
        return (_encode16 if bits == 16 else _encode8)(pixels, alpha, format, quality, tagged, exif)
    except Exception as error:  # the encoder is missing, out of memory, or has a size limit
        raise ImageError(f"the result cannot be written as {format} ({type(error).__name__}: {error})") from error


def _encode16(pixels: np.ndarray, alpha: np.ndarray | None, format: str, _: int, tagged: bool, exif: bytes) -> bytes:
    if format == "TIFF":
        return tiff16.encode(pixels, alpha, tags.srgb_profile() if tagged else b"", exif)
    assert format == "PNG"
    chunks = [tags.PNG_SRGB] if tagged else []
    chunks += [(b"eXIf", exif.removeprefix(HEADER))] if exif else []
    return png16.encode(pixels, alpha, chunks)


def _encode8(
    pixels: np.ndarray, alpha: np.ndarray | None, format: str, quality: int, tagged: bool, exif: bytes
) -> bytes:
    array = to_bytes(pixels)
    if format == "PGM":
        array = to_bytes(pixels @ LUMINANCE)
    elif format == "PFM":
        array = np.clip(pixels @ LUMINANCE, 0, 1).astype(np.float32)
    elif alpha is not None and format in _ALPHA_FORMATS:
        array = np.concatenate([array, to_bytes(alpha)[..., None]], axis=2)
    known: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
        "AVIF": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
    }
    options = known.get(format, {}) | (tags.colour_options(format) if tagged else {})
    if exif:  # formats without a place for it ignore it
        options["exif"] = exif
        options.pop("compression", None)  # libtiff, which compresses, refuses EXIF from Pillow
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PPM" if format in GRAY.values() else format, **options)
    return buffer.getvalue()
