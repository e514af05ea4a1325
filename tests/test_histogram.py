"""The histogram term: against NumPy's sorted values and quantiles, what does not count in it, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import CHECKS, switched_on
from pictures import painting, photo
from test_cost import batch_of, compiled, engine

from jaxstyle.errors import SettingsError
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.planning import cost, memory
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.objective import layers
from jaxstyle.style.stylize import stylize
from jaxstyle.style.terms import histogram

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RNG = np.random.default_rng(7)
FEW = dict(style_layers=("relu1_1",), content_layers=("relu1_1",), histogram_layers=("relu1_1", "relu2_1"))


def rectified(h, w, c, scale=1.0):
    """A third of the features are 0, as after a ReLU."""
    return scale * np.maximum(RNG.normal(0.4, 1, (h, w, c)), 0)


def feature_map(features, inside=None):
    return FeatureMap(
        jnp.asarray(features), jnp.asarray(np.ones(features.shape[:2], bool) if inside is None else inside)
    )


def numpy_quantiles(features):
    """With the values in the middle of their steps, as Hyndman and Fan's definition 5 has them."""
    at = (np.arange(histogram.QUANTILES) + 0.5) / histogram.QUANTILES
    return np.quantile(features.reshape(-1, features.shape[-1]), at, axis=0, method="hazen").T


def numpy_distance(features, style):
    table = numpy_quantiles(style)
    square = 0.0
    for own, row in zip(features.reshape(-1, features.shape[-1]).T, table, strict=True):
        places = (np.arange(own.size) + 0.5) / own.size
        centres = (np.arange(histogram.QUANTILES) + 0.5) / histogram.QUANTILES
        square += np.mean((np.sort(own) - np.interp(places, centres, row)) ** 2)
    return square / len(table) / np.mean(table**2)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


distance, quantiles = jax.jit(histogram.distance), jax.jit(histogram.quantiles)


@pytest.mark.parametrize("size", [(5, 6), (40, 30), (1, 1)], ids=str)
def test_a_distance_is_that_of_sorted_values_from_quantiles(double, size):
    features, style = rectified(*size, 3), rectified(23, 17, 3, 1.5)
    table = quantiles(feature_map(style))
    np.testing.assert_allclose(table, numpy_quantiles(style), rtol=1e-12)
    np.testing.assert_allclose(distance(feature_map(features), table), numpy_distance(features, style), rtol=1e-12)


def test_positions_do_not_matter_and_channels_do(double):
    features = rectified(16, 16, 4)
    table = quantiles(feature_map(features))
    moved = RNG.permutation(features.reshape(-1, 4)).reshape(16, 16, 4)
    exact = rectified(16, 16, 4)
    assert float(distance(feature_map(moved), table)) < 1e-20  # 256 positions and as many quantiles
    assert float(distance(feature_map(features[..., ::-1] + exact), table)) > 0.1


def test_the_gradient_agrees_with_finite_differences(double):
    features, table = rectified(6, 5, 3), quantiles(feature_map(rectified(9, 9, 3)))
    value = jax.jit(lambda x: histogram.distance(feature_map(x), table))
    along, step = RNG.normal(size=features.shape), 1e-6
    # Equal values, the zeros, may be sorted either way: only those above 0 are moved.
    gradient = jax.grad(value)(jnp.asarray(features))
    along = np.where(features > 0, along, 0)
    difference = (value(features + step * along) - value(features - step * along)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(gradient, along), difference, rtol=1e-6)


def test_positions_outside_the_picture_do_not_count():
    features, style, inside = rectified(12, 12, 4), rectified(10, 9, 4), np.zeros((12, 12), bool)
    inside[:9, :7] = True
    padded, alone = np.where(inside[..., None], features, 0), features[:9, :7]
    table = quantiles(feature_map(alone))
    np.testing.assert_allclose(quantiles(feature_map(padded, inside)), table, rtol=1e-6)
    own = quantiles(feature_map(style))
    value = jax.jit(lambda x: histogram.distance(feature_map(x, inside), own))
    np.testing.assert_allclose(value(padded), distance(feature_map(alone), own), rtol=1e-5)
    assert not np.asarray(jax.grad(value)(jnp.asarray(padded)))[~inside].any()


def test_it_is_off_unless_it_has_a_weight():
    """Neither its layers are computed, nor do results show it."""
    off, on = (StylizeSettings(histogram_weight=w, **FEW).objective() for w in (0.0, 5.0))
    assert StylizeSettings().objective().histogram_weight == 0
    assert layers(off) == ("block1_conv1",) and layers(on) == ("block1_conv1", "block2_conv1")
    assert cost.layers_used(off) == ("block1_conv1",) and cost.layers_used(on)[-1] == "block2_conv1"
    _, one = batch_of(engine(**FEW), (32, 32), 1)
    assert sorted(one.lane.result.terms) == ["content", "style", "tv"]


def test_an_image_gets_the_style_s_distributions(network):
    """Beside the Gram matrices: the distance is under half of what they leave."""
    found = [
        stylize(photo(32, 32), painting(32, 32), preset="classic", evaluations=30, histogram_weight=weight, **FEW)
        for weight in (1e-6, 20)
    ]
    assert sorted(found[1].terms) == ["content", "histogram", "style", "tv"]
    assert float(found[1].terms["histogram"]) / 20 < 0.5 * float(found[0].terms["histogram"]) / 1e-6


@pytest.mark.parametrize("check", CHECKS)
def test_it_works_under_the_checks_that_a_caller_may_have_switched_on(check):
    with switched_on(check):
        solution = stylize(photo(30, 23), painting(32, 32), evaluations=2, histogram_weight=20, **FEW)
        assert np.isfinite(solution.loss)


def test_the_model_of_memory_agrees_with_xla():
    with_it = engine(histogram_weight=5.0, **FEW)
    account = compiled(with_it, (128, 128), 1).memory_analysis()
    xla = account.argument_size_in_bytes + account.output_size_in_bytes + account.temp_size_in_bytes
    xla -= account.alias_size_in_bytes
    unused = set(with_it.objective.architecture.layers) - set(cost.layers_used(with_it.objective))
    model = memory.fixed_bytes(with_it.settings) - memory.parameter_bytes(with_it.objective.architecture, unused)
    assert 0.9 < (model + memory.lane_bytes((128, 128), with_it.settings)) / xla < 1.3


def test_it_needs_the_normalization_energy_and_no_masks(tmp_path):
    for preset in ("gatys", "article"):
        with pytest.raises(SettingsError, match="histogram_weight is 5.*normalization energy"):
            StylizeSettings(preset=preset, histogram_weight=5)
    with pytest.raises(SettingsError, match="histogram_weight is 5 with masks"):
        RenderSettings(histogram_weight=5, content_masks=tmp_path, keep="black")
    with pytest.raises(SettingsError, match="histogram_layers"):
        StylizeSettings(histogram_weight=5, histogram_layers=("relu1_1", "relu1_1"))
