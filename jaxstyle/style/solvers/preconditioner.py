"""A preconditioner of L-BFGS: variables z on the levels of a pyramid, and a diagonal initial inverse Hessian of z.

The curvature of the loss rises with the spatial frequency, and it differs between places and colours. The image is
x = B z, the sum of pictures of several sizes (levels of a Gaussian pyramid, Burt and Adelson 1983), each enlarged:

    B z = sum over k of w_k 2^-k U_k z_k,    w_0 = 1,  w_k^2 = r^k - r^(k-1),  r = 2^EXPONENT

U_k doubles a picture k times by linear interpolation. L-BFGS in z is L-BFGS in x whose initial inverse Hessian is
gamma B D B'. With D = 1 its response is about f^-EXPONENT at a spatial frequency f. Bramble, Pasciak and Xu (1990,
"Parallel multilevel preconditioners") precondition elliptic equations by such a sum over levels. Nocedal and Wright
(section 7.2) allow any positive definite initial matrix at every step.

The diagonal D is measured: for each level, place and colour the root of the ratio of the squares of the pairs' steps to
those of their changes of the gradient, each pair weighted by 1 / s'y.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxstyle.style.solvers.base import Image

Variables = Float[Array, " n"]
"""z: the levels, one after the other, 1.33 times as many values as an image has."""

OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
"""Rows: luminance, red-green and yellow-blue as combinations of red, green and blue; orthonormal."""
EXPONENT = 1.5
"""Without D, a frequency f has an initial inverse Hessian in proportion to f^-EXPONENT."""
COARSEST = 2
"""Least length in pixels of the short side of the coarsest level."""
GRID = 2
"""Times that the measured squares of a level are halved in size before D is computed: it varies over about 4 of the
level's pixels."""
FLOOR = 1e-4
"""Share of a level's mean that is added to the measured squares, so that D stays within about a factor of 100 of its
mean."""


def _halved(values: Array, axis: int) -> Array:
    """Halves one axis: weights 1, 3, 3, 1 of 8. An edge repeats; an odd length gets a zero first."""
    values = jnp.moveaxis(values, axis, 0)
    if len(values) % 2:
        values = jnp.concatenate([values, jnp.zeros_like(values[:1])])
    wide = jnp.concatenate([values[:1], values, values[-1:]])
    return jnp.moveaxis((wide[:-2:2] + 3 * (wide[1:-1:2] + wide[2::2]) + wide[3::2]) / 8, 0, axis)


def _doubled(values: Array, axis: int, length: int) -> Array:
    """Doubles one axis by linear interpolation: twice the transpose of `_halved`."""
    values = jnp.moveaxis(values, axis, 0)
    wide = jnp.concatenate([values[:1], values, values[-1:]])
    pairs = jnp.stack([3 * values + wide[:-2], 3 * values + wide[2:]], 1) / 4
    return jnp.moveaxis(pairs.reshape(-1, *values.shape[1:])[:length], 0, axis)


def half(picture: Float[Array, "H W C"]) -> Float[Array, "h w C"]:
    """Returns the picture at half of its size, rounded up."""
    return _halved(_halved(picture, 0), 1)


def double(picture: Float[Array, "h w C"], height: int, width: int) -> Float[Array, "H W C"]:
    """Returns the picture at twice its size: 4 times the transpose of `half`."""
    return _doubled(_doubled(picture, 0, height), 1, width)


@lru_cache
def halving(length: int, times: int) -> Float[np.ndarray, "m n"]:
    """Returns the matrix that halves an axis so many times, at least once, as `half` does."""
    product = None
    for _ in range(times):
        number = -(-length // 2)
        wide = np.zeros((2 * number + 2, length))  # an edge repeats; an odd length gets a zero first
        wide[1 : length + 1] = np.eye(length)
        wide[0], wide[-1] = wide[1], wide[-2]
        once = (wide[:-2:2] + 3 * (wide[1:-1:2] + wide[2::2]) + wide[3::2]) / 8
        product = once if product is None else once @ product
        length = number
    assert product is not None
    return product


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Lists the heights and widths of the levels of an image."""
    found = [(height, width)]
    while min(found[-1]) >= 2 * COARSEST:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def weights(levels: int) -> list[float]:
    """Returns w_k 2^-k of every level."""
    ratio = 2.0**EXPONENT
    return [1.0] + [2.0**-k * (ratio**k * (1 - 1 / ratio)) ** 0.5 for k in range(1, levels)]


def _packed(levels: list[Array]) -> Variables:
    return jnp.concatenate([level.ravel() for level in levels])


def _levels(z: Variables, height: int, width: int) -> list[Float[Array, "h w 3"]]:
    shapes = [(*size, 3) for size in sizes(height, width)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(jnp.split(z, ends[:-1]), shapes, strict=True)]


def variables(gradient: Image) -> Variables:
    """Returns B' times a gradient: the gradient with respect to z."""
    level, found = gradient @ jnp.asarray(OPPONENT.T, gradient.dtype), []
    for k, weight in enumerate(weights(len(sizes(*gradient.shape[:2])))):
        level = half(level) if k else level
        found.append(4.0**k * weight * level)
    return _packed(found)


def image(z: Variables, height: int, width: int) -> Image:
    """Returns B z: the change of the image for a change of z."""
    shapes, levels = sizes(height, width), _levels(z, height, width)
    total = jnp.zeros_like(levels[-1])
    for k in range(len(levels) - 1, -1, -1):
        total = total + weights(len(levels))[k] * levels[k]
        total = double(total, *shapes[k - 1]) if k else total
    return total @ jnp.asarray(OPPONENT, z.dtype)


def diagonal(
    s: Float[Array, "m n"], y: Float[Array, "m n"], rho: Float[Array, " m"], pairs: Int[Array, ""],
    height: int, width: int,
) -> Variables:  # fmt: skip
    """Returns D up to a factor, from the history's pairs of z; 1 without pairs.

    Args:
        s, y, rho, pairs: see `lbfgs.State` and `lbfgs.Memory`.
        height, width: of the image.
    """

    def squares(rows: Float[Array, "m n"]) -> list[Float[Array, "h w 3"]]:
        total, _ = jax.lax.scan(  # XLA's sum over the axis of pairs takes 50 times as long on the CPU
            lambda total, pair: (total + pair[0] * pair[1].astype(rho.dtype) ** 2, None),
            jnp.zeros_like(rows[0], rho.dtype), (rho, rows),
        )  # fmt: skip
        return _levels(total, height, width)

    def smooth(total: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
        for _ in range(GRID):
            total = half(total)
        return total + FLOOR * jnp.mean(total)

    found = []
    for steps, changes in zip(squares(s), squares(y), strict=True):
        ratio = jnp.where(pairs > 0, jnp.sqrt(smooth(steps) / jnp.where(pairs > 0, smooth(changes), 1)), 1)
        for number in range(GRID - 1, -1, -1):
            ratio = double(ratio, *(-(-side >> number) for side in steps.shape[:2]))
        found.append(ratio)
    return _packed(found)


def scaled(found: Variables, change: Variables, rho: Float[Array, ""], pairs: Int[Array, ""]) -> Variables:
    """Returns gamma D with gamma = s'y / y'Dy of the last pair; 1 without pairs.

    Args:
        found: D up to a factor.
        change, rho: y and 1 / s'y of the last pair.
    """
    scale = rho * jnp.vdot(change, found * change)
    return found / jnp.where(pairs > 0, scale, 1)
