"""Statistics of the features in each region of a picture: guided Gram matrices, and likewise means and covariances.

Gatys, Ecker, Bethge, Hertzmann and Shechtman 2017, "Controlling Perceptual Factors in Neural Style Transfer" (CVPR),
section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import weighted_gram_sum
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.style.terms.base import count
from jaxstyle.style.terms.gram import Sums

LEAST = 1e-6
"""Least divisor of the sums over a region; one pixel of the picture has 0.004 at the deepest layers."""


def sums(f: FeatureMap, weights: Float[Array, "h w R"], *, features: bool) -> tuple[list[Sums], Float[Array, " R"]]:
    """Computes F' diag(w) F of each region and its divisor sum(w); and sum(w) of all. The paper's guidance channel is
    the root of w.

    Args:
        features: whether the sums of the features, F' w, are needed.
    """
    flat, number = f.features.reshape(-1, f.features.shape[-1]), weights.shape[-1]
    w = weights.reshape(-1, number)
    total = jnp.sum(w, 0)
    found = []
    for r in range(number):
        own = w[:, r].astype(flat.dtype)
        products = weighted_gram_sum(flat, own)
        once = jnp.matmul(own, flat, preferred_element_type=products.dtype) if features else None
        found.append(Sums(products, count(f.inside, products), once, jnp.maximum(total[r], LEAST)))
    return found, total


def targets(compute: Callable[[Sums], Any], f: FeatureMap, weights: Float[Array, "h w R"], *, features: bool) -> Any:
    """Returns the target of each region, a tree of arrays with a leading axis of regions."""
    return jax.tree.map(lambda *a: jnp.stack(a), *map(compute, sums(f, weights, features=features)[0]))


def loss(
    distance: Callable[[Sums, Any], Float[Array, ""]],
    f: FeatureMap,
    weights: Float[Array, "h w R"],
    targets: Any,
    *,
    features: bool,
) -> Float[Array, ""]:
    """Computes the loss of one layer: the mean over regions by their areas in the optimised image.

    Args:
        distance: (sums of a region, its target) -> scalar.
        targets: see `targets`.
    """
    found, areas = sums(f, weights, features=features)
    shares = areas / jnp.maximum(jnp.sum(areas), LEAST)
    total = jnp.zeros((), found[0].products.dtype)
    for r, own in enumerate(found):
        total = total + shares[r] * distance(own, jax.tree.map(lambda a, r=r: a[r], targets))
    return total
