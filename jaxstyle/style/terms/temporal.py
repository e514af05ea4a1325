"""Temporal term: distance from the result of the frame before, moved along with the picture.

Ruder, Dosovitskiy and Brox 2016, "Artistic style transfer for videos" (GCPR), equation 7.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Term, View, Warped


def targets(objective: Objective, view: View) -> Warped:
    """Returns the warped result of the frame before, and its weights."""
    del objective
    assert view.before is not None
    return view.before


def loss(objective: Objective, view: View, before: Warped) -> Float[Array, ""]:
    """Computes the mean of c (x - w)^2 over the picture's pixels and channels; pixels of weight 0 count as 0.

    w is the warped result of the frame before and c its weight. Pixels are of 0 to 255 for "gatys", and for "article",
    which sums.
    """
    weights = jnp.where(view.inside, before.weights, 0)[..., None]
    total = jnp.sum(weights * jnp.square(view.image - before.image))
    match objective.normalization:
        case "energy":  # there is no target to divide by
            return total / (3 * view.pixels)
        case "gatys":  # the paper's
            return 255**2 * total / (3 * view.pixels)
        case "article":
            return 255**2 * total
    raise AssertionError(objective.normalization)


TERM = Term("temporal", loss, targets=targets, optional=True)
