"""The decision about a step: whether the lane moves, and whether the step's curvature pair enters the history."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxstyle.style.solvers import compact
from jaxstyle.style.solvers.base import Scalar

ARMIJO = 1e-4
"""Armijo's constant: least decrease of the loss as a share of the decrease that the slope predicts (Nocedal and Wright,
3.6a)."""
SHRINK = (0.1, 0.5)
"""Bounds of the factor on the length of a rejected step, which minimises the interpolating parabola."""
CURVED = 1e-8
"""Least cosine of the angle between s and y for a pair to be kept."""

Values = Float[Array, "..."]
"""An image, or under a preconditioner its `preconditioner.Variables`."""


class Products(NamedTuple):
    """Sums over a step s and its change of the gradient y.

    Attributes:
        slope: inner product of the gradient before the step and s.
        curvature, square: s'y and y'y.
        steps, changes: norms of s and y.
        total: sum of y.
    """

    slope: Scalar
    curvature: Scalar
    square: Scalar
    steps: Scalar
    changes: Scalar
    total: Scalar


def products_of(gradient: Values, s: Values, y: Values, at_once: bool) -> Products:
    """Computes the products, for a GPU at once."""
    if not at_once:
        norms = jnp.linalg.norm(s), jnp.linalg.norm(y)
        return Products(jnp.vdot(gradient, s), jnp.vdot(s, y), jnp.vdot(y, y), *norms, jnp.sum(y))
    slope, curvature, steps, square, total = compact.sums(gradient * s, s * y, s * s, y * y, y)
    return Products(slope, curvature, square, jnp.sqrt(steps), jnp.sqrt(square), total)


class Verdict(NamedTuple):
    """The decision about a step.

    Attributes:
        finite: whether the loss and the gradient at the trial image are finite.
        accepted: whether the lane moves to the trial image.
        keep: whether the step's curvature pair enters the history.
        shorter: factor on the step's length for a retry from the same image.
    """

    finite: Bool[Array, ""]
    accepted: Bool[Array, ""]
    keep: Bool[Array, ""]
    shorter: Scalar


def judge(before: Scalar, after: Scalar, of: Products, first: Bool[Array, ""]) -> Verdict:
    """Accepts a step by Armijo's condition, and its curvature pair if the loss curves upwards along it.

    Args:
        before, after: loss at the image and at the trial image.
        first: whether this is the first evaluation; the trial image is then the start itself.
    """
    finite = jnp.isfinite(after) & jnp.isfinite(of.total)
    accepted = finite & (first | (after <= before + ARMIJO * of.slope))
    keep = accepted & ~first & (of.curvature > CURVED * of.steps * of.changes)
    parabola = -of.slope / (2 * (after - before - of.slope))
    shorter = jnp.where(finite, jnp.clip(parabola, *SHRINK), SHRINK[0])
    return Verdict(finite, accepted, keep, shorter)
