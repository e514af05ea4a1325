"""AVIF, HEIC, JPEG XL, JPEG 2000: the lengths of boxes and tile parts, the end marker, and runs of zeros in pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from jaxstyle.data.pictures.complete import zeros

CUT = "is shorter than its boxes say: cut short, or still being copied"


class Broken(Exception):
    """Boxes do not fit into each other; the message says how."""


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name, start and end of the content of each box between two places.

    Raises:
        Broken: a box reaches beyond the end, or no box begins where one should.
    """
    while start < end:
        file.seek(start)
        head = file.read(16)
        length, name, content = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), start + 16
        elif length == 0 and name.strip(b"\0"):
            length = end - start
        if start + length > end or end - start < 8:
            raise Broken(CUT)
        if length < content - start:
            raise Broken(f"is damaged: at byte {start} no box begins")
        yield name, content, start + length
        start += length


def avif_problem(file: BinaryIO) -> str:
    """Returns what shows that an AVIF or a HEIC file is not whole, or ""."""
    try:
        for name, start, end in boxes(file, 0, file.seek(0, os.SEEK_END)):
            if name == b"mdat":
                file.seek(start)
                if found := zeros.problem(file.read(end - start)):
                    return found
    except Broken as error:
        return str(error)
    return ""


def jpegxl_problem(file: BinaryIO) -> str:
    """Returns what shows that the boxes of a JPEG XL are not whole, or ""; its decoder finds a codestream cut short."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if file.read(2) != b"\xff\x0a":
            list(boxes(file, 0, size))
    except Broken as error:
        return str(error)
    return ""


def jpeg2000_problem(file: BinaryIO) -> str:
    """Returns what shows that a JPEG 2000 file or codestream is not whole, or ""."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if file.read(4) == b"\xff\x4f\xff\x51":
            return _codestream(file, 0, size)
        for name, start, end in boxes(file, 0, size):
            if name == b"jp2c":
                return _codestream(file, start, end)
    except Broken as error:
        return str(error)
    return "is damaged: it has no codestream"


def _codestream(file: BinaryIO, start: int, end: int) -> str:
    """Walks the tile parts from the first to the end marker."""
    file.seek(start)
    data = file.read(end - start)
    at = 2
    while data[at : at + 2] not in (b"\xff\x90", b"\xff\xd9", b""):  # the main header
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    while data[at : at + 2] == b"\xff\x90":
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        at = at + length if length else len(data) - 2
        if length and length < 14:
            return f"is damaged: the length of a tile part is {length}"
    if data[at : at + 2] != b"\xff\xd9":
        return "ends before its end marker, or is damaged before it: cut short, or still being copied"
    return zeros.problem(data)
