"""Which weights a run uses: a converted file, or those of an installed package. Each file is read once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from jaxstyle.architecture import ARCHITECTURES
from jaxstyle.errors import WeightsError
from jaxstyle.model.packages import PACKAGES, Package
from jaxstyle.model.weights_file import Weights, read, save
from jaxstyle.settings import Objective, cache_directory

_CONVERT = "`jaxstyle weights convert` makes a file for `--weights` of one that you have"


def load(path: Path | str | None = None, network: str = Objective.network) -> Weights:
    """A network's weights from a converted file; by default those of a package, converted at first use.

    The same file, unchanged, gives the same object: it is read and hashed once a process.

    Raises:
        WeightsError: see `read` and `Package.read`; or no package is installed, or the file is of another network.
    """
    if path is not None:
        return _once(read, Path(path)).require(network)
    package = _package(network)
    converted = default_path(network)
    if not converted.exists():
        weights = _once(package.read, _installed(package, network))
        try:
            save(weights, converted)
        except OSError:  # a cache that cannot be written (read-only home, full disk) costs a second, not the run
            return weights
    weights = _once(read, converted)
    if weights.digest != package.digest:
        raise WeightsError(f"{converted} holds other weights than its name says", "Delete it.")
    return weights


def default_path(network: str = Objective.network) -> Path:
    """Where a package's weights are kept after conversion.

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
    """The weights that the reader finds in a file; from memory if the file has not changed."""
    try:
        found = path.stat()
    except OSError:
        return reader(path)  # which says what is wrong with it
    return _remembered(reader, path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=2)  # 59 MB each for VGG16, 80 MB for VGG19
def _remembered(reader: Callable[[Path], Weights], path: Path, *_version: int) -> Weights:
    return reader(path)
