"""What a device can do at most, measured: large matrix products and a large copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SIDE = {"cpu": 1536}
"""Rows and columns of the matrices by backend; else `SIDE_ACCELERATOR`."""
SIDE_ACCELERATOR = 8192
CHAIN = 4
"""Products in one call, each of the one before, so that the time of calling is small beside them."""
COPIED = {"cpu": 2**28}
"""Bytes of the array that is copied by backend, many times what caches hold; else `COPIED_ACCELERATOR`."""
COPIED_ACCELERATOR = 2**31


def median_seconds(call: Callable[[], Any], *, repeats: int = 5, most: float = 4.0, warm: int = 2) -> float:
    """Median seconds of a call whose result is waited for.

    Args:
        repeats: timed calls, unless they take longer than `most` seconds together.
        warm: calls before, untimed: the first one compiles.
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
    """Floating-point operations a second of a square matrix product; a multiplication and an addition are two.

    Args:
        dtype: of the factors and the result.
        precision: of `jax.default_matmul_precision`: "highest" makes products of float32 exact, "tensorfloat32" not.
        side: rows and columns; as suits the device if left out.
    """
    side = side or SIDE.get(jax.default_backend(), SIDE_ACCELERATOR)
    return CHAIN * 2 * side**3 / median_seconds(chain(dtype, precision, side))


def chain(dtype: Any, precision: str, side: int) -> Callable[[], jax.Array]:
    """A call that makes `CHAIN` products; see `product`."""
    one, other = (jax.random.normal(jax.random.key(k), (side, side), jnp.float32) for k in range(2))
    factor = (one / side**0.5).astype(dtype)  # keeps the numbers of a chain of products at their size

    @jax.jit
    def multiplied(factor, matrix):
        with jax.default_matmul_precision(precision):
            for _ in range(CHAIN):
                matrix = factor @ matrix
        return matrix

    start = other.astype(dtype)
    return lambda: multiplied(factor, start)


def copy(size: int | None = None) -> float:
    """Bytes a second, read and written ones together, of a large array that gets 1 added in its place.

    Args:
        size: of the array, in bytes; as suits the device if left out.
    """
    size = size or COPIED.get(jax.default_backend(), COPIED_ACCELERATOR)
    held = [jnp.zeros(size // 4, jnp.float32)]
    add = jax.jit(lambda array: array + 1, donate_argnums=0)

    def call() -> jax.Array:
        held[0] = add(held[0])
        return held[0]

    return 2 * size / median_seconds(call)
