"""Opens a picture without decoding it: finds its format by content, its first full page, and whether it is whole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from jaxstyle.data.bounds import check_size
from jaxstyle.data.pictures import complete, extras, ifd, kinds
from jaxstyle.data.pictures.srgb import reason
from jaxstyle.errors import ImageError

COPY_AGAIN = "Copy it again from where it came from."


class NotAPicture(ImageError):
    """The content is of no kind that is called a picture."""


class Opened(NamedTuple):
    """An open picture that is not loaded.

    Attributes:
        page: directory of the picture in a TIFF.
        number: how many pictures the file holds.
        reduced: how many reduced pictures lie before it.
    """

    image: ImageFile
    file: BinaryIO
    page: ifd.Page | None = None
    number: int = 1
    reduced: int = 0


@cache
def formats() -> tuple[str, ...]:
    """Returns the formats that the installed Pillow opens. AVIF may be missing."""
    Image.init()
    return tuple(name for name in kinds.FORMATS if name in Image.OPEN)


def absent() -> tuple[str, ...]:
    """Returns the formats of `FORMATS` that the installed Pillow cannot open."""
    return tuple(name for name in kinds.FORMATS if ("JPEG" if name == "MPO" else name) not in formats())


@contextmanager
def at_start(file: BinaryIO) -> Iterator[None]:
    """Goes to the start of a file for the block, and back: Pillow goes on where it was."""
    position = file.tell()
    file.seek(0)
    try:
        yield
    finally:
        file.seek(position)


@contextmanager
def opened(source: Path | BinaryIO, max_pixels: int) -> Iterator[Opened]:
    """Opens a picture by path or from an open file, which stays open.

    Raises:
        NotAPicture: the content is of no kind that is called a picture.
        ImageError: the file cannot be opened, is of a kind that is not read, or claims too many pixels.
    """
    if isinstance(source, Path):
        try:
            file: BinaryIO = source.open("rb")
        except OSError as error:
            raise ImageError(f"cannot be opened ({reason(error)})") from error
        with file, opened(file, max_pixels) as found:
            yield found
        return
    image = _identified(source)
    try:
        found = _at_full_page(image, source)
        width, height = image.size
        check_size(width, height, max_pixels)
        yield found
    finally:
        image.__exit__()  # close() would close a caller's file as well


def _identified(file: BinaryIO) -> ImageFile:
    """Opens a picture, or says what else the file is."""
    file.seek(0)
    kind = kinds.by_content(file.read(kinds.MAGIC_BYTES))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if kind == "TIFF" and kinds.is_read("camera RAW") and _is_raw(file):
        kind = "camera RAW"
    if kind and not kinds.is_read(kind):
        raise ImageError(f"is {kind}, which is not read", kinds.remedy(kind))
    if kind in kinds.EXTRAS:
        return _by_extra(kind, file)
    try:
        return Image.open(file, formats=formats())
    except UnidentifiedImageError as error:
        if kind == "TIFF":
            _pages(file)  # Pillow knows no sensors
        if kind in absent():
            raise ImageError(f"is {kind}, which this Pillow was built without", kinds.CONVERT) from error
        if kind:
            raise ImageError(f"is a {kind} that is damaged, or of a kind that is not read", kinds.CONVERT) from error
        raise NotAPicture(f"the file {'is no picture of a known format' if size else 'is empty'}") from error
    except Exception as error:  # on a hostile file a decoder may raise any type of error
        raise ImageError(f"cannot be opened ({reason(error)})") from error


def _is_raw(file: BinaryIO) -> bool:
    """Whether a directory of a TIFF describes a sensor's values."""
    try:
        with at_start(file):
            return any(page.raw for page in ifd.pages(file))
    except (ifd.Broken, struct.error):
        return False


def _by_extra(kind: str, file: BinaryIO) -> ImageFile:
    """Opens a picture of a kind that an optional package reads."""
    try:
        return extras.opened(kind, file)
    except Exception as error:  # as in `_identified`
        what = f"is a {kind} that is damaged, or of a kind that is not read ({reason(error)})"
        raise ImageError(what, kinds.remedy(kind)) from error


def _at_full_page(image: ImageFile, file: BinaryIO) -> Opened:
    """Counts the pictures of a file, and goes to a TIFF's first full one."""
    if image.format == "TIFF":
        pages, index = _pages(file)
    try:
        if image.format != "TIFF":
            return Opened(image, file, number=getattr(image, "n_frames", 1))  # reads further in a GIF
        if index:
            image.seek(index)
        return Opened(image, file, pages[index], len(pages), index)
    except Exception as error:  # as in `_identified`
        raise ImageError(f"cannot be opened ({reason(error)})") from error


def _pages(file: BinaryIO) -> tuple[list[ifd.Page], int]:
    """Returns the directories of a TIFF and the index of its first full picture; or says why it has none."""
    try:
        with at_start(file):
            pages = ifd.pages(file)
        return pages, ifd.full_page(pages)
    except ifd.Raw as error:
        raise ImageError(str(error), kinds.remedy("camera RAW")) from error
    except (ifd.Broken, struct.error) as error:
        raise ImageError(str(error) if isinstance(error, ifd.Broken) else "is cut short", COPY_AGAIN) from error


def _lacks_listed(found: Opened) -> str:
    """Returns the problem of an MPO whose later pictures do not begin where it says, or lie beyond its end; or ""."""
    if found.image.format != "MPO":
        return ""
    origin = found.file.read(1 << 20).find(b"MPF\0") + 4
    size = found.file.seek(0, os.SEEK_END)
    for entry in found.image.mpinfo[0xB002]:  # type: ignore[attr-defined]
        start = entry["DataOffset"] and entry["DataOffset"] + origin
        found.file.seek(start)
        if start + entry["Size"] > size or found.file.read(2) != b"\xff\xd8":
            return "lacks one of the pictures that it lists: cut short, or still being copied"
    return ""


def check_complete(found: Opened) -> None:
    """Checks that an open picture is whole, as far as its format tells.

    Raises:
        ImageError: it is not; the message says what is missing.
    """
    try:
        with at_start(found.file):
            problem = complete.problem(found.file, found.image.format or "")
        with at_start(found.file):
            problem = problem or _lacks_listed(found)
    except Exception as error:  # as in `_identified`
        raise ImageError(f"is damaged ({reason(error)})", COPY_AGAIN) from error
    if problem:
        raise ImageError(problem, COPY_AGAIN)
