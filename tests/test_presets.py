"""Presets: the files of the package, and files of a user's own."""

import dataclasses
from pathlib import Path

import pytest
from command import photographs, rendering, run

from jaxstyle import presets
from jaxstyle.coerce import combined
from jaxstyle.errors import SettingsError
from jaxstyle.presets import FILES, PRESETS, Objective
from jaxstyle.settings import RenderSettings, StylizeSettings

FOLDER = Path(presets.__file__).parent


def made(tmp_path, text, **settings):
    """Settings with a preset of this text."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return StylizeSettings(preset=str(path), **settings)


def test_presets_of_the_first_version_have_not_changed():
    plain = Objective(
        normalization="energy", content_layers=("relu4_2",),
        style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), content_weight=1.0, style_weight=40.0,
        tv_weight=0.3, tv_exponent=1.25, style_loss="gram", pooling="max", pooling_gain=1.0, padding="replicate",
    )  # fmt: skip
    old = dataclasses.replace(plain, feature_gain=None, padding="zero")
    assert plain == Objective() and PRESETS["classic"] == dataclasses.replace(plain, style_pixels=256 * 192)
    assert PRESETS["gatys"] == dataclasses.replace(old, normalization="gatys", style_weight=1e3, tv_weight=0.0)
    assert PRESETS["article"] == dataclasses.replace(
        old, normalization="article", content_layers=("block2_conv2",),
        style_layers=("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
        content_weight=0.05, style_weight=5.0, tv_weight=1.0,
    )  # fmt: skip


def test_another_preset_among_overrides_brings_all_of_its_values():
    """A preset's settings outside the objective are settled when settings are made."""
    for settings in (None, {}, RenderSettings()):
        assert combined(RenderSettings, settings, {"preset": "classic"}) == RenderSettings(preset="classic")
    given = combined(RenderSettings, RenderSettings(evaluations=7), {"preset": "classic", "preconditioner": "pyramid"})
    assert (given.evaluations, given.preconditioner) == (7, "pyramid")


def test_the_default_compares_moments_of_shallow_layers_most_in_preconditioned_variables():
    weights = (16.0, 8.0, 4.0, 2.0, 1.0)
    assert PRESETS["balanced"] == dataclasses.replace(
        PRESETS["classic"], style_loss="moments", style_layer_weights=weights, tv_border="counted"
    )
    chosen = {name: (s.evaluations, s.preconditioner) for name in PRESETS for s in [StylizeSettings(preset=name)]}
    assert chosen.pop("balanced") == chosen.pop("faithful") == (80, "pyramid")
    assert chosen.pop("painterly") == (120, "pyramid") and set(chosen.values()) == {(200, "none")}


def test_painterly_and_faithful_build_on_the_default():
    painterly, faithful = StylizeSettings(preset="painterly"), StylizeSettings(preset="faithful")
    assert painterly.objective() == dataclasses.replace(StylizeSettings().objective(), content_weight=1.5)
    assert faithful.objective() == dataclasses.replace(StylizeSettings().objective(), style_weight=8.0)
    assert RenderSettings(preset="painterly").scales == "auto" and faithful.init == "content"


def test_layers_that_are_given_have_equal_weights_unless_theirs_are_given_too():
    two = ("relu1_1", "relu2_1")
    assert StylizeSettings(style_layers=two).objective().style_layer_weights == ()
    given = StylizeSettings(style_layers=two, style_layer_weights=(3.0, 1.0)).objective()
    assert given.style_layer_weights == (3.0, 1.0)


def test_every_file_of_the_folder_is_a_preset_and_says_what_it_is():
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(PRESETS)
    assert StylizeSettings().preset == next(iter(PRESETS)) == "balanced"
    for name, preset in FILES.items():
        assert preset.description.endswith(".")
        assert StylizeSettings(preset=name).init == preset.values.get("init", "matched")
        assert name in StylizeSettings.__doc__


def test_a_file_builds_on_balanced_or_on_its_base(tmp_path):
    own = made(tmp_path, "style-weight = 9\nstyle_layers = ['relu2_1']")
    assert own.objective() == StylizeSettings(style_weight=9.0, style_layers=("relu2_1",)).objective()
    own = made(tmp_path, "base = 'gatys'\ndescription = 'soft'\npooling = 'average'")
    assert own.objective() == StylizeSettings(preset="gatys", pooling="average").objective()


def test_flags_take_precedence_over_a_presets_values(tmp_path):
    text = "style_weight = 9\ninit = 'noise'"
    assert made(tmp_path, text).objective().style_weight == 9 and made(tmp_path, text).init == "noise"
    flags = made(tmp_path, text, style_weight=7.0, init="matched")
    assert flags.objective().style_weight == 7 and flags.init == "matched"
    assert StylizeSettings(preset="texture", init="content").init == "content"


def test_a_file_is_read_once_and_compared_by_its_values(tmp_path):
    own = made(tmp_path, "style_weight = 9")
    assert own == StylizeSettings(style_weight=9.0) and hash(own) == hash(StylizeSettings(style_weight=9.0))
    path = tmp_path / "mine.toml"
    before = RenderSettings(preset=str(path))
    path.unlink()
    assert dataclasses.replace(before, seed=1).objective().style_weight == 9
    assert before.pixels() == RenderSettings(style_weight=9.0).pixels()
    assert before.defaults() == RenderSettings().defaults()  # a name that an old folder lacks is the base's


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("style_wieght = 1", r"unknown key style_wieght\. Did you mean style_weight\?"),
        ("size = 5", "unknown key size"),
        ("[render]\nseed = 1", "unknown key render"), ("tv-weight = 1\ntv_weight = 1", "has tv_weight twice"),
        ("style_weight = 'much'", "has style_weight = 'much'. It must be a number"),
        ("style_weight = inf", "has style_weight = inf"), ("pooling = 'median'", "one of max, average, l2"),
        ("style_layers = 'relu1_1'", "It must be several texts"), ("init = ''", "has init = ''"),
        ("base = 'monet'", "has base = 'monet'. It must be one of balanced"), ("style_weight", "is no TOML"),
        ("style_weight = -1", r"style_weight is -1.0 \(in .*mine.toml\)"),
        ("init = 'no/such.png'", r"init is 'no/such.png' \(in .*mine.toml\)"),
        ("style_loss = 'w2'\nbase = 'gatys'", r"style_loss is 'w2' \(in .*mine.toml\)"),
        ("feature_gain = 'by the weights'", "Give a number, or base gatys"),
        ("content_layers = ['relu9_9']", r"VGG16 has no layer 'relu9_9'.*\(in .*mine.toml\)"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named(tmp_path, text, told):
    with pytest.raises(SettingsError, match=told) as caught:
        made(tmp_path, text)
    assert "mine.toml" in str(caught.value) and caught.value.remedy


def test_a_gain_by_the_weights_stays_one(tmp_path):
    assert made(tmp_path, "base = 'gatys'\nfeature_gain = 'by the weights'").objective().feature_gain is None


@pytest.mark.parametrize("name", ["monet", "mine.toml", "no/such.toml"])
def test_a_name_that_is_neither_a_preset_nor_a_file_is_refused(name):
    with pytest.raises(SettingsError, match=f"preset is '{name}'. It must be balanced, .*or the path of a TOML file"):
        StylizeSettings(preset=name)


def test_the_command_line_takes_a_file(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text("style_wieght = 9")
    photographs(tmp_path)
    assert run(*rendering(tmp_path, "plan"), "--preset", tmp_path / "mine.toml") == 2
    assert "unknown key style_wieght" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text("style_weight = 9")
    assert run(*rendering(tmp_path, "plan"), "--no-measure", "--preset", tmp_path / "mine.toml") == 0
