"""Opens HDF5 files as untrusted input: nothing in one makes HDF5 open another file, run a plugin, or allocate freely.

Every link is looked at before it is followed. A file with soft or external links, virtual datasets or datasets stored
in other files is refused as a whole; filters and references are refused in the datasets that would be read.
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstyle.errors import InputError, printable

MOST_OBJECTS = 10_000
"""Groups and datasets of a file."""
MOST_ROWS = 10**8
"""Rows of a dataset."""
MOST_CHUNK = 2**28
"""Bytes of a chunk. HDF5 holds whole chunks in memory, even to read one row."""
MOST_CHUNKS = 2**16
"""Chunks of a row."""
MOST_INFLATED = 2**30
"""Bytes that a chunk may decompress to unless it has been looked at: HDF5 does not compare them with its size."""
MOST_ATTRIBUTE = 2**16
"""Bytes of an attribute."""
CHUNK_CACHE = 2**26
"""Bytes of decompressed chunks that are kept; two chunks if they are larger."""
REPACK = "Rewrite it with h5repack (-f GZIP=4, -l CHUNK=...) or with h5py."
COPY = "Copy the datasets into one new file, with h5copy or h5py."

_SHUFFLE, _DEFLATE, _FLETCHER32, _LZF = 2, 1, 3, 32000
_FILTERS = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _FLETCHER32: "fletcher32", _LZF: "lzf"}
_NAMES = {4: "szip", 5: "nbit", 6: "scaleoffset", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32015: "Zstandard"}
"""Some filters that are not read (The HDF Group's list of registered filters)."""
_RATIO = {_DEFLATE: 1032, _LZF: 88}
"""Most bytes that a byte of a compressed chunk can stand for."""


class Found(NamedTuple):
    """A dataset of a file.

    Attributes:
        name: path in the file, without a slash at its beginning.
        shape: its size along each axis; () for one value or none.
        dtype: h5py's type, whose metadata tells variable lengths, references and enumerations.
        refused: why it is not read, with what helps; or "".
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    refused: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of HDF5 inside the block into an `InputError` about the file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise InputError(
            f"{printable(path)} cannot be read as HDF5 ({printable(error)})",
            "It is damaged, cut short, or being written: copy it again.",
        ) from error


def open_file(path: Path) -> Any:
    """Opens a file for reading; returns a `h5py.File`.

    Raises:
        InputError: it does not exist, is no regular file, or no whole HDF5 file.
    """
    import h5py

    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"the input {printable(path)} does not exist", "Give files that exist.") from error
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror})", "Correct its permissions.") from error
    if not stat.S_ISREG(kind):
        raise InputError(f"{printable(path)} is not a regular file", "Give an HDF5 file.")
    with reading(path):
        return h5py.File(path, "r", locking="best-effort")


def datasets(file: Any, path: Path) -> list[Found]:
    """Lists the datasets of an open file by name, each once, without reading any data.

    Args:
        path: of the file, for messages.

    Raises:
        InputError: the file has a soft or external link, a virtual dataset, a dataset stored in other files, or more
            than `MOST_OBJECTS` objects; or it is damaged.
    """
    with reading(path):
        return sorted(_walk(file, path))


def _walk(file: Any, path: Path) -> Iterator[Found]:
    import h5py

    seen, waiting, number = {_address(file)}, [(file, "")], 0
    while waiting:
        group, above = waiting.pop()
        for name in group:
            full = f"{above}{name}"
            if group.id.links.get_info(_encoded(name)).type != h5py.h5l.TYPE_HARD:
                raise _refused(path, full, "is a soft, external or user-defined link")
            number += 1
            if number > MOST_OBJECTS:
                raise InputError(f"{printable(path)} has more than {MOST_OBJECTS} groups and datasets", COPY)
            one = group[name]
            if _address(one) in seen:
                continue
            seen.add(_address(one))
            if isinstance(one, h5py.Group):
                waiting.append((one, f"{full}/"))
            elif isinstance(one, h5py.Dataset):
                yield _look(one, full, path)


def _encoded(name: str) -> bytes:
    """A name as HDF5 has it; h5py decodes names in the same way."""
    return name.encode("utf-8", "surrogateescape")


def _address(one: Any) -> int:
    import h5py

    return h5py.h5o.get_info(one.id).addr


def _refused(path: Path, name: str, why: str) -> InputError:
    return InputError(f"{printable(path)} may refer to other files, so it is not read: {printable(name)} {why}", COPY)


def _look(dataset: Any, name: str, path: Path) -> Found:
    if dataset.is_virtual:  # before its shape, for which HDF5 may open its sources
        raise _refused(path, name, "is a virtual dataset")
    if dataset.id.get_create_plist().get_external_count():
        raise _refused(path, name, "is stored in other files")
    shape, dtype = dataset.shape or (), dataset.dtype
    return Found(name, shape, dtype, _problem(dataset, shape, dtype))


def _problem(dataset: Any, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why a dataset of a file is not read, with what helps; or ""."""
    codes = _filter_codes(dataset)
    if unknown := [code for code in codes if code not in _FILTERS]:
        named = f"{unknown[0]} ({_NAMES.get(unknown[0], 'of a plugin')})"
        return f"has the filter {named}, and {', '.join(_FILTERS.values())} are read. {REPACK}"
    packed = [n for n, code in enumerate(codes) if code in _RATIO]
    if len(packed) > 1 or any(code != _FLETCHER32 for n in packed for code in codes[n + 1 :]):
        return f"has filters in an unusual order. {REPACK}"
    if _refers(dtype):
        return "holds references to other objects. Leave it out of the file."
    if shape and shape[0] > MOST_ROWS:
        return f"has {shape[0]} rows, more than {MOST_ROWS}. Divide it."
    chunks = dataset.chunks
    if chunks is not None and math.prod(chunks) * dtype.itemsize > MOST_CHUNK:
        return f"has chunks of {math.prod(chunks) * dtype.itemsize} bytes, more than {MOST_CHUNK}. {REPACK}"
    if chunks is not None and math.prod(-(-a // b) for a, b in list(zip(shape, chunks, strict=True))[1:]) > MOST_CHUNKS:
        return f"has more than {MOST_CHUNKS} chunks a row. {REPACK}"
    return ""


def _filter_codes(dataset: Any) -> list[int]:
    """The filters of a dataset's chunks, in the order in which they were applied."""
    made = dataset.id.get_create_plist()
    return [made.get_filter(n)[0] for n in range(made.get_nfilters())]


def _refers(dtype: np.dtype) -> bool:
    """Whether values of a type hold references."""
    import h5py

    if h5py.check_ref_dtype(dtype) is not None:
        return True
    if dtype.names is not None:
        return any(_refers(dtype[name]) for name in dtype.names)
    if dtype.subdtype is not None:
        return _refers(dtype.subdtype[0])
    inner = h5py.check_vlen_dtype(dtype)
    return inner is not None and _refers(np.dtype(inner))


class Attribute(NamedTuple):
    """An attribute of a dataset.

    Attributes:
        value: as h5py returns it.
        dtype: h5py's type.
    """

    value: Any
    dtype: np.dtype


def attributes(dataset: Any) -> tuple[dict[str, Attribute], list[str]]:
    """The attributes of an open dataset by name, and the names of those that are not read.

    These refer to other objects, have more than `MOST_ATTRIBUTE` bytes, or are damaged.
    """
    found, left = {}, []
    for name in sorted(dataset.attrs):
        try:
            one = dataset.attrs.get_id(name)
            size = 0 if one.shape is None else math.prod(one.shape) * one.dtype.itemsize
            if size > MOST_ATTRIBUTE or _refers(one.dtype):
                left.append(name)
            else:
                found[name] = Attribute(dataset.attrs[name], one.dtype)
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError):
            left.append(name)
    return found, left


class _TooLarge(Exception):
    """A chunk may decompress to more bytes than it should have."""


class Rows:
    """Reads rows of a dataset that `datasets` has listed. Not thread-safe."""

    def __init__(self, file: Any, name: str):
        import h5py

        self.file = file
        with_cache = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        found = file[name]
        self._chunks = found.chunks
        size = math.prod(self._chunks or (0,)) * found.dtype.itemsize
        del found  # HDF5 takes the cache of a dataset's first opening
        with_cache.set_chunk_cache(10_007, max(CHUNK_CACHE, 2 * size), 1.0)
        self.dataset = h5py.Dataset(h5py.h5d.open(file.id, _encoded(name), with_cache))
        codes = _filter_codes(self.dataset)
        self._ratio, self._inflate = max([_RATIO.get(code, 1) for code in codes] or [1]), _DEFLATE in codes
        self._most, self._checked = size, set[int]()

    def __getitem__(self, rows: int | slice) -> Any:
        """Returns one row, or the rows of a slice without steps.

        Raises:
            OSError: they cannot be read, or a chunk of them is larger than it should be.
        """
        try:
            if self._ratio > 1:
                first, end = (rows.start, rows.stop) if isinstance(rows, slice) else (rows, rows + 1)
                self._check(first, end)
            return self.dataset[rows]
        except _TooLarge as error:
            raise OSError(str(error)) from error
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, zlib.error) as error:
            raise OSError(f"HDF5: {error}") from error
        except MemoryError as error:
            raise OSError("it needs more memory than there is") from error

    def _check(self, first: int, end: int) -> None:
        """Raises `_TooLarge` if a compressed chunk of these rows would fill the memory."""
        assert self._chunks is not None
        bounds = [(first, end), *((0, side) for side in self.dataset.shape[1:])]
        starts = [range(a // step * step, b, step) for (a, b), step in zip(bounds, self._chunks, strict=True)]
        for start in product(*starts):
            info = self.dataset.id.get_chunk_info_by_coord(start)
            size = info.size
            if info.byte_offset is None or size * self._ratio <= MOST_INFLATED or info.byte_offset in self._checked:
                continue
            if size > 2 * self._most + 2**16 or not (self._inflate and self._is_sound(start)):
                raise _TooLarge(f"its chunk of {size} compressed bytes could fill the memory. {REPACK}")
            self._checked.add(info.byte_offset)

    def _is_sound(self, start: tuple[int, ...]) -> bool:
        """Whether a chunk of gzip decompresses to no more than its size."""
        _, data = self.dataset.id.read_direct_chunk(start)
        unpacker, left = zlib.decompressobj(), self._most
        while data and left >= 0 and not unpacker.eof:
            left -= len(unpacker.decompress(data, 2**22))
            data = unpacker.unconsumed_tail
        return left >= 0


def take(rows: Rows, numbers: np.ndarray, most: int, write: Callable[[int, Any], None]) -> None:
    """Reads rows in ascending order, some at a time.

    Args:
        numbers: of the rows, ascending; a row may come several times.
        most: rows that are read at a time.
        write: called with the position in `numbers` of the first row and with the rows.
    """
    at = 0
    while at < len(numbers):
        end = int(np.searchsorted(numbers, numbers[at] + most))
        end = min(end, at + most)
        first = int(numbers[at])
        block = rows[first : int(numbers[end - 1]) + 1]
        write(at, block[numbers[at:end] - first])
        at = end
