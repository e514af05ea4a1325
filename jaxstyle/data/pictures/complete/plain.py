"""BMP and PPM: uncompressed rows with zeros from the middle of a row on."""

from __future__ import annotations

import re
from typing import BinaryIO

from jaxstyle.data.pictures.complete import zeros

_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")


def bmp_problem(file: BinaryIO) -> str:
    """Returns what shows that an uncompressed BMP file is not whole, or "". Pillow checks its length."""
    data = file.read()
    start, header = int.from_bytes(data[10:14], "little"), int.from_bytes(data[14:18], "little")
    if header < 40:
        width, bits, compression = int.from_bytes(data[18:20], "little"), int.from_bytes(data[24:26], "little"), 0
    else:
        width, bits = int.from_bytes(data[18:22], "little"), int.from_bytes(data[28:30], "little")
        compression = int.from_bytes(data[30:34], "little")
    if compression not in (0, 3, 6):
        return zeros.problem(data[start:])
    return zeros.problem_of_rows(data[start:], (width * bits + 31) // 32 * 4, 0 if bits <= 8 else zeros.DIM)


def ppm_problem(file: BinaryIO) -> str:
    """Returns what shows that a binary PPM, PGM, PBM or PFM file is not whole, or "". Pillow checks its length."""
    data = file.read()
    kind, at, values = data[:2], 2, []
    for _ in range(2 if kind == b"P4" else 3):
        token = _TOKEN.match(data, at)
        if token is None:
            return ""  # Pillow refuses it
        values.append(token[1])
        at = token.end()
    width = int(values[0])
    if kind == b"P4":
        stride = (width + 7) // 8
    elif kind in (b"P5", b"P6"):
        stride = width * (3 if kind == b"P6" else 1) * (2 if int(values[2]) > 255 else 1)
    elif kind == b"Pf":
        stride = 4 * width
    else:
        return ""
    return zeros.problem_of_rows(data[at + 1 :], stride)
