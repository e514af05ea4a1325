"""The product with L-BFGS's inverse Hessian as four products with the stacked history, for GPUs.

The two-loop recursion (Nocedal and Wright, "Numerical Optimization", algorithm 7.4) reads and writes an image for each
pair of the history, twice, and each of its 2 m steps waits for the one before. With the compact representation of
Byrd, Nocedal and Schnabel 1994, "Representations of quasi-Newton matrices and their use in limited memory methods"
(theorem 2.2), the same product is

    R a = S' g        q = H0 (g - Y a)        R' b = D a - Y' q        H g = q + S b

where the columns of S and Y are the steps and the changes of the gradient, the oldest pair first, R is the upper
triangle of S' Y and D its diagonal. Each history is read twice, whatever its length, and three images are written.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Values = Float[Array, "..."]
"""An image, or its values in other variables."""


class History(NamedTuple):
    """The pairs of a history, a ring of m rows.

    Attributes:
        s, y: steps and changes of the gradient; rows without a pair may hold any finite values.
        products: inner product of s of each row with y of each column, but for the newest pair's column.
        rho: 1 / s'y of every pair; 0 for an empty row.
        oldest: row of the oldest pair, or of the next one if rows are empty.
    """

    s: Float[Array, "m ..."]
    y: Float[Array, "m ..."]
    products: Float[Array, "m m"]
    rho: Float[Array, " m"]
    oldest: Int[Array, ""]


def inv_hessian_product(gradient: Values, history: History, initial: Any) -> tuple[Values, Float[Array, "m m"]]:
    """Returns H g, and the history's products with the newest pair's column.

    That column is computed here, since S is read for S' g anyway.

    Args:
        initial: H0, a scalar or a diagonal.
    """
    s, y, products, rho, oldest = history
    rows = len(rho)
    newest = (oldest - 1) % rows
    along_gradient = _inner(s, gradient)
    products = products.at[:, newest].set(_inner(s, y[newest].astype(gradient.dtype)))

    order = (oldest + jnp.arange(rows)) % rows  # the oldest first
    place = (jnp.arange(rows) - oldest) % rows
    there = rho[order] != 0
    upper = jnp.where(there[:, None] & there[None], jnp.triu(products[order][:, order]), 0)
    diagonal = jnp.diagonal(upper)
    upper = upper + jnp.diag(jnp.where(there, 0, 1).astype(upper.dtype))  # an empty row has a factor of 0

    a = _solve(upper, jnp.where(there, along_gradient[order], 0))
    q = initial * (gradient - _sum(y, a[place]))
    b = _solve(upper, jnp.where(there, diagonal * a - _inner(y, q)[order], 0), transposed=True)
    return q + _sum(s, b[place]), products


def _solve(upper: Float[Array, "m m"], right: Float[Array, " m"], transposed: bool = False) -> Float[Array, " m"]:
    solve = jax.lax.linalg.triangular_solve
    return solve(upper, right[:, None], left_side=True, lower=False, transpose_a=transposed)[:, 0]


def _inner(history: Float[Array, "m ..."], values: Values) -> Float[Array, " m"]:
    """Returns the inner product of each row with values of its shape.

    It is a sum that XLA fuses; a GPU has no fast units for a matrix product of one column.
    """
    return jnp.sum(history * values[None], axis=tuple(range(1, history.ndim)))  # in the values' type, float32


def _sum(history: Float[Array, "m ..."], factors: Float[Array, " m"]) -> Values:
    """Returns the sum of the rows with factors."""
    return jnp.sum(history * factors.reshape(-1, *[1] * (history.ndim - 1)), axis=0)


ROW = 3072
"""Most values of a row that `sums` adds up first."""


def sums(*arrays: Array) -> Float[Array, " k"]:
    """Returns the sum of each array, in two launches for all of them: XLA adds up the rows of arrays of one length side
    by side, and then the rows' sums, which it would do array by array."""
    rows = [jnp.sum(array.reshape(-1, math.gcd(array.size, ROW)), axis=1) for array in arrays]
    most = max(map(len, rows))
    return jnp.sum(jnp.stack([jnp.pad(row, (0, most - len(row))) for row in rows]), axis=1)
