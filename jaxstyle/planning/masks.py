"""Masks: pictures whose colours name the regions of a photograph or of a style image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxstyle.data.image import Header, to_float
from jaxstyle.data.opening import sha256_of
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.worker import Decoded
from jaxstyle.errors import ImageError

WHOLE = 2**20
"""Size at which masks are decoded: at their own, since a reduction would blend their colours."""
EDGE = 0.005
"""Half the width of the soft edge around the kept region, as a share of the long side. Of thin things such as the
cables of a bridge a wider edge shows."""
SHOWN = 5
"""Most colours that a message lists."""


class Mask(NamedTuple):
    """A decoded mask.

    Attributes:
        colours: h x w uint64, the colour of each pixel: red, green and blue with 16 bits each.
        sha256: of its file, in hexadecimal.
    """

    colours: np.ndarray
    sha256: str


def path_of(masks: Path, key: str) -> Path:
    """The mask of a picture: `DIR/a/b.png` of `a/b.jpg`; the given file if `masks` is no folder."""
    return masks / PurePosixPath(key).with_suffix(".png") if masks.is_dir() else masks


def read(path: Path, decode: Callable[..., Decoded], header: Header, shape: tuple[int, ...]) -> Mask:
    """Decodes a mask and samples it at the nearest pixels.

    Args:
        decode: `Decoders.read` or `Reader.read`.
        header: of the picture that the mask belongs to; both have one aspect ratio.
        shape: height and width of the result.

    Raises:
        ImageError: there is no mask, it cannot be decoded, or it has another aspect ratio.
    """
    shown = printable(path)
    if not os.path.lexists(path):
        raise ImageError(f"has no mask: {shown} is not there")
    try:
        found = decode(path, WHOLE, full_alpha=False)
    except ImageError as error:
        raise ImageError(f"its mask {shown}: {error.what}", error.remedy) from error
    height, width = found.levels.shape[:2]
    if abs(width * header.height - height * header.width) > max(header.width, header.height):
        raise ImageError(
            f"its mask {shown} is {width} x {height}, and the picture {header.width} x {header.height}",
            "Give a mask of the same aspect ratio, upright.",
        )
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for n, side in zip(shape, (height, width), strict=False))
    levels = np.round(to_float(found.levels[rows][:, columns]).astype(np.float64) * 65535).astype(np.uint64)
    red, green, blue = np.moveaxis(levels, -1, 0)
    return Mask(red << np.uint64(32) | green << np.uint64(16) | blue, found.sha256)


def colours_in(mask: Mask, keep: int | None) -> tuple[int, ...]:
    """The colours of a mask, sorted, without that of what is kept."""
    return tuple(colour for colour in map(int, np.unique(mask.colours)) if colour != keep)


def labels(mask: Mask, colours: Iterable[int]) -> np.ndarray:
    """Returns h x w int8: the index of each pixel's colour among the colours, -1 for others."""
    found = np.full(mask.colours.shape, -1, np.int8)
    for index, colour in enumerate(colours):
        found[mask.colours == np.uint64(colour)] = index
    return found


def named(colours: Iterable[int]) -> str:
    """Names colours in messages: #rrggbb, or #rrrrggggbbbb if they need 16 bits."""
    names = []
    for colour in colours:
        channels = [colour >> shift & 65535 for shift in (32, 16, 0)]
        short = all(one % 257 == 0 for one in channels)
        names.append("#" + "".join(f"{one // 257:02x}" if short else f"{one:04x}" for one in channels))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def checksum_of(path: Path) -> str:
    """SHA-256 of a mask's file in hexadecimal; "" if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def checksum_of_both(content: str, style: str) -> str:
    """Checksum for rows, of the checksums of a photograph's mask and its style's; "" stands for none."""
    return hashlib.sha256(f"{content}\0{style}".encode()).hexdigest()


def soft_edged(kept: np.ndarray) -> np.ndarray:
    """Weights of the photograph in the output: h x w float32, 1 in the kept region, falling to 0 around it.

    The region grows by a square and is blurred by the same square, so that its own pixels keep exactly 1.

    Args:
        kept: h x w bool.
    """
    radius = max(1, round(EDGE * max(kept.shape)))
    grown = _sums(_sums(kept.astype(np.int64), radius, 0), radius, 1) > 0
    sums = _sums(_sums(grown.astype(np.int64), radius, 0), radius, 1)
    return (sums / (2 * radius + 1) ** 2).astype(np.float32)


def _sums(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sums of windows of 2 radius + 1 values along an axis; the border is repeated."""
    pads = [(radius + 1, radius) if n == axis else (0, 0) for n in range(2)]
    # The first value is subtracted from every window that begins after it.
    sums = np.cumsum(np.pad(values, pads, mode="edge"), axis)
    length = values.shape[axis]
    first = np.take(sums, np.arange(length), axis)
    return np.take(sums, np.arange(length) + 2 * radius + 1, axis) - first
