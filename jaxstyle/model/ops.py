"""Convolution, pooling and the Gram matrix of one image, with the gradients that XLA runs fast.

Everything here is for one image, H x W x C (channels last); a batch comes from the one `jax.vmap` in
`style/stylizer.py`. Three operations carry a gradient of their own, because the one that JAX derives is slow
inside a loop on the CPU; the mathematics is the same, and tests/test_ops.py compares the two.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def flip(kernel: Any) -> Any:
    """The kernel whose plain convolution is the input gradient of a convolution with `kernel`; 3 x 3 x out x in.

    Args:
        kernel: 3 x 3 x in x out, of JAX or NumPy.

    Computed once, outside the optimisation, and passed in beside the kernel: computed inside a loop it costs
    XLA's CPU backend 5 times the convolution.
    """
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _convolve(x: Float[Array, "h w i"], kernel: Float[Array, "3 3 i o"], pad: int) -> Float[Array, "a b o"]:
    pads = ((pad, pad), (pad, pad))
    return lax.conv_general_dilated(x[None], kernel, (1, 1), pads, dimension_numbers=_LAYOUT)[0]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _conv_relu(x, kernel, flipped, bias, replicate):
    if replicate:
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return jax.nn.relu(_convolve(x, kernel, 0 if replicate else 1) + bias)


def _conv_relu_forward(x, kernel, flipped, bias, replicate):
    y = _conv_relu(x, kernel, flipped, bias, replicate)
    return y, (y, flipped)


def _conv_relu_backward(replicate, residual, dy):
    y, flipped = residual
    dz = jnp.where(y > 0, dy, 0)
    if not replicate:
        dx = _convolve(dz, flipped, 1)
    else:  # the transpose of edge padding: what reached the border row and column is added to their neighbours
        dp = _convolve(dz, flipped, 2)
        dp = dp[1:-1].at[0].add(dp[0]).at[-1].add(dp[-1])
        dx = dp[:, 1:-1].at[:, 0].add(dp[:, 0]).at[:, -1].add(dp[:, -1])
    return dx, None, None, None


_conv_relu.defvjp(_conv_relu_forward, _conv_relu_backward)


def conv_relu(
    x: Float[Array, "h w i"],
    kernel: Float[Array, "3 3 i o"],
    flipped: Float[Array, "3 3 o i"],
    bias: Float[Array, " o"],
    *,
    replicate: bool = False,
) -> Float[Array, "h w o"]:
    """relu(convolution of x with a 3x3 kernel + bias), same height and width.

    Args:
        x: feature maps of one image.
        kernel, bias: the layer's parameters, in x's dtype.
        flipped: `flip(kernel)`, used by the gradient.
        replicate: repeat the border pixels instead of padding with zeros.

    Only the gradient for `x` exists; that for the parameters is zero, since style transfer never trains them.
    """
    return _conv_relu(x, kernel, flipped, bias, replicate)


def _windows(x: Float[Array, "h w c"]) -> Float[Array, "a 2 b 2 c"]:
    h, w, c = x.shape
    a, b = h // 2, w // 2
    return x[: 2 * a, : 2 * b].reshape(a, 2, b, 2, c)


@jax.custom_vjp
def max_pool(x: Float[Array, "h w c"]) -> Float[Array, "a b c"]:
    """2x2 max pooling; an odd last row or column is left out.

    The gradient goes in equal parts to all places of a window that hold its maximum, as that of `jnp.max` does
    (torch and cuDNN give it to the first one). Such ties are the rule in flat areas of a picture.
    """
    w = _windows(
        x
    )  # four maxima and not w.max(axis=(1, 3)), which XLA of JAX 0.12.0 gets wrong for bfloat16 on the CPU
    return jnp.maximum(jnp.maximum(w[:, 0, :, 0], w[:, 0, :, 1]), jnp.maximum(w[:, 1, :, 0], w[:, 1, :, 1]))


def _max_pool_forward(x):
    y = max_pool(x)
    return y, (x, y)


def _max_pool_backward(residual, dy):
    x, y = residual
    ties = _windows(x) == y[:, None, :, None]
    share = dy / ties.sum(axis=(1, 3), dtype=dy.dtype)
    return (_unwindow(jnp.where(ties, share[:, None, :, None], 0), x.shape),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _unwindow(windows, shape):
    a, _, b, _, c = windows.shape
    return jnp.pad(windows.reshape(2 * a, 2 * b, c), ((0, shape[0] - 2 * a), (0, shape[1] - 2 * b), (0, 0)))


def average_pool(x: Float[Array, "h w c"]) -> Float[Array, "a b c"]:
    """2x2 average pooling; an odd last row or column is left out."""
    return _windows(x).mean(axis=(1, 3))


@jax.custom_vjp
def gram_sum(features: Float[Array, "p c"]) -> Float[Array, "c c"]:
    """F'F: products of every pair of channels, summed over positions, accumulated in float32 at least."""
    wide = jnp.promote_types(features.dtype, jnp.float32)
    return jnp.matmul(features.T, features, preferred_element_type=wide)


def _gram_sum_forward(features):
    return gram_sum(features), features


def _gram_sum_backward(features, dg):
    # One product instead of the two that JAX derives: F dG' + F dG = F (dG + dG').
    return (jnp.matmul(features, (dg + dg.T).astype(features.dtype)),)


gram_sum.defvjp(_gram_sum_forward, _gram_sum_backward)
