"""Writes one HDF5 file of outputs, whole under its final name, and checks one against the checksums that it holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.hdf5 import Attribute, Found, Rows, open_file, take
from jaxstyle.data.packing.base import Entry, rename, temporary
from jaxstyle.data.problems import storage_error
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import ImageError, InputError, StorageError

FORMAT = "jaxstyle images 1"
"""Kind and version of the layout, the file's attribute `format`."""
OURS = "jaxstyle"
"""Group of the datasets about the images."""
CHECKSUM = "sha256"
"""Attribute of each dataset: the checksum of its values."""
BLOCK = 2**24
"""Bytes of rows that are copied at a time, about."""


class Contents(NamedTuple):
    """What a file will hold.

    Attributes:
        name: of the dataset of images.
        shape: height, width and channels of all images; None to store the files of the outputs.
        entries: the outputs, in the order of their rows.
        carried: datasets of the source whose rows go with the images.
        attributes: of the file.
        channels_first: store arrays as channels, height and width.
        described: attributes of carried datasets, by the dataset's name and their own.
    """

    name: str
    shape: tuple[int, int, int] | None
    entries: Sequence[Entry]
    carried: Sequence[Found]
    attributes: dict[str, Any]
    channels_first: bool = False
    described: Mapping[str, Mapping[str, Attribute]] = {}

    @property
    def digest(self) -> str:
        """Checksum of everything that decides the file."""
        entries = [one[:5] for one in self.entries]  # files that were packed before have no `image`
        told: list[Any] = [FORMAT, self.name, self.shape, entries, [(one.name, one.shape) for one in self.carried]]
        told += ["channels first"] * self.channels_first  # files that were packed before have channels last
        told += [self._described()] if any(self.described.values()) else []
        return hashlib.sha256(json.dumps([told, self.attributes], sort_keys=True).encode()).hexdigest()

    def _described(self) -> list[tuple[str, str, str, str]]:
        """Each attribute of a carried dataset: the dataset, its name, its type, and a checksum of its value."""
        found = []
        for dataset, attributes in self.described.items():
            for name, one in attributes.items():
                total = hashlib.sha256()
                _update(total, np.asarray(one.value))
                found.append((dataset, name, str(one.dtype), total.hexdigest()))
        return found


def write(path: Path, contents: Contents, read: Callable[[Entry], bytes], source: Any) -> None:
    """Writes a file under a temporary name, reads it again, puts it on the disk and renames it.

    Args:
        read: returns the file of an output.
        source: the open `h5py.File` of the carried datasets.

    Raises:
        StorageError: the file cannot be written; an output is not as its row says.
        InputError: a row of the source cannot be read.
    """
    import h5py

    try:
        with temporary(path) as (file, name):
            try:
                with h5py.File(file, "w", libver="v108") as made:  # settings may exceed 64 KiB
                    _fill(made, contents, read, source)
            except RuntimeError as error:  # of HDF5, at closing
                raise OSError(str(error)) from error
            file.flush()
            os.fsync(file.fileno())
            if problem := differs(Path(name), contents.digest):
                raise OSError(f"read again, {problem}")
            rename(name, path)
    except OSError as error:
        raise storage_error(path, "written", error) from error


def _fill(file: Any, contents: Contents, read: Callable[[Entry], bytes], source: Any) -> None:
    import h5py

    entries, number, shape = contents.entries, len(contents.entries), contents.shape
    file.attrs.update(contents.attributes, format=FORMAT, digest=contents.digest)
    if shape is None:
        made = file.create_dataset(contents.name, (number,), h5py.vlen_dtype(np.uint8), chunks=(min(number, 1024),))
    else:
        stored = (shape[2], *shape[:2]) if contents.channels_first else shape
        packed: dict[str, Any] = {"chunks": (1, *stored), "compression": "gzip", "fletcher32": True}
        made = file.create_dataset(contents.name, (number, *stored), np.uint8, **packed)
    total = hashlib.sha256()
    for n, entry in enumerate(entries):
        data = read(entry)
        value = np.frombuffer(data, np.uint8) if shape is None else _decoded(data, shape, entry)
        if shape is not None and contents.channels_first:
            value = value.transpose(2, 0, 1)
        made[n] = value
        if shape is None:
            _add(total, data)
        else:
            _update(total, value)
    made.attrs[CHECKSUM] = total.hexdigest()
    texts = {"keys": [one.key for one in entries], "sha256": [one.sha256 for one in entries]}
    if any(one.style for one in entries):
        texts["styles"] = [one.style for one in entries]
    for name, values in texts.items():
        encoded = np.array([value.encode("utf-8", "surrogateescape") for value in values], object)
        _store(file, f"{OURS}/{name}", encoded, h5py.string_dtype())
    if source is None:
        return
    rows = np.array([one.row for one in entries], np.int64)
    _store(file, f"{OURS}/rows", rows, rows.dtype)
    for found in contents.carried:
        made = _carry(file, found, rows, source)
        for name, one in contents.described.get(found.name, {}).items():
            if name != CHECKSUM:
                made.attrs.create(name, one.value, dtype=one.dtype)


def _store(file: Any, name: str, values: np.ndarray, dtype: Any) -> None:
    made = file.create_dataset(name, data=values, dtype=dtype, compression="gzip")
    total = hashlib.sha256()
    _update(total, values)
    made.attrs[CHECKSUM] = total.hexdigest()


def _carry(file: Any, found: Found, rows: np.ndarray, source: Any) -> Any:
    """Copies the rows of a dataset of the source; returns the new dataset."""
    import h5py

    shape = (len(rows), *found.shape[1:])
    made = file.create_dataset(found.name, shape, found.dtype, compression="gzip" if all(shape) else None)
    total = hashlib.sha256()
    variable = h5py.check_vlen_dtype(found.dtype) is not None

    def store(at: int, block: np.ndarray) -> None:
        if variable:  # h5py takes arrays of one length for the rows of a matrix
            for place in np.ndindex(block.shape):
                made[(at + place[0], *place[1:])] = block[place]
        else:
            made[at : at + len(block)] = block
        _update(total, block)

    if all(shape):
        try:
            take(Rows(source, found.name), rows, _at_a_time(found.shape, found.dtype), store)
        except OSError as error:
            raise InputError(
                f"the dataset {printable(found.name)} of the input cannot be read ({error})",
                "Repair the file, or leave the dataset out with --leave-out.",
            ) from error
    made.attrs[CHECKSUM] = total.hexdigest()
    return made


def _at_a_time(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return max(1, BLOCK // max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize))


def _decoded(data: bytes, shape: tuple[int, int, int], entry: Entry) -> np.ndarray:
    """Decodes an output to uint8 levels; with 3 channels, transparency is composited on white."""
    try:
        picture = image.read(io.BytesIO(data), shape[0] * shape[1])
    except ImageError as error:
        raise StorageError(f"the output {printable(entry.key)} {error.what}", "Render it again.") from error
    levels = image.to_bytes(picture.levels) if picture.levels.dtype != np.uint8 else picture.levels
    if shape[2] == 4:
        with Image.open(io.BytesIO(data)) as opened:
            levels = np.asarray(opened.convert("RGBA"))
    if levels.shape != shape:
        raise StorageError(f"the output {printable(entry.key)} is {levels.shape}, and its row says {shape}",
                           "Render it again.")  # fmt: skip
    return levels


def _update(total: Any, values: np.ndarray) -> None:
    """Adds values to a checksum, in their order; it does not depend on how many are added at a time."""
    if not values.dtype.hasobject:
        total.update(np.ascontiguousarray(values).tobytes())
        return
    for value in values.ravel():
        plain = value.tobytes() if isinstance(value, np.ndarray) else value
        _add(total, plain if isinstance(plain, bytes) else repr(plain).encode())


def _add(total: Any, data: bytes) -> None:
    """Adds a value of variable length to a checksum."""
    total.update(len(data).to_bytes(8, "little") + data)


def digest_of(path: Path) -> str | None:
    """The digest of a file that `write` has written; None if the path is another file."""
    try:
        with open_file(path) as file:
            return str(file.attrs["digest"]) if file.attrs.get("format") == FORMAT else None
    except (InputError, OSError, KeyError, RuntimeError, ValueError):
        return None


def differs(path: Path, digest: str) -> str:
    """Reads all of a file; returns how its contents differ from what was written, or ""."""
    import h5py

    problems = []

    def look(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            total, step = hashlib.sha256(), _at_a_time(one.shape, one.dtype)
            variable = h5py.check_vlen_dtype(one.dtype) is not None
            for at in range(0, one.shape[0] if all(one.shape) else 0, 1 if variable else step):
                _update(total, one[at : at + (1 if variable else step)])
            if total.hexdigest() != one.attrs[CHECKSUM]:
                problems.append(f"its dataset {name} does not have its checksum")

    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["digest"] != digest:
                return "it has other contents"
            file.visititems(look)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        return f"it is damaged ({error})"
    return problems[0] if problems else ""
