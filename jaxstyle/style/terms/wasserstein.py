"""Style loss "w2": squared 2-Wasserstein distance between Gaussians of the features' moments.

    W2^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C2^1/2 C1 C2^1/2)^1/2)

Olkin and Pukelsheim 1982, "The distance between two random vectors with given dispersion matrices". Crowson's
style-transfer-pytorch uses this distance as style loss. It departs here in two ways: each Gaussian is blurred by a
little noise (`BLUR`), so that the root has a gradient where channels never vary or depend on each other; and the
result is divided by the target's energy, so that a blank image has a loss of about 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.style.terms.base import sum_square
from jaxstyle.style.terms.gram import Sums
from jaxstyle.style.terms.moments import moments

LEAST = 5e-4
"""Least square root of an eigenvalue that `trace_of_root` resolves, as a share of the square root of the trace. Its
square is a few times the rounding of float32."""
BLUR = 2 * LEAST
"""Variance that is added to every direction of both Gaussians, as a share of the norm of the target's covariance."""
ROOM = (BLUR / LEAST) ** 2
"""Trace of C2^1/2 C1 C2^1/2, as a multiple of its value at the target, up to which the blur suffices for `LEAST`."""


class Gaussian(NamedTuple):
    """The target.

    Attributes:
        mean: m2.
        root: square root of the blurred C2.
        blur: the variance that is added to both Gaussians.
        trace: trace of the blurred C2.
        square: trace of the square of the blurred C2.
        energy: |m2|^2 + tr(C2), the mean square of the features.
    """

    mean: Float[Array, " C"]
    root: Float[Array, "C C"]
    blur: Float[Array, ""]
    trace: Float[Array, ""]
    square: Float[Array, ""]
    energy: Float[Array, ""]


def target(of: Sums) -> Gaussian:
    """Computes the target from the sums of the style image's feature maps, by an eigendecomposition."""
    mean, covariance = moments(of)
    blur = jnp.maximum(BLUR * jnp.linalg.norm(covariance), 1e-12)
    values, vectors = jnp.linalg.eigh(covariance)
    values = jnp.maximum(values, 0) + blur
    root = jnp.matmul(vectors * jnp.sqrt(values)[None, :], vectors.T)
    return Gaussian(
        mean, root, blur, jnp.sum(values), sum_square(values), sum_square(mean) + jnp.trace(covariance)
    )  # fmt: skip


def loss(formula: str, of: Sums, target: Gaussian, pixels: Float[Array, ""]) -> Float[Array, ""]:
    """Computes the distance of one layer, divided by the target's energy.

    It is 0 at the target, up to rounding, which may make it negative by some 1e-5.
    """
    del formula, pixels
    mean, covariance = moments(of)
    identity = jnp.eye(len(mean), dtype=covariance.dtype)
    blurred = covariance + target.blur * identity
    product = jnp.matmul(jnp.matmul(target.root, blurred), target.root)
    # An image whose features vary far more than the target's needs more blur to stay within `LEAST`.
    excess = jnp.maximum(jnp.trace(product) - ROOM * target.square, 0)
    root = trace_of_root(product + LEAST**2 * excess * identity)
    distance = sum_square(mean - target.mean) + jnp.trace(blurred) + target.trace - 2 * root
    return distance / jnp.maximum(target.energy, 1e-12)


def _scales() -> tuple[float, ...]:
    """Returns the scale of every iteration of `trace_of_root`, until all values from `LEAST` to 1 have become 1.

    An iteration maps a value x to a x (3 - (a x)^2) / 2. With a^2 = 3 / (1 + l + l^2) it maps l, the least value, and 1
    to the same value, the next l, and no value above 1 (Chen and Chow 2014, "A stable scaling of Newton-Schulz for
    improving the sign function computation of a Hermitian matrix").
    """
    least, scales = LEAST, []
    while 1 - least > 1e-5:
        scales.append((3 / (1 + least + least**2)) ** 0.5)
        least = scales[-1] * least * (3 - (scales[-1] * least) ** 2) / 2
    return tuple(scales)


SCALES = _scales()


@jax.custom_vjp
def trace_of_root(matrix: Float[Array, "C C"]) -> Float[Array, ""]:
    """Computes tr(M^1/2) of a symmetric matrix with eigenvalues of at least `LEAST`^2 times its trace.

    The scaled Newton-Schulz iteration has a fixed number of matrix products and no decomposition, so that it runs alike
    on all devices, under `vmap` and in a loop. The gradient, M^-1/2 / 2, comes from the same iteration.
    """
    return _root(matrix)[0]


def _root(matrix):
    """Returns tr(M^1/2) and M^-1/2: Y goes to the root of M / trace and Z to its inverse, with Y = M Z / trace."""
    trace = jnp.trace(matrix)
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    y, z = matrix / trace, identity
    for index, scale in enumerate(SCALES):
        product = jnp.matmul(z, y) if index else y
        factor = (0.5 * scale) * (3 * identity - scale**2 * product)
        y, z = jnp.matmul(y, factor), jnp.matmul(factor, z) if index else factor
    return jnp.trace(y) * jnp.sqrt(trace), z / jnp.sqrt(trace)


def _forward(matrix):
    return _root(matrix)


def _backward(inverse, given):
    return (0.5 * given * inverse,)


trace_of_root.defvjp(_forward, _backward)
