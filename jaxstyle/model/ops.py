"""Convolution, pooling and the Gram matrix of one image, with custom gradients that XLA compiles to fast code.

Every function works on one image, H x W x C (channels last); the one `jax.vmap` in `style/stylizer.py` makes the batch.
Three operations have a custom gradient, because the one that JAX derives is slow inside a loop on the CPU. The
mathematics is the same, and tests/test_ops.py compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxstyle.model.products import FORMS, Form

_LAYOUT = ("NHWC", "HWIO", "NHWC")

Inside = Bool[Array, "h w"]
"""Mask: True on the picture, False on the padding that fills its array up to the compiled shape."""


def flip(kernel: Any) -> Any:
    """Flips a kernel to 3 x 3 x out x in: convolving with it gives the input gradient of a convolution with `kernel`.

    Args:
        kernel: 3 x 3 x in x out, a JAX or NumPy array.

    It is computed once, outside the optimisation, and passed in beside the kernel: inside a loop the flip takes
    XLA's CPU backend 5 times as long as the convolution.
    """
    return kernel[::-1, ::-1].swapaxes(2, 3)


def convolve(x: Float[Array, "h w i"], kernel: Float[Array, "3 3 i o"], pad: int = 1) -> Float[Array, "a b o"]:
    """Computes XLA's convolution with `pad` rows and columns of zeros around the maps."""
    pads = ((pad, pad), (pad, pad))
    return lax.conv_general_dilated(x[None], kernel, (1, 1), pads, dimension_numbers=_LAYOUT)[0]


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _conv_relu(x, kernel, flipped, bias, inside, replicate, forms):
    if replicate:
        x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    if forms[0] in FORMS:
        y = FORMS[forms[0]].convolve(x, kernel)
    else:
        y = convolve(x, kernel, 0 if replicate else 1)
    y = jax.nn.relu(y + bias[None, None])
    return y if inside is None else jnp.where(inside[..., None], y, 0)


def _conv_relu_forward(x, kernel, flipped, bias, inside, replicate, forms):
    y = _conv_relu(x, kernel, flipped, bias, inside, replicate, forms)
    return y, (y, flipped)


def _conv_relu_backward(replicate, forms, residual, dy):
    y, flipped = residual
    # `y != 0` rather than `y > 0`: XLA rewrites the latter as a comparison of the map before the ReLU and keeps both
    # maps, so that on a GPU the ReLU is not fused into the convolution.
    return input_gradient(jnp.where(y != 0, dy, 0), flipped, replicate, forms[1]), None, None, None, None


def input_gradient(
    dz: Float[Array, "h w o"], flipped: Array, replicate: bool, form: Form = "float32"
) -> Float[Array, "h w i"]:
    """Computes the gradient of a convolution's input from that of its result, the map before the ReLU.

    Args:
        flipped: `flip(kernel)`, 3 x 3 x out x in, prepared for the form if it has products.
    """
    if form in FORMS:
        return FORMS[form].convolve(dz, flipped)
    if not replicate:
        return convolve(dz, flipped, 1)
    # The transpose of edge padding adds the gradient of the padded rows and columns to their neighbours.
    dp = convolve(dz, flipped, 2)
    dp = dp[1:-1].at[0].add(dp[0]).at[-1].add(dp[-1])
    return dp[:, 1:-1].at[:, 0].add(dp[:, 0]).at[:, -1].add(dp[:, -1])


_conv_relu.defvjp(_conv_relu_forward, _conv_relu_backward)


def conv_relu(
    x: Float[Array, "h w i"],
    kernel: Array,
    flipped: Array,
    bias: Float[Array, " o"],
    inside: Inside | None = None,
    *,
    replicate: bool = False,
    forms: tuple[Form, Form] = ("float32", "float32"),
) -> Float[Array, "h w o"]:
    """Computes relu(convolution of x with a 3x3 kernel + bias), same height and width, 0 outside the picture.

    Args:
        x: feature maps of one image; its values outside the picture are 0 and so act as zero padding.
        kernel, bias: the layer's parameters, in x's dtype; the kernel is 3 x 3 x in x out.
        flipped: `flip(kernel)`, used by the gradient.
        inside: mask of the picture [default: the whole array]
        replicate: repeat the border of the array instead of padding with zeros; only without other `forms`.
        forms: how the convolution and its input gradient are computed, see `model.products`; a form in products takes
            the kernel, or the flipped one, as it has prepared it.

    Only the gradient of `x` is computed; the gradients of the parameters are zero, since style transfer does not
    train them.
    """
    return _conv_relu(x, kernel, flipped, bias, inside, replicate, forms)


def repeat_edge(x: Float[Array, "h w c"], inside: Inside) -> Float[Array, "h w c"]:
    """Repeats the picture's last row and column once, below and to the right; sets everything farther outside to 0.

    A convolution with `replicate` then sees the same border whether or not the picture fills its array.
    """
    x = jnp.where(inside[..., None], x, 0)
    for axis in (0, 1):
        before = [(0, 0)] * 3
        before[axis] = (1, 0)
        shifted = lax.slice_in_dim(jnp.pad(x, before), 0, x.shape[axis], axis=axis)
        also = lax.slice_in_dim(jnp.pad(inside, before[:2]), 0, x.shape[axis], axis=axis)
        x = jnp.where(inside[..., None], x, shifted)
        inside = inside | also
    return x


_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of the four positions of a 2x2 window."""


def quadrants(x: Array) -> list[Array]:
    """Returns the four positions of every 2x2 window, each h // 2 x w // 2; an odd last row or column is dropped."""
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return [x[i:h:2, j:w:2] for i, j in _PLACES]


@jax.custom_vjp
def max_pool(x: Float[Array, "h w c"]) -> Float[Array, "a b c"]:
    """Computes 2x2 max pooling; an odd last row or column is dropped.

    The gradient is shared equally among all positions of a window that hold its maximum, as in `jnp.max` (torch and
    cuDNN give it to the first one). Flat areas of a picture are full of such ties.
    """
    a, b, c, d = quadrants(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _max_pool_forward(x):
    y = max_pool(x)
    return y, (x, y)


def _max_pool_backward(residual, dy):
    x, y = residual
    ties = [quadrant == y for quadrant in quadrants(x)]
    share = dy / sum(tie.astype(dy.dtype) for tie in ties)
    return (spread((jnp.where(tie, share, 0) for tie in ties), x.shape),)


def spread(parts: Iterable[Float[Array, "a b c"]], shape: tuple[int, ...]) -> Float[Array, "h w c"]:
    """Puts the four positions of every window back in their places, the inverse of `quadrants`.

    XLA fuses the sum of four padded arrays in one loop.
    """
    return sum(_placed(quadrant, shape, *at) for quadrant, at in zip(parts, _PLACES, strict=True))


def _placed(quadrant, shape, row, column):
    """Puts one position of every window in its place, zeros elsewhere."""
    pads = [
        (first, to - 2 * of + 1 - first, 1)
        for first, to, of in zip((row, column), shape[:2], quadrant.shape[:2], strict=True)
    ]
    return lax.pad(quadrant, jnp.zeros((), quadrant.dtype), [*pads, (0, 0, 0)])


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def average_pool(x: Float[Array, "h w c"], inside: Inside | None = None) -> Float[Array, "a b c"]:
    """Computes 2x2 average pooling over the positions inside the picture; an odd last row or column is dropped."""
    a, b, c, d = quadrants(x)
    total = a + b + c + d
    if inside is None:
        return total / 4
    number = sum(quadrant.astype(x.dtype) for quadrant in quadrants(inside))
    return total / jnp.maximum(number, 1)[..., None]


def l2_pool(x: Float[Array, "h w c"], inside: Inside | None = None) -> Float[Array, "a b c"]:
    """Computes 2x2 L2 pooling, the root of the sum of squares; an odd last row or column is dropped.

    A window with positions outside the picture takes the mean of the squares inside, 4 times. The gradient of a window
    of zeros is 0.
    """
    square = sum(jnp.square(quadrant) for quadrant in quadrants(x))
    if inside is not None:
        number = sum(quadrant.astype(x.dtype) for quadrant in quadrants(inside))
        square = square * (4 / jnp.maximum(number, 1))[..., None]
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def pool_inside(inside: Inside) -> Inside:
    """Marks the pooled positions that have at least one of their four inside the picture."""
    a, b, c, d = quadrants(inside)
    return a | b | c | d


@jax.custom_vjp
def gram_sum(features: Float[Array, "p c"]) -> Float[Array, "c c"]:
    """Computes F'F: the products of every pair of channels, summed over positions, accumulated in float32 at least."""
    wide = jnp.promote_types(features.dtype, jnp.float32)
    return jnp.matmul(features.T, features, preferred_element_type=wide)


def _gram_sum_forward(features):
    return gram_sum(features), features


def _gram_sum_backward(features, dg):
    # One product instead of the two that JAX derives: F dG' + F dG = F (dG + dG').
    return (jnp.matmul(features, (dg + dg.T).astype(features.dtype)),)


gram_sum.defvjp(_gram_sum_forward, _gram_sum_backward)


@jax.custom_vjp
def weighted_gram_sum(features: Float[Array, "p c"], weights: Float[Array, " p"]) -> Float[Array, "c c"]:
    """Computes F' diag(w) F: like `gram_sum`, with a weight of each position in the number type of the features.

    Only the gradient of the features is computed; that of the weights is zero.
    """
    wide = jnp.promote_types(features.dtype, jnp.float32)
    return jnp.matmul((features * weights[:, None]).T, features, preferred_element_type=wide)


def _weighted_gram_sum_forward(features, weights):
    return weighted_gram_sum(features, weights), (features, weights)


def _weighted_gram_sum_backward(residual, dg):
    features, weights = residual
    return jnp.matmul(features, (dg + dg.T).astype(features.dtype)) * weights[:, None], None


weighted_gram_sum.defvjp(_weighted_gram_sum_forward, _weighted_gram_sum_backward)
