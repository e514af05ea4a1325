"""Style loss "gram": distance of the Gram matrices from those of the style image (Gatys et al. 2016, equation 4)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model import pairs
from jaxstyle.model.ops import gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.style.terms.base import count, sum_square, wide


class Sums(NamedTuple):
    """Sums over the positions of one layer.

    Attributes:
        products: F'F.
        positions: number of positions inside the picture.
        features: the features of every channel; None where no loss needs them.
        weight: sum of the positions' weights, where they are weighted; None where each counts 1.
    """

    products: Float[Array, "C C"]
    positions: Float[Array, ""]
    features: Float[Array, " C"] | None = None
    weight: Float[Array, ""] | None = None

    @property
    def divisor(self) -> Float[Array, ""]:
        """What the sums are divided by for a mean over the positions."""
        return self.positions if self.weight is None else self.weight


def sums(f: FeatureMap, *, features: bool = False) -> Sums:
    """Computes the sums of a layer's maps, which are 0 outside the picture.

    Args:
        features: whether those of the features are needed.
    """
    if f.packed is not None:
        products, total = pairs.gram_sum(f.packed), pairs.feature_sum(wide(f.packed)) if features else None
    else:
        products = gram_sum(f.features.reshape(-1, f.features.shape[-1]))
        total = jnp.sum(wide(f.features), axis=(0, 1)) if features else None
    return Sums(products, count(f.inside, products), total)


def gram(of: Sums) -> Float[Array, "C C"]:
    """Computes G = F'F / (positions inside), comparable between sizes (the paper sums; Gatys's code averages)."""
    return of.products / of.divisor


def loss(formula: str, of: Sums, a: Float[Array, "C C"], pixels: Float[Array, ""]) -> Float[Array, ""]:
    """Computes the loss of one layer; see `style.StyleLoss`."""
    return distance(formula, gram(of), a, of.positions, pixels)


def distance(
    formula: str, g: Float[Array, "C C"], a: Float[Array, "C C"], positions: Float[Array, ""], pixels: Float[Array, ""]
) -> Float[Array, ""]:
    """Computes the distance of G and A of one layer.

    Args:
        positions: number of the layer's positions inside the picture.
        pixels: number of the picture's pixels.
    """
    match formula:
        case "energy":
            return sum_square(g - a) / jnp.maximum(sum_square(a), 1e-12)
        case "gatys":
            return sum_square(g - a) / g.size / g.shape[0] ** 2
        case "article":
            # The article's Gram matrices are sums, and its two images have one size. Here the sizes may differ, so
            # averages are compared, scaled to the image's number of positions.
            return sum_square((g - a) * (positions / pixels)) / (4 * 3**2)
    raise AssertionError(formula)
