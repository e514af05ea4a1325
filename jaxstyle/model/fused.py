"""Variants of `ops` for a GPU, on which a tick waits for memory: each map is written once and read as seldom as can be.

Convolutions run in cuDNN, which fuses bias and ReLU but not the mask of the picture. So maps are left as they come
outside the picture, but for one row and one column of zeros beyond it, which is all that the next convolution reads;
the mask is applied where a map is read by something that XLA fuses. After a convolution before max pooling four bits a
window are kept for the gradient, in place of the map. Values and gradients are those of `ops`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from jaxstyle.model import ops


def zero_beyond(y: Float[Array, "h w c"], inside: ops.Inside) -> Float[Array, "h w c"]:
    """Sets the row and the column beyond the picture, which lies at the top left of its array, to 0 in place."""
    height, width = jnp.sum(inside[:, 0]), jnp.sum(inside[0])
    return y.at[height].set(0, mode="drop").at[:, width].set(0, mode="drop")


def _alone(dx: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Keeps XLA from adding another gradient in the convolution: that of a Gram matrix adds it in its own product."""
    return lax.optimization_barrier(dx)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def conv_relu(x, kernel, flipped, bias, inside, replicate):
    """Computes `ops.conv_relu` for a map that only the next convolution reads; see the module."""
    return zero_beyond(ops.conv_relu(x, kernel, flipped, bias, replicate=replicate), inside)


def _conv_relu_forward(x, kernel, flipped, bias, inside, replicate):
    y = conv_relu(x, kernel, flipped, bias, inside, replicate)
    return y, (y, flipped)


def _conv_relu_backward(replicate, residual, dy):
    y, flipped = residual
    dz = jnp.where(y != 0, dy, 0)  # a convolution's gradient reaches no farther than the row and column of zeros
    return _alone(ops.input_gradient(dz, flipped, replicate)), None, None, None, None


conv_relu.defvjp(_conv_relu_forward, _conv_relu_backward)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def conv_relu_read(x, kernel, flipped, bias, inside, replicate, goes_on):
    """Computes `ops.conv_relu` for a map that a term or a pooling reads too.

    Args:
        goes_on: whether a convolution reads the first of the two results.

    Returns:
        The map for the next convolution, and the map with zeros everywhere outside the picture for other readers, into
        which XLA fuses them. One function makes both, so that their gradients are added where the ReLU's is taken.
    """
    y = ops.conv_relu(x, kernel, flipped, bias, replicate=replicate)
    y = zero_beyond(y, inside) if goes_on else y  # before the mask, so that XLA can write the zeros in place
    return y, jnp.where(inside[..., None], y, 0)


def _read_forward(x, kernel, flipped, bias, inside, replicate, goes_on):
    maps = conv_relu_read(x, kernel, flipped, bias, inside, replicate, goes_on)
    return maps, (maps[1], flipped)


def _read_backward(replicate, goes_on, residual, gradients):
    masked, flipped = residual
    dz = jnp.where(masked != 0, gradients[0] + gradients[1], 0)
    return _alone(ops.input_gradient(dz, flipped, replicate)), None, None, None, None


conv_relu_read.defvjp(_read_forward, _read_backward)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def conv_relu_max_pool(x, kernel, flipped, bias, inside, replicate):
    """Computes `ops.max_pool` of `ops.conv_relu`, for a map that nothing else reads."""
    return _pooled(x, kernel, flipped, bias, inside, replicate)[0]


def _pooled(x, kernel, flipped, bias, inside, replicate) -> tuple[Float[Array, "a b c"], UInt8[Array, "a b c"]]:
    """Returns the pooled map and the bits of every window: bit k tells whether position k holds a maximum above 0."""
    y = jnp.where(inside[..., None], ops.conv_relu(x, kernel, flipped, bias, replicate=replicate), 0)
    pooled = ops.max_pool(y)
    bits = jnp.zeros(pooled.shape, jnp.uint8)
    for k, quadrant in enumerate(ops.quadrants(y)):
        bits |= ((quadrant == pooled) & (quadrant != 0)).astype(jnp.uint8) << k
    return pooled, bits


def _pooled_forward(x, kernel, flipped, bias, inside, replicate):
    pooled, bits = _pooled(x, kernel, flipped, bias, inside, replicate)
    return pooled, (bits, flipped, inside)


def _pooled_backward(replicate, residual, dy):
    bits, flipped, inside = residual
    share = dy / jnp.maximum(lax.population_count(bits), 1).astype(dy.dtype)
    held = (jnp.where(bits & (1 << k) != 0, share, 0) for k in range(4))
    dz = ops.spread(held, (*inside.shape, dy.shape[-1]))
    return _alone(ops.input_gradient(dz, flipped, replicate)), None, None, None, None


conv_relu_max_pool.defvjp(_pooled_forward, _pooled_backward)
