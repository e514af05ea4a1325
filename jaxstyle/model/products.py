"""3x3 convolutions of one image as matrix products in bfloat16, for CPUs that compute those faster.

A form prepares a kernel 3 x 3 x i x o once, rounded to bfloat16 and laid out as its products take it. With that it
takes float32 maps h x w x i, with zeros around them, to float32 maps h x w x o: the maps are rounded for the products,
and everything else is float32. Two forms work on `STRIP` rows after one another, so that what a strip takes stays in
the processor's cache. `model.choice` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, BFloat16, Float

Form = Literal["float32", "tall", "rows", "winograd"]
"""How a convolution is computed; "float32" is XLA's own convolution."""
Forms = tuple[tuple[str, Form, Form], ...]
"""Of layers by Keras's names: the form of the convolution, and that of its input gradient. Layers that are not named,
and all of an empty tuple, have XLA's convolutions."""
STRIP = 8
"""Rows of a strip, an even number; 4 to 16 take about as long (bench/LOG.md)."""

_DATA = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
"""The transforms of `winograd`: Lavin and Gray 2015, arXiv 1509.09308, section 4.1."""

Maps = Float[Array, "h w i"]
Kernel = Float[Array, "3 3 i o"]


class ProductForm(NamedTuple):
    """A form.

    Attributes:
        prepare: of a kernel, what `convolve` takes.
        convolve: of maps and the prepared kernel, the convolution.
    """

    prepare: Callable[[Kernel], Array]
    convolve: Callable[[Maps, Array], Float[Array, "h w o"]]


def _product(a: Float[Array, "r v k"], b: BFloat16[Array, "k o"]) -> Float[Array, "r v o"]:
    flat = a.astype(jnp.bfloat16).reshape(-1, a.shape[2])
    y = jnp.matmul(flat, b, precision=lax.Precision.DEFAULT, preferred_element_type=jnp.float32)
    return y.reshape(*a.shape[:2], -1)


def _neighbours(x: Float[Array, "h v i"]) -> Float[Array, "h w j"]:
    """Puts the channels of three positions side by side in a row; x has one column more at both ends."""
    return jnp.concatenate([x[:, k : x.shape[1] - 2 + k] for k in range(3)], -1)


def tall_kernel(kernel: Kernel) -> BFloat16[Array, "3i 3o"]:
    """Lays out a kernel for `tall`."""
    i, o = kernel.shape[2:]
    return kernel.astype(jnp.bfloat16).transpose(1, 2, 0, 3).reshape(3 * i, 3 * o)


def tall(x: Maps, kernel: BFloat16[Array, "3i 3o"]) -> Float[Array, "h w o"]:
    """Computes one product, whose 3 o columns are what a row adds to the rows above, at and below it."""
    h, w = x.shape[:2]
    wide = _neighbours(jnp.pad(x.astype(jnp.bfloat16), ((0, 0), (1, 1), (0, 0))))
    y = _product(wide, kernel).reshape(h, w, 3, -1)
    below = jnp.pad(y[:-1, :, 0], ((1, 0), (0, 0), (0, 0)))
    above = jnp.pad(y[1:, :, 2], ((0, 1), (0, 0), (0, 0)))
    return below + y[:, :, 1] + above


def rows_kernel(kernel: Kernel) -> BFloat16[Array, "3 3i o"]:
    """Lays out a kernel for `rows`."""
    i, o = kernel.shape[2:]
    return kernel.astype(jnp.bfloat16).reshape(3, 3 * i, o)


def rows(x: Maps, kernel: BFloat16[Array, "3 3i o"]) -> Float[Array, "h w o"]:
    """Computes three products, one for each row of the kernel."""

    def strip(x):
        wide = _neighbours(x)
        return sum(_product(wide[k : k + STRIP], kernel[k]) for k in range(3))

    return _by_strips(strip, x.astype(jnp.bfloat16), x.shape[1])


def winograd_kernel(kernel: Kernel) -> BFloat16[Array, "4 4 i o"]:
    """Transforms a kernel for `winograd`, in float32 before it is rounded."""
    return jnp.einsum("ak,bl,klio->abio", _KERNEL, _KERNEL, kernel).astype(jnp.bfloat16)


def winograd(x: Maps, kernel: BFloat16[Array, "4 4 i o"]) -> Float[Array, "h w o"]:
    """Computes F(2x2, 3x3): 16 products for every 2 x 2 outputs instead of 36 (Lavin and Gray 2015).

    The transforms add and subtract in float32; their results are rounded for the products.
    """

    def strip(x):
        width = x.shape[1] - 2
        data = _combined(_DATA, [x[k : k + STRIP : 2] for k in range(4)])
        parts = []
        for a, row in enumerate(data):
            columns = _combined(_DATA, [row[:, k : k + width : 2] for k in range(4)])
            parts.append([_product(one, kernel[a, b]) for b, one in enumerate(columns)])
        across = [_combined(_OUTPUT, row) for row in parts]
        down = [jnp.stack(_combined(_OUTPUT, [row[k] for row in across]), 1) for k in range(2)]
        return jnp.stack(down, 3).reshape(STRIP, width, -1)

    return _by_strips(strip, x, x.shape[1] + x.shape[1] % 2)


def _combined(matrix: np.ndarray, arrays: list[Array]) -> list[Array]:
    """Multiplies a matrix of 0, 1 and -1 by a vector of arrays."""
    found = []
    for line in matrix:
        terms = [(sign, one) for sign, one in zip(line, arrays, strict=True) if sign]
        total = terms[0][1] if terms[0][0] > 0 else -terms[0][1]
        for sign, one in terms[1:]:
            total = total + one if sign > 0 else total - one
        found.append(total)
    return found


def _by_strips(strip: Callable[[Array], Array], x: Maps, width: int) -> Float[Array, "h w o"]:
    """Applies a function to strips of `STRIP` rows and `width` columns, each with one more at all four sides."""
    h, w = x.shape[:2]
    number = -(-h // STRIP)
    x = jnp.pad(x, ((1, 1 + number * STRIP - h), (1, 1 + width - w), (0, 0)))

    def step(_, k):
        return None, strip(lax.optimization_barrier(lax.dynamic_slice_in_dim(x, k * STRIP, STRIP + 2)))

    y = lax.scan(step, None, jnp.arange(number))[1]
    return y.reshape(number * STRIP, width, -1)[:h, :w]


FORMS = {
    "tall": ProductForm(tall_kernel, tall),
    "rows": ProductForm(rows_kernel, rows),
    "winograd": ProductForm(winograd_kernel, winograd),
}
"""The forms by name, without XLA's own convolution."""
