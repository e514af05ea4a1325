"""A network's weights as a value, and jaxstyle's HDF5 file for them.

Weights files are untrusted input. Ours holds plain arrays of known shapes and a checksum over all of them.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jaxstyle.architecture import ARCHITECTURES, Architecture
from jaxstyle.errors import WeightsError

TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of torchvision's input, RGB in [0, 1]."""
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3)
"""Mean and standard deviation for the original weights, whose input is 0..255 pixels less their mean; the kernels have
been reversed from BGR to RGB."""
PREPROCESSING = {"torchvision": TORCHVISION, "caffe": CAFFE}


def file_format(architecture: Architecture) -> str:
    """Returns the file's attribute `format`: "jaxstyle", the network, and the version of the layout."""
    return f"jaxstyle {architecture.title} 1"


FORMATS = {file_format(one): one for one in ARCHITECTURES.values()}


class Header(TypedDict):
    """The attributes of the file.

    Attributes:
        format: "jaxstyle", the network, and the version of the layout, such as "jaxstyle VGG16 1".
        preprocessing: what the weights were trained with, "torchvision" or "caffe".
        source: description of the file or package that they came from.
        digest: SHA-256 of the text "FORMAT PREPROCESSING" and all arrays as little-endian float32, in the order of
            the layers, kernels before biases, in hexadecimal.
        mean, std: what is subtracted from RGB in [0, 1], and what the difference is divided by; they follow from
            the preprocessing, and jaxstyle does not read them.
        channels: "RGB in [0, 1]", the input.
    """

    format: str
    preprocessing: str
    source: str
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str


@dataclass(frozen=True, eq=False)
class Weights:
    """The convolutions of a network, for RGB input. Weights are equal if their digests are equal.

    Attributes:
        parameters: `kernel` (3 x 3 x in x out) and `bias` by Keras's layer name, float32.
        feature_scale: "torchvision" or "caffe", the preprocessing that the weights were trained with.
        source: description of the file or package that they came from.
        architecture: the network.
    """

    parameters: Mapping[str, Mapping[str, np.ndarray]]
    feature_scale: str
    source: str
    architecture: Architecture

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean that is subtracted from RGB in [0, 1]."""
        return PREPROCESSING[self.feature_scale][0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation that the difference is divided by."""
        return PREPROCESSING[self.feature_scale][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weights) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of network, preprocessing and all arrays: names the weights whatever file they are in."""
        total = hashlib.sha256(f"{file_format(self.architecture)} {self.feature_scale}".encode())
        for name in self.architecture.layers:
            for part in ("kernel", "bias"):
                total.update(np.ascontiguousarray(self.parameters[name][part], "<f4").data)
        return total.hexdigest()

    def require(self, network: str) -> Weights:
        """Returns these weights if they are the network's.

        Raises:
            WeightsError: they are another network's; its layers may have the same names and shapes.
        """
        if self.architecture.name != network:
            ours = self.architecture
            raise WeightsError(
                f"the weights are of {ours.title} ({self.source}), the network is {ARCHITECTURES[network].title}",
                f"Use `--network {ours.name}`, or give `--weights` a file of {ARCHITECTURES[network].title}.",
            )
        return self


def checked(
    parameters: Mapping[str, Mapping[str, Any]], origin: str, architecture: Architecture
) -> dict[str, dict[str, np.ndarray]]:
    """Checks every name, shape and value of the parameters; returns them as read-only float32.

    Raises:
        WeightsError: something is missing, of another shape, or not finite.
    """
    good: dict[str, dict[str, np.ndarray]] = {}
    for name, shape in architecture.kernel_shapes.items():
        layer = parameters.get(name)
        if layer is None:
            raise WeightsError(
                f"{origin} has no layer {name}",
                f"It must be a {architecture.title} with all {len(architecture.layers)} convolutions.",
            )
        for part, expected in (("kernel", shape), ("bias", shape[-1:])):
            array = np.asarray(layer[part])
            if array.shape != expected:
                raise WeightsError(
                    f"{origin}: {name}/{part} has shape {array.shape}, not {expected} as in {architecture.title}",
                    f"It must be one of {', '.join(one.title for one in ARCHITECTURES.values())}.",
                )
            with np.errstate(over="ignore"):  # a float64 may overflow to infinity, which is refused below
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise WeightsError(f"{origin}: {name}/{part} has values that are not finite", "The file is damaged.")
            array.flags.writeable = False  # all callers of `load` share the array
            good.setdefault(name, {})[part] = array
    return good


def save(weights: Weights, path: Path) -> None:
    """Writes our HDF5 file under a temporary name in the same folder, syncs it and renames it.

    A symbolic link at `path` is replaced, not followed.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _hdf5(weights)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = open(temporary, "xb")  # O_EXCL: opens neither an existing file nor a link  # noqa: SIM115
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _hdf5(weights: Weights) -> memoryview:
    """Builds the file in memory, because HDF5 opens files by name and reports a full disk late or never."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        header = Header(
            format=file_format(weights.architecture), preprocessing=weights.feature_scale, source=weights.source,
            digest=weights.digest, mean=weights.mean, std=weights.std, channels="RGB in [0, 1]",
        )  # fmt: skip
        file.attrs.update(header)
        for name in weights.architecture.layers:
            for part, array in weights.parameters[name].items():
                file[f"{name}/{part}"] = array
    return buffer.getbuffer()


def read(path: Path) -> Weights:
    """Reads our HDF5 file.

    Raises:
        WeightsError: the file is absent, damaged, changed, or of another format.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}", "`jaxstyle weights convert SRC DST` makes one.")
    try:
        with h5py.File(path, "r") as file:
            architecture = _architecture(path, str(file.attrs.get("format")))
            scale, source, stated = (str(file.attrs[key]) for key in ("preprocessing", "source", "digest"))
            parameters = {
                name: {part: plain(file, f"{name}/{part}") for part in ("kernel", "bias")}
                for name in architecture.layers
            }
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as HDF5 ({error})", "It is damaged or truncated: delete it, or convert it again."
        ) from error
    if scale not in PREPROCESSING:
        raise WeightsError(f"{path} names the preprocessing {scale!r}", "Convert the weights again.")
    weights = Weights(checked(parameters, str(path), architecture), scale, source, architecture)
    if weights.digest != stated:
        raise WeightsError(
            f"{path} is damaged: its arrays have SHA-256 {weights.digest[:12]}, its header says {stated[:12]}",
            "Delete it. The next run converts default weights again; `jaxstyle weights convert` converts others.",
        )
    return weights


def _architecture(path: Path, stated: str) -> Architecture:
    """Returns the network that the file's attribute `format` names."""
    if stated in FORMATS:
        return FORMATS[stated]
    if stated.startswith("jaxstyle "):
        known = ", ".join(one.title for one in ARCHITECTURES.values())
        raise WeightsError(f"{path} has the format {stated!r}", f"This jaxstyle reads {known}: install a newer one.")
    raise WeightsError(
        f"{path} is not a weights file of jaxstyle",
        f"Try to convert it: `jaxstyle weights convert {path.name} DST`.",
    )


def inside(file: Any, name: str) -> Any:
    """Returns the group or dataset of that name; refuses links, which could lead out of the file.

    Raises:
        KeyError: it is absent or reached through a soft or external link.
    """
    import h5py

    at = file
    for part in name.split("/"):
        if not isinstance(at, h5py.Group) or not isinstance(at.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{name} is not stored in this file")
        at = at[part]
    return at


def plain(file: Any, name: str) -> np.ndarray:
    """Reads a dataset; refuses one that would make HDF5 read other files or allocate without bound.

    Raises:
        KeyError: it is absent or reached through a link.
        ValueError: it is stored outside the file, virtual, or larger than any array of a known network.
    """
    import h5py

    found = inside(file, name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is not an array")
    if found.external or found.is_virtual:
        raise ValueError(f"{name} refers to data outside this file")
    largest = max(math.prod(shape) for one in ARCHITECTURES.values() for shape in one.kernel_shapes.values())
    chunk = math.prod(found.chunks or ())  # HDF5 holds a whole chunk in memory, even for a small array
    if found.size is None or max(found.size, chunk) > largest or found.dtype.kind != "f":
        raise ValueError(f"{name} is {found.dtype} of shape {found.shape}, unlike the arrays of every known network")
    return found[()]
