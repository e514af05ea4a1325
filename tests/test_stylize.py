"""`stylize` on arrays: a batch is its singles, one program a shape, and a caller's mistakes are named."""

import jax
import numpy as np
import pytest
from pictures import painting, photo

import jaxstyle
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style import initial
from jaxstyle.style.initial import pad_reflect
from jaxstyle.style.status import Status
from jaxstyle.style.stylize import stylize
from jaxstyle.style.stylizer import stylizer as stylizer_for

FEW = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
SHORT = StylizeSettings(evaluations=10, init="content", **FEW)


@pytest.fixture(scope="module")
def stylizer(network):
    return stylizer_for(SHORT, network)


@pytest.fixture(scope="module")
def batch():
    return np.stack([photo(64, 32, seed) for seed in range(3)])


def test_a_batch_gives_what_its_singles_give(batch):
    together = stylize(batch, painting(), SHORT)
    for k, image in enumerate(batch):
        alone = stylize(image, painting(), SHORT)
        # float32 sums in another order, amplified by ten steps of the optimisation
        np.testing.assert_allclose(together.loss[k], alone.loss, rtol=1e-3)
        np.testing.assert_allclose(together.image[k], alone.image, atol=5e-3)
        assert together.evaluations[k] == alone.evaluations == 10


def test_a_lane_is_bit_identical_whatever_its_neighbours(batch):
    one = stylize(batch, painting(), SHORT)
    other = stylize(np.stack([photo(64, 32, 9), photo(64, 32, 8), batch[2]]), painting(), SHORT)
    np.testing.assert_array_equal(one.image[2], other.image[2])
    assert one.loss[2] == other.loss[2]


def test_a_shape_is_compiled_once(network, batch):
    settings = StylizeSettings(evaluations=3, history=3, **FEW)
    fresh = stylizer_for(settings, network)
    before = fresh.compiled
    for _ in range(3):
        stylize(batch, painting(), settings)
    assert fresh.compiled == before + 1
    stylize(batch[0], painting(), evaluations=4, history=3, seed=5, tolerance=0.1, **FEW)
    assert fresh.compiled == before + 2
    assert stylizer_for(RenderSettings(history=3, size=64, batch=7, init="noise", **FEW), network) is fresh


def test_the_loss_falls_and_the_terms_add_up():
    few, many = (stylize(photo(64, 64), painting(), evaluations=n) for n in (2, 25))
    assert many.loss < 0.7 * few.loss
    assert sum(many.terms.values()) == pytest.approx(float(many.loss), rel=1e-5)
    assert many.status == Status.BUDGET
    assert many.image.shape == (64, 64, 3) and many.image.dtype == np.float32
    assert many.image.min() >= 0 and many.image.max() <= 1
    assert np.abs(many.image - photo(64, 64) / 255).mean() > 0.02  # it is not the photograph any more


@pytest.mark.parametrize(("width", "height"), [(33, 47), (1, 1), (5, 64)])
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
    [("gatys", "lbfgs"), ("article", "lbfgs"), ("gatys", "adam"), ("article", "adam"), ("article", "jaxopt-zoom")],
)
def test_every_preset_and_every_solver_runs(preset, solver):
    few = FEW if solver == "jaxopt-zoom" else {}  # which compiles ten evaluations
    settings = StylizeSettings(preset=preset, solver=solver, evaluations=6, init="noise", **few)
    solution = stylize(photo(32, 32), painting(32, 32), settings)
    assert np.isfinite(solution.loss) and solution.evaluations >= 6


def test_bfloat16_convolutions_stay_near_float32():
    losses = [
        float(stylize(photo(32, 32), painting(32, 32), precision=p, evaluations=1, init="noise").loss)
        for p in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # 8 bits of mantissa through 9 layers, squared


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


def test_a_diverged_image_leaves_its_batch_mates_bit_identical(stylizer, batch):
    targets = stylizer.style_targets(painting() / 255)
    results = []
    for value in (0.5, np.nan):
        starts = [b / 255 for b in batch]
        starts[1] = np.full_like(starts[1], value)
        state = stylizer.stack([stylizer.start(b / 255, s, targets, 10) for b, s in zip(batch, starts, strict=True)])
        results.append(stylizer.advance(state, targets, 10)[0])
    assert results[1].status.tolist() == [Status.BUDGET, Status.DIVERGED, Status.BUDGET]
    for lane in (0, 2):
        np.testing.assert_array_equal(results[0].image[lane], results[1].image[lane])


@pytest.mark.parametrize("size", [(1, 1), (12, 12), (64, 5)])
def test_a_tiny_style_works(size):
    solution = stylize(photo(32, 32), painting(*size), evaluations=10)
    assert solution.status == Status.BUDGET and np.isfinite(solution.loss)


def test_noise_is_the_same_alone_and_in_a_batch():
    alone = stylize(photo(64, 32, 2), painting(), evaluations=1, init="noise", **FEW)
    together = stylize(np.stack([photo(64, 32, k) for k in range(3)]), painting(), evaluations=1, init="noise", **FEW)
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
    matched = initial.match_colours(content, style).reshape(-1, 3)
    np.testing.assert_allclose(matched.mean(0), style.reshape(-1, 3).mean(0), atol=1e-3)
    # 1e-4 is the floor put under both covariances
    np.testing.assert_allclose(np.cov(matched.T), np.cov(style.reshape(-1, 3).T), atol=2e-4)
    unchanged = initial.match_colours(content, content)
    np.testing.assert_allclose(unchanged, content, atol=1e-5)


def test_a_flat_image_takes_the_style_mean():
    flat = initial.match_colours(np.full((8, 8, 3), 0.2), painting() / 255)
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
    lanes, content = stylizer.stack([stylizer.start(b / 255, b / 255, targets) for b in batch])
    jaxpr = jax.make_jaxpr(stylizer._advance_all)(stylizer.variables, lanes, content, targets, 1, 0.0)
    assert sum(np.size(c) for c in jaxpr.consts) < 1000  # VGG16 to conv5_1 has 10 million
