"""Writes arrays as PNG of 8 or 16 bits without compression, whose bytes depend on the pixels alone."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}
_MOST_CHUNK = 2**30


def png(values: np.ndarray) -> bytes:
    """Returns the file of a picture (PNG specification, third edition, W3C 2025).

    Args:
        values: H x W x channels, uint8 or uint16; 1 channel is gray, 3 are RGB, 4 are RGB and alpha.
    """
    height, width, channels = values.shape
    bits = 8 * values.itemsize
    lines = np.ascontiguousarray(values, ">u2" if bits == 16 else "u1").view(np.uint8).reshape(height, -1)
    rows = np.zeros((height, 1 + lines.shape[1]), np.uint8)  # each begins with its filter, 0
    rows[:, 1:] = lines
    data = zlib.compress(rows.data, 0)
    body = [data[at : at + _MOST_CHUNK] for at in range(0, len(data), _MOST_CHUNK)]
    head = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPE[channels], 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", *_chunk(b"IHDR", head), *(p for b in body for p in _chunk(b"IDAT", b)), *_chunk(b"IEND")]
    )


def _chunk(name: bytes, data: bytes = b"") -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)) + name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
