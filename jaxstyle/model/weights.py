"""Loads the weights of a run from a converted file or an installed package. Each file is read once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from jaxstyle.architecture import ARCHITECTURES
from jaxstyle.cache import cache_directory, has_cache
from jaxstyle.errors import WeightsError
from jaxstyle.model.packages import PACKAGES, Package
from jaxstyle.model.weights_file import Weights, read, save
from jaxstyle.presets import Objective
from jaxstyle.trust import CORRECT_CACHE, distrust, make_private, tell_once

_CONVERT = "`jaxstyle weights convert` makes a file for `--weights` from one of Keras, torch or safetensors"


def load(path: Path | str | None = None, network: str = Objective.network) -> Weights:
    """Loads a network's weights from a converted file, or by default from a package, converted at first use.

    An unchanged file is read and hashed once a process: later calls return the same object.

    Raises:
        WeightsError: see `read` and `Package.read`; or no package is installed, or the file is of another network.
    """
    if path is not None:
        return _once(read, Path(path)).require(network)
    package = _package(network)
    if not has_cache():
        return _once(package.read, _installed(package, network))
    converted = default_path(network)
    if problem := distrust(converted):
        tell_once(f"converted weights are not cached: {problem}. {CORRECT_CACHE}")
    if problem or not converted.exists():
        weights = _once(package.read, _installed(package, network))
        try:
            if problem or make_private(converted.parent):
                return weights
            save(weights, converted)
        except OSError:  # the cache cannot be written (read-only home, full disk): the next run converts again
            return weights
    weights = _once(read, converted)
    if weights.digest != package.digest:
        raise WeightsError(f"{converted} holds other weights than those in its name", "Delete it.")
    return weights


def default_path(network: str = Objective.network) -> Path:
    """Returns the path of a package's converted weights in the cache.

    Raises:
        WeightsError: no package has weights of this network.
    """
    return cache_directory() / f"{network}-{_package(network).digest[:12]}.h5"


def _package(network: str) -> Package:
    if network not in PACKAGES:
        raise WeightsError(f"no package has weights of {ARCHITECTURES[network].title}", f"{_CONVERT}.")
    return PACKAGES[network]


def _installed(package: Package, network: str) -> Path:
    path = package.path()
    if path is None:
        raise WeightsError(
            f"the package {package.name}, which has the weights of {ARCHITECTURES[network].title}, is not installed",
            f"Run `{package.install()}`; or {_CONVERT}.",
        )
    return path


def _once(reader: Callable[[Path], Weights], path: Path) -> Weights:
    """Reads a file with `reader`; returns the weights in memory if the file has not changed."""
    try:
        found = path.stat()
    except OSError:
        return reader(path)  # it raises an error that says what is wrong
    return _remembered(reader, path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=2)  # one set takes 59 MB for VGG16, 80 MB for VGG19
def _remembered(reader: Callable[[Path], Weights], path: Path, *_version: int) -> Weights:
    return reader(path)
