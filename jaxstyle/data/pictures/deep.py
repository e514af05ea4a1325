"""Pictures of more than 8 bits a channel: reads all their bits, and scales them by the white of their format.

Pillow has no mode for 16-bit colour and keeps the high bytes only. Its decoders unpack either byte of a sample, so
that two decodings have both.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL.ImageFile import ImageFile

from jaxstyle.data.pictures import ifd

WHITE = "If the value of white is known, give it: --white-level."
DARK = 16
"""A picture whose largest value is below white by this factor is noted."""
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_NATIVE = {} if sys.byteorder == "big" else {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
"""libtiff has swapped the bytes of a compressed big-endian file already; Pillow swaps them back."""
_MOST_16 = 65535


class Unscaled(Exception):
    """The format does not tell which value is white; the message says what the values are."""


@dataclass(frozen=True)
class Deep:
    """Values as they are stored, in the file's orientation or as Pillow turned them.

    Attributes:
        values: H x W x 1 or 3, of any real number type.
        white: value that is white; None if the format does not tell.
        inverted: 0 is white and `white` is black.
        alpha: H x W in [0, 1], or None.
        premultiplied: values are multiplied by alpha.
    """

    values: np.ndarray
    white: float | None
    inverted: bool = False
    alpha: np.ndarray | None = None
    premultiplied: bool = False


def is_deep(image: ImageFile) -> bool:
    """Whether an open picture that is not loaded has more than 8 bits in a way that `load` reads."""
    colour = ";16" in raw_mode(image) and image.mode != "CMYK"
    return image.mode.startswith("I") or image.mode == "F" or colour or _deep_ppm(image)


def raw_mode(image: ImageFile) -> str:
    """Returns how the samples of an open picture are stored, in Pillow's words."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _deep_ppm(image: ImageFile) -> bool:
    return image.format == "PPM" and image.mode == "RGB" and _maximum(image) > 255


def _maximum(image: ImageFile) -> int:
    """Returns the value that is white in an open PPM."""
    arguments = image.tile[0].args
    return arguments[1] if isinstance(arguments, tuple) and isinstance(arguments[1], int) else 255


def ppm(image: ImageFile, file: BinaryIO) -> Deep:
    """Reads an open PPM of colours of two bytes a sample, which Pillow cuts to one."""
    width, height = image.size
    file.seek(image.tile[0].offset)
    data = file.read(6 * width * height)
    if len(data) < 6 * width * height:
        raise OSError("image file is truncated")
    return Deep(np.frombuffer(data, ">u2").reshape(height, width, 3), _maximum(image))


def gray(image: ImageFile, page: ifd.Page | None) -> Deep:
    """Decodes an open gray picture.

    Args:
        page: directory of a TIFF.
    """
    hidden = image.info.get("transparency")
    if image.tile[0].codec_name == "libtiff" and raw_mode(image) in _NATIVE:
        _unpack(image, _NATIVE[raw_mode(image)])
    image.load()
    values = np.asarray(image)
    white: float | None = _MOST_16
    if image.mode == "F":
        white = None
    elif page is not None:
        bits, signed = page.first(ifd.BITS, 16), page.first(ifd.FORMAT, 1) == 2
        white = None if bits > 16 else 2 ** (bits - signed) - 1
    inverted = page is not None and page.first(ifd.PHOTOMETRIC, 1) == 0
    alpha = np.where(values == hidden, 0.0, 1.0) if isinstance(hidden, int) else None
    return Deep(values[..., None], white, inverted, alpha)


def colour(image: ImageFile, again: ImageFile) -> Deep:
    """Decodes an open picture of 16-bit colours, or gray and alpha, for the high bytes and once more for the low ones.

    Args:
        again: the same picture, opened once more.
    """
    raw = raw_mode(image)
    hidden = image.info.get("transparency")
    if raw == "LA;16B":  # four bytes a pixel, as in RGBA
        _unpack(image, "RGBA")
        image.load()
        high_low = np.asarray(image).astype(np.uint16)
        gray, opacity = (high_low[..., n] << 8 | high_low[..., n + 1] for n in (0, 2))
        return Deep(gray[..., None], _MOST_16, alpha=opacity / np.float32(_MOST_16))
    plain = raw.replace("RGBa", "RGBA")  # Pillow would divide by alpha at 8 bits
    _unpack(image, plain)
    _unpack(again, plain[:-1] + _OTHER_BYTE[plain[-1]])
    image.load()
    again.load()
    values = np.asarray(image).astype(np.uint16) << 8
    values |= np.asarray(again)
    alpha = values[..., 3] / np.float32(_MOST_16) if values.shape[-1] == 4 else None
    values = values[..., :3]
    if alpha is None and isinstance(hidden, tuple):
        alpha = np.where((values == hidden).all(-1), 0.0, 1.0)
    return Deep(values, _MOST_16, alpha=alpha, premultiplied=raw.startswith("RGBa"))


def _unpack(image: ImageFile, raw: str) -> None:
    """Tells an open picture how to unpack its samples."""
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
    ]


def scaled(deep: Deep, white: float | None, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Scales values to [0, 1], from black to white; values outside are clipped and noted.

    Args:
        white: value that is white, for pictures whose format's is not meant.

    Returns:
        H x W x 1 or 3 float32, not multiplied by alpha; and alpha as in `Deep`.

    Raises:
        Unscaled: neither the format nor the caller tells which value is white.
    """
    values: np.ndarray = deep.values.astype(np.float32 if deep.values.dtype.kind in "u" else np.float64)
    if not np.isfinite(values).all():
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("no pixel has a finite value")
        notes.append(f"{values.size - finite.size} values that are not finite replaced by the least or largest")
        values = np.nan_to_num(values, nan=finite.min(), posinf=finite.max(), neginf=finite.min())
    low, high = float(values.min()), float(values.max())
    top = white or deep.white or (1.0 if low >= 0 and high <= 1 and deep.values.dtype.kind == "f" else None)
    if top is None:
        raise Unscaled(f"has values from {low:g} to {high:g}, and its format does not say which of them is white")
    notes.append(f"values {low:g} to {high:g}, white is {top:g}")
    if not deep.inverted and high * DARK < top:
        notes.append(f"dark: if {high:g} is nearly white, --white-level says so")
    values /= top
    if deep.inverted:
        values = 1 - values
    if deep.premultiplied and deep.alpha is not None:
        values = values / np.maximum(deep.alpha, 1 / _MOST_16)[..., None]
    outside = int(((values < 0) | (values > 1)).sum())
    if outside and not deep.premultiplied:
        notes.append(f"{outside} values outside black and white clipped")
    return np.clip(values, 0, 1).astype(np.float32), deep.alpha
