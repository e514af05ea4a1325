"""Variants of `ops` for a TPU: two neighbouring pixels of a row as one position with the channels of both.

The matrix unit of a TPU is 128 channels wide, and so are the rows in which its memory keeps maps. The first block, with
maps of 64 channels, fills half of both. Position j of a packed map has the channels of pixel 2 j and behind them those
of pixel 2 j + 1. A 3x3 convolution of pixels is a 3x3 convolution of pairs with a kernel half of whose blocks are 0.
Values and gradients are those of `ops` up to rounding.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxstyle.model import ops

_COLUMNS = np.array([[[2 * offset + i - o + 3 for o in (0, 1)] for i in (0, 1)] for offset in (-1, 0, 1)])
"""Column of a kernel that has two columns of zeros added on either side, by offset between two pairs, pixel of the
input's pair, and pixel of the result's."""


def pack(x: Float[Array, "h w c"]) -> Float[Array, "h v d"]:
    """Packs a map of even width."""
    return x.reshape(x.shape[0], x.shape[1] // 2, 2 * x.shape[2])


def unpack(x: Float[Array, "h v d"]) -> Float[Array, "h w c"]:
    """Undoes `pack`."""
    return x.reshape(x.shape[0], 2 * x.shape[1], x.shape[2] // 2)


def pack_image(x: Float[Array, "h w c"], replicate: bool) -> Float[Array, "a v d"]:
    """Packs the input of `conv_relu`; with `replicate` its edge is repeated, by a row and by a pair."""
    return pack(jnp.pad(x, ((1, 1), (2, 2), (0, 0)), mode="edge") if replicate else x)


def pack_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 j p"]:
    """Returns the kernel of pairs that computes the same; that of a flipped kernel is the flipped kernel of pairs."""
    i, o = kernel.shape[2:]
    blocks = jnp.pad(kernel, ((0, 0), (2, 2), (0, 0), (0, 0)))[:, _COLUMNS]  # row, offset, pixel, pixel, i, o
    return blocks.transpose(0, 1, 2, 4, 3, 5).reshape(3, 3, 2 * i, 2 * o)


def _mask(inside: ops.Inside, channels: int) -> Array:
    """Returns the mask of a packed map. XLA computes it where it is read; a packed array would be written."""
    of_first = jnp.arange(channels) < channels // 2
    return jnp.where(of_first, inside[:, 0::2, None], inside[:, 1::2, None])


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def conv_relu(x, kernel, flipped, bias, inside, replicate):
    """Computes `ops.conv_relu` of a packed map, packed.

    Args:
        x: see `pack_image`.
        kernel, flipped, bias: of pairs.
        inside: mask of the picture, by pixel.
    """
    y = jax.nn.relu(ops.convolve(x, kernel, 0 if replicate else 1) + bias[None, None])
    return jnp.where(_mask(inside, y.shape[-1]), y, 0)


def _conv_relu_forward(x, kernel, flipped, bias, inside, replicate):
    y = conv_relu(x, kernel, flipped, bias, inside, replicate)
    return y, (y, flipped)


def _conv_relu_backward(replicate, residual, dy):
    y, flipped = residual
    dz = jnp.where(y != 0, dy, 0)
    return ops.convolve(dz, flipped, 2 if replicate else 1), None, None, None, None


conv_relu.defvjp(_conv_relu_forward, _conv_relu_backward)


def _halves(x: Array) -> tuple[Array, Array]:
    """Returns the two pixels of every pair."""
    c = x.shape[-1] // 2
    return x[..., :c], x[..., c:]


def _rows(x: Array) -> tuple[Array, Array]:
    """Returns the two rows of every window; an odd last row is dropped."""
    h = x.shape[0] // 2 * 2
    return x[0:h:2], x[1:h:2]


@jax.custom_vjp
def max_pool(x: Float[Array, "h v d"]) -> Float[Array, "a v c"]:
    """Computes `ops.max_pool` of a packed map; the result is not packed."""
    above, below = _rows(x)
    return jnp.maximum(jnp.maximum(*_halves(above)), jnp.maximum(*_halves(below)))


def _max_pool_forward(x):
    y = max_pool(x)
    return y, (x, y)


def _max_pool_backward(residual, dy):
    x, y = residual
    ties = [[half == y for half in _halves(row)] for row in _rows(x)]
    share = dy / sum(tie.astype(dy.dtype) for row in ties for tie in row)
    spread = [jnp.concatenate([jnp.where(tie, share, 0) for tie in row], -1) for row in ties]
    return (sum(_placed(row, x.shape[0], number) for number, row in enumerate(spread)),)


def _placed(row, height, number):
    """Puts the first or the second row of every window in its place, zeros elsewhere."""
    after = height - 2 * len(row) + 1 - number
    return lax.pad(row, jnp.zeros((), row.dtype), [(number, after, 1), (0, 0, 0), (0, 0, 0)])


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def gram_sum(x: Float[Array, "h v d"]) -> Float[Array, "c c"]:
    """Computes `ops.gram_sum` of a packed map: the sum of its two blocks on the diagonal."""
    products, c = ops.gram_sum(x.reshape(-1, x.shape[-1])), x.shape[-1] // 2
    return products[:c, :c] + products[c:, c:]


def feature_sum(x: Float[Array, "h v d"]) -> Float[Array, " c"]:
    """Computes the sum over the positions of a packed map."""
    return jnp.sum(x, (0, 1)).reshape(2, -1).sum(0)
