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

    mean: Float[Array, "... C"]
    covariance: Float[Array, "... C C"]


class Prepared(NamedTuple):
    """A target with the sums of squares of its mean and of its covariance."""

    target: Moments
    energies: tuple[Float[Array, " *lanes"], Float[Array, " *lanes"]]


def moments(of: Sums) -> Moments:
    """Computes the moments of one layer's feature maps."""
    assert of.features is not None
    products, mean = gram(of), of.features / of.divisor
    return Moments(mean, products - mean[:, None] * mean[None, :])


def loss(formula: str, of: Sums, target: Moments | Prepared, pixels: Float[Array, ""]) -> Float[Array, ""]:
    """Computes the mean of two parts, means and covariances, each divided by its target's energy."""
    del formula, pixels
    moment, energies = target if isinstance(target, Prepared) else (target, tuple(map(sum_square, target)))
    parts = [
        sum_square(own - a) / jnp.maximum(energy, 1e-12)
        for own, a, energy in zip(moments(of), moment, energies, strict=True)
    ]
    return jnp.mean(jnp.stack(parts))


def prepared(target: Moments) -> Prepared:
    """Adds up the squares of a target, or of several along leading axes."""
    mean, covariance = target
    return Prepared(target, (jnp.sum(jnp.square(mean), -1), jnp.sum(jnp.square(covariance), (-2, -1))))
