"""The style losses "moments" and "w2" against SciPy in float64, their gradients, and what does not count in them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.style.terms import gram, moments, wasserstein
from jaxstyle.style.terms.style import STYLE_LOSSES

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RNG = np.random.default_rng(5)


def maps(side, channels, *, rank=None, scale=1.0):
    """Rectified features that depend on each other, of at most `rank` dimensions before the rectifier."""
    rank = rank or channels
    mixing = RNG.normal(size=(rank, channels)) * np.logspace(0, -1.5, channels)
    return scale * np.maximum(RNG.normal(size=(side, side, rank)) @ mixing + 0.1, 0)


def feature_map(features, dtype=jnp.float32, inside=None):
    inside = np.ones(features.shape[:2], bool) if inside is None else inside
    return FeatureMap(jnp.asarray(features, dtype), jnp.asarray(inside))


def sums(of):
    return gram.sums(of, features=True)


@partial(jax.jit, static_argnames=("name", "dtype"))  # without it each operation is compiled alone
def compared(name, features, style, dtype=jnp.float32, inside=None):
    """The loss of a layer, from its definition in the registry."""
    one = STYLE_LOSSES[name]
    target = one.target(sums(feature_map(style, dtype)))
    pixels = jnp.zeros((), dtype)
    return one.loss("energy", sums(feature_map(features, dtype, inside)), target, pixels)


def statistics(features):
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    return rows.mean(0), np.cov(rows.T, bias=True)


def numpy_moments(features, style):
    parts = zip(statistics(features), statistics(style), strict=True)
    return np.mean([((own - a) ** 2).sum() / (a**2).sum() for own, a in parts])


def numpy_w2(features, style):
    """The formula with SciPy's matrix root, both Gaussians blurred, divided by the style's mean square."""
    (m1, c1), (m2, c2) = statistics(features), statistics(style)
    blur = wasserstein.BLUR * np.linalg.norm(c2) * np.eye(len(m1))
    root = sqrtm(c2 + blur).real
    trace = np.trace(c1 + blur + c2 + blur - 2 * sqrtm(root @ (c1 + blur) @ root).real)
    return (((m1 - m2) ** 2).sum() + trace) / ((m2**2).sum() + np.trace(c2))


NUMPY = {"moments": numpy_moments, "w2": numpy_w2}
CASES = {
    "like the style": (maps(24, 16), maps(32, 16)),
    "fewer positions than channels": (maps(6, 64), maps(7, 64)),
    "few dimensions": (maps(6, 64, rank=3, scale=0.3), maps(7, 64)),
}


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("case", CASES)
def test_a_loss_is_its_formula(name, case):
    expected = NUMPY[name](*CASES[case])
    assert expected > 0.01
    np.testing.assert_allclose(compared(name, *CASES[case]), expected, rtol=1e-4, atol=2e-5)  # float32


def test_far_from_the_target_the_distance_is_a_little_less():
    """Where the image varies 100 times as much as the style, the root has more blur to stay within its range."""
    features, style = maps(24, 16, scale=100), maps(32, 16)
    found, expected = float(compared("w2", features, style)), numpy_w2(features, style)
    assert 0.99 * expected < found < expected


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_loss_vanishes_at_the_target_only_and_is_about_1_at_a_blank_image(name):
    style = maps(16, 24)
    assert abs(float(compared(name, style, style))) < 2e-5
    assert float(compared(name, 1.1 * style, style)) > 1e-3
    assert 0.9 < float(compared(name, np.zeros_like(style), style)) <= 1.0


@pytest.mark.parametrize("name", STYLE_LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_a_gradient_agrees_with_finite_differences(double, name, case):
    features, style = CASES[case]
    value = lambda x: compared(name, x, style, jnp.float64)  # noqa: E731
    gradient = jax.grad(value)(jnp.asarray(features))
    along = np.random.default_rng(1).normal(size=features.shape) * features.std()
    step = 1e-6
    difference = (value(features + step * along) - value(features - step * along)) / (2 * step)
    # The terms of the product cancel. The root stops within 1e-6 of its limit, and its slope within some 1e-5.
    terms = float(jnp.sum(jnp.abs(gradient * along)))
    np.testing.assert_allclose(jnp.vdot(gradient, along), difference, atol=5e-5 * terms)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_in_float32_is_that_in_float64(case):
    features, style = CASES[case]
    single = jax.grad(lambda x: compared("w2", x, style))(jnp.asarray(features, jnp.float32))
    with jax.enable_x64(True):
        double = jax.grad(lambda x: compared("w2", x, style, jnp.float64))(jnp.asarray(features))
    assert np.linalg.norm(single - double) < 1e-3 * np.linalg.norm(double)


def test_far_from_the_target_the_gradient_is_the_values_own(double):
    features, style = maps(12, 16, scale=100), maps(12, 16)
    value = lambda x: compared("w2", x, style, jnp.float64)  # noqa: E731
    along = np.random.default_rng(1).normal(size=features.shape)
    difference = (value(features + 1e-3 * along) - value(features - 1e-3 * along)) / 2e-3
    np.testing.assert_allclose(jnp.vdot(jax.grad(value)(jnp.asarray(features)), along), difference, rtol=2e-5)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_positions_outside_the_picture_do_not_count(name):
    style, features = maps(12, 8), maps(12, 8)
    inside = np.zeros((12, 12), bool)
    inside[:9, :7] = True
    padded = np.where(inside[..., None], features, 0)
    alone = compared(name, features[:9, :7], style)
    np.testing.assert_allclose(compared(name, padded, style, inside=inside), alone, rtol=1e-4)


def test_a_flat_style_has_a_finite_loss_and_gradient():
    flat = np.ones((8, 8, 4)) * [0, 1, 2, 3]
    for features in (flat, maps(8, 4), np.zeros((8, 8, 4))):
        value, gradient = jax.value_and_grad(lambda x: compared("w2", x, flat))(jnp.asarray(features, jnp.float32))
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_moments_tell_a_channel_that_is_always_on_from_one_that_varies():
    steady = np.ones((8, 8, 1))
    varying = np.where(np.indices((8, 8)).sum(0) % 2, 2**0.5, 0)[..., None]
    assert abs(float(compared("gram", varying, steady))) < 1e-6
    assert float(compared("moments", varying, steady)) > 0.05 and float(compared("w2", varying, steady)) > 0.05


def test_a_loop_is_given_the_energies_of_its_targets():
    rng = np.random.default_rng(2)
    several = moments.Moments(rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 3, 3)).astype(np.float32))
    found = moments.prepared(several)
    for energy, part in zip(found.energies, several, strict=True):
        np.testing.assert_allclose(energy, [np.sum(one.astype(np.float64) ** 2) for one in part], rtol=1e-6)
    own, (target, energies) = sums(feature_map(maps(4, 3), jnp.float32)), jax.tree.map(lambda a: a[0], found)
    plain = moments.loss("energy", own, target, jnp.float32(0))
    for factor in (1, 2):
        twice = moments.Prepared(target, tuple(factor * one for one in energies))
        np.testing.assert_allclose(moments.loss("energy", own, twice, jnp.float32(0)), plain / factor, rtol=1e-6)


def test_covariances_of_low_precision_maps_are_in_float32():
    found = moments.moments(sums(feature_map(maps(8, 4), jnp.bfloat16)))
    assert found.mean.dtype == found.covariance.dtype == jnp.float32


def test_the_trace_of_a_root_at_the_limits_of_its_range(double):
    """Eigenvalues from 1 to the least that the iteration resolves, in a random basis; float32 against the exact."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]
    values = np.logspace(0, 2 * np.log10(wasserstein.LEAST) + 1, 32)
    matrix = (basis * values) @ basis.T
    found, gradient = jax.value_and_grad(wasserstein.trace_of_root)(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(found, np.sqrt(values).sum(), rtol=1e-4)
    np.testing.assert_allclose(gradient, (basis * 0.5 / np.sqrt(values)) @ basis.T, rtol=0.05, atol=0.3)
