"""The functions of `preconditioner` in few passes over memory, for GPUs; the same up to rounding.

One launch works on all levels of the pyramid. One matrix product makes all levels of up to `SMALL` positions from the
first of them. The squares that the diagonal is measured from are smoothed once, when a pair is made, and kept smoothed,
which takes a sixteenth of the pair's memory. z ends with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxstyle.style.solvers import preconditioner
from jaxstyle.style.solvers.base import Image
from jaxstyle.style.solvers.preconditioner import FLOOR, GRID, OPPONENT

SMALL = 1024
"""Most positions of a level from which a matrix computes all coarser ones. At 512 x 384 pixels it has 0.8 MB."""
LANES = 1024
"""z is filled with zeros to a multiple of this length."""

Squares = Float[Array, "2 q"]
"""Smoothed squares of a pair's step and of its change of the gradient, all levels, one after the other."""
Level = Float[Array, "h w 3"]


class Shape(NamedTuple):
    """The levels of an image: heights and widths, and the number of those that come by halving one another."""

    sizes: list[tuple[int, int]]
    large: int

    @property
    def values(self) -> int:
        """Number of values of z, zeros at its end included."""
        return -(-3 * sum(h * w for h, w in self.sizes) // LANES) * LANES


@lru_cache
def shape_of(height: int, width: int) -> Shape:
    """Returns the levels of an image."""
    sizes = preconditioner.sizes(height, width)
    return Shape(sizes, next((k for k, (h, w) in enumerate(sizes) if h * w <= SMALL), len(sizes) - 1) + 1)


def _placed(values: Array, axis: int, first: int, length: int, apart: int = 1) -> Array:
    """Puts values in places `first`, `first + apart` and so on of an axis of this length, zeros elsewhere; a place
    outside is dropped. XLA fuses such padding, where it writes a concatenation to memory."""
    pads = [(0, 0, 0)] * values.ndim
    pads[axis] = (first, length - first - (values.shape[axis] - 1) * apart - 1, apart - 1)
    return lax.pad(values, jnp.zeros((), values.dtype), pads)


def _neighbours(first: Array, values: Array, last: Array, axis: int) -> tuple[Array, Array]:
    """Returns the values before and after each place of an axis; before the first one there is that of `first`, after
    the last one that of `last`."""
    number = values.shape[axis]
    at_first, at_last = lax.slice_in_dim(first, 0, 1, axis=axis), lax.slice_in_dim(last, number - 1, None, axis=axis)
    before = _placed(values, axis, 1, number) + _placed(at_first, axis, 0, number)
    return before, _placed(values, axis, -1, number) + _placed(at_last, axis, number - 1, number)


def _halved(values: Array, axis: int) -> Array:
    """Computes `preconditioner._halved`."""
    length = values.shape[axis]
    values = _placed(values, axis, 0, length + length % 2)
    even, odd = (lax.slice_in_dim(values, k, None, 2, axis) for k in (0, 1))
    before, after = _neighbours(even, odd, odd, axis)[0], _neighbours(even, even, odd, axis)[1]
    return (before + 3 * (even + odd) + after) / 8


def _doubled(values: Array, axis: int, length: int) -> Array:
    """Computes `preconditioner._doubled`."""
    before, after = _neighbours(values, values, values, axis)
    even, odd = (3 * values + before) / 4, (3 * values + after) / 4
    return _placed(even, axis, 0, length, 2) + _placed(odd, axis, 1, length, 2)


def _half(level: Level) -> Level:
    return _halved(_halved(level, 0), 1)


def _double(level: Level, height: int, width: int) -> Level:
    return _doubled(_doubled(level, 0, height), 1, width)


@lru_cache
def _to_small(height: int, width: int, weights: tuple[float, ...]) -> Float[np.ndarray, "r p"]:
    """Returns the matrix from a level's positions to those of all coarser ones, with their weights."""
    halved = preconditioner.halving
    parts = [
        4.0**k * weight * np.kron(halved(height, k), halved(width, k)) for k, weight in enumerate(weights, start=1)
    ]
    return np.concatenate(parts).astype(np.float32)


def _small_of(shape: Shape) -> Float[np.ndarray, "r p"] | None:
    """Returns the matrix from the last large level to the coarser ones; None if there are none."""
    weights = preconditioner.weights(len(shape.sizes))[shape.large :]
    return _to_small(*shape.sizes[shape.large - 1], tuple(weights)) if weights else None


def _mixed(values: Float[Array, "... 3"], colours: Float[np.ndarray, "3 3"]) -> Float[Array, "... 3"]:
    """Computes `values @ colours` as a sum, which XLA fuses, where a product is a launch of its own."""
    matrix = jnp.asarray(colours, values.dtype)
    one, two, three = (values[..., k, None] * matrix[k] for k in range(3))
    return one + two + three


def _filled(parts: Sequence[Array], shape: Shape, value: float) -> Float[Array, " n"]:
    """Returns z of its levels, with a value at its end."""
    flat = [part.ravel() for part in parts]
    rest = shape.values - sum(part.size for part in flat)
    return jnp.concatenate([*flat, jnp.full(rest, value, flat[0].dtype)])


def _cut(values: Float[Array, " q"], sizes: Sequence[tuple[int, int]]) -> list[Level]:
    """Returns the levels that an array begins with, one after the other."""
    ends = np.cumsum([0, *(3 * h * w for h, w in sizes)])
    return [values[a:b].reshape(*size, 3) for a, b, size in zip(ends, ends[1:], sizes, strict=False)]


def variables(gradient: Image) -> Float[Array, " n"]:
    """Computes `preconditioner.variables`."""
    shape = shape_of(*gradient.shape[:2])
    # A vector keeps the order of axes that the network's convolutions want, such as channels first on an A100 in
    # float32, from the levels, where it takes twice as many launches.
    level = lax.optimization_barrier(gradient.ravel()).reshape(gradient.shape)
    found = []
    for k, weight in enumerate(preconditioner.weights(len(shape.sizes))[: shape.large]):
        level = _half(level) if k else level
        found.append(4.0**k * weight * _mixed(level, OPPONENT.T))
    if (matrix := _small_of(shape)) is not None:
        last = _mixed(level, OPPONENT.T).reshape(-1, 3)
        found.append(jnp.asarray(4.0 ** (shape.large - 1) * matrix, level.dtype) @ last)
    return _filled(found, shape, 0)


def image(z: Float[Array, " n"], height: int, width: int) -> Image:
    """Computes `preconditioner.image`."""
    shape = shape_of(height, width)
    levels, weights = _cut(z, shape.sizes[: shape.large]), preconditioner.weights(len(shape.sizes))
    total = jnp.zeros_like(levels[-1])
    if (matrix := _small_of(shape)) is not None:
        at = sum(level.size for level in levels)
        small = z[at : at + 3 * len(matrix)].reshape(-1, 3)
        total = (jnp.asarray(matrix.T, z.dtype) @ small).reshape(total.shape)
    for k in range(shape.large - 1, -1, -1):
        total = total + weights[k] * levels[k]
        total = _double(total, *shape.sizes[k - 1]) if k else total
    return _mixed(total, OPPONENT)


def _grids(shape: Shape, times: int) -> list[tuple[int, int]]:
    """Returns the heights and widths of the levels, halved so many times."""
    return [(-(-h >> times), -(-w >> times)) for h, w in shape.sizes]


def squares(step: Float[Array, " n"], change: Float[Array, " n"], height: int, width: int) -> Squares:
    """Smooths the squares of a pair's step and change of the gradient."""
    shape = shape_of(height, width)
    levels = [level**2 for one in (step, change) for level in _cut(one, shape.sizes)]
    for _ in range(GRID):
        for axis in (1, 0):
            levels = _together([_halved(level, axis) for level in levels])
    return jnp.concatenate([level.ravel() for level in levels]).reshape(2, -1)


def _together(levels: list[Level]) -> list[Level]:
    """Writes levels one after the other, and returns them: what is done to all of them is one launch."""
    flat, sizes = jnp.concatenate([level.ravel() for level in levels]), [level.size for level in levels]
    flat = lax.optimization_barrier(flat)
    parts = jnp.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(level.shape) for part, level in zip(parts, levels, strict=True)]


def no_squares(history: int, height: int, width: int) -> Float[Array, "m 2 q"]:
    """Allocates the smoothed squares of a history."""
    return jnp.zeros((history, 2, 3 * sum(h * w for h, w in _grids(shape_of(height, width), GRID))), jnp.float32)


def diagonal(
    kept: Float[Array, "m 2 q"], rho: Float[Array, " m"], pairs: Int[Array, ""], height: int, width: int
) -> Float[Array, " n"]:
    """Computes `preconditioner.diagonal` from the smoothed squares of the history's pairs."""
    shape = shape_of(height, width)
    grids = _grids(shape, GRID)
    total = jnp.sum(rho[:, None, None] * kept, axis=0)
    level_of = np.repeat(np.arange(len(grids)), [3 * h * w for h, w in grids])
    number = np.bincount(level_of).astype(np.float32)
    here = jnp.asarray(level_of) == np.arange(len(grids))[:, None]
    means = jnp.sum(jnp.where(here, total[:, None], 0), axis=-1) / number
    steps, changes = total + FLOOR * jnp.sum(jnp.where(here, means[..., None], 0), axis=1)
    levels = _cut(jnp.where(pairs > 0, jnp.sqrt(steps / jnp.where(pairs > 0, changes, 1)), 1), grids)
    for times in range(GRID - 1, -1, -1):
        for axis in (0, 1):
            wide = [_doubled(one, axis, size[axis]) for one, size in zip(levels, _grids(shape, times), strict=True)]
            levels = _together(wide) if (times, axis) != (0, 1) else wide
    return _filled(levels, shape, 1)
