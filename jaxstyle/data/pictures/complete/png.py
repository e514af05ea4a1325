"""PNG: the checksum of every chunk, and the chunk that ends the file."""

from __future__ import annotations

import zlib
from typing import BinaryIO

_BLOCK = 1 << 20


def problem(file: BinaryIO) -> str:
    """Returns what shows that a PNG file is not whole, or "". Pillow checks itself that there are enough pixels."""
    file.seek(8)
    while True:
        head = file.read(8)
        if len(head) < 8:
            return "ends before its last chunk (IEND): cut short, or still being copied"
        length, name = int.from_bytes(head[:4], "big"), head[4:]
        shown = name.decode("ascii", "replace") if name.isalpha() else repr(name)[2:-1]
        crc = zlib.crc32(name)
        while length > 0:
            block = file.read(min(length, _BLOCK))
            if not block:
                return f"ends within a chunk ({shown}): cut short, or still being copied"
            crc, length = zlib.crc32(block, crc), length - len(block)
        stored = file.read(4)
        if len(stored) < 4:
            return f"ends within a chunk ({shown}): cut short, or still being copied"
        if int.from_bytes(stored, "big") != crc:
            return f"is damaged: the checksum of a chunk ({shown}) is wrong"
        if name == b"IEND":
            return ""
