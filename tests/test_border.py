"""The border that fills a bucket up does not count: a picture comes out the same whatever bucket it lies in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import evaluated
from pictures import painting, photo

from jaxstyle.architecture import VGG16
from jaxstyle.model.vgg import VGG
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import initial, lane_inputs
from jaxstyle.style.stylizer import stylizer as stylizer_for

pytestmark = pytest.mark.usefixtures("quickly_compiled")

WIDTH, HEIGHT = 50, 37
BUCKETS = [(64, 64), (96, 128)]  # height, width
DEEP = dict(style_layers=("relu1_1", "relu3_1"), content_layers=("relu4_1",))
FLAT = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled


def rendered(stylizer, settings, picture, bucket, ticks):
    """The picture's pixels and terms after some evaluations in a bucket of this height and width."""
    style = painting(45, 61) / 255
    start = initial(settings, picture, style, "a")
    one = stylizer.start(lane_inputs(picture, start, *bucket), stylizer.style_targets(style), ticks)
    best = stylizer.advance(stylizer.stack([one]), ticks).lanes.result
    terms = {name: float(value[0]) for name, value in best.terms.items()}
    return np.asarray(best.image[0, : picture.shape[0], : picture.shape[1]]), terms


@pytest.mark.parametrize(
    "fields",
    [{"preset": "classic", **DEEP},
     {"preset": "gatys", "tv_weight": 1.0, "pooling": "average", "init": "content", **FLAT},
     {"preset": "article", "init": "noise", **FLAT},
     {"preset": "classic", "style_loss": "w2", "pooling": "l2", "pooling_gain": 0.78, **FLAT}],
    ids=["classic", "gatys with average pooling", "article", "w2 with l2 pooling"],
)  # fmt: skip
def test_a_photograph_comes_out_the_same_from_all_buckets(network, fields):
    settings = StylizeSettings(**fields)
    stylizer, picture = stylizer_for(settings, network), photo(WIDTH, HEIGHT, 3) / 255
    first = [rendered(stylizer, settings, picture, bucket, 1) for bucket in BUCKETS]
    later = [rendered(stylizer, settings, picture, bucket, 6) for bucket in BUCKETS]
    for image, terms in first[1:]:
        np.testing.assert_array_equal(image, first[0][0])  # the start
        for name, value in terms.items():  # sums in another order
            assert value == pytest.approx(first[0][1][name], rel=2e-5), name
    for image, _ in later[1:]:
        # rounding, amplified by five steps; a border that counts makes 0.05 of it (measured)
        np.testing.assert_allclose(image, later[0][0], atol=2e-3)
    assert np.abs(later[0][0] - first[0][0]).max() > 0.02


def test_the_default_has_the_same_terms_and_gradient_in_all_buckets(network):
    """Its preconditioner's pyramid is of the array, so that the steps differ between buckets."""
    stylizer, picture = stylizer_for(StylizeSettings(**DEEP), network), photo(WIDTH, HEIGHT, 3) / 255
    style = stylizer.style_targets(painting(45, 61) / 255)
    found = []
    for bucket in BUCKETS:
        inputs = lane_inputs(picture, 1 - picture, *bucket)
        (_, terms), gradient = evaluated(stylizer, stylizer.start(inputs, style), inputs["init"])
        found.append(({name: float(value) for name, value in terms.items()}, gradient[:HEIGHT, :WIDTH]))
    (terms, gradient), (others, other) = found
    assert others == pytest.approx(terms, rel=2e-5) and set(terms) == {"content", "style", "tv"}
    assert np.linalg.norm(other - gradient) < 1e-4 * np.linalg.norm(gradient)  # sums in another order


def test_a_refilled_lane_takes_everything_from_its_new_picture(network):
    settings = StylizeSettings(preset="classic", **FLAT)
    stylizer = stylizer_for(settings, network)
    style = stylizer.style_targets(painting() / 255)
    lanes = []
    for width, height, seed in ((WIDTH, HEIGHT, 3), (64, 64, 4)):
        picture = photo(width, height, seed) / 255
        lanes.append(stylizer.start(lane_inputs(picture, 1 - picture, 64, 64), style, 5))
    first, second = lanes
    refilled = stylizer.put(stylizer.advance(stylizer.stack([first]), 5), 0, second)
    found, fresh = (stylizer.advance(batch, 5).lanes.result for batch in (refilled, stylizer.stack([second])))
    np.testing.assert_array_equal(found.image, fresh.image)
    assert float(found.loss[0]) == float(fresh.loss[0])


def test_what_lies_outside_the_picture_reaches_no_map_and_gets_no_gradient(network):
    settings = StylizeSettings(**DEEP)
    stylizer, picture = stylizer_for(settings, network), photo(WIDTH, HEIGHT, 3) / 255
    inputs = lane_inputs(picture, picture, 64, 64)
    one = stylizer.start(inputs, stylizer.style_targets(painting() / 255))
    outside = ~inputs["inside"][..., None]
    noise = np.random.default_rng(0).uniform(size=inputs["init"].shape).astype(np.float32)
    (loss, _), gradient = evaluated(stylizer, one, np.where(outside, noise, inputs["init"] + 0.01))
    (other, _), _ = evaluated(stylizer, one, np.where(outside, 1 - noise, inputs["init"] + 0.01))
    assert float(loss) == float(other)
    assert not (np.asarray(gradient) * outside).any() and (np.asarray(gradient) != 0)[:HEIGHT, :WIDTH].all()


@pytest.mark.parametrize("padding", ["zero", "replicate"])
def test_maps_inside_are_those_of_the_picture_alone(network, padding):
    """Of one whose sides are multiples of 16, so that no pooling meets an odd row."""
    stylizer = stylizer_for(StylizeSettings(**DEEP), network)
    picture = jnp.asarray(photo(48, 32, 3) / 255, jnp.float32)
    module = VGG(VGG16, VGG16.layers[:11], padding=padding)
    inputs = lane_inputs(np.asarray(picture), np.asarray(picture), 64, 96)
    alone = jax.jit(module.apply)(stylizer.variables, picture)
    padded = jax.jit(module.apply)(stylizer.variables, inputs["content"], inputs["inside"])
    for name, one in alone.items():
        h, w = one.features.shape[:2]
        scale = float(jnp.abs(one.features).max())
        np.testing.assert_allclose(padded[name].features[:h, :w] / scale, one.features / scale, atol=1e-5)
        outside = np.array(padded[name].features)
        outside[:h, :w] = 0
        assert not outside.any() and int(padded[name].inside.sum()) == h * w == int(one.inside.sum())
