"""Words of the command line and variables: what a flag takes, and which values are refused instead of bent."""

import json

import pytest
from command import BROKEN, run

import jaxstyle
from jaxstyle.arguments import apart
from jaxstyle.coerce import number_from
from jaxstyle.errors import InputError, SettingsError


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--style-layers a b photos", "--style-layers a b photos"),
        ("--style-layers relu1_1 relu2_1 photos -o x", "--style-layers relu1_1 --style-layers relu2_1 photos -o x"),
        ("--style-layers relu1_1 block2_conv2", "--style-layers relu1_1 --style-layers block2_conv2"),
        ("--style-layers=relu1_1 relu2_1 photos", "--style-layers=relu1_1 --style-layers relu2_1 photos"),
        ("--content-layers photos", "--content-layers photos"),
        ("--style-layer-weights 1 .5 1e-3 -1 photos 7", "--style-layer-weights 1 --style-layer-weights .5 "
         "--style-layer-weights 1e-3 --style-layer-weights -1 photos 7"),
        ("--style-layers", "--style-layers"),
        ("render photos --style a.jpg b:2 -o x", "render photos --style a.jpg --style b:2 -o x"),
        ("render --style a.jpg photos -o x", "render --style a.jpg photos -o x"),
        ("render --dry-run photos --style=a b", "render --dry-run photos --style=a --style b"),
        ("render --size 64 --no-measure --style a b", "render --size 64 --no-measure --style a b"),
        ("render photos --style a --size 64 more", "render photos --style a --size 64 more"),
        ("photos relu1_1 -- --style-layers relu1_1 relu2_1", "photos relu1_1 -- --style-layers relu1_1 relu2_1"),
    ],
)  # fmt: skip
def test_a_flag_of_several_words_takes_no_input(given, read):
    assert " ".join(apart(given.split())) == read


@pytest.mark.parametrize("flag", ["--style-layers relu1_1 relu2_1", "--content-layers relu4_2 relu4_1"])
def test_layers_may_stand_before_the_input(folder, devices, flag):
    base = ["--style", folder / "style.png", "-o", folder / "out", "--size", "32", "--workers", "0"]
    assert run("render", *flag.split(), folder / "in", *base) == 0
    recorded = json.loads((folder / "out" / "settings.json").read_text())["decides"]["settings"]
    assert len(recorded[flag.split()[0][2:].replace("-", "_")]) == 2


def test_an_input_in_the_place_of_a_layer_is_told(folder, capfd):
    assert run("render", "--style", folder / "style.png", "-o", folder / "out", "--style-layers", folder / "in") == 2
    told = capfd.readouterr().err
    assert "INPUT requires an argument; the word after --style-layers is not taken for one" in told
    assert "See `jaxstyle render --help`" in told


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("evaluations", "1.5"), ("evaluations", "1e9"), ("evaluations", "0x10"), ("evaluations", "1_0"),
        ("evaluations", "99999999999"), ("evaluations", "true"), ("evaluations", " 7"), ("evaluations", ""),
        ("evaluations", "9" * 5000), ("evaluations", "\u0663"), ("seed", "2.0"), ("limit", "0"), ("limit", "0.5"),
        ("limit", "9" * 20), ("size", "1"), ("size", "64.0"), ("history", "0"), ("batch", "0"), ("batch", "2.5"),
        ("workers", "-1"), ("workers", "1.5"), ("devices", "1.0"), ("quality", "95.5"), ("tolerance", "nan"),
        ("tolerance", "1e-400000"), ("stall-timeout", "inf"), ("stall-timeout", "1e9"), ("style-weight", "True"),
        ("style-weight", "1,5"), ("style-weight", "9" * 500), ("max-failures", "1.7"), ("max-failures", "1.0"),
        ("max-failures", "nan"), ("shard", "0/3"), ("shard", "3/2"), ("precision", "float64"), ("existing", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", [False, True])
def test_a_value_is_refused_with_its_name_not_rounded(folder, capfd, monkeypatch, flag, value, variable):
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    name = f"JAXSTYLE_{flag.replace('-', '_').upper()}"
    if variable:
        monkeypatch.setenv(name, value)
    assert run(*base, *([] if variable else [f"--{flag}={value}"])) == 2
    told = capfd.readouterr().err
    assert (name if variable else flag.replace("-", "_")) in told.replace(f"--{flag}", flag.replace("-", "_"))
    assert "It must be" in told or "is empty" in told
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("text", "whole", "number"),
    [("7", 7, 7.0), ("-7", -7, -7.0), ("+7", 7, 7.0), ("7.", None, 7.0), (".5", None, 0.5), ("1e2", None, 100.0),
     ("007", 7, 7.0), ("", None, None), (".", None, None), ("1e", None, None), ("infinity", None, None),
     ("1e999", None, None), ("0b1", None, None), ("1 ", None, None)],
)  # fmt: skip
def test_numbers_are_decimal(text, whole, number):
    assert number_from(int, text) == whole and number_from(float, text) == number


def test_a_share_of_failures_may_be_a_fraction(folder, base, devices):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    assert run(*base, "--max-failures", "0.05") == 3  # a share counts from 100 inputs on, and 0 would end it with 4


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("SIZE", "", 2), ("STYLE_LAYERS", "", 2), ("CONFIG", "", 2), ("CACHE", "", 2), ("OUTPUT", "", 2)],
)
def test_an_empty_variable_is_refused(base, devices, capfd, monkeypatch, name, value, code):
    monkeypatch.setenv(f"JAXSTYLE_{name}", value)
    assert run(*base) == code
    assert f"JAXSTYLE_{name} is empty" in capfd.readouterr().err


def test_a_variable_that_is_no_setting_is_told_with_the_nearest(base, devices, capfd, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_SIZ", "64")
    assert run(*base) == 0
    told = capfd.readouterr().err.splitlines()[0]
    assert told == "jaxstyle: no setting, and ignored: JAXSTYLE_SIZ. Did you mean JAXSTYLE_SIZE?"


def test_a_dry_run_takes_the_flags_of_plan(folder, base, devices, capfd):
    assert run(*base, "--dry-run", "--no-measure", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["render"] == 2 and found["seconds"] is None
    for flag in ("--json", "--no-measure"):
        assert run(*base, flag) == 2
        assert "without --dry-run" in capfd.readouterr().err
    assert not (folder / "out").exists()


def test_flags_that_contradict_each_other_are_refused(base, capfd):
    for flags in (["--retry-failed", "--existing", "error"], ["--retry-failed", "--existing", "overwrite"],
                  ["--shard", "1/2", "--existing", "overwrite"], ["--size", "32"]):  # fmt: skip
        assert run(*base, *flags) == 2, flags
        assert "Traceback" not in capfd.readouterr().err


def test_settings_from_python_may_be_a_dict(folder, devices):
    arguments = folder / "in", folder / "style.png", folder / "out"
    summary = jaxstyle.render(*arguments, {"size": 32, "workers": 0}, evaluations=2)
    assert summary.done == 2
    for settings, message in (
        ({"sise": 32}, "'sise' is no field of RenderSettings. Did you mean size?"), ("x", "settings is 'x'"),
        ({3: 4}, "3 is no field"), (jaxstyle.StylizeSettings(), "Give a RenderSettings, or a dict"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=message):
            jaxstyle.render(*arguments, settings)
    with pytest.raises(SettingsError, match="'evaluation' is no field"):
        jaxstyle.render(*arguments, evaluation=3)


def test_an_empty_folder_is_told_before_anything_is_written(folder, base, devices, capfd):
    (folder / "empty" / "deep").mkdir(parents=True)
    assert run("render", folder / "empty", *base[2:]) == 2
    assert f"there is no file in {folder / 'empty'}" in capfd.readouterr().err and not (folder / "out").exists()
    with pytest.raises(InputError, match="no file in"):
        jaxstyle.render(folder / "empty", folder / "style.png", folder / "out")


def test_a_run_that_rendered_nothing_says_why(folder, base, devices, capfd):
    def ending(*more):
        code = run("render", *more, *base[2:])
        return code, capfd.readouterr().err.splitlines()[-1]

    for name, data in (("text", b"x"), ("bad", BROKEN)):
        (folder / name).mkdir()
        (folder / name / f"{name}.{'jpg' if name == 'bad' else 'txt'}").write_bytes(data)
    inputs, output = folder / "in", folder / "out"
    for index in (1, 2):
        code, told = ending(inputs / "a.jpg", "--shard", f"{index}/2")
        if "rendered" not in told and "Contact" not in told:
            assert (code, told) == (0, f"Nothing to do: no input belongs to shard {index}/2.")
            break
    else:
        raise AssertionError("one of two shards has no input")
    assert ending(inputs)[0] == 0
    assert ending(inputs) == (0, "Nothing to do: all inputs were finished before.")
    assert ending(inputs, folder / "bad")[0] == 3
    assert "1 of them failed: --retry-failed" in ending(inputs, folder / "bad")[1]
    assert "every new input was skipped or has failed" in ending(inputs, folder / "text")[1]
    base[base.index(output)] = folder / "other"
    assert "each of 1 inputs was skipped" in ending(folder / "text")[1]


def test_an_output_that_cannot_be_a_folder_is_told_before_the_work(folder, base, devices, capfd):
    output = folder / "out"
    output.symlink_to("nowhere")
    assert run(*base) == 2 and "is a link to nothing" in capfd.readouterr().err
    output.unlink()
    output.touch()
    assert run(*base) == 2 and "is not a folder" in capfd.readouterr().err
    assert run(*base[:4], "-o", output / "below", *base[6:]) == 2 and "which is no folder" in capfd.readouterr().err


def test_notes_on_the_style_picture_are_told_and_recorded(folder, base, devices, capfd):
    import numpy as np
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 255, (40, 40, 4), np.uint8)
    Image.fromarray(colours).save(folder / "style.png")
    assert run(*base) == 0
    assert "the style picture: transparency composited on white" in capfd.readouterr().err
    about = json.loads((folder / "out" / "settings.json").read_text())["about"]
    assert about["style_notes"] == "transparency composited on white" and "init_notes" not in about
