"""Total variation term, which smooths (Mahendran and Vedaldi, arXiv 1412.0035, in the article's form)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Image, Term, View


def total_variation(image: Image, inside: Inside, exponent: float, border: str) -> Float[Array, ""]:
    """Computes the sum over pixels and channels of (dx^2 + dy^2)^exponent, in the image's units.

    The exponent is Mahendran and Vedaldi's beta / 2. dx is the difference to the neighbour on the right, dy to the one
    below.

    Args:
        border: "counted": every pixel inside the picture counts, and the difference to a neighbour outside is 0
            (Chambolle 2004, "An algorithm for total variation minimization"). "omitted": a pixel counts if both
            neighbours are inside, as in the article, so that differences along the last row and the last column cost
            nothing.
    """
    if border == "counted":
        image, inside = jnp.pad(image, ((0, 1), (0, 1), (0, 0))), jnp.pad(inside, ((0, 1), (0, 1)))
    corner, below, right = image[:-1, :-1], image[1:, :-1], image[:-1, 1:]
    if border == "counted":
        counted = inside[:-1, :-1]
        below = jnp.where(inside[1:, :-1, None], below, corner)
        right = jnp.where(inside[:-1, 1:, None], right, corner)
    else:
        counted = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:]
    square = jnp.where(counted[..., None], (corner - below) ** 2 + (corner - right) ** 2, 0)
    return jnp.sum(square**exponent)


def loss(objective: Objective, view: View, targets: Any) -> Float[Array, ""]:
    """Computes the total variation inside the picture; the term has no targets."""
    del targets

    def variation(scale: float) -> Float[Array, ""]:
        return total_variation(view.image * scale, view.inside, objective.tv_exponent, objective.tv_border)

    match objective.normalization:
        case "energy":  # there is no target to divide by: a mean, in which a step of a tenth of the range counts 1
            return variation(10) / (3 * view.pixels)
        case "gatys":  # the paper has no total variation
            return variation(255) / (3 * view.pixels)
        case "article":
            return variation(255)
    raise AssertionError(objective.normalization)


TERM = Term("tv", loss)
