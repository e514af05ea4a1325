"""Settings: presets, overrides, refusals that name the value and the remedy."""

import dataclasses
from pathlib import Path

import pytest

from jaxstyle.architecture import VGG16
from jaxstyle.errors import SettingsError
from jaxstyle.presets import PRESETS, Objective
from jaxstyle.settings import RenderSettings, StylizeSettings


def test_layers_are_those_of_the_network():
    deeper = dict(content_layers=("relu3_4",), style_layers=("block5_conv4",))
    objective = StylizeSettings(network="vgg19", **deeper).objective()
    assert objective.content_layers == ("block3_conv4",) and objective.architecture.name == "vgg19"
    for name, layers in deeper.items():
        with pytest.raises(SettingsError, match=f"VGG16 has no layer '{layers[0]}'"):
            StylizeSettings(**{name: layers})


def test_the_network_decides_the_pixels():
    assert RenderSettings().pixels()["network"] == "vgg16"
    assert RenderSettings(network="vgg19").pixels() == RenderSettings().pixels() | {"network": "vgg19"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_of_a_preset_can_be_overridden(preset):
    fields = {f.name for f in dataclasses.fields(Objective)}
    assert fields <= {f.name for f in dataclasses.fields(StylizeSettings)}
    values = dict(
        content_weight=2.5, style_weight=3.5, tv_weight=0.25, content_layers=("relu3_1",), style_layers=("relu1_2",),
        style_layer_weights=(2.0,), feature_gain=7.0, pooling="average", padding="replicate", network="vgg19",
        normalization="energy", style_loss="moments", tv_exponent=1.5, pooling_gain=2.0, temporal_weight=4.5,
        histogram_weight=1.5, style_pixels=77, histogram_layers=("relu2_2",),
        tv_border="omitted",
    )  # fmt: skip
    assert set(values) == fields
    objective = StylizeSettings(preset=preset, **values).objective()
    assert objective.content_layers == ("block3_conv1",) and objective.style_layers == ("block1_conv2",)
    assert objective.histogram_layers == ("block2_conv2",)
    for name in fields - {"content_layers", "style_layers", "histogram_layers"}:
        assert getattr(objective, name) == values[name]


@pytest.mark.parametrize("preset", PRESETS)
def test_without_overrides_the_preset_is_itself(preset):
    plain = StylizeSettings(preset=preset).objective()
    named = dataclasses.replace(
        PRESETS[preset],
        **{
            name: tuple(map(VGG16.layer_name, getattr(PRESETS[preset], name)))
            for name in ("content_layers", "style_layers", "histogram_layers")
        },
    )
    assert plain == named


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("preset", "monet"), ("style_weight", -1.0), ("style_weight", float("nan")), ("content_weight", float("inf")),
        ("content_layers", ()), ("style_layers", ("relu1_1", "block1_conv1")), ("style_layer_weights", (1.0,)),
        ("style_layer_weights", (0.0,) * 5), ("feature_gain", 0.0), ("pooling", "median"), ("pooling_gain", 0.0),
        ("pooling_gain", 1e3), ("tv_exponent", 0.5), ("tv_exponent", 5.0), ("style_loss", "swd"),
        ("normalization", "l2"),
        ("averaging", 1.0), ("averaging", -0.1), ("padding", "mirror"),
        ("network", "vgg11"),
        ("init", "no/such/file.png"), ("seed", -1), ("solver", "sgd"), ("evaluations", 0), ("history", 0),
        ("tolerance", 1.0), ("learning_rate", 0.0), ("precision", "float16"), ("size", 31), ("size", 10**6),
        ("style_size", 8), ("output_size", "huge"), ("batch", 0), ("batch", "many"), ("existing", "maybe"),
        ("limit", 0), ("size", "512"), ("size", 256.5), ("evaluations", True),
        ("style_layers", "relu1_1"), ("seed", None), ("max_pixels", 0), ("max_pixels", 10**9),
        ("quality", 0), ("quality", 101), ("quality", 0.5), ("bits", 12),
        ("shard", "0/8"), ("shard", "9/8"), ("shard", "8"), ("shard", "2/"), ("shard", "2/8/9"), ("shard", "-1/8"),
        ("shard", "1/0"), ("shard", "2 / 8"), ("shard", 2), ("shard", "1/10000000"),
        ("workers", -1), ("workers", 257), ("workers", "some"), ("workers", 1.5),
        ("max_failures", -1), ("max_failures", "101%"), ("max_failures", "5.5"), ("max_failures", "%"),
        ("max_failures", "some"), ("max_failures", 1.5), ("max_failures", ""), ("max_failures", "-5%"),
        ("max_failures", "0.0"), ("max_failures", "1.0"), ("max_failures", True), ("max_failures", float("nan")),
        ("max_duration", 0), ("max_duration", "0m"), ("max_duration", "90x"), ("max_duration", "m"),
        ("max_duration", "1h 30m"), ("max_duration", "-5"), ("max_duration", ""), ("max_duration", "1e3"),
        ("stall_timeout", 0), ("stall_timeout", -1.0), ("stall_timeout", float("nan")), ("stall_timeout", "long"),
        ("shard", ""),
        ("evaluations", "2,0"), ("evaluations", "2,"), ("evaluations", ",2"), ("evaluations", "2, 3"),
        ("evaluations", "5,-5"), ("evaluations", "2,3"), ("evaluations", "5,10000000000"),
        ("scales", ""), ("scales", "512"), ("scales", "256,256,512"), ("scales", "512,256"), ("scales", "16,512"),
        ("scales", "128,256"), ("scales", "256,512,"), ("scales", "half"), ("scales", (256, 512)),
        ("coarse_content_weight", -1.0), ("coarse_content_weight", 1e30), ("coarse_content_weight", float("nan")),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(SettingsError) as caught:
        RenderSettings(**{field: value})
    assert caught.value.remedy
    assert field in str(caught.value)


@pytest.mark.parametrize("style_loss", ["w2", "moments"])
def test_style_losses_without_a_formula_for_a_normalization_are_refused(style_loss):
    assert StylizeSettings(style_loss=style_loss).objective().style_loss == style_loss
    with pytest.raises(SettingsError, match=f"style_loss is '{style_loss}'. It must be gram where .* is gatys"):
        StylizeSettings(preset="gatys", style_loss=style_loss)
    assert StylizeSettings(preset="gatys", style_loss=style_loss, normalization="energy")


def test_averaging_decides_the_pixels_of_adam_only():
    assert RenderSettings(averaging=0.9).pixels() == RenderSettings().pixels()
    assert RenderSettings(solver="adam", averaging=0.9).pixels()["averaging"] == 0.9


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        (dict(), ((512, 80),)),
        (dict(preset="classic"), ((512, 200),)),
        (dict(scales="auto"), ((256, 40), (512, 40))),
        (dict(preset="painterly"), ((256, 60), (512, 60))),
        (dict(preset="painterly", scales="none"), ((512, 120),)),
        (dict(scales="auto", evaluations=201), ((256, 100), (512, 101))),
        (dict(scales="auto", evaluations="120,80"), ((256, 120), (512, 80))),
        (dict(scales="128,256,512", evaluations=200), ((128, 66), (256, 66), (512, 68))),
        (dict(scales="auto", size=50), ((32, 40), (50, 40))),
        (dict(scales="auto", size=32), ((32, 80),)),
        (dict(scales="300,301", size=301, evaluations=2), ((300, 1), (301, 1))),
    ],
)
def test_evaluations_are_divided_equally_among_the_scales_or_given_for_each(given, stages):
    assert RenderSettings(**given).stages() == stages


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dict(scales="auto", evaluations="1,2,3"), "evaluations is '1,2,3'. It must be one number, or 2 numbers, one"),
        (dict(scales="auto", evaluations=1), "evaluations is 1. It must be at least 2, one for each scale"),
        (dict(evaluations="120,80"), "evaluations is '120,80'. It must be one number, or give scales"),
        (dict(scales="128,256", size=300), 'to size, which is 300, such as "150,300"'),
        (dict(style_weight=0, tv_weight=0, coarse_content_weight=0), "coarse_content_weight is 0. It must be above 0"),
    ],
)
def test_scales_and_evaluations_that_do_not_match_are_refused_with_both(given, told):
    with pytest.raises(SettingsError) as caught:
        RenderSettings(**given)
    assert told in str(caught.value)


def test_scales_are_compared_by_what_they_resolve_to():
    one, other = RenderSettings(scales="auto"), RenderSettings(scales="256,512", evaluations="40,40")
    assert one.pixels() == other.pixels() != RenderSettings().pixels()
    assert RenderSettings(scales="128,512").pixels() != one.pixels()
    assert RenderSettings(scales="auto", evaluations="120,80").pixels() != one.pixels()
    assert RenderSettings(scales="auto", coarse_content_weight=1.0).pixels() == one.pixels()  # the default said aloud
    assert RenderSettings(scales="auto", coarse_content_weight=3.0).pixels() != one.pixels()
    assert RenderSettings(coarse_content_weight=3.0).pixels() == RenderSettings().pixels()  # one scale
    assert RenderSettings().pixels()["evaluations"] == 80  # as versions without scales wrote it
    assert RenderSettings(scales="auto", size=256).defaults()["scales"] is None


def test_all_weights_zero_is_refused():
    with pytest.raises(SettingsError, match="sum of weights"):
        StylizeSettings(content_weight=0.0, style_weight=0.0, tv_weight=0.0)


def test_values_are_brought_to_their_types():
    numpy = pytest.importorskip("numpy")
    settings = RenderSettings(
        seed=numpy.int64(3), style_weight=5, style_layers=["relu1_1"], weights="w.h5", batch="auto"
    )
    assert (settings.seed, settings.style_weight, settings.style_layers) == (3, 5.0, ("relu1_1",))
    assert type(settings.seed) is int and isinstance(settings.weights, Path)
    hash(settings)


@pytest.mark.parametrize(
    ("shard", "part"),
    [(None, (1, 1)), ("1/1", (1, 1)), ("2/8", (2, 8)), ("8/8", (8, 8)), ("999999/999999", (999999,) * 2)],
)
def test_a_shard_is_an_index_and_a_number(shard, part):
    assert RenderSettings(shard=shard).part() == part


def test_one_shard_cannot_overwrite_what_the_others_wrote():
    with pytest.raises(SettingsError, match="overwrite"):
        RenderSettings(shard="2/8", existing="overwrite")
    assert RenderSettings(existing="overwrite").part() == (1, 1)


@pytest.mark.parametrize(
    ("given", "number", "share"),
    [
        (None, None, None), (0, 0, None), (5, 5, None), ("5", 5, None), ("5%", None, 0.05), ("0%", None, 0.0),
        ("100%", None, 1.0), ("0.5%", None, 0.005), (0.05, None, 0.05), ("0.05", None, 0.05),
    ],
)  # fmt: skip
def test_failures_are_a_number_or_a_share(given, number, share):
    assert RenderSettings(max_failures=given).failures() == (number, share)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None), (90, 90), ("90", 90), ("90s", 90), ("90m", 5400), ("8h", 28800), ("2d", 172800), ("1h30m", 5400),
        ("1.5h", 5400), ("1d2h3m4s", 93784), ("0.5s", 0.5),
    ],
)  # fmt: skip
def test_durations_have_units(given, seconds):
    assert RenderSettings(max_duration=given).seconds() == seconds


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), (0, 0), (8, 8), (256, 256)])
def test_workers_are_auto_or_a_number(given, kept):
    assert RenderSettings(workers=given).workers == kept


ASIDE = dict(
    batch=4, tail="shrink", devices=2, cpu_devices=8, existing="overwrite", retry_failed=True, limit=3, workers=0,
    max_failures="5%", max_duration="8h", stall_timeout=7.0, max_pixels=10**6, weights="w.h5", styles="blend", tile=64,
    regions=3, save_every=50, dataset="x", member="png", path_column="x", annotations="x.csv",
)  # fmt: skip
"""Settings that change no pixel; the weights and blended styles are told by their own checksums."""


@pytest.mark.parametrize("name", [*ASIDE, "shard"])
def test_what_does_not_change_the_pixels_is_not_among_them(name):
    base = RenderSettings()
    changed = RenderSettings(**{name: ASIDE.get(name, "2/8")})
    assert getattr(changed, name) != getattr(base, name)
    assert changed.pixels() == base.pixels() and name not in base.pixels()


def test_all_other_settings_are_among_the_pixels():
    names = {field.name for field in dataclasses.fields(RenderSettings)} - {*ASIDE, "shard"}
    assert set(RenderSettings().pixels()) == names - {"learning_rate", "averaging"}
    unused = {"history", "history_dtype", "preconditioner"}
    assert set(RenderSettings(solver="adam").pixels()) == names - unused
    assert set(RenderSettings().defaults()) >= names


def test_what_changes_the_pixels_makes_another_run():
    base = RenderSettings()
    for change in (dict(size=256), dict(style_weight=20.0), dict(quality=80), dict(seed=1), dict(output_size="input")):
        assert RenderSettings(**change).pixels() != base.pixels()
    assert RenderSettings(style_size=512).pixels() == base.pixels()  # the default said aloud
    layers, weights = Objective().style_layers, base.objective().style_layer_weights
    assert RenderSettings(style_layers=layers, style_layer_weights=weights).pixels() == base.pixels()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("evaluations", 2.0), ("evaluations", "2"), ("seed", True), ("style_weight", "3"),
        ("style_weight", b"3"), ("style_weight", True), ("style_weight", 10**400), ("style_weight", 1j),
        ("style_weight", [1.0]), ("retry_failed", 1), ("retry_failed", "yes"), ("style_layers", {"relu1_1"}),
        ("style_layers", {"relu1_1": 1}), ("style_layers", ["relu1_1", 2]), ("style_layers", b"relu1_1"),
        ("style_layer_weights", ["1"]), ("style_layer_weights", [True]), ("style_layer_weights", 5),
        ("max_duration", True), ("max_duration", float("inf")), ("shard", b"1/2"), ("weights", 3), ("weights", b"w"),
        ("weights", ""), ("init", ""), ("init", 5), ("preset", 3), ("preset", None), ("batch", 2.0), ("limit", 2**63),
        ("evaluations", 10**9 + 1), ("stall_timeout", float("inf")),
    ],
)  # fmt: skip
def test_no_value_is_bent_to_fit_its_type(field, value):
    with pytest.raises(SettingsError, match=field) as caught:
        RenderSettings(**{field: value})
    assert caught.value.remedy and len(str(caught.value)) < 400


def test_a_number_of_thousands_of_digits_is_told_in_words():
    for field, what in (("seed", "a number of thousands of digits"), ("style_weight", "a number of thousands")):
        with pytest.raises(SettingsError, match=f"{field} is {what}"):
            RenderSettings(**{field: 10**5000})


def test_truth_of_numpy_is_truth_and_no_number():
    numpy = pytest.importorskip("numpy")
    assert RenderSettings(retry_failed=numpy.True_).retry_failed is True
    for field in ("seed", "style_weight"):
        with pytest.raises(SettingsError):
            RenderSettings(**{field: numpy.True_})


def test_a_fraction_of_a_second_and_of_failures_may_be_a_number():
    assert RenderSettings(max_duration=0.5).seconds() == 0.5
    assert RenderSettings(max_failures=0.25).failures() == (None, 0.25)
