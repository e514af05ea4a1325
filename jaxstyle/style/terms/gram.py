"""Style term: distance of the Gram matrices from those of the style image (Gatys et al. 2016, equations 3 to 5).

With regions: guided Gram matrices, one for each region (Gatys, Ecker, Bethge, Hertzmann and Shechtman 2017,
"Controlling Perceptual Factors in Neural Style Transfer", CVPR, section 4).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import gram_sum, weighted_gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Term, View, count, sum_square


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the style layers."""
    return objective.style_layers


def gram(f: FeatureMap) -> Float[Array, "C C"]:
    """Computes G = F'F / (positions inside), comparable between sizes (the paper sums; Gatys's code averages)."""
    total = gram_sum(f.features.reshape(-1, f.features.shape[-1]))
    return total / count(f.inside, total)


LEAST = 1e-6
"""Least divisor of the sums over a region; one pixel of the picture has 0.004 at the deepest layers."""


def guided_grams(f: FeatureMap, weights: Float[Array, "h w R"]) -> tuple[Float[Array, "R C C"], Float[Array, " R"]]:
    """Computes F' diag(w) F / sum(w) of each region, and sum(w). The paper's guidance channel is the root of w."""
    flat, number = f.features.reshape(-1, f.features.shape[-1]), weights.shape[-1]
    w = weights.reshape(-1, number)
    sums = jnp.sum(w, 0)
    grams = [weighted_gram_sum(flat, w[:, r].astype(flat.dtype)) / jnp.maximum(sums[r], LEAST) for r in range(number)]
    return jnp.stack(grams), sums


def targets(objective: Objective, view: View) -> dict[str, Float[Array, "*R C C"]]:
    """Returns A, the style image's Gram matrix of every style layer; with regions, those of each region."""
    if view.regions is None:
        return {name: gram(view.maps[name]) for name in objective.style_layers}
    return {name: guided_grams(view.maps[name], view.regions[name])[0] for name in objective.style_layers}


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
    """Computes the weighted sum over the style layers; with regions, of the mean over regions by their areas."""
    total = jnp.zeros((), jnp.promote_types(view.image.dtype, jnp.float32))
    for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
        f, a = view.maps[name], targets[name]
        positions = count(f.inside, a)
        if view.regions is None:
            total = total + weight * distance(objective.normalization, gram(f), a, positions, view.pixels)
            continue
        grams, sums = guided_grams(f, view.regions[name])
        shares = sums / jnp.maximum(jnp.sum(sums), LEAST)
        for r in range(len(shares)):
            own = distance(objective.normalization, grams[r], a[r], positions, view.pixels)
            total = total + weight * shares[r] * own
    return total


TERM = Term("style", loss, layers, targets, source="style")
