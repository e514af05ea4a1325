"""Style term: distance of the Gram matrices from those of the style image (Gatys et al. 2016, equations 3 to 5)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Term, View, count, sum_square


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the style layers."""
    return objective.style_layers


class Sums(NamedTuple):
    """Sums over the positions of one layer.

    Attributes:
        products: F'F.
        positions: number of positions inside the picture.
    """

    products: Float[Array, "C C"]
    positions: Float[Array, ""]


def sums(f: FeatureMap) -> Sums:
    """Computes the sums of a layer's maps, which are 0 outside the picture."""
    products = gram_sum(f.features.reshape(-1, f.features.shape[-1]))
    return Sums(products, count(f.inside, products))


def gram(of: Sums) -> Float[Array, "C C"]:
    """Computes G = F'F / (positions inside), comparable between sizes (the paper sums; Gatys's code averages)."""
    return of.products / of.positions


def targets(objective: Objective, view: View) -> dict[str, Float[Array, "C C"]]:
    """Returns A, the style image's Gram matrix of every style layer."""
    return {name: gram(view.sums[name]) for name in objective.style_layers}


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


def layer_weights(objective: Objective) -> tuple[float, ...]:
    """Returns the weight of each style layer: normalised to sum 1 for "energy" and "article", as given for "gatys"."""
    weights = objective.style_layer_weights or (1.0,) * len(objective.style_layers)
    return weights if objective.normalization == "gatys" else tuple(w / sum(weights) for w in weights)


def loss(objective: Objective, view: View, targets: dict[str, Any]) -> Float[Array, ""]:
    """Computes the weighted sum over the style layers."""
    total = jnp.zeros((), jnp.promote_types(view.image.dtype, jnp.float32))
    for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
        of = view.sums[name]
        total = total + weight * distance(objective.normalization, gram(of), targets[name], of.positions, view.pixels)
    return total


TERM = Term("style", loss, layers, targets, source="style", sums=sums)
