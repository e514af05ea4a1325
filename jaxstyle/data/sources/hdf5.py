"""Reads inputs from image datasets of HDF5 files, one row at a time."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxstyle.data.bounds import check_size
from jaxstyle.data.hdf5 import Found, Rows, datasets, open_file, reading
from jaxstyle.data.pictures import kinds
from jaxstyle.data.pictures.png import png
from jaxstyle.data.sources.base import Input, Locator, Stamp, is_hdf5, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.sources.given import refuse_equal_names
from jaxstyle.errors import ImageError, InputError, SettingsError
from jaxstyle.settings import RenderSettings

SNIFFED = 16
"""Encoded pictures at the beginning of a dataset whose formats are looked at."""
SUITABLE = (
    "N x H x W x 3 (or 1, or 4) or N x 3 x H x W (or 1, or 4) of uint8, uint16 or floats in [0, 1], or N encoded "
    "pictures of variable length (uint8)"
)
"""What can be images."""
_MOST_16 = 65535
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Table:
    """The images of a file.

    Attributes:
        path: of the file.
        found: the dataset.
        rows: reads it.
        prefix: of the keys: the file's name without extension, and the dataset's.
        extension: of the keys.
        length: bytes of a row; 0 where rows have different lengths, which are not known before they are read.
    """

    path: Path
    found: Found
    rows: Rows
    prefix: str
    extension: str
    length: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an array."""
        return _image_shape(self.found)

    @property
    def channels_first(self) -> bool:
        """Whether arrays are N x channels x H x W."""
        return _is_channels_first(self.found)

    def key(self, row: int) -> str:
        """The key of a row."""
        return f"{self.prefix}/{row:08}.{self.extension}"

    def row_of(self, key: str) -> int | None:
        """The row that has this key, or None."""
        number = key.removeprefix(f"{self.prefix}/").removesuffix(f".{self.extension}")
        row = int(number) if re.fullmatch(r"[0-9]{8,9}", number) else -1
        return row if 0 <= row < self.found.shape[0] and self.key(row) == key else None


class Hdf5Source:
    """Provides the rows of an image dataset, or of one in each of several files. See `base.Source`.

    The key of row 12 of the dataset x/images in data.h5 is data/x/images/00000012.png. Arrays become PNG files for the
    decoders; encoded pictures are handed to them as they are, and their keys have the extension of the dataset's first
    pictures.
    """

    def __init__(self, inputs: Iterable[Path | str], *, settings: RenderSettings, case_insensitive: bool = False):
        """Args:
        settings: `dataset`, `max_pixels` and `white_level` of the run.
        """
        self._paths, self._settings = [Path(path) for path in inputs], settings
        self._lock, self._tables = threading.Lock(), list[Table]()

    def check(self, output: Path) -> None:
        """Checks that the inputs are HDF5 files with images, and that no output would replace them."""
        for path in self._paths:
            if not is_hdf5(path):
                raise InputError(
                    f"the input {printable(path)} is no HDF5 file, and another input is",
                    "Give HDF5 files alone, or render the rest in a run of its own.",
                )
        tables = self.tables()
        refuse_overlap(output, self._paths)
        for one in tables:
            if not one.found.shape[0]:
                raise InputError(f"{_named(one.path, one.found)} has no rows", "Give a dataset with images.")

    def tables(self) -> Sequence[Table]:
        """The images of each file; opens the files at the first call.

        Raises:
            InputError, SettingsError: a file or its dataset cannot be used.
        """
        with self._lock:
            if not self._tables:
                tables = [_opened(path, self._settings) for path in self._paths]
                refuse_equal_names((one.prefix, one.path) for one in tables)
                self._tables = tables
            return self._tables

    @property
    def roots(self) -> Sequence[Path]:
        """The given files."""
        return self._paths

    def inputs(self) -> Iterator[Input]:
        """Yields the rows of each file in their order, in which chunks are read once."""
        for number, one in enumerate(self.tables()):
            for row in range(one.found.shape[0]):
                yield Input(one.key(row), f"{number}:{row}")

    def open(self, locator: Locator) -> BinaryIO:
        """Reads a row; an array becomes a PNG file. Errors of HDF5 and values that are no levels are OSErrors."""
        one, row = self._at(locator)
        with self._lock:
            values = one.rows[row]
        if not one.length:
            return io.BytesIO(np.asarray(values, np.uint8).tobytes())
        return io.BytesIO(png(_levels(values.transpose(1, 2, 0) if one.channels_first else values)))

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the row's length, 0 if it has a variable one, and the file's modification time (st_mtime_ns)."""
        one, _ = self._at(locator)
        return Stamp(one.length, os.stat(one.path).st_mtime_ns)

    def close(self) -> None:
        """Closes the files, unless a thread hangs that reads one; a later call opens them again."""
        if self._lock.acquire(timeout=1):
            try:
                for one in self._tables:
                    one.rows.file.close()
                self._tables = []
            finally:
                self._lock.release()

    def _at(self, locator: Locator) -> tuple[Table, int]:
        number, _, row = str(locator).partition(":")
        return self.tables()[int(number)], int(row)


def _levels(values: np.ndarray) -> np.ndarray:
    """Converts H x W x channels to the levels of a PNG: floats get 16 bits.

    Raises:
        OSError: floats are not in [0, 1].
    """
    if values.dtype.kind != "f":
        return values
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # true for NaN
        raise OSError(f"has values from {low:g} to {high:g}, and floats must be in [0, 1]: divide by the value of "
                      "white, or store uint8")  # fmt: skip
    return np.round(values.astype(np.float64) * _MOST_16).astype(np.uint16)


def _named(path: Path, found: Found) -> str:
    return f"the dataset {printable(found.name)} of {printable(path)}"


def _described(found: Found) -> str:
    encoded = "variable length, " if _is_encoded(found) else ""
    return f"{printable(found.name)} ({encoded}{' x '.join(map(str, found.shape)) or 'a value'}, {found.dtype})"


def _is_encoded(found: Found) -> bool:
    import h5py

    inner = h5py.check_vlen_dtype(found.dtype)
    return inner is not None and np.dtype(inner) == np.uint8 and len(found.shape) == 1


def _is_array(found: Found) -> bool:
    import h5py

    floats = found.dtype.kind == "f" and found.dtype.itemsize <= 8
    number = floats or found.dtype.newbyteorder("=") in (np.uint8, np.uint16)
    plain = number and h5py.check_enum_dtype(found.dtype) is None
    return (plain and len(found.shape) == 4 and min(found.shape[1:]) > 0
            and not {found.shape[1], found.shape[3]}.isdisjoint(_CHANNELS))  # fmt: skip


def _is_channels_first(found: Found) -> bool:
    """Whether an array is N x channels x H x W; where both ends could be channels, they come last."""
    return len(found.shape) == 4 and found.shape[3] not in _CHANNELS


def _image_shape(found: Found) -> tuple[int, int, int]:
    """Height, width and channels of an array."""
    _, *sides = found.shape
    height, width, channels = (*sides[1:], sides[0]) if _is_channels_first(found) else sides
    return height, width, channels


def _opened(path: Path, settings: RenderSettings) -> Table:
    """Opens a file and finds its images."""
    file = open_file(path)
    found = _chosen(path, datasets(file, path), settings.dataset)
    what = _named(path, found)
    if found.refused:
        raise InputError(f"{what} {found.refused.partition('. ')[0]}", found.refused.partition(". ")[2])
    if ".." in found.name.split("/") or "\\" in found.name or "\0" in found.name:
        raise InputError(f"{what} has a name that no folder can have", "Rename it in the file.")
    encoded = _is_encoded(found)
    if not encoded:
        try:
            height, width, _ = _image_shape(found)
            check_size(width, height, settings.max_pixels)
        except ImageError as error:
            raise InputError(f"{what} {error.what}", error.remedy) from error
        if found.dtype.kind == "f" and settings.white_level is not None:
            raise SettingsError(
                f"white_level is {settings.white_level:g}, and {what} holds floats, which must be in [0, 1]",
                "Leave it out, and divide the values.",
            )
    with reading(path):
        rows = Rows(file, found.name)
    length = 0 if encoded else int(np.prod(found.shape[1:], dtype=np.int64)) * found.dtype.itemsize
    extension = _extension(rows, found.shape[0]) if encoded else "png"
    return Table(path, found, rows, f"{path.stem}/{found.name}", extension, length)


def _chosen(path: Path, found: Sequence[Found], name: str | None) -> Found:
    """The dataset of this name, or the only one that can be images."""
    suitable = [one for one in found if _is_array(one) or _is_encoded(one)]
    if name is None:  # a mask of N x 1 x H x W does not stand against N x H x W x 3
        suitable = [one for one in suitable if not _is_channels_first(one)] or suitable
    listed = "; ".join(map(_described, suitable[:20])) + "; ..." * (len(suitable) > 20)
    if name is not None:
        one = next((one for one in found if one.name == name.strip("/")), None)
        if one is None:
            raise InputError(
                f"{printable(path)} has no dataset {printable(name)}",
                f"It has these that can be images: {listed}." if suitable else f"Give a file that has {SUITABLE}.",
            )
        if one not in suitable:
            raise InputError(f"{_described(one)} in {printable(path)} holds no images", f"It must be {SUITABLE}.")
        return one
    if len(suitable) != 1:
        have = "; ".join(map(_described, found[:20])) or "no dataset"
        raise InputError(
            f"{printable(path)} has {len(suitable) or 'no'} dataset{'s' * bool(suitable)} that can be images: "
            f"{listed if suitable else have}",
            "Choose one with --dataset." if suitable else f"Images are {SUITABLE}.",
        )
    return suitable[0]


def _extension(rows: Rows, number: int) -> str:
    """The extension of encoded pictures: that of the first ones whose format their first bytes tell."""
    for row in range(min(number, SNIFFED)):
        try:
            start = np.asarray(rows[row][: kinds.MAGIC_BYTES], np.uint8).tobytes()
        except OSError:
            continue
        if (kind := kinds.by_content(start)) in kinds.FORMATS:
            return kinds.usual_extension(kind)
    return "jpg"
