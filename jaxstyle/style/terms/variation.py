"""Total variation term, which smooths (Mahendran and Vedaldi, arXiv 1412.0035, in the article's form)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Image, Term, View


def total_variation(image: Image, inside: Inside, exponent: float) -> Float[Array, ""]:
    """Computes the sum over pixels and channels of (dx^2 + dy^2)^exponent, in the image's units.

    The exponent is Mahendran and Vedaldi's beta / 2. A pixel counts if its neighbours to the right and below are inside
    the picture.
    """
    corner, below, right = image[:-1, :-1], image[1:, :-1], image[:-1, 1:]
    inside = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:]
    square = jnp.where(inside[..., None], (corner - below) ** 2 + (corner - right) ** 2, 0)
    return jnp.sum(square**exponent)


def loss(objective: Objective, view: View, targets: Any) -> Float[Array, ""]:
    """Computes the total variation inside the picture; the term has no targets."""
    del targets
    exponent = objective.tv_exponent
    match objective.normalization:
        case "energy":  # there is no target to divide by: a mean, in which a step of a tenth of the range counts 1
            return total_variation(view.image * 10, view.inside, exponent) / (3 * view.pixels)
        case "gatys":  # the paper has no total variation
            return total_variation(view.image * 255, view.inside, exponent) / (3 * view.pixels)
        case "article":
            return total_variation(view.image * 255, view.inside, exponent)
    raise AssertionError(objective.normalization)


TERM = Term("tv", loss)
