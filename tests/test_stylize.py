"""`stylize` on arrays: a batch is its singles, one program a shape, and a caller's mistakes are named."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
from checks import CHECKS, switched_on
from pictures import painting, photo

import jaxstyle
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style import initial
from jaxstyle.style.colour import match_colours
from jaxstyle.style.initial import lane_inputs, pad_reflect
from jaxstyle.style.status import Status
from jaxstyle.style.stylize import stylize
from jaxstyle.style.stylizer import stylizer as stylizer_for

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FEW = dict(preconditioner="none", style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
FEWEST = dict(preconditioner="none", style_layers=("relu1_1",), content_layers=("relu1_2",))
ADAM = dict(solver="adam", **FEW)
SHORT = StylizeSettings(evaluations=10, init="content", **FEW)


@pytest.fixture(scope="module")
def stylizer(network):
    return stylizer_for(SHORT, network)


@pytest.fixture(scope="module")
def batch():
    return np.stack([photo(32, 32, seed) for seed in range(3)])


def test_a_batch_gives_what_its_singles_give(batch):
    together = stylize(batch, painting(), SHORT)
    for k, image in enumerate(batch):
        alone = stylize(image, painting(), SHORT)
        # float32 sums in another order, amplified by ten steps of the optimisation
        np.testing.assert_allclose(together.loss[k], alone.loss, rtol=1e-3)
        np.testing.assert_allclose(together.image[k], alone.image, atol=5e-3)
        assert together.evaluations[k] == alone.evaluations == 10


def test_scales_are_refused(batch):
    with pytest.raises(
        SettingsError, match=r"evaluations is '6,4'. Give one number: `stylize` works at the images' own"
    ):
        stylize(batch, painting(), SHORT, evaluations="6,4")
    with pytest.raises(SettingsError, match="'scales' is no field of StylizeSettings"):
        stylize(batch, painting(), SHORT, scales="auto")


def test_a_lane_is_bit_identical_whatever_its_neighbours(batch):
    one = stylize(batch, painting(), SHORT)
    other = stylize(np.stack([photo(32, 32, 9), photo(32, 32, 8), batch[2]]), painting(), SHORT)
    np.testing.assert_array_equal(one.image[2], other.image[2])
    assert one.loss[2] == other.loss[2]


def test_a_shape_is_compiled_once(network, batch):
    settings = StylizeSettings(evaluations=3, learning_rate=0.03, **ADAM)
    fresh = stylizer_for(settings, network)
    before = fresh.n_compiled
    for _ in range(3):
        stylize(batch, painting(), settings)
    assert fresh.n_compiled == before + 1
    stylize(batch[0], painting(), evaluations=4, learning_rate=0.03, seed=5, tolerance=0.1, **ADAM)
    assert fresh.n_compiled == before + 2
    assert stylizer_for(RenderSettings(learning_rate=0.03, size=64, batch=7, init="noise", **ADAM), network) is fresh


def test_the_loss_falls_and_the_terms_add_up():
    """At 48 pixels: XLA's convolution of maps of fewer than 3 pixels is slow on a CPU."""
    few, many = (stylize(photo(48, 48), painting(), evaluations=n, style_pixels=0) for n in (2, 25))
    assert many.loss < 0.7 * few.loss
    assert sum(many.terms.values()) == pytest.approx(float(many.loss), rel=1e-5)
    assert many.status == Status.BUDGET
    assert many.image.shape == (48, 48, 3) and many.image.dtype == np.float32
    assert many.image.min() >= 0 and many.image.max() <= 1
    assert np.abs(many.image - photo(48, 48) / 255).mean() > 0.02  # it is not the photograph any more


@pytest.mark.parametrize(("width", "height"), [(17, 31), (1, 1), (5, 16)])
def test_odd_sizes_come_back_in_their_own_size(width, height):
    solution = stylize(photo(width, height), painting(), SHORT)
    assert solution.image.shape == (height, width, 3)
    assert np.isfinite(solution.image).all() and np.isfinite(solution.loss)


@pytest.mark.parametrize("grey", [0, 255])
def test_flat_black_or_white_images_do_not_diverge(grey):
    solution = stylize(np.full((32, 32, 3), grey, np.uint8), painting(), SHORT)
    assert solution.status == Status.BUDGET and np.isfinite(solution.loss)


def test_uint8_and_floats_mean_the_same():
    one = stylize(photo(32, 32), painting(), SHORT)
    other = stylize(photo(32, 32) / 255, painting() / 255, SHORT)
    np.testing.assert_allclose(one.image, other.image, atol=1e-3)


@pytest.mark.parametrize(
    ("preset", "solver"),
    [("gatys", "lbfgs"), ("article", "adam"), ("article", "jaxopt-zoom")],
)
def test_every_preset_and_every_solver_runs(preset, solver):
    few = FEWEST if solver == "jaxopt-zoom" else FEW  # it compiles ten evaluations
    settings = StylizeSettings(preset=preset, solver=solver, evaluations=6, init="noise", **few)
    solution = stylize(photo(32, 32), painting(32, 32), settings)
    assert np.isfinite(solution.loss) and solution.evaluations >= 6


def test_bfloat16_convolutions_stay_near_float32():
    losses = [
        float(stylize(photo(32, 32), painting(32, 32), precision=p, evaluations=1, init="noise", **ADAM).loss)
        for p in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # 8 bits of mantissa through 4 layers, squared


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32)), "shape"), (np.zeros((32, 32, 4)), "shape"), (np.zeros((0, 32, 3)), "shape"),
        (np.zeros((0, 32, 32, 3)), "no image"), (np.full((32, 32, 3), 2.0), "values from 2 to 2"),
        (np.full((32, 32, 3), np.nan), "values"), (np.zeros((32, 32, 3), np.int32), "int32"),
    ],
)  # fmt: skip
def test_impossible_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        stylize(images, painting(), SHORT)


def started(stylizer, content, init, targets, budget=10):
    height, width = content.shape[:2]
    return stylizer.start(lane_inputs(content, init, height, width), targets, budget)


def test_a_diverged_image_leaves_its_batch_mates_bit_identical(stylizer, batch):
    targets = stylizer.style_targets(painting() / 255)
    results = []
    for value in (0.5, np.nan):
        starts = [b / 255 for b in batch]
        starts[1] = np.full_like(starts[1], value)
        lanes = [started(stylizer, b / 255, s, targets) for b, s in zip(batch, starts, strict=True)]
        results.append(stylizer.advance(stylizer.stack(lanes), 10).lanes)
    assert results[1].status.tolist() == [Status.BUDGET, Status.DIVERGED, Status.BUDGET]
    for lane in (0, 2):
        np.testing.assert_array_equal(results[0].result.image[lane], results[1].result.image[lane])


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (64, 5)])
def test_a_tiny_style_works(size):
    solution = stylize(photo(48, 48), painting(*size), evaluations=10, style_pixels=0)
    assert solution.status == Status.BUDGET and np.isfinite(solution.loss)


def test_noise_is_the_same_alone_and_in_a_batch():
    alone = stylize(photo(32, 32, 2), painting(), evaluations=1, init="noise", **FEW)
    together = stylize(np.stack([photo(32, 32, k) for k in range(3)]), painting(), evaluations=1, init="noise", **FEW)
    np.testing.assert_array_equal(together.image[2], alone.image)


def test_images_of_several_sizes_are_refused():
    with pytest.raises(InputError, match="several sizes"):
        stylize([photo(32, 32), photo(40, 32)], painting())


def test_padding_mirrors_the_edge():
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    padded = pad_reflect(image, 5, 3)
    assert padded.shape == (5, 3, 3)
    np.testing.assert_array_equal(padded[:2, :2], image)
    np.testing.assert_array_equal(padded[2], padded[1])
    np.testing.assert_array_equal(padded[:, 2], padded[:, 1])


def test_noise_depends_on_seed_and_name_only():
    one = initial.noise(1, "a", (8, 8, 3))
    np.testing.assert_array_equal(one, initial.noise(1, "a", (8, 8, 3)))
    for seed, key in ((2, "a"), (1, "b")):
        assert not np.array_equal(one, initial.noise(seed, key, (8, 8, 3)))


def test_matched_colours_have_the_mean_and_covariance_of_the_style():
    rng = np.random.default_rng(0)
    mixing = np.array([[1, 0.5, 0.2], [0, 0.8, 0.3], [0.1, 0, 0.6]])
    content = 0.5 + 0.05 * rng.normal(size=(40, 40, 3))
    style = np.array([0.4, 0.5, 0.6]) + 0.06 * rng.normal(size=(50, 30, 3)) @ mixing
    matched = match_colours(content, style).reshape(-1, 3)
    np.testing.assert_allclose(matched.mean(0), style.reshape(-1, 3).mean(0), atol=1e-3)
    # 1e-4 is the floor put under both covariances
    np.testing.assert_allclose(np.cov(matched.T), np.cov(style.reshape(-1, 3).T), atol=2e-4)
    unchanged = match_colours(content, content)
    np.testing.assert_allclose(unchanged, content, atol=1e-5)


def test_a_flat_image_takes_the_style_mean():
    flat = match_colours(np.full((8, 8, 3), 0.2), painting() / 255)
    assert np.isfinite(flat).all()
    np.testing.assert_allclose(flat.reshape(-1, 3).mean(0), (painting() / 255).reshape(-1, 3).mean(0), atol=1e-5)


def test_the_public_names_are_there():
    assert set(jaxstyle.__all__) == set(jaxstyle._HOMES)
    for name in jaxstyle.__all__:
        assert getattr(jaxstyle, name).__doc__
    with pytest.raises(AttributeError, match="nothing"):
        jaxstyle.nothing  # noqa: B018


def test_network_parameters_are_arguments_of_the_compiled_loop(stylizer, batch):
    targets = stylizer.style_targets(painting() / 255)
    lanes = stylizer.stack([started(stylizer, b / 255, b / 255, targets) for b in batch])
    rest = dataclasses.replace(lanes, lanes=None)
    jaxpr = jax.make_jaxpr(stylizer._advance_all)(stylizer.variables, lanes.lanes, rest, np.int32(1), np.float32(0))
    assert sum(np.size(c) for c in jaxpr.consts) < 1000  # VGG16 to conv5_1 has 10 million


def test_a_batch_of_two_styles_equals_the_single_runs(stylizer, batch):
    pictures = [painting() / 255, photo(48, 40, 5) / 255]
    targets = [stylizer.style_targets(picture) for picture in pictures]
    mixed = stylizer.stack([started(stylizer, b / 255, b / 255, targets[k % 2]) for k, b in enumerate(batch)])
    assert not mixed.shared and jax.tree.leaves(mixed.style)[0].shape[0] == 3
    found = stylizer.advance(mixed, 10).lanes.result
    for k, content in enumerate(batch):
        alone = stylize(content, pictures[k % 2], SHORT)
        np.testing.assert_allclose(found.loss[k], alone.loss, rtol=1e-3)  # as for a batch of one style
        np.testing.assert_allclose(np.clip(found.image[k], 0, 1), alone.image, atol=5e-3)
    apart = stylize(batch[1], pictures[0], SHORT).image - stylize(batch[1], pictures[1], SHORT).image
    assert np.abs(apart).max() > 0.05  # the styles differ


def test_a_batch_of_one_style_has_its_targets_once_and_a_refill_brings_no_others(stylizer, batch):
    targets = stylizer.style_targets(painting() / 255)
    one = stylizer.stack([started(stylizer, b / 255, b / 255, targets) for b in batch])
    assert one.shared
    for mine, theirs in zip(jax.tree.leaves(one.style), jax.tree.leaves(targets), strict=True):
        assert mine.shape == theirs.shape


def test_a_refill_leaves_history_and_gradient_where_they_are(stylizer, batch):
    """They are most of a lane's memory, and their contents do not matter at a start."""
    targets = stylizer.style_targets(painting() / 255)
    lanes = [started(stylizer, b / 255, b / 255, targets) for b in batch]
    assert lanes[0].lane.memory is None
    full = stylizer.advance(stylizer.stack(lanes), 5)
    memory = full.lanes.memory
    refilled = stylizer.put(full, 1, lanes[0])
    for before, after in zip(jax.tree.leaves(memory), jax.tree.leaves(refilled.lanes.memory), strict=True):
        assert before.unsafe_buffer_pointer() == after.unsafe_buffer_pointer()
    found = stylizer.advance(refilled, 10).lanes
    fresh = stylizer.advance(stylizer.stack([lanes[0]] * 3), 10).lanes
    np.testing.assert_array_equal(found.result.image[1], fresh.result.image[1])


def test_a_term_of_weight_0_costs_nothing(network):
    """Neither its layers nor its targets are computed."""

    def convolutions(**weights):
        engine = stylizer_for(
            StylizeSettings(content_layers=("relu4_2",), style_layers=("relu1_1",), **weights), network
        )
        targets = engine.style_targets(painting(32, 32) / 255)
        one = started(engine, photo(32, 32) / 255, photo(32, 32) / 255, targets)
        evaluate = engine.evaluate(engine.variables, one.targets, one.inside)
        return str(jax.make_jaxpr(evaluate)(one.lane.point.image)).count("conv_general_dilated["), one.targets

    assert convolutions()[0] == 2 * 9
    deep, targets = convolutions(content_weight=0)
    assert deep == 2 and not targets.content.get("content")
    deep, targets = convolutions(style_weight=0)
    assert deep == 2 * 9 and targets.style == {}
    assert convolutions(content_weight=0, style_weight=0)[0] == 0


def test_two_settings_share_the_parameters_of_one_set_of_weights(network):
    one, other = (stylizer_for(StylizeSettings(evaluations=1, style_weight=w, **FEW), network) for w in (1, 2))
    assert one is not other and one.variables is other.variables


@pytest.mark.parametrize("check", CHECKS)
def test_stylize_works_under_the_checks_that_a_caller_may_have_switched_on(check):
    with switched_on(check):
        for solver in ("lbfgs", "adam") if check.endswith("raise") else ("lbfgs",):
            solution = stylize(photo(30, 23), painting(33, 20), evaluations=3, solver=solver, **FEW)
            assert solution.evaluations == 3 and np.isfinite(solution.loss)


def test_stylize_changes_nothing_of_jax():
    code = """
import jax, numpy as np, jaxstyle
before = dict(jax.config.values)
jaxstyle.stylize(np.full((32, 32, 3), 0.5), np.full((32, 32, 3), 0.2), evaluations=1, preset="classic",
                 style_layers=("relu1_1",), content_layers=("relu1_1",))
changed = {name for name, value in jax.config.values.items() if before.get(name, value) != value}
print(sorted(changed), jax.local_device_count())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] 1"
