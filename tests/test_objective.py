"""Each term against NumPy in float64 written from the papers and the article, and gradients by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.settings import PRESETS, Objective, StylizeSettings
from jaxstyle.style import objective as O

RNG = np.random.default_rng(3)
F, P = RNG.uniform(0, 2, (2, 6, 5, 4))
A = RNG.uniform(0, 1, (4, 4))
IMAGE = RNG.uniform(0, 1, (7, 6, 3))


def numpy_gram(features):
    """G_ij = sum over positions of F_i F_j, divided by their number."""
    h, w, c = features.shape
    total = np.zeros((c, c))
    for y in range(h):
        for x in range(w):
            total += np.outer(features[y, x], features[y, x])
    return total / (h * w)


def numpy_variation(image):
    """The article's final_loss: sum of (a + b) ** 1.25 over all but the last row and column."""
    total = 0.0
    for y in range(image.shape[0] - 1):
        for x in range(image.shape[1] - 1):
            for c in range(3):
                a = (image[y, x, c] - image[y + 1, x, c]) ** 2
                b = (image[y, x, c] - image[y, x + 1, c]) ** 2
                total += (a + b) ** 1.25
    return total


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_gram(double):
    np.testing.assert_allclose(O.gram(jnp.asarray(F)), numpy_gram(F), rtol=1e-12)  # float64 rounding


def test_total_variation(double):
    np.testing.assert_allclose(O.total_variation(jnp.asarray(IMAGE)), numpy_variation(IMAGE), rtol=1e-12)


EXPECTED_CONTENT = {
    "energy": ((F - P) ** 2).mean() / (P**2).mean(),
    "gatys": ((F - P) ** 2).mean(),
    "article": ((F - P) ** 2).sum(),
}
G = numpy_gram(F)
EXPECTED_STYLE = {
    "energy": ((G - A) ** 2).sum() / (A**2).sum(),
    "gatys": ((G - A) ** 2).mean() / 4**2,
    # the article: sum((S - C)^2) / (4 * 3^2 * (H W)^2) with Grams that are plain sums over 30 positions, H W = 480
    "article": ((30 * G - 30 * A) ** 2).sum() / (4.0 * 3**2 * 480**2),
}
EXPECTED_TV = {
    "energy": numpy_variation(IMAGE * 10) / IMAGE.size,
    "gatys": numpy_variation(IMAGE * 255) / IMAGE.size,
    "article": numpy_variation(IMAGE * 255),
}


@pytest.mark.parametrize("formula", EXPECTED_CONTENT)
def test_terms_are_their_formulas(double, formula):
    f, p = jnp.asarray(F), jnp.asarray(P)
    np.testing.assert_allclose(O._content(formula, f, p), EXPECTED_CONTENT[formula], rtol=1e-12)
    style = O._style(formula, O.gram(f), jnp.asarray(A), positions=30, pixels=480)
    np.testing.assert_allclose(style, EXPECTED_STYLE[formula], rtol=1e-12)
    np.testing.assert_allclose(O._tv(formula, jnp.asarray(IMAGE)), EXPECTED_TV[formula], rtol=1e-12)


def small_network(variables, image):
    """Two layers of smooth maps under VGG's names: enough structure for a gradient, any dtype."""
    first = jnp.tanh(image @ variables["a"])
    second = jnp.tanh(first[::2, ::2] @ variables["b"]) ** 2
    return {"block4_conv2": second, "block1_conv1": first, "block2_conv1": second}


VARIABLES = {"a": RNG.normal(size=(3, 5)), "b": RNG.normal(size=(5, 4))}


def resolved(preset, **fields):
    return StylizeSettings(
        preset=preset, content_layers=("relu4_2",), style_layers=("relu1_1", "relu2_1"), tv_weight=0.5, **fields
    ).objective()


def loss_of(objective, image, variables=VARIABLES):
    variables = jax.tree.map(jnp.asarray, variables)
    style = O.style_targets(objective, small_network, variables, jnp.asarray(RNG_STYLE, image.dtype))
    content = O.content_targets(objective, small_network, variables, jnp.asarray(RNG_CONTENT, image.dtype))
    return O.terms(objective, small_network, variables, image, style, content)


RNG_STYLE, RNG_CONTENT = RNG.uniform(0, 1, (2, 8, 6, 3))
START = RNG.uniform(0, 1, (8, 6, 3))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("term", ["content", "style", "tv"])
def test_gradients_agree_with_finite_differences(double, preset, term):
    objective = resolved(preset)

    def value(x):
        return getattr(loss_of(objective, x), term)

    gradient = jax.grad(value)(jnp.asarray(START))
    direction = np.random.default_rng(1).normal(size=START.shape)
    step = 1e-5
    difference = (value(START + step * direction) - value(START - step * direction)) / (2 * step)
    # central differences in float64 with this step are good to about 1e-8
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_scale_their_terms_and_the_sum_is_weighted(double, preset):
    one = loss_of(resolved(preset, content_weight=1.0, style_weight=1.0), jnp.asarray(START))
    other = loss_of(resolved(preset, content_weight=3.0, style_weight=7.0), jnp.asarray(START))
    np.testing.assert_allclose([other.content, other.style, other.tv], [3 * one.content, 7 * one.style, one.tv])


def test_the_style_term_vanishes_at_the_style_and_the_content_term_at_the_content(double):
    objective = resolved("balanced")
    assert loss_of(objective, jnp.asarray(RNG_STYLE)).style < 1e-20
    assert loss_of(objective, jnp.asarray(RNG_CONTENT)).content < 1e-20


def test_balanced_terms_do_not_depend_on_the_scale_of_the_maps(double):
    objective = resolved("balanced")

    def scaled(variables, image):
        return {name: 50 * maps for name, maps in small_network(variables, image).items()}

    variables = jax.tree.map(jnp.asarray, VARIABLES)
    results = []
    for network in (small_network, scaled):
        style = O.style_targets(objective, network, variables, jnp.asarray(RNG_STYLE))
        content = O.content_targets(objective, network, variables, jnp.asarray(RNG_CONTENT))
        results.append(O.terms(objective, network, variables, jnp.asarray(START), style, content))
    np.testing.assert_allclose(*map(jnp.asarray, results), rtol=1e-10)


def test_style_layer_weights():
    three = ("relu1_1", "relu2_1", "relu3_1")
    assert O.layer_weights(Objective(style_layers=three)) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    weighted = Objective(style_layers=three, style_layer_weights=(2, 1, 1))
    assert O.layer_weights(weighted) == (0.5, 0.25, 0.25)


def test_low_precision_maps_are_compared_in_float32():
    f = jnp.full((64, 64, 8), 3.0, jnp.bfloat16)
    assert O.gram(f).dtype == jnp.float32
    assert float(O.gram(f)[0, 0]) == 9.0  # a bfloat16 sum of 4096 terms would stop growing at 256 of them
    assert O._content("energy", f, f * 2).dtype == jnp.float32
