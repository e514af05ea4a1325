"""Reads state dicts of `torch.save` without torch: the zip format, and the legacy format before torch 1.6.

Both hold a pickle of names and shapes, and the values beside it. The unpickler builds arrays and dictionaries and
refuses every other name before importing it.
"""

from __future__ import annotations

import collections
import math
import pickle
import zipfile
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from typing import Any

import numpy as np

from jaxstyle.errors import WeightsError

ZIP = b"PK\x03\x04"
"""First bytes of a file since torch 1.6."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of an older file: the pickle of torch's magic number."""

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "ByteStorage": "|u1",
    "LongStorage": "<i8",  # batch normalisation counts its batches; `convert` refuses such a network by name
}
_LARGEST = 1 << 30
"""Most bytes of an array, or of a member of the zip, that is read."""


def read(file: BufferedIOBase) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict by name; a state dict under the key `state_dict` is read too.

    Args:
        file: begins with `ZIP` or `LEGACY`.

    Raises:
        WeightsError: the pickle asks for something other than tensors.
        Exception: the file is damaged; the type of error depends on the damage.
    """
    start = file.read(len(LEGACY))
    file.seek(0)
    state = _read_zip(file) if start.startswith(ZIP) else _read_legacy(file)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError("it holds no state dict")
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors as arrays.

    Args:
        storage: (key, type, length) -> the values of a storage.
    """

    def __init__(self, file: BufferedIOBase, storage: Callable[[str, str, int], np.ndarray]):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise WeightsError(f"the file asks for {module}.{name}", "Only tensors are read: save a plain state dict.")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or not str(key).isalnum() or view not in ([], [None]):
            raise WeightsError(f"the file has a reference {pid!r:.80}", "Save a plain state dict of float tensors.")
        return self._storage(str(key), dtype, size)


def _rebuild_tensor(storage: np.ndarray, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
    shape, stride = tuple(map(int, shape)), tuple(map(int, stride))
    if len(shape) != len(stride) or min((offset, *shape, *stride)) < 0 or math.prod(shape) * 4 > _LARGEST:
        raise ValueError(f"a tensor has shape {shape}, stride {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.size:
        raise ValueError(f"a tensor of shape {shape} reaches past its {storage.size} values")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _read_zip(file: BufferedIOBase) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        (pickled,) = [name for name in entries if name.endswith("/data.pkl")]
        root = pickled.removesuffix("data.pkl")

        def member(name: str) -> bytes:
            info = entries[root + name]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > _LARGEST:
                raise ValueError(f"{name} is compressed or larger than {_LARGEST} bytes")
            return archive.read(info)

        if root + "byteorder" in entries and member("byteorder") != b"little":
            raise ValueError("it was saved on a big-endian machine")
        pickled_state = BytesIO(member("data.pkl"))
        return _Unpickler(pickled_state, lambda key, dtype, _: np.frombuffer(member(f"data/{key}"), dtype)).load()


def _read_legacy(file: BufferedIOBase) -> Any:
    """Reads pickles of the magic number, version, machine, state dict and storage keys; then reads the storages.

    Each storage is its length as int64 and its values. The tensors are views of arrays that are filled afterwards.
    """
    length, storages = file.seek(0, 2), dict[str, np.ndarray]()
    file.seek(0)

    def storage(key: str, dtype: str, size: int) -> np.ndarray:
        if key not in storages:
            taken = sum(one.nbytes for one in storages.values())
            if not 0 <= size <= (length - taken) // np.dtype(dtype).itemsize:
                raise ValueError(f"a storage has {size} values, more than the file")
            storages[key] = np.zeros(size, dtype)
        if storages[key].dtype != dtype or storages[key].size != size:
            raise ValueError(f"the storage {key} has two types or lengths")
        return storages[key]

    _, version, machine, state, keys = (_Unpickler(file, storage).load() for _ in range(5))
    if version != 1001 or not machine["little_endian"] or sorted(keys) != sorted(storages):
        raise ValueError("its version, byte order or list of storages is not torch's")
    for key in keys:
        array = storages[key]
        if int.from_bytes(file.read(8), "little") != array.size or file.readinto(array.data) != array.nbytes:
            raise ValueError(f"the storage {key} is truncated")
    return state
