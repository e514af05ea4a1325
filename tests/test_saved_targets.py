"""Style targets in files: what a run makes of them, what does not suit it, and files that only pretend to be."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from command import BROKEN, run
from documents import format_tables
from pictures import painting, photo, save
from whole_runs import files, rows

from jaxstyle.data.image import read as read_picture
from jaxstyle.data.styles import listed
from jaxstyle.data.targets_file import FORMAT, decode, encode
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine import averaging
from jaxstyle.engine.averaging import average
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError, InputError, SettingsError
from jaxstyle.planning import saved_targets
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.planning.saved_targets import SavedTargets, deciding, shapes
from jaxstyle.planning.styles import BrokenStyle, Styles
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import Colours
from jaxstyle.style.named_targets import as_arrays, as_targets
from jaxstyle.style.stylizer import stylizer

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FLAT = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
SETTINGS = RenderSettings(preset="classic", size=32, evaluations=6, batch=1, devices=1, workers=0, **FLAT)


def made_up(settings=SETTINGS, weights="stub", **changes):
    """Targets that no network computed."""
    decides = deciding(settings, weights) | changes
    try:
        arrays = {name: np.ones(shape, np.float32) for name, shape in shapes(decides).items()}
    except ValueError:
        arrays = {}
    colours = Colours(np.full(3, 0.5), np.eye(3) / 20)
    return SavedTargets(arrays, colours, np.full((20, 30, 3), 128, np.uint8), decides, {"source": "made up"})


@pytest.fixture
def place(tmp_path):
    """Two photographs, two paintings, and a file of targets."""
    save(tmp_path / "in" / "a.png", photo(32, 24))
    save(tmp_path / "in" / "b.png", photo(32, 24, 1))
    save(tmp_path / "one.png", painting())
    save(tmp_path / "two.png", painting(40, 90)[:, ::-1] // 2)
    (tmp_path / "made.safetensors").write_bytes(made_up().encoded())
    return tmp_path


def test_the_targets_of_one_painting_give_the_pixels_of_the_painting(place):
    told = average(place / "one.png", place / "one.safetensors", SETTINGS)
    assert told.images == 1 and not told.left_out
    for name in ("one.png", "one.safetensors"):
        render(place / "in", place / name, place / f"of-{name}", SETTINGS)
    assert files(place / "of-one.png") == files(place / "of-one.safetensors")
    before, after = rows(place / "of-one.png"), rows(place / "of-one.safetensors")
    for key in before:
        assert after[key]["loss"] == before[key]["loss"] and after[key]["judgement"] == before[key]["judgement"]
        assert after[key]["style"] == "one.safetensors"
    settings = json.loads((place / "of-one.safetensors" / "settings.json").read_text())
    assert settings["decides"]["style"] == told.sha256
    small = saved_targets.read(place / "one.safetensors").picture
    np.testing.assert_array_equal(small, read_picture(place / "one.png", 10**6, 32).levels)  # its size in the run


@pytest.mark.parametrize("loss", ["gram", "moments"])
def test_the_mean_is_the_blends_and_its_colours_are_those_of_all_pixels(place, network, loss):
    settings = dataclasses.replace(SETTINGS, style_loss=loss)
    average([str(place / "one.png"), f"{place / 'two.png'}:3"], place / "both.safetensors", settings)
    saved = saved_targets.read(place / "both.safetensors")
    levels = [read_picture(place / name, 10**6, 32).levels for name in ("one.png", "two.png")]
    device = JaxDevice(settings, network, None)
    engine = stylizer(settings, network, tile="none")
    blend = engine.blend([engine.style_targets(one / np.float32(255)) for one in levels], [1.0, 3.0])
    part = Part(saved.picture, 1.0, saved.sha256, saved=saved)
    given = device._targets_of(engine, Painting("both", [part]))
    leaves = jax.tree.leaves(given)
    assert len(leaves) == len(saved.arrays)
    for one, other in zip(leaves, jax.tree.leaves(blend), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7 * float(np.abs(other).max()))
    flat = [one.reshape(-1, 3) / 255 for one in levels]
    pixels = np.concatenate(flat)
    shares = np.concatenate(
        [np.full(len(one), weight / len(one)) for one, weight in zip(flat, (0.25, 0.75), strict=True)]
    )
    mean = shares @ pixels
    np.testing.assert_allclose(saved.colours.mean, mean, atol=1e-6)
    expected = (pixels - mean).T @ ((pixels - mean) * shares[:, None])
    np.testing.assert_allclose(saved.colours.covariance, expected, atol=1e-6)
    again = Painting("both", [part, Part(levels[0], 4.0, "")]).colour_source  # a file beside a picture
    np.testing.assert_allclose(again.mean, (mean + 4 * flat[0].mean(0)) / 5, atol=1e-6)


@pytest.mark.parametrize("loss", ["gram", "moments", "w2"])
def test_a_file_has_the_arrays_that_the_style_term_has(network, loss):
    settings = dataclasses.replace(SETTINGS, style_loss=loss)
    tree = as_arrays(stylizer(settings, network).no_targets())
    assert {name: array.shape for name, array in tree.items()} == shapes(deciding(settings, "any"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"style_size": 64}, "style_size is 32 there and 64 here. Give --style-size 32 and no --style-scale; or make"),
        ({"style_scale": 2.0}, "style_size is 32 there and 64 here"),
        ({"style_layers": ("relu1_1",)}, "Give --style-layers block1_conv1 block2_conv1;"),
        ({"style_loss": "moments"}, "style_loss is 'gram' there and 'moments' here. Give --style-loss gram"),
        ({"pooling": "average", "pooling_gain": 2.0}, "--pooling max; Give --pooling-gain 1.0"),
        ({"padding": "zero"}, "--padding replicate"),
        ({"feature_gain": 2.0}, "--feature-gain 1.0"),
        ({"style_crop": True}, "Leave --style-crop out"),
        ({"colors": "luminance"}, "changes the colours of style images, and .*made.safetensors has targets only"),
        ({"colors": "matched"}, "Use --colors content or style"),
        ({"histogram_weight": 5}, "histogram_weight is 5, and .*made.safetensors has the statistics of the style term"),
    ],
)
def test_targets_that_do_not_suit_a_run_are_refused_before_anything_is_written(place, devices, changes, told):
    with pytest.raises(SettingsError, match=told):
        render(place / "in", place / "made.safetensors", place / "out", SETTINGS, **changes)
    assert not devices and not (place / "out").exists()


def test_other_weights_masks_and_an_output_over_the_file_are_refused(place, devices):
    (place / "made.safetensors").write_bytes(made_up(weights="another").encoded())
    with pytest.raises(SettingsError, match="weights is 'another' there and 'stub' here. Give --weights the same"):
        render(place / "in", place / "made.safetensors", place / "out", SETTINGS)
    masks = {"content_masks": place / "one.png", "style_masks": place / "one.png"}
    with pytest.raises(SettingsError, match="has the targets of whole pictures. Give the pictures themselves"):
        render(place / "in", place / "made.safetensors", place / "out", SETTINGS, **masks)
    by_preset = dataclasses.replace(SETTINGS, preset="gatys", feature_gain=None)
    (place / "made.safetensors").write_bytes(made_up(by_preset).encoded())
    with pytest.raises(SettingsError, match="feature_gain is None there and 1.0 here.*Use a preset whose feature_gain"):
        render(place / "in", place / "made.safetensors", place / "out", SETTINGS)
    assert not devices


def header(change):
    """The file with a header that was changed."""
    data = made_up().encoded()
    length = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + length])
    change(text)
    text = json.dumps(text).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def remade(**changes):
    """The file with other arrays, whole otherwise."""
    arrays, facts = decode(made_up().encoded())
    return encode({name: array for name, array in {**arrays, **changes}.items() if array is not None}, facts)


GRAM = "style/block1_conv1"
HOSTILE = {
    "empty": (b"", "is no file of style targets, or is cut short"),
    "a picture": (BROKEN * 9, "is no file of style targets"),
    "a header beyond the end": ((2**63).to_bytes(8, "little") + b"{}", "cut short"),
    "no JSON": ((2).to_bytes(8, "little") + b"{]", "is no file of style targets"),
    "deep": ((200).to_bytes(8, "little") + b"[" * 100 + b"]" * 100, "is no file of style targets"),
    "weights of a network": (header(lambda h: h["__metadata__"].update(format="pt")), "is no file of style targets"),
    "a newer version": (header(lambda h: h["__metadata__"].update(format=FORMAT + "1")), "format 'jaxstyle style targ"),
    "a changed fact": (header(lambda h: h["__metadata__"].update(facts="{}")), "not have the checksum"),
    "a changed byte": (made_up().encoded()[:-1] + b"\x01", "not have the checksum"),
    "cut short": (made_up().encoded()[:-1], "cut short"),
    "longer": (made_up().encoded() + b"0", "bytes of arrays"),
    "huge shapes": (header(lambda h: h[GRAM].update(shape=[2**40, 2**40])), "not where its header says"),
    "negative shapes": (header(lambda h: h[GRAM].update(shape=[-64, -64])), "not where its header says"),
    "numbers as texts": (header(lambda h: h[GRAM].update(data_offsets=["0", "1"])), "not where its header says"),
    "arrays in one place": (
        header(lambda h: h[GRAM].update(data_offsets=[0, 4 * 64 * 64])),
        "not where its header says",
    ),
    "another type": (header(lambda h: h[GRAM].update(dtype="PICKLE")), "not where its header says"),
    "not finite": (remade(**{GRAM: np.full((64, 64), np.nan, np.float32)}), "not finite"),
    "a wrong shape": (remade(**{GRAM: np.ones((64, 32), np.float32)}), r"block1_conv1 is float32 of shape \(64, 32\)"),
    "a wrong number type": (remade(**{GRAM: np.ones((64, 64))}), "block1_conv1 is float64"),
    "no array": (remade(**{GRAM: None}), "lacks an array, or has one too many: 'style/block1_conv1'"),
    "an array more": (remade(more=np.ones(1)), "one too many: 'more'"),
    "a large picture": (remade(picture=np.zeros((257, 20, 3), np.uint8)), "picture is uint8"),
    "colours out of range": (remade(**{"colours/covariance": np.full((3, 3), 1e200)}), "out of range"),
    "an unknown layer": (made_up(style_layers=["relu1_1"]).encoded(), "layers are not VGG16's"),
    "an unknown network": (made_up(network="vgg17").encoded(), "network or style loss is unknown: 'vgg17'"),
    "a setting of another type": (made_up(style_size="32").encoded(), "style_size is not valid"),
    "no facts": (encode({}, {}), "does not say what decides it"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_only_pretends_to_be_one_is_a_clean_error(place, devices, name):
    data, told = HOSTILE[name]
    (place / "made.safetensors").write_bytes(data)
    with pytest.raises(ImageError, match=told):
        saved_targets.read(place / "made.safetensors")
    with pytest.raises(InputError, match="the style .*made.safetensors: "):
        render(place / "in", place / "made.safetensors", place / "out", SETTINGS)
    assert not devices and not (place / "out").exists()


def test_every_truncation_and_every_kind_of_place_is_an_error(place):
    data = made_up().encoded()
    for length in [*range(0, 900, 7), *range(900, len(data), 1777)]:
        with pytest.raises(ValueError, match="cut short|no file|checksum|bytes of arrays"):
            decode(data[:length])
    with open(place / "large.safetensors", "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ImageError, match="1,099,511,627,776 bytes, and may have 67,108,864"):
        saved_targets.read(place / "large.safetensors")
    for absent in (place, place / "absent.safetensors"):
        with pytest.raises(ImageError, match="cannot be read"):
            saved_targets.read(absent)


def test_targets_are_float32_whatever_the_run_asks_for(network):
    assert averaging._device(dataclasses.replace(SETTINGS, precision="bfloat16"), network, False).precision == "float32"


def test_equal_targets_are_equal_bytes_and_come_back(place):
    made = made_up()
    assert made.encoded() == made_up().encoded()
    back = saved_targets.read(place / "made.safetensors")
    assert back.decides == made.decides and back.arrays.keys() == made.arrays.keys()
    assert all((back.arrays[name] == made.arrays[name]).all() for name in made.arrays)
    assert back.length == (place / "made.safetensors").stat().st_size
    held = Painting("made", [Part(back.picture, 1.0, back.sha256, saved=back)])
    assert held.bytes > 4 * (64 * 64 + 128 * 128)  # the cache of styles counts them
    np.testing.assert_array_equal(held.colour_source.covariance, made.colours.covariance)


def test_files_of_targets_are_assigned_like_pictures_and_a_broken_one_is_a_row(place, devices):
    (place / "other.safetensors").write_bytes(
        dataclasses.replace(made_up(), picture=np.zeros((9, 9, 3), np.uint8)).encoded()
    )
    (place / "broken.safetensors").write_bytes(b"broken")
    (place / "list.txt").write_text("made.safetensors\nother.safetensors\nbroken.safetensors\none.png\n")
    summary = render(place / "in", place / "list.txt", place / "out", SETTINGS, assign="each")
    assert (summary.done, summary.failed) == (6, 3)
    found = rows(place / "out")
    assert "cannot be used as style targets" in found["style://broken.safetensors"]["reason"]
    row = found["a~made.png"]
    assert row["style"] == "made.safetensors"
    assert row["style_sha256"] == saved_targets.read(place / "made.safetensors").sha256
    put = {style.name: style.parts[0].saved is not None for style in devices[0].styles}
    assert put == {"made.safetensors": True, "other.safetensors": True, "one.png": False}
    render(place / "in", place / "list.txt", place / "out", SETTINGS, assign="each")
    assert len(devices) == 1  # nothing is left to do
    (place / "other.safetensors").write_bytes(made_up(style_crop=True).encoded())
    with pytest.raises(SettingsError, match="other.safetensors: it was made with other settings: style_crop"):
        render(place / "in", place / "list.txt", place / "out", SETTINGS, assign="each")


def test_targets_that_are_replaced_during_the_run_are_a_broken_style(place):
    (place / "list.txt").write_text("made.safetensors\n")
    with decoders_for(SETTINGS) as decoders:
        styles = Styles(listed([place / "list.txt"]), SETTINGS, decoders)
        styles.check_targets("stub")
        (place / "made.safetensors").write_bytes(made_up(padding="zero").encoded())
        with pytest.raises(BrokenStyle) as caught:
            styles.get("made.safetensors")
    assert "padding is 'zero' there and 'replicate' here" in caught.value.row.reason


def test_a_kept_region_and_a_blend_take_saved_targets(place, network):
    saved = saved_targets.read(place / "made.safetensors")
    part = Part(saved.picture, 1.0, saved.sha256, saved=saved)
    kept = dataclasses.replace(SETTINGS, content_masks=place / "one.png", keep="black")
    device = JaxDevice(kept, network, None)
    found = as_arrays(device._targets_of(stylizer(kept, network, tile="none"), Painting("made", [part])))
    assert {name: array.shape for name, array in found.items()} == {
        "style/block1_conv1": (1, 64, 64), "style/block2_conv1": (1, 128, 128)
    }  # fmt: skip
    with pytest.raises(SettingsError, match="the style targets style/block2_conv1 are absent in the file"):
        as_targets({"style/block1_conv1": np.ones((64, 64))}, stylizer(SETTINGS, network).no_targets())


class Counts:
    """A device whose targets are the pictures' means."""

    def __init__(self, settings):
        self.settings = settings

    def targets(self, levels):
        value = np.float32(levels.mean())
        return {name: np.full(shape, value) for name, shape in shapes(deciding(self.settings, "stub")).items()}


@pytest.fixture
def counted(monkeypatch, devices):
    made = []
    monkeypatch.setattr(averaging, "_device", lambda settings, *_: made.append(settings) or Counts(settings))
    return made


def test_the_command_averages_a_collection_and_tells_what_it_leaves_out(place, counted, capsys):
    for n in range(5):
        save(place / "many" / f"{n}.png", np.full((30, 40, 3), 40 * n, np.uint8))
    (place / "many" / "broken.jpg").write_bytes(BROKEN)
    flags = ["--size", 32, "--workers", 0, "--preset", "classic", "--style-layers", "relu1_1"]
    flags += ["--precision", "bfloat16"]
    look = place / "look.safetensors"
    assert run("targets", place / "many", f"{place / 'one.png'}:0.000001", "-o", look, *flags) == 3
    told = capsys.readouterr()
    assert told.out.strip() == str(look) and "6 style images, 1 left out" in told.err and "broken.jpg" in told.err
    saved = saved_targets.read(look)
    np.testing.assert_allclose(saved.arrays[GRAM], 80, rtol=1e-6)
    assert saved.about.keys() == format_tables.json_names(saved_targets.About)  # docs/formats.md has these
    assert saved.about["images"] == 6 and saved.about["left_out"] == ["broken.jpg"]
    assert saved.picture.shape == (170, 255, 3) and saved.picture[0, 0, 0] == 0 and saved.picture[0, 100, 0] == 40
    # the mean of means, by weight, and the older file is replaced
    assert run("targets", f"{look}:3", place / "many" / "0.png", "-o", place / "next.safetensors", *flags) == 0
    np.testing.assert_allclose(saved_targets.read(place / "next.safetensors").arrays[GRAM], 60, rtol=1e-6)
    assert run("targets", place / "many" / "1.png", "-o", look, *flags) == 0
    np.testing.assert_allclose(saved_targets.read(look).arrays[GRAM], 40)
    assert not list(place.glob(".jaxstyle-partial-*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["one.png", "-o", "look.npz"], "does not end in .safetensors"),
        (["one.png", "-o", "old.safetensors"], "is there already and is no whole file of targets"),
        (["made.safetensors", "-o", "made.safetensors"], "is one of the styles"),
        (["one.png", "-o", "dir.safetensors"], "is a folder"),
        (["one.png", "-o", "x.safetensors", "--style-weight", "0"], "style_weight is 0"),
        (["one.png", "-o", "x.safetensors", "--colors", "matched"], "colors is 'matched'"),
        (["one.png", "-o", "x.safetensors", "--histogram-weight", "5"], "histogram_weight is 5"),
        (["broken.png", "-o", "x.safetensors"], "none of the style images can be read \\(broken.png: "),
        (["made.safetensors", "-o", "x.safetensors", "--size", "64"], "style_size is 32 there and 64 here"),
        (["-o", "x.safetensors"], "STYLE"),
    ],
)
def test_what_the_command_cannot_do_is_exit_code_2_and_nothing_is_written(
    place, counted, capsys, monkeypatch, words, told
):
    monkeypatch.chdir(place)
    (place / "old.safetensors").write_bytes(b"weights of a network")
    (place / "dir.safetensors").mkdir()
    (place / "broken.png").write_bytes(BROKEN)
    before = sorted(place.rglob("*"))
    settings = ["--style-layers", "relu1_1", "relu2_1", "--workers", "0"]
    assert run("targets", *words, *settings, *([] if "--size" in words else ["--size", 32])) == 2
    assert re.search(told, capsys.readouterr().err)
    assert sorted(place.rglob("*")) == before and (place / "old.safetensors").read_bytes() == b"weights of a network"
