"""WebP: the lengths of chunks, and runs of zeros in the pixels. Pillow compares the length of the file."""

from __future__ import annotations

from typing import BinaryIO

from jaxstyle.data.pictures.complete import zeros

PIXELS_A_ZERO = 1000
"""Pixels for each byte of a run of zeros in lossy WebP. In whole files flat areas take 1750 pixels for each."""


def problem(file: BinaryIO) -> str:
    """Returns what shows that a WebP file is not whole, or ""."""
    data = file.read()
    return _chunks(data, 12, min(len(data), 8 + int.from_bytes(data[4:8], "little")))


def _chunks(data: bytes, at: int, end: int) -> str:
    while at + 8 <= end:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        start, at = at + 8, at + 8 + length + length % 2
        if start + length > end:
            return f"is damaged: a chunk ({name.decode('ascii', 'replace')}) reaches beyond the end"
        payload = data[start : start + length]
        found = ""
        if name == b"ANMF":
            found = _chunks(payload, 16, len(payload))
        elif name == b"VP8 ":
            width, height = (int.from_bytes(payload[n : n + 2], "little") & 0x3FFF for n in (6, 8))
            found = zeros.problem(payload, max(zeros.LONGEST, width * height // PIXELS_A_ZERO))
        elif name == b"VP8L" or (name == b"ALPH" and payload[:1] and payload[0] & 3 == 1):  # lossless
            found = zeros.problem(payload)
        elif not name.strip(b"\0"):
            found = zeros.missing(end - start)
        if found:
            return found
    return ""
