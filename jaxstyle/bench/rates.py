"""Measures the peak rates of a device: large matrix products and a large copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SIDE = {"cpu": 1536}
"""Rows and columns of the matrices by backend; other backends use `SIDE_ACCELERATOR`."""
SIDE_ACCELERATOR = 8192
CHAIN = 4
"""Chained products in one call, so that the overhead of the call is small."""
COPIED = {"cpu": 2**28}
"""Bytes of the copied array by backend, many times the caches' size; other backends use `COPIED_ACCELERATOR`."""
COPIED_ACCELERATOR = 2**31


def median_seconds(call: Callable[[], Any], *, repeats: int = 5, most: float = 4.0, warm: int = 2) -> float:
    """Returns the median seconds of a call, including the wait for its result.

    Args:
        repeats: number of timed calls; fewer if they take longer than `most` seconds together.
        warm: number of untimed calls before; the first one compiles.
    """
    for _ in range(warm):
        jax.block_until_ready(call())
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) < most):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def product(dtype: Any, precision: str = "highest", side: int | None = None) -> float:
    """Measures the floating-point operations a second of a square matrix product; a multiply-add counts as two.

    Args:
        dtype: number type of the factors and the result.
        precision: value of `jax.default_matmul_precision`: "highest" computes float32 products in float32,
            "tensorfloat32" rounds the factors.
        side: rows and columns [default: a number that suits the device]
    """
    side = side or SIDE.get(jax.default_backend(), SIDE_ACCELERATOR)
    return CHAIN * 2 * side**3 / median_seconds(chain(dtype, precision, side))


def chain(dtype: Any, precision: str, side: int) -> Callable[[], jax.Array]:
    """Returns a function that computes `CHAIN` products; see `product`."""
    one, other = (jax.random.normal(jax.random.key(k), (side, side), jnp.float32) for k in range(2))
    factor = (one / side**0.5).astype(dtype)  # keeps the magnitude of the values constant along the chain

    @jax.jit
    def multiplied(factor, matrix):
        with jax.default_matmul_precision(precision):
            for _ in range(CHAIN):
                matrix = factor @ matrix
        return matrix

    start = other.astype(dtype)
    return lambda: multiplied(factor, start)


def copy(size: int | None = None) -> float:
    """Measures the bytes a second, read plus written, of adding 1 to a large array in place.

    Args:
        size: size of the array in bytes [default: a size that suits the device]
    """
    size = size or COPIED.get(jax.default_backend(), COPIED_ACCELERATOR)
    held = [jnp.zeros(size // 4, jnp.float32)]
    add = jax.jit(lambda array: array + 1, donate_argnums=0)

    def call() -> jax.Array:
        held[0] = add(held[0])
        return held[0]

    return 2 * size / median_seconds(call)
