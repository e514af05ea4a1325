"""Weights of other libraries into ours: Keras (legacy .h5 and .weights.h5), torch (.pth) and safetensors.

Nothing of those libraries is imported but `safetensors`, and nothing in a file is executed. A Keras file holds
Caffe's kernels for BGR input and pixels in 0..255; the channels of its first kernel are turned around, the means
become RGB. A torch or safetensors file holds kernels as out x in x 3 x 3.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.errors import StorageError, WeightsError
from jaxstyle.model.weights import FORMAT, PREPROCESSING, Weights, checked, inside, plain, read, save
from jaxstyle.settings import LAYERS

TORCH_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""torchvision's `features.N` of the 13 convolutions."""

_Arrays = dict[str, dict[str, Any]]


def convert(source: Path, destination: Path, preprocessing: str = "auto") -> Weights:
    """Reads VGG16 weights of another library and writes our file.

    Args:
        source: .h5 or .weights.h5 of Keras, .pth of torch (zip format), .safetensors, or a file of ours.
        destination: the HDF5 file to write; replaced if there.
        preprocessing: what the network was trained on: "torchvision" (RGB, normalised), "caffe" (BGR, 0..255), or
            "auto": caffe for Keras files, torchvision for the others.

    Raises:
        WeightsError: the file is of no such kind, damaged, or not a VGG16.
        StorageError: the destination cannot be written.
    """
    source = Path(source)
    if preprocessing not in ("auto", *PREPROCESSING):
        raise WeightsError(f"preprocessing is {preprocessing!r}", f"Use auto, {' or '.join(PREPROCESSING)}.")
    weights = read_foreign(source, preprocessing)
    try:
        save(weights, Path(destination))
    except OSError as error:
        what = f"{destination} cannot be written ({error.strerror or error})"
        raise StorageError(what, "Give the path of a file in a folder that can be written.") from error
    return weights


def read_foreign(source: Path, preprocessing: str = "auto") -> Weights:
    """What `convert` reads, without writing it."""
    try:
        with open(source, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise WeightsError(f"{source} cannot be read ({error.strerror})", "Give the path of a weights file.") from error
    if head == b"\x89HDF\r\n\x1a\n":
        return _read_hdf5(source, preprocessing)
    if head.startswith(b"PK\x03\x04"):
        kind, reader = "torch", _read_torch
    elif source.suffix == ".safetensors":
        kind, reader = "safetensors", _read_safetensors
    else:
        raise WeightsError(
            f"{source} is neither HDF5, nor a zip of torch, nor .safetensors",
            "Torch files older than version 1.6 must be saved again by torch.",
        )
    scale = "torchvision" if preprocessing == "auto" else preprocessing
    arrays = _guard(source, reader, source)
    return _weights(_from_torch_names(arrays, source), scale, f"{kind} file {source.name}", bgr=scale == "caffe")


def _guard(source: Path, reader: Callable, *arguments: Any) -> Any:
    try:
        return reader(*arguments)
    except WeightsError:
        raise
    except Exception as error:  # a hostile or cut file can make its parser fail in any way; all mean the same here
        what = f"{source} cannot be read ({type(error).__name__}: {error})"
        raise WeightsError(what, "It is damaged, cut short, or of another kind.") from error


def _weights(parameters: _Arrays, scale: str, source: str, *, bgr: bool) -> Weights:
    parameters = checked(parameters, source)
    if bgr:
        first = parameters[LAYERS[0]]
        first["kernel"] = np.ascontiguousarray(first["kernel"][:, :, ::-1])
    return Weights(parameters, scale, source)


# Keras ----------------------------------------------------------------------------------------------------------------


def _read_hdf5(source: Path, preprocessing: str) -> Weights:
    import h5py

    def arrays() -> _Arrays | None:
        with h5py.File(source, "r") as file:
            if file.attrs.get("format") == FORMAT:
                return None
            names = set(file)  # names only: `in file` would follow links out of the file
            if "layers" in names:
                return _keras3(file, source)
            return _keras_legacy(inside(file, "model_weights") if "model_weights" in names else file, source)

    found = _guard(source, arrays)
    if found is None:
        return read(source)
    scale = "caffe" if preprocessing == "auto" else preprocessing
    return _weights(found, scale, f"Keras file {source.name}", bgr=scale == "caffe")


def _keras_legacy(root: Any, source: Path) -> _Arrays:
    """A group for each layer, with the names of its arrays in an attribute (they differ between versions)."""
    present = _not_vgg19(root, source)
    result: _Arrays = {}
    for layer in LAYERS:
        if layer not in present:
            raise WeightsError(f"{source} has no layer {layer}", "It must be Keras's VGG16.")
        group = inside(root, layer)
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
        kernel, bias = (plain(group, name) for name in names)
        result[layer] = {"kernel": kernel, "bias": bias}
    return result


def _keras3(file: Any, source: Path) -> _Arrays:
    """`layers/<name>/vars/0` and `/1`; the name is the layer's own, or conv2d, conv2d_1, ... in order."""
    layers = inside(file, "layers")
    present = _not_vgg19(layers, source)
    result: _Arrays = {}
    for index, layer in enumerate(LAYERS):
        name = layer if layer in present else "conv2d" + (f"_{index}" if index else "")
        result[layer] = {part: plain(layers, f"{name}/vars/{i}") for i, part in enumerate(("kernel", "bias"))}
    return result


def _not_vgg19(group: Any, source: Path) -> set[str]:
    """Names in a group, refusing VGG19, whose layers include all of VGG16's by name and by shape."""
    present = set(group)
    if present & {"block3_conv4", "conv2d_13"}:
        raise WeightsError(f"{source} has more convolutions than a VGG16", "Is it a VGG19?")
    return present


# torch and safetensors ------------------------------------------------------------------------------------------------


def _from_torch_names(arrays: Mapping[str, np.ndarray], source: Path) -> _Arrays:
    result: _Arrays = {}
    for layer, index in zip(LAYERS, TORCH_INDICES, strict=True):
        for prefix in ("features.", "", "vgg.features.", "module.features."):
            if f"{prefix}{index}.weight" in arrays and f"{prefix}{index}.bias" in arrays:
                kernel, bias = (arrays[f"{prefix}{index}.{part}"] for part in ("weight", "bias"))
                if kernel.ndim != 4:
                    raise WeightsError(f"{source}: {prefix}{index}.weight has shape {kernel.shape}", "Is it a VGG16?")
                result[layer] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
                break
        else:
            some = ", ".join(sorted(arrays)[:4]) or "none"
            raise WeightsError(f"{source} has no features.{index}.weight (names there: {some})", "Is it a VGG16?")
    return result


def _read_safetensors(source: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise WeightsError(f"{source} needs the package safetensors", "Run `pip install safetensors`.") from error
    return load_file(source)


_STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2"}
_LARGEST = 1 << 30


class _TorchUnpickler(pickle.Unpickler):
    """A torch state dict without torch: tensors become arrays, any other name is refused."""

    def __init__(self, file: Any, storage: Callable[[str, str], np.ndarray]):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise WeightsError(f"the file asks for {module}.{name}", "Only tensors are read: save a plain state dict.")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or dtype not in _STORAGES.values() or not str(key).isalnum():
            raise WeightsError(f"the file has a reference {pid!r:.80}", "Save a plain state dict of float tensors.")
        return self._storage(str(key), dtype)


def _rebuild_tensor(storage: np.ndarray, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
    shape, stride = tuple(map(int, shape)), tuple(map(int, stride))
    if len(shape) != len(stride) or min((offset, *shape, *stride)) < 0 or math.prod(shape) * 4 > _LARGEST:
        raise ValueError(f"a tensor of shape {shape}, stride {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= storage.size:
        raise ValueError(f"a tensor of shape {shape} reaches past its {storage.size} numbers")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _read_torch(source: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(source) as archive:
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
        file = io.BytesIO(member("data.pkl"))
        state = _TorchUnpickler(file, lambda key, dtype: np.frombuffer(member(f"data/{key}"), dtype)).load()
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError("it holds no state dict")
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
