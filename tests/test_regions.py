"""Regions: the guided Gram term against NumPy in float64, lanes with masks of their own, and whole runs with masks."""

import dataclasses
import hashlib
import json
import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import batch_equal_to_its_single_runs
from pictures import painting, photo, png16, save
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.data import ledger
from jaxstyle.data.rows import Row
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine import pipeline
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, SettingsError, SettingsMismatch
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.planning import masks, memory, preflight
from jaxstyle.planning.contract import Group
from jaxstyle.planning.forecast import forecast
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style import objective as O
from jaxstyle.style.initial import in_regions, lane_inputs
from jaxstyle.style.objective import Targets

RNG = np.random.default_rng(5)
VARIABLES = {"a": RNG.normal(size=(3, 5)), "b": RNG.normal(size=(5, 4))}
STYLE, CONTENT, START = RNG.uniform(0, 1, (3, 8, 8, 3))
INSIDE = np.zeros((8, 8), bool)
INSIDE[:7, :4] = True
"""A picture of 7 x 4 pixels in its array."""
LAYERS = ("block1_conv1", "block3_conv1")


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def small_network(variables, image, inside):
    """A map of every pixel, and one of every fourth row and column, under VGG's names, 0 outside the picture."""
    maps, variables = [], jax.tree.map(jnp.asarray, variables)
    maps.append(jnp.tanh(image @ variables["a"]))
    maps.append(jnp.tanh(maps[0][::4, ::4] @ variables["b"]) ** 2)
    masks = [inside, inside[::4, ::4]]
    made = [FeatureMap(jnp.where(one[..., None], x, 0), one) for x, one in zip(maps, masks, strict=True)]
    return dict(zip(LAYERS, made, strict=True))


def numpy_pool(weights, inside):
    """Averages of the 2 x 2 positions inside the picture, and where there are any."""
    h, w, number = weights.shape[0] // 2, weights.shape[1] // 2, weights.shape[2]
    found, there = np.zeros((h, w, number)), np.zeros((h, w), bool)
    for y in range(h):
        for x in range(w):
            window = inside[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            there[y, x] = window.any()
            if there[y, x]:
                found[y, x] = weights[2 * y : 2 * y + 2, 2 * x : 2 * x + 2][window].mean(0)
    return found, there


def numpy_guides(weights):
    """Of both layers."""
    weights = weights * INSIDE[..., None]
    half, there = numpy_pool(weights, INSIDE)
    return weights, numpy_pool(half, there)[0]


def numpy_guided_gram(features, guide):
    """Gatys et al. 2017, equations 4 to 6: T o F with T the root of the weights and their sum 1, then a plain Gram."""
    t = np.sqrt(guide / guide.sum())
    masked = (features * t[..., None]).reshape(-1, features.shape[-1])
    return masked.T @ masked


def numpy_distance(formula, g, a, positions, pixels):
    if formula == "energy":
        return ((g - a) ** 2).sum() / (a**2).sum()
    if formula == "gatys":
        return ((g - a) ** 2).mean() / len(g) ** 2
    return ((g - a) ** 2).sum() * (positions / pixels) ** 2 / 36


def objective(preset="balanced", **fields):
    layers = dict(
        style_loss="gram",
        style_layers=("relu1_1", "relu3_1"),
        style_layer_weights=(3.0, 1.0),
        content_layers=("relu1_1",),
    )
    return StylizeSettings(preset=preset, **{"content_weight": 0, "tv_weight": 0, **layers, **fields}).objective()


def style_loss(chosen, image, own, style, style_regions, picture=STYLE, inside=INSIDE):
    """The style term of an image with regions, and its targets' trees."""
    inside = jnp.asarray(inside)

    def targets(source, image, regions):
        regions = None if regions is None else jnp.asarray(regions, image.dtype)
        regions = None if regions is None else O.pooled(chosen, regions, inside)
        return O.targets(chosen, source, O.see(chosen, source, small_network, VARIABLES, image, inside, regions))

    image = jnp.asarray(image)
    found = Targets(targets("content", image, own), style or targets("style", jnp.asarray(picture), style_regions))
    seen = O.see(chosen, None, small_network, VARIABLES, image, inside, found.content.get(O.REGIONS))
    return O.losses(chosen, seen, found)["style"]


OWN = RNG.uniform(0, 1, (8, 8, 3)) * (RNG.uniform(0, 1, (8, 8, 3)) > 0.3)
THEIRS = RNG.uniform(0, 1, (8, 8, 3))


@pytest.mark.parametrize("preset", ["balanced", "gatys", "article"])  # one of each normalization
def test_the_guided_gram_term_is_that_of_the_paper_at_two_layers(double, preset):
    chosen = dataclasses.replace(objective(preset), style_pixels=0)
    inside = jnp.asarray(INSIDE)
    f, s = (
        [np.asarray(one.features) for one in small_network(VARIABLES, jnp.asarray(x), inside).values()]
        for x in (START, STYLE)
    )
    weights = (3.0, 1.0) if chosen.normalization == "gatys" else (0.75, 0.25)
    expected = 0.0
    for layer, (own, their) in enumerate(zip(numpy_guides(OWN), numpy_guides(THEIRS), strict=True)):
        positions, area = (28, 2)[layer], own.sum()
        for r in range(3):
            g, a = numpy_guided_gram(f[layer], own[..., r]), numpy_guided_gram(s[layer], their[..., r])
            distance = numpy_distance(chosen.normalization, g, a, positions, 28)
            expected += weights[layer] * own[..., r].sum() / area * distance
    found = jax.jit(lambda x: style_loss(chosen, x, OWN, None, THEIRS))(START)
    np.testing.assert_allclose(found, chosen.style_weight * expected, rtol=1e-12)


@pytest.mark.parametrize("preset", ["balanced", "gatys", "article"])  # one of each normalization
def test_one_region_that_is_the_whole_picture_equals_no_regions(double, preset):
    ones = np.ones((8, 8, 1))
    unused = np.concatenate([ones, np.zeros((8, 8, 2))], -1)  # of a batch in which others have more
    of_each = jax.jit(lambda x: [style_loss(objective(preset), x, one, None, one) for one in (ones, None, unused)])
    found, plain, more = of_each(START)
    np.testing.assert_allclose(found, plain, rtol=1e-13)
    np.testing.assert_allclose(more, plain, rtol=1e-13)


def test_moments_of_a_region_are_weighted_means_and_covariances(double):
    chosen = dataclasses.replace(objective(style_loss="moments"), style_pixels=0)
    inside = jnp.asarray(INSIDE)
    f, s = (
        [np.asarray(one.features).reshape(-1, one.features.shape[-1])
         for one in small_network(VARIABLES, jnp.asarray(x), inside).values()]
        for x in (START, STYLE)
    )  # fmt: skip

    def moments(features, guide):
        w = guide.reshape(-1)
        mean = np.average(features, axis=0, weights=w)
        return mean, np.cov(features.T, aweights=w, ddof=0)

    expected = 0.0
    for layer, (own, their) in enumerate(zip(numpy_guides(OWN), numpy_guides(THEIRS), strict=True)):
        for r in range(3):
            pairs = zip(moments(f[layer], own[..., r]), moments(s[layer], their[..., r]), strict=True)
            parts = [((one - a) ** 2).sum() / (a**2).sum() for one, a in pairs]
            expected += (0.75, 0.25)[layer] * own[..., r].sum() / own.sum() * np.mean(parts)
    found = jax.jit(lambda x: style_loss(chosen, x, OWN, None, THEIRS))(START)
    np.testing.assert_allclose(found, chosen.style_weight * expected, rtol=1e-9)


LEFT = np.arange(8) < 4
HALVES = np.broadcast_to(np.stack([LEFT, ~LEFT], -1), (8, 8, 2)).astype(float)


def test_halves_that_change_places_lose_nothing_if_their_masks_do(double):
    everywhere = np.ones((8, 8), bool)
    turned = STYLE[:, ::-1]
    chosen = objective(style_layers=("relu1_1",), style_layer_weights=(1.0,))
    of = jax.jit(lambda own: style_loss(chosen, turned, own, None, HALVES, inside=everywhere))
    found = [of(own) for own in (HALVES[:, ::-1], HALVES)]
    assert found[0] < 1e-20 and found[1] > 1e-3


def test_the_gradient_of_a_region_does_not_depend_on_the_style_of_another(double):
    chosen, everywhere = objective(), np.ones((8, 8), bool)
    other = STYLE.copy()
    other[:, 4:] = RNG.uniform(0, 1, (8, 4, 3))

    def gradient(picture, style_regions=HALVES):
        loss = lambda x, picture: style_loss(chosen, x, HALVES, None, style_regions, picture, everywhere)  # noqa: E731
        return jax.grad(loss)(jnp.asarray(START), picture)

    gradient = jax.jit(gradient)
    before, after = gradient(STYLE), gradient(other)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (abs(before[:, 4:] - after[:, 4:]).max((0, 2)) > 1e-6).all()


@pytest.mark.parametrize("loss", ["gram", "moments"])
def test_the_gradient_agrees_with_finite_differences(double, loss):
    value = jax.jit(lambda x: style_loss(objective(style_loss=loss), x, OWN, None, THEIRS))
    along, step = RNG.normal(size=START.shape), 1e-5
    difference = (value(START + step * along) - value(START - step * along)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(jax.grad(value)(jnp.asarray(START)), along), difference, rtol=1e-6)


@pytest.mark.parametrize("loss", ["gram", "moments"])
def test_regions_without_a_pixel_give_no_nan(loss):
    nothing = np.zeros((8, 8, 2), np.float32)
    chosen = objective(style_loss=loss)
    loss = jax.jit(lambda x: style_loss(chosen, x, nothing, None, HALVES, STYLE.astype("f4")))
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(START, jnp.float32))
    assert value == 0 and not gradient.any()


FEW = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))


def test_lanes_with_masks_of_their_own_equal_their_single_runs(network, tmp_path):
    settings = RenderSettings(
        size=32,
        evaluations=8,
        content_masks=tmp_path,
        style_masks=tmp_path,
        regions=3,
        precision="float32",
        preconditioner="none",
        **FEW,
    )
    rng, content = np.random.default_rng(1), photo(32, 32).astype(np.float32) / 255
    styles, inputs = [], []
    for n in range(3):
        part = Part(painting(40 + 8 * n, 30), 1.0, f"picture {n}", rng.integers(-1, 3, (30, 40 + 8 * n)), f"mask {n}")
        styles.append(Painting(f"style {n}", [part]))
        own = in_regions(rng.integers(-1, 3, (32, 32)) if n else np.arange(32)[None] // 16 + np.zeros((32, 1)), 3, ())
        inputs.append(lane_inputs(content, content, 32, 32, own))
    assert len({style.sha256 for style in styles}) == 3
    together, size, found = batch_equal_to_its_single_runs(settings, network, styles, inputs)
    plain = dict(inputs[0]) | {"regions": inputs[1]["regions"]}
    alone, single = styles[0], together.batch(Group((32, 32)), size)
    single.put(0, plain, 8, alone)
    single.advance(8)
    assert abs(single.result(0).image - found[0].image).mean() > 1e-3  # the mask matters


# Whole runs, with the stand-in renderer: it turns colours round.

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def mask_of(size, *stripes):
    """Vertical stripes of colours."""
    at = np.arange(size[0]) * len(stripes) // size[0]
    return np.broadcast_to(np.array(stripes, np.uint8)[at], (size[1], size[0], 3)).copy()


@pytest.fixture
def place(tmp_path):
    """Two photographs, in a folder each, and a painting, with masks: the left half black, the right half white."""
    for n, folder in enumerate("ab"):
        save(tmp_path / "in" / folder / f"{n}.jpg", photo(32, 32, n), quality=95)
        save(tmp_path / "masks" / folder / f"{n}.png", mask_of((64, 64), BLACK, WHITE))
    save(tmp_path / "style.png", painting(40, 30))
    save(tmp_path / "style_masks" / "style.png", mask_of((80, 60), BLACK, WHITE))
    return tmp_path


def run(place, output="out", style="style.png", **options):
    chosen = dict(content_masks=place / "masks", style_masks=place / "style_masks") | options
    return render(place / "in", place / style, place / output, QUICK, **chosen)


def regions_of(device, n=0):
    return device.inputs[n][2]["regions"]


def test_regions_reach_the_device_in_the_order_of_the_styles_colours(place, devices):
    save(place / "masks" / "b" / "1.png", mask_of((32, 32), WHITE, BLACK))
    assert run(place, regions=3).done == 2
    (device,) = devices
    wanted = np.zeros((32, 32, 3), bool)
    wanted[:, :16, 0] = wanted[:, 16:, 1] = True
    found = sorted((regions_of(device, n) for n in range(2)), key=lambda one: not one[0, 0, 0])
    np.testing.assert_array_equal(found[0], wanted)
    np.testing.assert_array_equal(found[1], wanted[:, ::-1])
    style = device.styles[0]
    assert style.colours == (0, 0xFFFF_FFFF_FFFF) and style.parts[0].labels.shape == style.parts[0].levels.shape[:2]
    np.testing.assert_array_equal(style.parts[0].labels[5], np.arange(32) >= 16)
    row = rows(place / "out")["a/0.jpg"]
    assert len(row["masks_sha256"]) == 64 and row["status"] == "done"


def test_labels_are_the_styles_also_where_a_photograph_has_fewer(place, devices):
    for path in ((place / "masks" / "a" / "0.png"), (place / "masks" / "b" / "1.png")):
        save(path, mask_of((32, 32), WHITE))
    assert run(place).done == 2
    assert regions_of(devices[0])[..., 1].all() and not regions_of(devices[0])[..., 0].any()


def test_without_masks_nothing_of_them_is_there(place, devices):
    assert render(place / "in", place / "style.png", place / "out", QUICK).done == 2
    assert "regions" not in devices[0].inputs[0][2] and devices[0].styles[0].parts[0].labels is None
    assert {row["masks_sha256"] for row in rows(place / "out").values()} == {""}


@pytest.mark.parametrize("options", [dict(style_masks=None), dict()])
def test_what_is_kept_is_the_photograph_to_the_bit_and_its_edge_is_soft(place, devices, options):
    picture = photo(32, 32, 7)
    shutil.rmtree(place / "in")
    save(place / "in" / "a.png", picture)
    save(place / "masks" / "a.png", mask_of((32, 32), BLACK, WHITE))
    save(place / "style_masks" / "style.png", mask_of((32, 24), WHITE))
    assert run(place, keep="black", strength=0.5, **options).done == 1
    made = np.asarray(Image.open(place / "out" / "a.png"))
    np.testing.assert_array_equal(made[:, :16], picture[:, :16])
    turned = np.round(picture * 0.5 + (255 - picture.astype(float)) * 0.5)
    assert abs(made[:, 18:].astype(float) - turned[:, 18:]).max() <= 1
    edge = abs(made.astype(float) - picture)[:, 16:18].mean((0, 2))
    rest = abs(turned - picture)[:, 16:18].mean((0, 2))
    assert (edge > 0.1 * rest).all() and edge[0] < 0.75 * rest[0] and edge[0] / rest[0] < edge[1] / rest[1]
    regions = regions_of(devices[0])
    assert not regions[:, :16].any() and regions[:, 16:, 0].all()


def test_a_soft_edge_never_reaches_into_what_is_kept():
    kept = np.zeros((90, 300), bool)
    kept[30:60, :40] = kept[0, 200] = True
    weights = masks.soft_edged(kept)
    assert (weights[kept] == 1).all() and weights.min() == 0
    line = weights[45, 40:50]
    assert (np.diff(line) <= 0).all() and 0 < line[2] < 1 and line[6] == 0  # grown by 2 pixels, blurred by 2
    assert masks.soft_edged(np.ones((5, 9), bool)).min() == 1


def spoilt(path, how):
    match how:
        case "torn":
            path.write_bytes(path.read_bytes()[:50])
        case "text":
            path.write_text("no picture")
        case "shape":
            save(path, mask_of((64, 60), BLACK, WHITE))
        case "colour":
            save(path, mask_of((64, 64), RED, WHITE))
        case "photograph":
            save(path, photo(32, 32))
        case "link":
            path.unlink()
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("torn", "its mask .*b/1.png: .*"),
        ("text", "its mask .*b/1.png: the file is no picture of a known format.*"),
        ("shape", "its mask .*b/1.png is 64 x 60, and the picture 32 x 32.*"),
        ("colour", "its mask .*b/1.png has the colours #ff0000, and the mask of the style has #000000, #ffffff.*"),
        ("photograph", "its mask .*b/1.png has the colours (#[0-9a-f]{6}, ){4}#[0-9a-f]{6} and [0-9]+ more, and .*"),
        ("link", "its mask .*b/1.png: cannot be read .not a regular file.*"),
    ],
)
def test_photographs_whose_masks_cannot_be_used_are_rows_that_say_why(place, devices, how, reason):
    (place / "masks" / "a" / "0.png").unlink()
    spoilt(place / "masks" / "b" / "1.png", how)
    assert run(place).failed == 2
    found = {key: row["reason"] for key, row in rows(place / "out").items()}
    assert "has no mask: " in found["a/0.jpg"] and "masks/a/0.png is not there" in found["a/0.jpg"]
    assert re.fullmatch(reason, found["b/1.jpg"]), found["b/1.jpg"]
    assert run(place).rendered == 0  # known to the next run
    save(place / "masks" / "a" / "0.png", mask_of((32, 32), BLACK, WHITE))
    (place / "masks" / "b" / "1.png").unlink()
    save(place / "masks" / "b" / "1.png", mask_of((32, 32), BLACK, WHITE))
    assert run(place).rendered == 2


def test_a_mask_that_is_painted_over_has_its_photograph_rendered_again(place, devices):
    assert run(place).done == 2 and run(place).rendered == 0
    path = place / "masks" / "a" / "0.png"
    os.utime(path, ns=(0, 5))
    assert run(place).rendered == 0  # the content counts
    save(path, mask_of((64, 64), WHITE, BLACK))
    assert run(place).rendered == 1 and run(place).rendered == 0
    path.unlink()
    assert run(place).failed == 1
    save(place / "style_masks" / "style.png", mask_of((80, 60), WHITE, BLACK))
    with pytest.raises(SettingsMismatch, match="style is"):
        run(place)


def test_a_folder_without_masks_is_not_gone_on_in_with_them(place, devices):
    render(place / "in", place / "style.png", place / "out", QUICK)
    for options, what in (({}, "content_masks"), ({"style_masks": None, "keep": "black"}, "content_masks")):
        with pytest.raises(SettingsMismatch, match=f"{what} is 'masks' now and None there"):
            run(place, **options)
    assert run(place, "masked").done == 2
    with pytest.raises(SettingsMismatch, match="keep is '#00ff00' now and None there"):
        run(place, "masked", keep="#00ff00")
    assert run(place, "masked", regions=5).rendered == 0


@pytest.fixture
def gallery(place):
    """Two paintings with masks that have their halves the other way round."""
    for n in range(2):
        save(place / "styles" / f"s{n}.png", np.roll(painting(40, 30), 9 * n, 1))
        stripes = (BLACK, WHITE) if n else (WHITE, BLACK)
        save(place / "gallery_masks" / f"s{n}.png", mask_of((40, 30), *stripes))
    return place


def test_styles_of_a_folder_have_masks_of_their_own(gallery, devices):
    options = dict(style="styles", style_masks=gallery / "gallery_masks", assign="each")
    assert run(gallery, **options).done == 4
    (device,) = devices
    left = {style.name: style.parts[0].labels[0, 0] for style in device.styles}
    assert left == {"s0.png": 1, "s1.png": 0}
    assert all(regions_of(device, n)[0, 0, 0] for n in range(4))
    found = rows(gallery / "out")
    assert len({row["masks_sha256"] for row in found.values()}) == 2 * 1  # the photographs' masks are equal
    path = gallery / "styles" / "s0.png"
    assert found["a/0~s0.jpg"]["style_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert run(gallery, **options).rendered == 0
    save(gallery / "gallery_masks" / "s0.png", mask_of((40, 30), BLACK, BLACK, WHITE))
    assert run(gallery, **options).rendered == 2
    os.utime(path, ns=(0, 5))
    assert run(gallery, **options).rendered == 0


def test_a_style_whose_mask_cannot_be_used_is_a_row_until_the_mask_changes(gallery, devices):
    path = gallery / "gallery_masks" / "s0.png"
    save(path, mask_of((40, 30), BLACK, WHITE, RED))
    options = dict(style="styles", style_masks=gallery / "gallery_masks", assign="cycle")
    assert run(gallery, **options).done == 2
    reason = rows(gallery / "out")["style://s0.png"]["reason"]
    assert "s0.png has 3 regions: #000000, #ff0000, #ffffff" in reason and "or give a larger --regions" in reason
    assert run(gallery, **options).rendered == 0
    save(path, mask_of((40, 30), BLACK, WHITE))
    summary = run(gallery, **options)
    found = rows(gallery / "out").values()
    assert summary.rendered == sum(row["style"] == "s0.png" for row in found) > 0 and summary.failed == 0
    assert rows(gallery / "out")["style://s0.png"]["status"] == "skipped"


def test_one_style_without_a_usable_mask_is_refused(place, devices):
    for how, reason in (("text", "is no picture"), ("shape", "is 64 x 60, and the picture 40 x 30")):
        spoilt(place / "style_masks" / "style.png", how)
        with pytest.raises(InputError, match=f"the style .*style.png: its mask .*{reason}"):
            run(place)
    save(place / "style_masks" / "style.png", photo(40, 30))
    with pytest.raises(InputError, match="style.png has [0-9]+ regions: #"):
        run(place)
    (place / "style_masks" / "style.png").unlink()
    with pytest.raises(InputError, match="the style .*style.png: has no mask"):
        run(place)
    save(place / "style_masks" / "style.png", mask_of((40, 30), BLACK))
    with pytest.raises(InputError, match="has 0 regions"):
        run(place, keep="black")
    assert not (place / "out").exists()


def test_blended_styles_have_masks_of_the_same_colours(gallery, devices):
    words = [gallery / "styles" / "s0.png", gallery / "styles" / "s1.png"]
    options = QUICK, gallery / "masks", gallery / "gallery_masks"

    def blend():
        return render(
            gallery / "in", words, gallery / "out", options[0], content_masks=options[1], style_masks=options[2]
        )

    assert blend().done == 2
    assert [one.labels[0, 0] for one in devices[0].styles[0].parts] == [1, 0]
    save(gallery / "gallery_masks" / "s1.png", mask_of((40, 30), RED, WHITE))
    with pytest.raises(InputError, match="s0.png and s1.png have other colours: #000000, #ffffff, and #ff0000, #ffff"):
        blend()


def test_the_style_and_its_mask_are_cropped_alike(place, devices):
    save(place / "style_masks" / "style.png", mask_of((40, 30), BLACK, WHITE, WHITE, WHITE))
    assert run(place, style_crop=True).done == 2
    (part,) = devices[0].styles[0].parts
    assert part.labels.shape == part.levels.shape[:2] == (30, 30)
    np.testing.assert_array_equal(part.labels[0], np.arange(5, 35) >= 10)


def test_masks_keep_the_regions_of_styles_in_the_photographs_colours(place, devices):
    assert run(place, colors="matched").done == 2
    one, other = devices[0].styles
    assert one.sha256 != other.sha256 and one.mask_sha256 == other.mask_sha256 != ""
    assert one.parts[0].labels is not None and one.colours == (0, 0xFFFF_FFFF_FFFF)


def test_labels_are_exact_colours_of_8_or_16_bits_sampled_at_the_nearest_pixel(place, devices):
    """Label pictures have levels such as 0 and 1, and no size in common with the photograph."""
    small = mask_of((5, 5), (0, 0, 0), (1, 1, 1))
    save(place / "masks" / "a" / "0.png", small[..., 0])
    (place / "masks" / "b" / "1.png").write_bytes(png16(small[..., 0].astype(np.uint16) * 257))
    (place / "style_masks" / "style.png").write_bytes(
        png16(mask_of((40, 30), (0, 0, 0), (1, 1, 1))[..., 0].astype(np.uint16) * 257)
    )
    assert run(place).done == 2
    for n in range(2):
        regions = regions_of(devices[0], n)
        np.testing.assert_array_equal(regions[3, :, 1], (np.arange(32) + 0.5) * 5 / 32 >= 3)
        assert (regions.sum(-1) == 1).all()
    fine = mask_of((40, 30), (0, 0, 0), (1, 1, 1))[..., 0].astype(np.uint16)
    (place / "style_masks" / "style.png").write_bytes(png16(fine))
    with pytest.raises(InputError, match="has 2 regions: #000000, #000100010001"):
        run(place, "fine", regions=1)


def test_one_picture_may_be_the_mask_of_all(place, devices):
    one = save(place / "one.png", mask_of((16, 16), WHITE, BLACK))
    assert run(place, content_masks=one, style_masks=place / "style_masks" / "style.png").done == 2
    assert all(regions_of(devices[0], n)[0, 0, 1] for n in range(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(content_masks=None), "style_masks is given without content_masks"),
        (dict(content_masks=None, style_masks=None, keep="black"), "keep is given without content_masks"),
        (dict(style_masks=None), "content_masks is given alone"),
        (dict(style_masks="nowhere"), "style_masks is 'nowhere'. It must be a folder of masks"),
        (dict(keep="grey"), "keep is 'grey'. It must be black, white, or #rrggbb"),
        (dict(keep="#12345"), "keep is '#12345'"),
        (dict(regions=0), "regions is 0. It must be 1 to 16"),
        (dict(regions=17), "regions is 17"),
    ],
)
def test_settings_of_masks_that_cannot_be_used_are_refused(place, options, message):
    with pytest.raises(SettingsError, match=message):
        run(place, **options)


def test_masks_are_not_written_over(place, devices):
    with pytest.raises(InputError, match="overlaps the masks"):
        run(place, "masks/out")
    save(place / "out" / "mask.png", mask_of((16, 16), WHITE, BLACK))
    with pytest.raises(InputError, match="the mask .*mask.png lies in the output folder"):
        run(place, content_masks=place / "out" / "mask.png", existing="overwrite")


def test_masks_among_pictures_are_refused(gallery, devices):
    shutil.copytree(gallery / "masks", gallery / "in" / "masks")
    with pytest.raises(InputError, match="the masks .*in/masks lie among the inputs in .*in. Move them"):
        run(gallery, content_masks=gallery / "in" / "masks")
    with pytest.raises(InputError, match="the masks .*styles lie among the styles in .*styles."):
        run(gallery, style="styles", style_masks=gallery / "styles")
    assert not (gallery / "out").exists()


def test_the_masks_are_among_what_no_output_may_replace(place, devices):
    chosen = dict(content_masks=place / "masks", style_masks=place / "style_masks" / "style.png")
    settings = dataclasses.replace(QUICK, **chosen)
    with decoders_for(settings) as decoders:
        ready = preflight.check(place / "in", place / "style.png", place / "out", settings, decoders=decoders)
    assert set(chosen.values()) < set(preflight.protected(ready))


def test_a_plan_with_masks_and_its_memory(place, devices):
    chosen = dict(content_masks=place / "masks", style_masks=place / "style_masks")
    settings = dataclasses.replace(QUICK, regions=3, **chosen)
    made = forecast(place / "in", place / "style.png", place / "out", settings, pipeline.device_for)
    assert made.render == 2 and made.seconds > 0 and regions_of(devices[0]).shape[-1] == 3
    assert memory.lane_bytes((32, 32), settings) > memory.lane_bytes((32, 32), QUICK)


def test_the_ledger_knows_the_masks_of_rows_among_rows_without(tmp_path):
    made = [Row(f"{n}.jpg", "done", masks_sha256="" if n % 3 else f"{n + 1:064x}"[::-1]) for n in range(9)]
    with (tmp_path / "manifest.jsonl").open("w") as file:
        file.writelines(json.dumps(row.as_json()) + "\n" for row in (*made[1:], made[0]))
    found = ledger.Ledger(tmp_path, ["manifest.jsonl"])
    for row in made:
        assert found.get(row.key).masks == ledger.checksum_bits(row.masks_sha256)


@pytest.mark.parametrize(
    ("setting", "told"), [(dict(tile=64), "tile is 64 with masks"), (dict(style_loss="w2"), "'w2'")]
)
def test_what_regions_cannot_be_computed_with_is_refused(tmp_path, setting, told):
    with pytest.raises(SettingsError, match=told):
        RenderSettings(content_masks=tmp_path, keep="black", **setting)
