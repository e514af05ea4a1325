"""The functions of `preconditioner` as matrix products of the colours' planes, for TPUs; the same up to rounding.

A TPU keeps the last two axes of an array in tiles of 8 x 128 numbers. An image of three colours has its width there,
and halves or doubles it by a product with a matrix of the weights, which costs less than moving neighbours. z is a
matrix too: the planes of the image's own size below one another, and below them the smaller levels side by side, zeros
elsewhere (`Layout`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxstyle.style.solvers import preconditioner
from jaxstyle.style.solvers.base import Image
from jaxstyle.style.solvers.preconditioner import FLOOR, GRID, OPPONENT

Planes = Float[Array, "3 h w"]
Variables = Float[Array, "r c"]
"""z, with the places of its levels in `Layout`."""


class Layout(NamedTuple):
    """Where the levels are.

    Attributes:
        sizes: heights and widths.
        places: row and column of the first value of each; its three planes are below one another.
        shape: rows and columns of z.
    """

    sizes: list[tuple[int, int]]
    places: list[tuple[int, int]]
    shape: tuple[int, int]


@lru_cache
def layout(height: int, width: int) -> Layout:
    """Returns the places of the levels of an image: the second one below the first, the third beside the second, the
    others side by side below the third."""
    sizes = preconditioner.sizes(height, width)
    places = [(0, 0), (3 * height, 0)][: len(sizes)]
    row, column = 3 * height, sizes[1][1] if len(sizes) > 1 else 0
    for k in range(2, len(sizes)):
        places.append((row, column))
        if k == 2:
            row += 3 * sizes[k][0]
        else:
            column += sizes[k][1]
    ends = [(r + 3 * h, c + w) for (r, c), (h, w) in zip(places, sizes, strict=True)]
    return Layout(sizes, places, (max(r for r, _ in ends), max(c for _, c in ends)))


def _halving(length: int, times: int) -> Float[np.ndarray, "m n"]:
    return preconditioner.halving(length, times).astype(np.float32)


def _doubling(length: int, times: int) -> Float[np.ndarray, "n m"]:
    return 2.0**times * _halving(length, times).T


def _product(rows: np.ndarray, planes: Planes, columns: np.ndarray) -> Planes:
    """Returns rows @ plane @ columns of every plane, in float32."""
    found = lax.dot_general(planes, columns, (((2,), (0,)), ((), ())), precision="highest")
    return jnp.einsum("ah,chw->caw", rows, found, precision="highest")


def _half(planes: Planes, times: int = 1) -> Planes:
    height, width = planes.shape[1:]
    return _product(_halving(height, times), planes, _halving(width, times).T)


def _double(planes: Planes, height: int, width: int, times: int = 1) -> Planes:
    return _product(_doubling(height, times), planes, _doubling(width, times).T)


def _mixed(planes: Planes, colours: Float[np.ndarray, "3 3"]) -> Planes:
    """Returns sums of the planes with the weights of a row of `colours` each."""
    return jnp.stack([sum(float(weight) * plane for weight, plane in zip(row, planes, strict=True)) for row in colours])


def _put(levels: list[Planes], where: Layout, value: float = 0) -> Variables:
    """Returns z of its levels."""
    z = jnp.full(where.shape, value, levels[0].dtype)
    for level, place in zip(levels, where.places, strict=True):
        z = lax.dynamic_update_slice(z, level.reshape(-1, level.shape[2]), place)
    return z


def _levels(z: Variables, where: Layout) -> list[Planes]:
    """Returns the levels of z."""
    return [
        z[r : r + 3 * h, c : c + w].reshape(3, h, w) for (r, c), (h, w) in zip(where.places, where.sizes, strict=True)
    ]


def variables(gradient: Image) -> Variables:
    """Computes `preconditioner.variables`."""
    where = layout(*gradient.shape[:2])
    level, found = _mixed(jnp.moveaxis(gradient, 2, 0), OPPONENT), []
    for k, weight in enumerate(preconditioner.weights(len(where.sizes))):
        level = _half(level) if k else level
        found.append(4.0**k * weight * level)
    return _put(found, where)


def image(z: Variables, height: int, width: int) -> Image:
    """Computes `preconditioner.image`."""
    where = layout(height, width)
    levels, weights = _levels(z, where), preconditioner.weights(len(where.sizes))
    total = jnp.zeros_like(levels[-1])
    for k in range(len(levels) - 1, -1, -1):
        total = total + weights[k] * levels[k]
        total = _double(total, *where.sizes[k - 1]) if k else total
    return jnp.moveaxis(_mixed(total, OPPONENT.T), 0, 2)


def diagonal(
    s: Float[Array, "m r c"], y: Float[Array, "m r c"], rho: Float[Array, " m"], pairs: Int[Array, ""],
    height: int, width: int,
) -> Variables:  # fmt: skip
    """Computes `preconditioner.diagonal`; 1 where z has no level."""
    where = layout(height, width)
    steps, changes = (jnp.sum(rho[:, None, None] * rows.astype(rho.dtype) ** 2, 0) for rows in (s, y))

    def smooth(level: Planes) -> Planes:
        total = _half(level, GRID)
        return total + FLOOR * jnp.mean(total)

    found = []
    for one, other, size in zip(_levels(steps, where), _levels(changes, where), where.sizes, strict=True):
        ratio = jnp.where(pairs > 0, jnp.sqrt(smooth(one) / jnp.where(pairs > 0, smooth(other), 1)), 1)
        found.append(_double(ratio, *size, GRID))
    return _put(found, where, 1)
