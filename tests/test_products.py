"""Convolutions as matrix products in bfloat16, and the choice among them by measurement, which folders remember."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.architecture import VGG16
from jaxstyle.errors import SettingsError
from jaxstyle.model import choice, ops, products
from jaxstyle.model.products import FORMS

LAYERS = ("block1_conv1", "block1_conv2", "block2_conv1")
"""Rounding of both factors to 8 bits, at most 2**-9 each, adds up like a random walk over the 9 i terms of a sum."""


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def apart(ours, theirs):
    """Root mean square of the difference, as a share of that of the values."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_convolution_up_to_bfloat16s_rounding(form):
    """Odd sides, more rows than a strip, several images: 2e-3 for plain products, 4e-3 for Winograd's sums."""
    x, kernel = normal(0, 2, 11, 7, 16), normal(1, 3, 3, 16, 8) / 12
    exact = jax.vmap(ops.convolve, (0, None))(x, kernel)
    found = jax.jit(jax.vmap(FORMS[form], (0, None)))(x, kernel)
    assert found.shape == exact.shape and found.dtype == jnp.float32
    assert 5e-4 < apart(found, exact) < (6e-3 if form == "winograd" else 3e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_the_values_and_the_gradient_of_integers_exactly(form, monkeypatch):
    """Small integers are exact in bfloat16, and so are Winograd's quarters of even ones."""
    random = np.random.default_rng(2)
    x = jnp.asarray(random.integers(-3, 4, (9, 5, 6)), jnp.float32)
    kernel = jnp.asarray(4 * random.integers(-1, 2, (3, 3, 6, 3)), jnp.float32)
    flipped, bias = ops.flip(kernel), jnp.asarray([1.0, 0.0, -2.0])
    weights = jnp.asarray(random.integers(-3, 4, (9, 5, 3)), jnp.float32)

    def found(forms):
        layer = partial(ops.conv_relu, kernel=kernel, flipped=flipped, bias=bias, forms=forms)
        return jax.jit(lambda x: (layer(x), jax.grad(lambda x: (layer(x) * weights).sum())(x)))(x)

    exact = found(("float32", "float32"))
    used = []
    monkeypatch.setitem(FORMS, form, lambda x, k, own=FORMS[form]: (used.append(k.shape), own(x, k))[1])
    for ours, theirs in zip(found((form, form)), exact, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert used == [(3, 3, 6, 3), (3, 3, 6, 3), (3, 3, 3, 6)]  # values, values for the gradient, gradient
