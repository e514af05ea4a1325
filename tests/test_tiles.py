"""A picture in tiles is the picture: losses, gradients and results are those of the whole up to rounding."""

import dataclasses
import json

import checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import CHECKS, switched_on
from command import run
from hypothesis import given
from hypothesis import settings as of_property
from hypothesis import strategies as st
from pictures import painting, photo, save
from test_cost import compiled, engine
from whole_runs import Ear, rows

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import SettingsError
from jaxstyle.planning import host, memory
from jaxstyle.planning.contract import Group
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style import grid
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylize import stylize
from jaxstyle.style.stylizer import stylizer as stylizer_for
from jaxstyle.style.terms import TERMS, Term

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DEEP = dict(style_layers=("relu1_1", "relu3_1", "relu5_1"), content_layers=("relu3_2",))
FLAT = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
PLAIN = dict(preset="classic", **FLAT)  # without the pyramid, which takes as long to compile as all else
FLATTER = dict(style_layers=("relu1_1",), content_layers=("relu1_2",))  # in half the time
WIDTH, HEIGHT = 96, 64  # the array; 64 pixels of a tile cut it at blocks 1, 32 at 1 and 2, 16 at 1 to 3
OBJECTIVES = {
    "default": DEEP,
    "gatys with average pooling": {"preset": "gatys", "tv_weight": 1.0, "pooling": "average", **FLAT},
    "article": {"preset": "article", **FLAT},
    "a content layer in tiles": {"style_weight": 0.0, "content_layers": ("relu1_2", "relu2_1"), "padding": "zero"},
    "style alone": {"content_weight": 0.0, **FLAT},
}
OF_TV_ALONE = {"content_weight": 0.0, "style_weight": 0.0}


ALL, PART = (WIDTH, HEIGHT), (WIDTH - 23, HEIGHT - 9)  # of the array


def evaluated(network, tile, *sizes, **fields):
    """Loss, terms and gradient of pictures of these widths and heights, each in an array of WIDTH x HEIGHT.

    The targets of the content are computed in tiles too, those of the style are of the whole painting.
    """
    stylizer = stylizer_for(StylizeSettings(tile=tile, **fields), network)
    style = stylizer_for(StylizeSettings(**fields), network).style_targets(painting(WIDTH, 71) / 255)
    found = []
    for size in sizes or [ALL]:
        picture = photo(*size, 3) / 255
        inputs = lane_inputs(picture, picture[:, ::-1], HEIGHT, WIDTH)
        one = stylizer.start(inputs, style)
        (loss, terms), gradient = checks.evaluated(stylizer, one, inputs["init"])
        found.append((float(loss), {name: float(value) for name, value in terms.items()}, np.asarray(gradient)))
    return found if sizes else found[0]


def assert_same(found, expected, loss=3e-6, gradient=1e-5):
    """Equal up to sums in another order: 1e-7 of the loss and 4e-7 of the gradient's norm were measured."""
    assert found[1] == pytest.approx(expected[1], rel=loss, abs=1e-12)
    assert np.linalg.norm(found[2] - expected[2]) <= gradient * np.linalg.norm(expected[2])


@pytest.mark.parametrize("fields", [*OBJECTIVES.values()], ids=[*OBJECTIVES])
def test_loss_and_gradient_are_those_of_the_whole_picture(network, fields):
    """Of one that fills the array, and of one that is a part of it."""
    for found, whole in zip(*(evaluated(network, tile, ALL, PART, **fields) for tile in (16, "none")), strict=True):
        assert_same(found, whole)


def test_a_tile_that_does_not_divide_the_picture(network):
    for found, whole in zip(*(evaluated(network, tile, ALL, PART, **PLAIN) for tile in (48, "none")), strict=True):
        assert_same(found, whole)


def test_other_solvers_networks_and_objectives_have_tiles_too(network):
    assert_same(evaluated(network, 16, **OF_TV_ALONE), evaluated(network, "none", **OF_TV_ALONE))
    whole, tiled = (
        stylize(photo(64, 48), painting(), evaluations=3, solver="adam", tile=tile, **PLAIN) for tile in ("none", 32)
    )
    assert float(tiled.loss) == pytest.approx(float(whole.loss), rel=1e-4)
    np.testing.assert_allclose(tiled.image, whole.image, atol=2e-3)


def test_in_bfloat16_the_loss_is_the_same_and_the_gradient_within_its_rounding(network):
    """The parts of a gradient that meet at a tile's border are rounded one by one, to 2^-9 each."""
    found, whole, exact = (
        evaluated(network, tile, precision=precision, **FLATTER)
        for tile, precision in ((16, "bfloat16"), ("none", "bfloat16"), ("none", "float32"))
    )
    assert_same(found, whole, loss=1e-3, gradient=0.01)
    apart = [np.linalg.norm(one[2] - exact[2]) for one in (found, whole)]
    assert apart[0] < 1.1 * apart[1]  # no farther from float32 than without tiles


def test_a_gradient_has_no_seam(network):
    """Differences from the whole picture's are as small beside a tile's border as in its middle."""

    def by_place(image):
        """Mean over the rows and columns that lie alike in their tile of 16; 0 and 15 are at its border."""
        both = (image.mean((1 - axis, 2)) for axis in (0, 1))
        return sum(one.reshape(-1, 16).mean(0) for one in both)

    whole, tiled = (evaluated(network, tile, **DEEP)[2] for tile in ("none", 16))
    apart = by_place(np.abs(tiled - whole))
    assert apart.max() < 1e-5 * np.abs(whole).mean()


def test_lanes_side_by_side_have_tiles(network):
    stylizer = stylizer_for(StylizeSettings(tile=32, **PLAIN), network)
    style, pictures = stylizer.style_targets(painting() / 255), [photo(64, 64, n) / 255 for n in range(2)]
    lanes = [stylizer.start(lane_inputs(one, 1 - one, 64, 64), style, 3) for one in pictures]
    both = stylizer.advance(stylizer.stack(lanes), 3).lanes.result
    for number, lane in enumerate(lanes):
        alone = stylizer.advance(stylizer.stack([lane]), 3).lanes.result
        np.testing.assert_allclose(both.image[number], alone.image[0], atol=1e-4)
        assert float(both.loss[number]) == pytest.approx(float(alone.loss[0]), rel=1e-4)


def test_style_targets_in_tiles_are_those_of_the_whole_style_image(network):
    found = [
        stylizer_for(StylizeSettings(tile=tile, **DEEP), network).style_targets(painting(90, 71) / 255)
        for tile in (16, "none")
    ]
    for tiled, whole in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.linalg.norm(tiled - whole) < 1e-5 * np.linalg.norm(whole)


def test_a_term_without_sums_reads_whole_maps_and_one_with_sums_none(network, monkeypatch):
    """Both on the same layers, one of which lies in tiles at every size."""
    layers = ("block1_conv2", "block2_conv1")

    def means(of):
        return {name: total / positions for name, (total, positions) in of.items()}

    def sums(objective, f):
        return jnp.sum(f.features.astype(jnp.float32), (0, 1)), jnp.sum(f.inside, dtype=jnp.float32)

    def targets(objective, view):
        assert not view.maps.keys() & {"block1_conv2"} or view.maps["block1_conv2"].features.shape[:2] == (64, 96)
        return means(view.sums or {name: sums(objective, view.maps[name]) for name in layers})

    def loss(objective, view, target):
        own = targets(objective, view)
        return sum(jnp.sum((own[name] - target[name]) ** 2) for name in layers)

    found = {}
    for name, of in (("maps", None), ("sums", sums)):
        term = Term("means", loss, lambda objective: layers, targets, weight=lambda objective: 2.0, sums=of)
        monkeypatch.setitem(TERMS, "means", term)
        for tile in ("none", 32):
            found[name, tile] = evaluated(network, tile, **OF_TV_ALONE)
    assert found["maps", "none"][1]["means"] > 0
    for one in found.values():
        assert_same(one, found["maps", "none"])


def test_a_picture_no_larger_than_a_tile_is_computed_as_without_tiles(network):
    for tile, size in ((96, (WIDTH, HEIGHT)), ("auto", (WIDTH - 9, HEIGHT - 1))):
        (found,), (whole,) = (evaluated(network, one, size, **PLAIN) for one in (tile, "none"))
        assert found[:2] == whole[:2]
        np.testing.assert_array_equal(found[2], whole[2])
    assert stylizer_for(StylizeSettings(tile="auto", **FLAT), network) is stylizer_for(
        StylizeSettings(tile="none", **FLAT), network
    )


@pytest.mark.parametrize("check", CHECKS)
def test_tiles_work_under_the_checks_that_a_caller_may_have_switched_on(check):
    with switched_on(check):
        solution = stylize(photo(60, 53), painting(), evaluations=3, tile=32, **FLAT)
        assert solution.evaluations == 3 and np.isfinite(solution.loss)


@of_property(derandomize=True, database=None, deadline=None, max_examples=200)
@given(side=st.integers(1, 600), tile=st.integers(1, 64).map(lambda n: 2 * n))
def test_a_side_is_cut_into_the_fewest_even_tiles(side, tile):
    cut = grid.cut(side, tile)
    assert cut.number == -(-side // tile) and cut.covered >= side and cut.length <= max(tile, 1)
    if cut.number == 1:
        assert cut.length == side
    else:
        assert cut.length % 2 == 0 and cut.covered - side < 2 * cut.number


@pytest.mark.parametrize("network", [VGG16, VGG19], ids=["vgg16", "vgg19"])
def test_a_halo_is_as_wide_as_the_convolutions_of_its_block_reach(network):
    found = grid.blocks(network, network.layers, 768, 1024, 64)
    assert [name for block in found for name in block.layers] == list(network.layers)
    assert [(one.height, one.width) for one in found] == [(768 >> n, 1024 >> n) for n in range(5)]
    assert [one.pooled for one in found] == [True] * 4 + [False]
    for block in found:
        tiles = block.rows.number * block.columns.number
        assert block.whole == (tiles == 1) == (max(block.height, block.width) <= 64)
        assert block.halo == (0 if block.whole else {2: 2, 3: 4, 4: 4}[len(block.layers)])


@pytest.mark.parametrize("tile", [0, -16, 8, 40, 8208, "all", 32.0, True])
def test_a_tile_is_a_multiple_of_16_pixels(tile):
    with pytest.raises(SettingsError, match="tile") as caught:
        StylizeSettings(tile=tile)
    assert caught.value.remedy
    assert [StylizeSettings(tile=one).tile for one in ("auto", "none", 16, 8192)] == ["auto", "none", 16, 8192]


def test_the_model_of_memory_agrees_with_xla_and_tiles_take_less():
    bucket, tile = (384, 256), 64
    whole, tiled = engine(tile="none", **PLAIN), engine(tile=tile, **PLAIN)
    taken = [compiled(one, bucket, 1).memory_analysis() for one in (whole, tiled)]
    assert taken[1].temp_size_in_bytes < 0.7 * taken[0].temp_size_in_bytes
    xla = taken[1].argument_size_in_bytes + taken[1].output_size_in_bytes + taken[1].temp_size_in_bytes
    xla -= taken[1].alias_size_in_bytes
    unused = set(VGG16.layers) - set(memory.layers_used(tiled.objective))
    model = memory.fixed_bytes(tiled.settings) - memory.parameter_bytes(VGG16, unused)
    model += memory.lane_bytes(bucket, tiled.settings, tile)
    assert 0.9 < model / xla < 1.25


def test_auto_takes_the_largest_tiles_that_fit_where_the_picture_does_not():
    bucket, auto = (4096, 3072), StylizeSettings()
    sizes = [memory.lane_bytes(bucket, auto, tile) for tile in (None, 1024, 512, 256, 128)]
    assert sizes == sorted(sizes, reverse=True)
    for room, tile in zip(sizes, (None, 1024, 512, 256, 128), strict=True):
        enough = int((room + memory.fixed_bytes(auto)) / (1 - memory.MARGIN)) + 1
        assert memory.chosen_tile(bucket, auto, enough) == tile
        assert memory.chosen_tile(bucket, StylizeSettings(tile="none"), enough) is None
        assert memory.chosen_tile(bucket, StylizeSettings(tile=64), enough) == 64
    assert memory.chosen_tile(bucket, auto, 2**20) == 128  # it is tried
    assert memory.chosen_tile((128, 96), auto, 2**20) is None  # it would be one tile
    assert memory.chosen_tile((128, 96), StylizeSettings(tile=128), 2**40) is None


def test_a_print_of_12_megapixels_fits_a_device_of_24_gigabytes():
    """The default's preconditioner takes 1.3 GB more: 26/3 images, see `memory.lane_bytes`."""
    for preset, precision, tile, most in (
        ("classic", "float32", 1024, 10e9), ("classic", "bfloat16", None, 8e9),
        ("balanced", "float32", 1024, 11.3e9), ("balanced", "bfloat16", 1024, 9.3e9),
    ):  # fmt: skip
        settings = StylizeSettings(preset=preset, precision=precision)
        assert memory.chosen_tile((4096, 3072), settings, 24 * 10**9) == tile
        assert memory.lane_bytes((4096, 3072), settings, 512) < most


@pytest.fixture
def small_memory(monkeypatch):
    """A machine with room for a lane of PLAIN at 64 x 64 pixels, and at 192 x 128 only in tiles."""
    settings = RenderSettings(**PLAIN)
    room = memory.fixed_bytes(settings) + memory.lane_bytes((192, 128), settings, 64)
    monkeypatch.setattr(memory, "TILES", (128, 64))
    monkeypatch.setattr(host, "total_memory", lambda: int(room / (1 - memory.MARGIN)) + 1)
    assert memory.largest_batch((192, 128), settings, host.total_memory()) == 0


def test_a_device_takes_tiles_for_the_shapes_that_have_no_room(network, small_memory):
    style = Painting.of(painting().astype(np.float32) / 255)
    device = JaxDevice(RenderSettings(size=192, batch=1, **PLAIN), network, style)
    for bucket, tile in (((192, 128), 64), ((64, 64), 0)):
        for careful in (False, True):
            batch = device.batch(Group(bucket, careful), 1)
            batch.put(0, lane_inputs(*[photo(*bucket) / 255] * 2, *bucket[::-1]), 2, style)
            assert batch.advance(1).evaluations[0] == 1
            assert batch.result(0).tile == tile
    assert device.max_batch((192, 128)) == 1 and device.max_batch((64, 64)) > 1
    assert device.memory_bytes((192, 128), 1) < device.memory
    assert device.n_compiled == 2  # one a shape: a careful try in float32 is the same program here


def test_a_run_uses_tiles_and_rows_say_so(network, small_memory, tmp_path):
    save(tmp_path / "in" / "large.png", photo(190, 120))
    save(tmp_path / "in" / "small.png", photo(64, 60))
    save(tmp_path / "style.png", painting())
    common = dict(size=192, evaluations=3, workers=0, batch=1, **PLAIN)
    assert render(tmp_path / "in", tmp_path / "style.png", tmp_path / "auto", **common).done == 2
    assert {key: row["notes"] for key, row in rows(tmp_path / "auto").items()} == {
        "large.png": ["computed in tiles of 64 pixels"], "small.png": [],
    }  # fmt: skip
    assert render(tmp_path / "in", tmp_path / "style.png", tmp_path / "none", tile="none", **common).done == 2
    for key, row in rows(tmp_path / "none").items():
        assert row["notes"] == []
        assert row["loss"]["total"] == pytest.approx(rows(tmp_path / "auto")[key]["loss"]["total"], rel=1e-4)


def test_another_tile_goes_on_in_the_folder_and_says_that_it_rounds_otherwise(network, tmp_path):
    save(tmp_path / "in" / "a.png", photo(64, 64))
    save(tmp_path / "style.png", painting())
    common = dict(size=64, evaluations=2, workers=0, batch=1, **PLAIN)
    render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", **common)
    save(tmp_path / "in" / "b.png", photo(64, 64, 2))
    ear = Ear()
    summary = render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", progress=ear, tile=32, **common)
    assert summary.done == 2 and [row.key for row in ear.rows] == ["b.png"]
    assert any("tile is 32 now and was 'auto'" in text for text in ear.said)


def test_the_command_line_has_tiles(folder, base):
    shallow = "--preset", "classic", "--style-layers", "relu1_1", "--content-layers", "relu1_1"
    assert run(*base, "--tile", "16", *shallow) == 0
    assert {row["status"] for row in rows(folder / "out").values()} == {"done"}
    assert {row["notes"][0] for row in rows(folder / "out").values()} == {"computed in tiles of 16 pixels"}
    assert json.loads((folder / "out" / "settings.json").read_text())["about"]["rounding"]["tile"] == 16
    assert run(*base, "--tile", "17") == 2


def test_settings_of_an_older_folder_have_no_tile():
    """So that it is not among what a run is refused for."""
    assert "tile" not in RenderSettings().pixels()
    assert dataclasses.replace(RenderSettings(), tile=64).pixels() == RenderSettings().pixels()
