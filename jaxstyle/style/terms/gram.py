"""Style loss "gram": distance of the Gram matrices from those of the style image (Gatys et al. 2016, equation 4)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.style.terms.base import count, sum_square


def gram(f: FeatureMap) -> Float[Array, "C C"]:
    """Computes G = F'F / (positions inside), comparable between sizes (the paper sums; Gatys's code averages)."""
    total = gram_sum(f.features.reshape(-1, f.features.shape[-1]))
    return total / count(f.inside, total)


def loss(
    formula: str, f: FeatureMap, a: Float[Array, "C C"], positions: Float[Array, ""], pixels: Float[Array, ""]
) -> Float[Array, ""]:
    """Computes the loss of one layer; see `style.StyleLoss`."""
    return distance(formula, gram(f), a, positions, pixels)


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
