"""The colours that a file declares: an ICC profile, PNG's chunks, AVIF's or JPEG 2000's boxes, BMP's header, or EXIF.

PNG's order is cICP, iCCP, sRGB, then gAMA and cHRM, as in browsers. What cannot be honoured is noted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from PIL import Image

from jaxstyle.data.pictures import colour, tags
from jaxstyle.data.pictures.colour import Encoding
from jaxstyle.data.pictures.complete.boxes import Broken, boxes

Colours = bytes | Encoding | None
"""An ICC profile, another description of colours, or None for sRGB."""

_MOST = 1 << 24
"""Most bytes of a box or profile that are read."""
_EXIF, _COLOUR_SPACE, _INTEROPERABILITY = 0x8769, 0xA001, 0xA005


def colours(image: Image.Image, file: BinaryIO, notes: list[str]) -> Colours:
    """Returns the colours that an open picture declares; notes what cannot be honoured."""
    profile = image.info.get("icc_profile") or None
    look = _OF_FORMAT.get(image.format or "")
    found: Colours = profile
    if look:
        try:
            found = look(image, file, profile)
        except (colour.Unusable, Broken) as error:
            notes.append(f"declared colours ignored, read as sRGB ({error})")
            return None
    if found is None:
        _note_exif(image, notes)
    elif isinstance(found, Encoding):
        notes.append("declared primaries and gamma converted to sRGB")
    return None if found == tags.srgb_profile() else found  # of our outputs, whose levels it must not change


def _of_png(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    chunks = dict(png_head(file))
    if len(points := chunks.get(b"cICP", b"")) >= 2:
        return colour.from_code_points(points[0], points[1])
    if profile or b"sRGB" in chunks:
        return profile
    chromaticity = image.info.get("chromaticity")
    gray = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    return colour.from_gamma(image.info.get("gamma"), None if gray or not chromaticity else tuple(chromaticity))


def png_head(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yields name and content of a PNG's small chunks before its pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if length <= 1024:
            yield head[4:], file.read(length)
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(length + 4, os.SEEK_CUR)


def _inner(file: BinaryIO, path: tuple[bytes, ...], start: int, end: int) -> bytes:
    """Returns the content of the first box at a path of boxes; empty if there is none."""
    for name, first, last in boxes(file, start, end):
        if name == path[0]:
            if len(path) == 1:
                file.seek(first)
                return file.read(min(last - first, _MOST))
            return _inner(file, path[1:], first + (4 if name == b"meta" else 0), last)
    return b""


def _of_avif(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    box = _inner(file, (b"meta", b"iprp", b"ipco", b"colr"), 0, file.seek(0, os.SEEK_END))
    if profile or box[:4] != b"nclx":
        return profile
    return colour.from_code_points(int.from_bytes(box[4:6], "big"), int.from_bytes(box[6:8], "big"))


def _of_heic(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    points = image.info.get("nclx_profile")
    if profile or not points:
        return profile
    return colour.from_code_points(points["color_primaries"], points["transfer_characteristics"])


def _of_jpeg2000(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    file.seek(0)
    if file.read(4) == b"\xff\x4f\xff\x51":
        return None  # a codestream alone
    box = _inner(file, (b"jp2h", b"colr"), 0, file.seek(0, os.SEEK_END))
    return box[3:] if box[:1] in (b"\2", b"\3") else profile


def avif_depth(file: BinaryIO) -> int:
    """Returns the bits a channel of an AVIF, 8, 10 or 12."""
    box = _inner(file, (b"meta", b"iprp", b"ipco", b"av1C"), 0, file.seek(0, os.SEEK_END))
    flags = box[2] if len(box) > 2 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def jpeg2000_depth(file: BinaryIO) -> int:
    """Returns the bits of a JPEG 2000's first channel."""
    start = file.read(4096)
    at = start.find(b"\xff\x4f\xff\x51")
    return (start[at + 42] & 0x7F) + 1 if 0 <= at < len(start) - 42 else 8


def _of_bmp(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    file.seek(14)
    header = file.read(124)
    length, kind = int.from_bytes(header[:4], "little"), header[56:60][::-1]
    if length == 124 and kind == b"MBED":
        start, size = (int.from_bytes(header[n : n + 4], "little") for n in (112, 116))
        file.seek(14 + start)
        return file.read(min(size, _MOST))
    if length >= 108 and kind == b"LINK":
        raise colour.Unusable("its profile is in another file")
    if length >= 108 and kind == bytes(4) and any(header[60:108]):
        raise colour.Unusable("it is a calibrated BMP")
    return profile


def _of_tiff(image: Image.Image, file: BinaryIO, profile: bytes | None) -> Colours:
    tags = getattr(image, "tag_v2", {})
    if not profile and 319 in tags:
        white = [float(value) for value in tags.get(318, colour.SRGB_PRIMARIES[:2])]
        values = (*white, *(float(value) for value in tags[319]))
        if len(values) != 8:
            raise colour.Unusable("its chromaticities are damaged")
        return colour.from_gamma(None, values)
    return profile


_OF_FORMAT: dict[str, Callable[[Image.Image, BinaryIO, bytes | None], Colours]] = {
    "PNG": _of_png, "AVIF": _of_avif, "JPEG2000": _of_jpeg2000, "BMP": _of_bmp, "TIFF": _of_tiff,
    "HEIC": _of_heic,
}  # fmt: skip


def _note_exif(image: Image.Image, notes: list[str]) -> None:
    """Notes a camera's Adobe RGB, which EXIF alone tells."""
    try:
        exif = image.getexif()
        adobe = exif.get_ifd(_INTEROPERABILITY).get(1) == "R03" or exif.get_ifd(_EXIF).get(_COLOUR_SPACE) == 2
    except Exception:  # damaged EXIF: the picture itself may be whole
        return
    if adobe:
        notes.append("EXIF says Adobe RGB; without a profile it is read as sRGB, as browsers do")
