"""A preconditioner of L-BFGS: variables z with image = T z, and a diagonal initial inverse Hessian of z.

The curvature of the loss rises with the spatial frequency f and differs between the places of a picture. T amplifies
low frequencies, about as f^-0.75, by a sum over the levels of a Gaussian pyramid (Burt and Adelson 1983):

    T = sum over k of w_k U_k D_k        w_0 = 1,  w_k = r^k - r^(k-1),  r = 2^0.75

where D_k halves the picture k times, and U_k is the multiple of the transpose of D_k that keeps constants. Sums of
this form precondition elliptic equations (Bramble, Pasciak and Xu 1990, "Parallel multilevel preconditioners"). T is
self-adjoint and positive definite; it costs a few operations a pixel, and it works at any size. The gradient with
respect to z is T times that with respect to the image, so L-BFGS in z is L-BFGS whose initial inverse Hessian is
gamma T D T (Nocedal and Wright, section 7.2, allow any positive definite one at every step).

The diagonal D of the variables is measured: at each place the root of the ratio of the squares of the pairs' steps to
those of their changes of the gradient, each pair weighted by 1 / s'y.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxstyle.style.solvers.base import Image, Scalar

OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
"""Rows: luminance, red-green and yellow-blue as combinations of red, green and blue; orthonormal."""
EXPONENT = 0.75
"""T amplifies a frequency f in proportion to f^-EXPONENT."""
COARSEST = 2
"""Least length in pixels of the short side of the pyramid's coarsest level."""
GRID = 2
"""Times that the measured squares are halved in size before D is computed: it varies over about 4 pixels."""
FLOOR = 1e-4
"""Share of their mean that is added to the measured squares, so that D stays within about a factor of 100 of its own
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


def half(image: Float[Array, "H W C"]) -> Float[Array, "h w C"]:
    """Returns the image at half of its size, rounded up."""
    return _halved(_halved(image, 0), 1)


def double(image: Float[Array, "h w C"], height: int, width: int) -> Float[Array, "H W C"]:
    """Returns the image at twice its size: 4 times the transpose of `half`."""
    return _doubled(_doubled(image, 0, height), 1, width)


def variables(gradient: Image) -> Image:
    """Returns the gradient with respect to z."""
    return smooth(gradient @ jnp.asarray(OPPONENT.T, gradient.dtype))


def image(z: Image) -> Image:
    """Returns the change of the image for a change of z: the adjoint of `variables`."""
    return smooth(z) @ jnp.asarray(OPPONENT, z.dtype)


def smooth(image: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
    """Returns the sum over the pyramid of an image; a self-adjoint and positive definite operation."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 2 * COARSEST:
        levels.append(half(levels[-1]))
    ratio = 2.0**EXPONENT
    total = jnp.zeros_like(levels[-1])
    for number in range(len(levels) - 1, -1, -1):
        weight = ratio**number * (1 - 1 / ratio) if number else 1.0
        total = weight * levels[number] + total
        if number:
            total = double(total, *levels[number - 1].shape[:2])
    return total


def diagonal(
    s: Float[Array, "m H W 3"], y: Float[Array, "m H W 3"], rho: Float[Array, " m"], pairs: Int[Array, ""]
) -> Float[Array, "H W 3"]:
    """Returns D up to a factor, from the history's pairs of variables; 1 without pairs.

    Args:
        s, y, rho, pairs: see `lbfgs.State` and `lbfgs.Memory`.
    """

    def squares(rows: Float[Array, "m H W 3"]) -> Float[Array, "h w 3"]:
        total, _ = jax.lax.scan(  # XLA's sum over the axis of pairs takes 50 times as long on the CPU
            lambda total, pair: (total + pair[0] * pair[1] ** 2, None), jnp.zeros_like(rows[0]), (rho, rows)
        )
        for _ in range(GRID):
            total = half(total)
        return total + FLOOR * jnp.mean(total)

    found = jnp.where(pairs > 0, jnp.sqrt(squares(s) / jnp.where(pairs > 0, squares(y), 1)), 1)
    for number in range(GRID - 1, -1, -1):
        found = double(found, *(-(-side >> number) for side in s.shape[1:3]))
    return found


def initial_inverse(
    s: Float[Array, "m H W 3"], y: Float[Array, "m H W 3"], rho: Float[Array, " m"], pairs: Int[Array, ""], last: Scalar
) -> Float[Array, "H W 3"]:
    """Returns gamma D with gamma = s'y / y'Dy of the last pair; 1 without pairs.

    Args:
        last: row of the last pair.
    """
    found, changes = diagonal(s, y, rho, pairs), y[last]
    scale = rho[last] * jnp.vdot(changes, found * changes)
    return found / jnp.where(pairs > 0, scale, 1)
