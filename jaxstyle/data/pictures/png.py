"""Writes PNG files from compressed rows, or from arrays, uncompressed: their bytes then depend on the pixels alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}
_MOST_CHUNK = 2**30


def file_of(shape: tuple[int, ...], bits: int, data: bytes, chunks: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Returns the file of a picture (PNG specification, third edition, W3C 2025, section 5).

    Args:
        shape: height, width and channels; 1 channel is gray, 3 are RGB, 4 are RGB and alpha.
        bits: of a channel.
        data: compressed rows, each with its filter's number before it.
        chunks: names and contents of chunks that stand before the pixels.
    """
    height, width, channels = shape
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPE[channels], 0, 0, 0)
    pixels = ((b"IDAT", data[at : at + _MOST_CHUNK]) for at in range(0, len(data), _MOST_CHUNK))
    every = ((b"IHDR", header), *chunks, *pixels, (b"IEND", b""))
    return b"".join([_SIGNATURE, *(part for name, content in every for part in _chunk(name, content))])


def png(values: np.ndarray) -> bytes:
    """Returns the file of a picture.

    Args:
        values: H x W x channels, uint8 or uint16, see `file_of`.
    """
    height, bits = len(values), 8 * values.itemsize
    lines = np.ascontiguousarray(values, ">u2" if bits == 16 else "u1").view(np.uint8).reshape(height, -1)
    rows = np.zeros((height, 1 + lines.shape[1]), np.uint8)  # each begins with its filter, 0
    rows[:, 1:] = lines
    return file_of(values.shape, bits, zlib.compress(rows.data, 0))


def _chunk(name: bytes, data: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)) + name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
