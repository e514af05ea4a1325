"""The temporal term and the optical flow: against NumPy in float64, a flow made by hand, and pictures that moved."""

import checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import CHECKS, switched_on
from pictures import painting, photo

from jaxstyle.engine import flow
from jaxstyle.engine.device import JaxDevice
from jaxstyle.errors import SettingsError
from jaxstyle.planning import memory
from jaxstyle.planning.contract import Group
from jaxstyle.planning.painting import Painting
from jaxstyle.presets import Objective
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylize import stylize
from jaxstyle.style.stylizer import stylizer
from jaxstyle.style.terms import View, temporal
from jaxstyle.style.terms.base import Warped

RNG = np.random.default_rng(5)
NO_NETWORK = dict(content_weight=0.0, style_weight=0.0, tv_weight=1e-3)  # quickly compiled
PHOTO, BEFORE = (photo(32, 24, n).astype(np.float32) / 255 for n in (1, 2))
WEIGHTS = np.zeros((24, 32), np.float32)
WEIGHTS[:, 8:] = 1
INPUTS = lane_inputs(PHOTO, PHOTO, 32, 32, None, (BEFORE, WEIGHTS))


@pytest.mark.parametrize(
    ("normalization", "scale"), [("energy", 1 / (3 * 30)), ("gatys", 255**2 / (3 * 30)), ("article", 255**2)]
)
def test_the_term_is_its_formula(normalization, scale):
    x, w = RNG.uniform(0, 1, (2, 7, 6, 3))
    c, inside = RNG.uniform(0, 1, (7, 6)), np.zeros((7, 6), bool)
    inside[:5] = True  # 30 pixels
    expected = sum(
        c[y, k] * (x[y, k, channel] - w[y, k, channel]) ** 2
        for y in range(5) for k in range(6) for channel in range(3)
    )  # fmt: skip
    with jax.enable_x64(True):
        view = View(jnp.asarray(x), jnp.asarray(inside), {})
        before = Warped(jnp.asarray(w), jnp.asarray(c))
        found = temporal.loss(Objective(normalization=normalization), view, before)
        np.testing.assert_allclose(found, scale * expected, rtol=1e-12)  # float64 rounding


def evaluated(network, inputs, **fields):
    """Loss and terms at the start of a lane."""
    engine = stylizer(StylizeSettings(**{**NO_NETWORK, "temporal_weight": 5.0, **fields}), network)
    one = engine.start(inputs, {})
    (loss, terms), _ = checks.evaluated(engine, one, one.lane.point.image)
    return float(loss), {name: float(value) for name, value in terms.items()}


def test_a_lane_has_the_result_of_the_frame_before_and_its_weights(network):
    loss, terms = evaluated(network, INPUTS)
    expected = 5 * (WEIGHTS[..., None] * (PHOTO - BEFORE).astype(np.float64) ** 2).mean()
    assert terms["temporal"] == pytest.approx(expected, rel=1e-5) and loss == pytest.approx(sum(terms.values()))
    assert evaluated(network, INPUTS, tile=16)[1] == pytest.approx(terms, rel=1e-6)


def test_the_term_of_a_first_frame_is_0(network):
    first = lane_inputs(PHOTO, PHOTO, 32, 32)
    assert evaluated(network, first)[1]["temporal"] == 0
    _, terms = evaluated(network, INPUTS, temporal_weight=0.0)
    assert list(terms) == ["content", "style", "tv"]  # rows without frames are what they were


def test_lanes_have_the_frames_before_of_their_own(network):
    settings = RenderSettings(size=32, frames=True, temporal_weight=100.0, evaluations=30, **NO_NETWORK)
    device = JaxDevice(settings, network, Painting.of(painting().astype(np.float32) / 255))
    batch = device.batch(Group((32, 32)), 2)
    for lane, inputs in enumerate((INPUTS, lane_inputs(PHOTO, PHOTO, 32, 32))):
        batch.put(lane, inputs, 30, device._style)
    batch.advance(30)
    later, first = (batch.result(lane) for lane in (0, 1))
    assert np.abs(later.image[:24] - BEFORE)[:, 10:].mean() < 0.02 < np.abs(PHOTO - BEFORE)[:, 10:].mean()
    assert later.terms["temporal"] > 0 == first.terms["temporal"]


@pytest.mark.parametrize("check", CHECKS)
def test_frames_work_under_the_checks_that_a_caller_may_have_switched_on(network, check):
    with switched_on(check):
        engine = stylizer(StylizeSettings(**NO_NETWORK, temporal_weight=7.0), network)
        engine.advance(engine.stack([engine.start(INPUTS, {})]), 2)


def test_arrays_have_no_frame_before():
    with pytest.raises(SettingsError, match="temporal_weight is 3.*Leave it out"):
        stylize(PHOTO, PHOTO, temporal_weight=3.0)


def test_the_memory_of_a_lane_has_the_frame_before():
    frames, none = (memory.lane_bytes((96, 64), StylizeSettings(temporal_weight=w)) for w in (1.0, None))
    assert frames - none == 96 * 64 * 4 * 4


def flows(square, then, step):
    """Forward and backward flow of a square that moves over an unmoved background, 20 x 30."""
    forward, backward = np.zeros((2, 20, 30, 2), np.float32)
    y, x = square
    forward[y : y + 8, x : x + 8] = step
    backward[then[0] : then[0] + 8, then[1] : then[1] + 8] = np.negative(step)
    return forward, backward


def test_what_a_moving_square_uncovers_is_not_trusted():
    found = flow.trusted(*flows((6, 6), (6, 10), (4, 0)))
    expected = np.ones((20, 30), np.float32)
    expected[6:14, 6:10] = 0  # uncovered: the square was there, and nothing came from it
    expected[5:15, 9:19] = 0  # one pixel on both sides of the edge of motion, by central differences
    expected[7:13, 11:17] = 1  # the inside of the square
    expected[[5, 5, 14, 14], [9, 18, 9, 18]] = 1  # corners, where no difference reaches
    np.testing.assert_array_equal(found, expected)


def test_what_comes_from_beyond_the_edge_is_not_trusted():
    forward = np.full((10, 12, 2), (3.0, -2.0), np.float32)  # to the right and up
    found = flow.trusted(forward, -forward)
    expected = np.ones((10, 12), np.float32)
    expected[:, :3] = expected[8:] = 0
    np.testing.assert_array_equal(found, expected)


def test_a_flow_may_be_off_by_a_share_of_its_length():
    """|a + b|^2 > 0.01 (|a|^2 + |b|^2) + 0.5."""
    for length, off, good in ((0.0, 0.7, 1), (0.0, 0.72, 0), (10.0, 1.5, 1), (10.0, 1.8, 0)):
        forward = np.full((1, 9, 2), (0, length + off), np.float32)
        backward = np.full((1, 9, 2), (0, -length), np.float32)
        assert flow.trusted(np.tile(forward, (30, 1, 1)), np.tile(backward, (30, 1, 1)))[20, 4] == good, (length, off)


def test_warping_samples_where_the_flow_points_to():
    image = RNG.uniform(0, 1, (6, 7, 3)).astype(np.float32)
    shift = np.broadcast_to(np.array((1, 2), np.float32), (6, 7, 2))
    np.testing.assert_allclose(flow.warp(image, shift)[:4, :6], image[2:, 1:], rtol=1e-6)
    half = flow.warp(image, np.full((6, 7, 2), 0.5, np.float32))
    np.testing.assert_allclose(half[2, 3], image[2:4, 3:5].mean((0, 1)), rtol=1e-6)
    np.testing.assert_array_equal(
        flow.warp(image, np.full((6, 7, 2), -50, np.float32)), np.broadcast_to(image[0, 0], (6, 7, 3))
    )


def test_the_flow_of_a_moved_picture_is_its_motion():
    pytest.importorskip("cv2")
    whole = photo(80, 70, 3).astype(np.float32) / 255
    found = flow.moved(whole[:60, :70], whole[4:64, 6:76])  # the picture goes up and left
    middle = (slice(12, 48), slice(12, 58))
    np.testing.assert_allclose(np.median(found.flow[middle], (0, 1)), (6, 4), atol=0.2)
    assert found.weights[middle].mean() > 0.8 and not found.weights[58:].any() and not found.weights[:, 66:].any()


def test_a_flow_does_not_depend_on_the_number_of_threads():
    cv2 = pytest.importorskip("cv2")
    before, threads = (photo(320, 240, n).astype(np.float32) / 255 for n in (1, 2)), cv2.getNumThreads()
    before, frame = before
    try:
        found = []
        for number in (1, 3):
            cv2.setNumThreads(number)
            found.append(flow.moved(before, frame).flow)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*found)


def test_tiny_pictures_have_no_flow():
    pytest.importorskip("cv2")
    tiny = PHOTO[:4, :8]
    found = flow.moved(tiny, tiny)
    assert not found.flow.any() and found.weights.all()
