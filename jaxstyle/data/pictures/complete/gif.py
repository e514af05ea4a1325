"""GIF: blocks that end, and the byte that ends the file."""

from __future__ import annotations

from typing import BinaryIO

CUT = "ends before its trailer: cut short, or still being copied"


def problem(file: BinaryIO) -> str:
    """Returns what shows that a GIF file is not whole, or ""."""
    data = file.read()
    at = 13 + _table(data[10])
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return ""
        if kind == 0x21:
            at = _after_blocks(data, at + 2)
        elif kind == 0x2C and at + 10 < len(data):
            at = _after_blocks(data, at + 11 + _table(data[at + 9]))
        elif kind != 0x2C:
            return f"is damaged: at byte {at} no block begins"
        else:
            break
    return CUT


def _table(flags: int) -> int:
    """Returns the bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Returns where a chain of sub-blocks ends; beyond the data if it does not."""
    while at < len(data):
        length = data[at]
        at += 1 + length
        if not length:
            return at
    return len(data)
