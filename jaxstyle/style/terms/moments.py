"""Style loss "moments": distance of the features' means and covariances from those of the style image.

A Gram matrix is the covariance plus the product of the means: it cannot tell a channel that is always on from one that
varies. Here both are compared, and each counts the same.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.style.terms.base import sum_square
from jaxstyle.style.terms.gram import Sums, gram


class Moments(NamedTuple):
    """Mean of every channel and covariance of every pair of channels, over the positions inside the picture."""

    mean: Float[Array, " C"]
    covariance: Float[Array, "C C"]


def moments(of: Sums) -> Moments:
    """Computes the moments of one layer's feature maps."""
    assert of.features is not None
    products, mean = gram(of), of.features / of.divisor
    return Moments(mean, products - mean[:, None] * mean[None, :])


def loss(formula: str, of: Sums, target: Moments, pixels: Float[Array, ""]) -> Float[Array, ""]:
    """Computes the mean of two parts, means and covariances, each divided by its target's energy."""
    del formula, pixels
    parts = [
        sum_square(own - a) / jnp.maximum(sum_square(a), 1e-12) for own, a in zip(moments(of), target, strict=True)
    ]
    return jnp.mean(jnp.stack(parts))
