"""Each term, and all of them together, against NumPy in float64 written from the papers and the article."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.settings import StylizeSettings
from jaxstyle.style import objective as O
from jaxstyle.style.objective import Targets
from jaxstyle.style.terms import TERMS, Term, View, content, gram, variation
from jaxstyle.style.terms import style as style_term

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RNG = np.random.default_rng(3)
F, P = RNG.uniform(0, 2, (2, 6, 5, 4))
A = RNG.uniform(0, 1, (4, 4))
IMAGE = RNG.uniform(0, 1, (7, 6, 3))


def everywhere(array):
    return jnp.ones(array.shape[:2], bool)


def feature_map(features):
    return FeatureMap(jnp.asarray(features), everywhere(features))


def numpy_gram(features):
    """G_ij = sum over positions of F_i F_j, divided by their number."""
    h, w, c = features.shape
    total = np.zeros((c, c))
    for y in range(h):
        for x in range(w):
            total += np.outer(features[y, x], features[y, x])
    return total / (h * w)


def numpy_variation(image, border="omitted"):
    """The article's final_loss: sum of (a + b) ** 1.25 over all but the last row and column, or over all pixels."""
    total = 0.0
    if border == "counted":
        image = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
    for y in range(image.shape[0] - 1):
        for x in range(image.shape[1] - 1):
            for c in range(3):
                a = (image[y, x, c] - image[y + 1, x, c]) ** 2
                b = (image[y, x, c] - image[y, x + 1, c]) ** 2
                total += (a + b) ** 1.25
    return total


def numpy_content(formula, f, p):
    square = (f - p) ** 2
    return {"energy": square.mean() / (p**2).mean(), "gatys": square.mean(), "article": square.sum()}[formula]


def numpy_style(formula, f, a, pixels):
    positions, channels = f.shape[0] * f.shape[1], f.shape[2]
    g = numpy_gram(f)
    if formula == "energy":
        return ((g - a) ** 2).sum() / (a**2).sum()
    if formula == "gatys":
        return ((g - a) ** 2).mean() / channels**2
    # the article: sum((S - C)^2) / (4 * 3^2 * (H W)^2) with Grams that are plain sums over positions
    return ((positions * g - positions * a) ** 2).sum() / (4.0 * 3**2 * pixels**2)


def numpy_tv(formula, image, border="omitted"):
    scale = 10 if formula == "energy" else 255
    return numpy_variation(image * scale, border) / (1 if formula == "article" else image.size)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_gram(double):
    np.testing.assert_allclose(gram.gram(gram.sums(feature_map(F))), numpy_gram(F), rtol=1e-12)  # float64 rounding


@pytest.mark.parametrize("border", ["omitted", "counted"])
def test_total_variation(double, border):
    found = variation.total_variation(jnp.asarray(IMAGE), everywhere(IMAGE), 1.25, border)
    np.testing.assert_allclose(found, numpy_variation(IMAGE, border), rtol=1e-12)
    high, wide = IMAGE.shape[0], IMAGE.shape[1]
    padded = jnp.asarray(np.pad(IMAGE, ((0, 3), (0, 2), (0, 0)), constant_values=0.7))  # as in a larger bucket
    inside = jnp.zeros(padded.shape[:2], bool).at[:high, :wide].set(True)
    np.testing.assert_allclose(variation.total_variation(padded, inside, 1.25, border), found, rtol=1e-12)


def test_a_dot_in_the_last_row_or_column_costs_all_of_its_differences_where_the_border_is_counted(double):
    flat, inside = np.full((5, 4, 3), 0.5), np.ones((5, 4), bool)
    for where in [(-1, -1), (-1, 0), (0, -1)]:
        dotted = flat.copy()
        dotted[where] = 1
        omitted, counted = (
            variation.total_variation(jnp.asarray(dotted), inside, 1.0, border) for border in ("omitted", "counted")
        )
        np.testing.assert_allclose(counted, 3 * 2 * 0.5**2, rtol=1e-12)  # 3 channels, 2 neighbours of a corner
        assert omitted < counted


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_the_exponent_of_total_variation(double, exponent):
    expected = sum(
        ((IMAGE[y, x] - IMAGE[y + 1, x]) ** 2 + (IMAGE[y, x] - IMAGE[y, x + 1]) ** 2) ** exponent
        for y in range(IMAGE.shape[0] - 1)
        for x in range(IMAGE.shape[1] - 1)
    ).sum()  # fmt: skip
    found = variation.loss(Objective(tv_exponent=exponent), View(jnp.asarray(IMAGE), everywhere(IMAGE), {}), ())
    np.testing.assert_allclose(found, expected * 100**exponent / IMAGE.size, rtol=1e-12)
    flat = jnp.full((4, 4, 3), 0.5)
    view = lambda x: View(x, everywhere(flat), {})  # noqa: E731
    loss = jax.jit(lambda x: variation.loss(Objective(tv_exponent=exponent), view(x), ()))
    assert not jax.grad(loss)(flat).any()


@pytest.mark.parametrize("formula", ["energy", "gatys", "article"])
def test_distances_are_their_formulas(double, formula):
    found = content.distance(formula, feature_map(F), jnp.asarray(P))
    np.testing.assert_allclose(found, numpy_content(formula, F, P), rtol=1e-12)
    g = gram.gram(gram.sums(feature_map(F)))
    found = gram.distance(formula, g, jnp.asarray(A), jnp.float64(30), jnp.float64(480))
    np.testing.assert_allclose(found, numpy_style(formula, F, A, 480), rtol=1e-12)


def small_network(variables, image, inside):
    """Three layers of smooth maps under VGG's names: enough structure for a gradient, any dtype."""
    first = jnp.tanh(image @ variables["a"])
    second = jnp.tanh(first[::2, ::2] @ variables["b"]) ** 2
    third = jnp.tanh(second[::2, ::2] @ variables["c"]) ** 2
    maps = {"block1_conv1": first, "block2_conv1": second, "block4_conv2": second, "block5_conv2": third}
    return {name: FeatureMap(features, everywhere(features)) for name, features in maps.items()}


VARIABLES = {"a": RNG.normal(size=(3, 5)), "b": RNG.normal(size=(5, 4)), "c": RNG.normal(size=(4, 6))}
LAYERS = dict(
    content_layers=("relu4_2", "relu5_2"), style_layers=("relu1_1", "relu2_1", "relu5_2"),
    style_layer_weights=(5.0, 2.0, 1.0),
)  # fmt: skip
STYLE, CONTENT = RNG.uniform(0, 1, (2, 8, 6, 3))
START = RNG.uniform(0, 1, (8, 6, 3))


def resolved(preset, **fields):
    return StylizeSettings(preset=preset, **{"tv_weight": 0.5, "style_loss": "gram", **LAYERS, **fields}).objective()


def losses_of(objective, image, network=small_network, variables=VARIABLES):
    variables = jax.tree.map(jnp.asarray, variables)

    def seen(source, picture):
        return O.see(objective, source, network, variables, jnp.asarray(picture, image.dtype), everywhere(picture))

    found = [O.targets(objective, own, seen(own, of)) for own, of in (("content", CONTENT), ("style", STYLE))]
    return O.losses(objective, seen(None, image), Targets(*found))


@pytest.mark.parametrize("preset", ["balanced", "texture", "gatys", "article"])
def test_all_terms_together_with_unequal_weights_and_two_content_layers(double, preset):
    objective = resolved(preset, content_weight=3.0, style_weight=7.0)
    formula = objective.normalization
    f, p, a = (
        {name: np.asarray(m.features) for name, m in small_network(VARIABLES, x, None).items()}
        for x in (START, CONTENT, STYLE)
    )
    weights = np.array([5.0, 2.0, 1.0]) / (1 if formula == "gatys" else 8)
    style = sum(
        w * numpy_style(formula, f[n], numpy_gram(a[n]), START.shape[0] * START.shape[1])
        for n, w in zip(("block1_conv1", "block2_conv1", "block5_conv2"), weights, strict=True)
    )
    content = (numpy_content(formula, f["block4_conv2"], p["block4_conv2"])
               + numpy_content(formula, f["block5_conv2"], p["block5_conv2"])) / 2  # fmt: skip
    found = losses_of(objective, jnp.asarray(START))
    assert list(found) == ["content", "style", "tv"]
    share = objective.style_share(START.shape[0] * START.shape[1])
    assert (share < 0.1) == (preset == "balanced")
    expected = [3 * content, 7 * share * style, 0.5 * numpy_tv(formula, START, objective.tv_border)]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "term"),
    [(dict(preset=p), term) for p in ("balanced", "gatys", "article") for term in ("content", "style", "tv")]
    + [(dict(preset="balanced", style_loss=name), "style") for name in ("moments", "w2")]
    + [(dict(preset="balanced", tv_exponent=1.0), "tv"), (dict(preset="balanced", tv_border="omitted"), "tv")],
    ids=str,
)  # fmt: skip
def test_gradients_agree_with_finite_differences(double, fields, term):
    objective = resolved(**fields)

    value = jax.jit(lambda x: losses_of(objective, x)[term])
    gradient = jax.grad(value)(jnp.asarray(START))
    along = np.random.default_rng(1).normal(size=START.shape)
    step = 1e-5
    difference = (value(START + step * along) - value(START - step * along)) / (2 * step)
    # central differences in float64 with this step are good to about 1e-8, the root of w2 by iteration to 1e-5
    tolerance = 2e-4 if objective.style_loss == "w2" else 1e-6
    np.testing.assert_allclose(jnp.vdot(gradient, along), difference, rtol=tolerance)


@pytest.mark.parametrize(("style_pixels", "share"), [(0, 1), (24, 1), (48, 1), (96, 0.5), (480, 0.1)])
def test_in_a_picture_of_few_pixels_the_style_counts_less(double, style_pixels, share):
    """The picture has 48 pixels; nothing else changes."""
    objective = resolved("balanced", style_pixels=style_pixels)
    assert objective.style_share(48) == share
    full = losses_of(resolved("balanced", style_pixels=0), jnp.asarray(START))
    found = losses_of(objective, jnp.asarray(START))
    assert float(found["style"]) == pytest.approx(share * float(full["style"]), rel=1e-12)
    assert found["content"] == full["content"] and found["tv"] == full["tv"]


def test_the_style_term_vanishes_at_the_style_and_the_content_term_at_the_content(double):
    objective = resolved("balanced")
    assert losses_of(objective, jnp.asarray(STYLE))["style"] < 1e-20
    assert losses_of(objective, jnp.asarray(CONTENT))["content"] < 1e-20


def test_balanced_terms_do_not_depend_on_the_scale_of_the_maps(double):
    def scaled(variables, image, inside):
        maps = small_network(variables, image, inside)
        return {name: one._replace(features=50 * one.features) for name, one in maps.items()}

    plain, other = (losses_of(resolved("balanced"), jnp.asarray(START), net) for net in (small_network, scaled))
    np.testing.assert_allclose(list(plain.values()), list(other.values()), rtol=1e-10)


def test_style_layer_weights():
    three = ("relu1_1", "relu2_1", "relu3_1")
    assert style_term.layer_weights(Objective(style_layers=three)) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    weighted = Objective(style_layers=three, style_layer_weights=(2, 1, 1))
    assert style_term.layer_weights(weighted) == (0.5, 0.25, 0.25)


def test_low_precision_maps_are_compared_in_float32():
    f = jnp.full((64, 64, 8), 3.0, jnp.bfloat16)
    g = gram.gram(gram.sums(feature_map(f)))
    assert g.dtype == jnp.float32
    assert float(g[0, 0]) == 9.0  # a bfloat16 sum of 4096 terms would stop growing at 256
    assert content.distance("energy", feature_map(f), f * 2).dtype == jnp.float32


@pytest.mark.parametrize(
    ("weights", "layers"),
    [
        ({"style_weight": 0}, ("relu4_2", "relu5_2")), ({"content_weight": 0}, ("relu1_1", "relu2_1", "relu5_2")),
        ({"content_weight": 0, "style_weight": 0}, ()), ({}, ("relu4_2", "relu5_2", "relu1_1", "relu2_1")),
    ],
)  # fmt: skip
def test_a_term_of_weight_0_asks_for_no_layers_and_is_0(double, weights, layers):
    objective = resolved("balanced", **weights)
    named = [name.replace("block", "relu").replace("_conv", "_") for name in O.layers(objective)]
    assert named == list(layers)
    found = losses_of(objective, jnp.asarray(START))
    assert [name for name, value in found.items() if not value] == [
        name for name in ("content", "style") if f"{name}_weight" in weights
    ]


def test_total_variation_is_one_file_that_can_be_taken_out_and_put_back(double, monkeypatch):
    objective = resolved("balanced")
    before = losses_of(objective, jnp.asarray(START))
    monkeypatch.delitem(TERMS, "tv")
    assert losses_of(objective, jnp.asarray(START)) == {name: before[name] for name in ("content", "style")}
    monkeypatch.setitem(TERMS, "tv", variation.TERM)
    assert losses_of(objective, jnp.asarray(START)) == before


def test_a_term_of_ones_own_is_one_entry_of_the_registry(double, monkeypatch):
    def mean_colour(objective, view):
        return jnp.mean(view.image, axis=(0, 1))

    def loss(objective, view, target):
        return jnp.sum((mean_colour(objective, view) - target) ** 2)

    term = Term("colour", loss, targets=mean_colour, source="style", weight=lambda objective: 2.0)
    monkeypatch.setitem(TERMS, "colour", term)
    found = losses_of(resolved("balanced"), jnp.asarray(START))["colour"]
    expected = 2 * ((START.mean((0, 1)) - STYLE.mean((0, 1))) ** 2).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
