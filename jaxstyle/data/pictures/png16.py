"""Writes PNGs of 16 bits a channel, which Pillow cannot write in colour."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from jaxstyle.data.pictures.png import file_of

_SUB, _UP, _PAETH = 1, 2, 4


def encode(pixels: np.ndarray, alpha: np.ndarray | None, chunks: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Encodes a PNG of 16 bits a channel; values outside [0, 1] are clipped.

    See the PNG specification, third edition (W3C 2025), section 9, for filters.

    Args:
        pixels: H x W x 3.
        alpha: H x W, or None.
        chunks: see `png.file_of`.
    """
    values = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], 2)
    height, width, channels = values.shape
    samples = np.round(np.clip(values, 0, 1).astype(np.float64) * 65535).astype(">u2")
    rows = samples.view(np.uint8).reshape(height, width * channels * 2)
    return file_of(values.shape, 16, zlib.compress(_filtered(rows, channels * 2).tobytes(), 6), chunks)


def _filtered(rows: np.ndarray, pixel: int) -> np.ndarray:
    """Filters rows of bytes, each by the filter with the least sum of magnitudes (section 12.7).

    Args:
        rows: H x bytes of a row.
        pixel: bytes of a pixel.

    Returns:
        H x (1 + bytes of a row) uint8; the first byte of a row is its filter's number.
    """
    height, length = rows.shape
    left, up, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, pixel:] = rows[:, :-pixel]
    up[1:] = rows[:-1]
    corner[1:, pixel:] = rows[:-1, :-pixel]
    made = np.empty((height, 1 + length), np.uint8)
    least = np.full(height, np.inf)
    for number, predicted in ((_SUB, left), (_UP, up), (_PAETH, _paeth(left, up, corner))):
        rest = rows - predicted
        size = np.abs(rest.view(np.int8).astype(np.int16)).sum(1)
        better = size < least
        made[better, 0], made[better, 1:], least[better] = number, rest[better], size[better]
    return made


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The one of three neighbours that is nearest to left + up - corner; of equally near ones the first."""
    a, b, c = (one.astype(np.int16) for one in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
