"""Guided Gram matrices, one for each region of a picture.

Gatys, Ecker, Bethge, Hertzmann and Shechtman 2017, "Controlling Perceptual Factors in Neural Style Transfer" (CVPR),
section 4.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import weighted_gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.style.terms.base import count
from jaxstyle.style.terms.gram import distance

LEAST = 1e-6
"""Least divisor of the sums over a region; one pixel of the picture has 0.004 at the deepest layers."""


def guided_grams(f: FeatureMap, weights: Float[Array, "h w R"]) -> tuple[Float[Array, "R C C"], Float[Array, " R"]]:
    """Computes F' diag(w) F / sum(w) of each region, and sum(w). The paper's guidance channel is the root of w."""
    flat, number = f.features.reshape(-1, f.features.shape[-1]), weights.shape[-1]
    w = weights.reshape(-1, number)
    sums = jnp.sum(w, 0)
    grams = [weighted_gram_sum(flat, w[:, r].astype(flat.dtype)) / jnp.maximum(sums[r], LEAST) for r in range(number)]
    return jnp.stack(grams), sums


def loss(
    formula: str,
    f: FeatureMap,
    weights: Float[Array, "h w R"],
    targets: Float[Array, "R C C"],
    pixels: Float[Array, ""],
) -> Float[Array, ""]:
    """Computes the loss of one layer: the mean over regions by their areas in the optimised image."""
    grams, sums = guided_grams(f, weights)
    shares = sums / jnp.maximum(jnp.sum(sums), LEAST)
    positions = count(f.inside, targets)
    total = jnp.zeros((), grams.dtype)
    for r in range(len(shares)):
        total = total + shares[r] * distance(formula, grams[r], targets[r], positions, pixels)
    return total
