"""The TOML file of --config: what it says is honoured or refused, and never ignored."""

import os

import pytest
from command import run

from jaxstyle import toml_file
from jaxstyle.config import read
from jaxstyle.errors import SettingsError


@pytest.fixture
def toml(tmp_path):
    """Writes a file and reads it for a command."""

    def written(data, command="render"):
        (tmp_path / "run.toml").write_bytes(data if isinstance(data, bytes) else data.encode())
        return read(tmp_path / "run.toml", command)

    return written


def test_settings_stand_at_the_top_or_in_the_tables_of_commands(toml):
    text = "size = 64\n[render]\nevaluations = 7\ndry-run = true\n[plan]\nmeasure = false\nseed = 3\n"
    assert toml(text) == {"size": 64, "evaluations": 7, "dry_run": True}
    assert toml(text, "plan") == {"size": 64, "evaluations": 7, "measure": False, "seed": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evalutions = 7", "unknown key evalutions. Did you mean evaluations?"),
        ("[render]\nevalutions = 7", r"unknown key \[render\] evalutions. Did you mean evaluations?"),
        ("[plan]\nsizes = 7", r"unknown key \[plan\] sizes. Did you mean size?"),
        ("[rendr]\nsize = 64", r"unknown key \[rendr\]. Did you mean \[render\]?"),
        ("[verify]\njson = true", r"unknown key \[verify\]"),
        ("render = 'x'", "unknown key render"),
        ("measure = false", "unknown key measure"),
        ("size = 64\n[render]\nsize = 65", r"size twice, once in \[render\]"),
        ("style-size = 64\nstyle_size = 65", "style_size twice"),
        ("size = 64\nsize = 65", "no TOML: Cannot overwrite"),
        ("size =", "no TOML: Invalid value"),
        ("history = 1.5", "has history = 1.5. It must be a whole number"),
        ("history = 2.0", "has history = 2.0. It must be a whole number"),
        ("[render]\nhistory = true", r"has \[render\] history = True. It must be a whole number"),
        ("history = '7'", "has history = '7'. It must be a whole number"),
        ("retry_failed = 1", "has retry_failed = 1. It must be True or False"),
        ("style_weight = '3'", "has style_weight = '3'. It must be a number"),
        ("style_weight = nan", "has style_weight = nan. It must be a number"),
        ("style_weight = -inf", "has style_weight = -inf. It must be a number"),
        ("style_weight = 1979-05-27", "has style_weight = datetime"),
        ("max_failures = true", "has max_failures = True. It must be"),
        ("batch = 'Auto'", "has batch = 'Auto'. It must be one of auto, a whole number"),
        ("style_layers = 'relu1_1'", "has style_layers = 'relu1_1'. It must be several texts"),
        ("style_layers = ['relu1_1', 2]", "It must be several texts"),
        ("style_layers = []", "has an empty style_layers"),
        ("style_layer_weights = ['1']", "It must be several numbers"),
        ("init = ''", "has an empty init"),
        ("output = ''", "has an empty output"),
        ('weights = "a\\u0000b"', "weights is 'a.x00b', with a null byte"),
        ("[render.size]\nx = 1", r"has \[render\] size = {'x': 1}. It must be a whole number"),
        ("seed = " + "9" * 5000, "no TOML: Exceeds the limit"),
        ("style_weight = " + "9" * 400, "It must be a number"),
        (b"seed = 3\n# caf\xe9", "is not UTF-8 in line 2"),
        ("seed = 3".encode("utf-16"), "is not UTF-8 in line 1"),
        (".".join(["a"] * 300) + " = 1", "over 200 dots and brackets in line 1"),
        ("seed = 3\na = " + "[" * 300, "over 200 dots and brackets in line 2"),
        ("a = " + "[\n" * 3000 + "]" * 3000, "over 200|nested too deeply"),
        ("a = " + "[\n" * 3000, "nested too deeply"),
        ("#" * (toml_file.MOST_BYTES + 1), "has more than 64 KiB"),
    ],
)
def test_what_is_no_setting_is_refused_with_the_file_and_the_key(toml, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        toml(text)
    assert "run.toml" in caught.value.what and caught.value.remedy


def test_a_path_of_many_dots_is_one(toml):
    assert toml('output = "' + "../" * 60 + 'out"')["output"].name == "out"


def test_the_byte_order_mark_and_line_ends_of_windows_are_read(toml):
    assert toml(b"\xef\xbb\xbfsize = 64\r\nseed = 3\r\n") == {"size": 64, "seed": 3}


def test_a_home_folder_is_expanded(toml, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toml('output = "~/out"\nweights = "~/a.h5"') == {"output": tmp_path / "out", "weights": tmp_path / "a.h5"}


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("pipe", "not a regular file"), (".", "Is a directory"), ("none", "does not exist"),
        ("loop", "Too many levels"), ("pipe/x", "Not a directory"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=message):
            read(tmp_path / name, "render")


def test_a_link_to_a_file_is_that_file(toml, tmp_path):
    toml("seed = 3")
    (tmp_path / "link.toml").symlink_to("run.toml")
    assert read(tmp_path / "link.toml", "render") == {"seed": 3}


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("[render]\nevaluations = 0", [], "evaluations is 0 (in {}). It must be 1 to"),
        ("evaluations = 0", ["--evaluations", "0"], "evaluations is 0. It must be 1 to"),
        ("size = 7", [], "size is 7 (in {}). It must be 32 to"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_file(folder, capfd, text, flags, message):
    (folder / "run.toml").write_text(text)
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "run.toml", *flags) == 2
    assert message.format(folder / "run.toml") in capfd.readouterr().err


def test_the_file_may_name_the_weights_like_every_setting(folder, capfd):
    """`weights` is a command as well, and cyclopts leaves names of commands out."""
    (folder / "run.toml").write_text('weights = "none.h5"\n')
    base = ["plan", folder / "in", "--style", folder / "style.png", "-o", folder / "out", "--no-measure"]
    assert run(*base, "--config", folder / "run.toml") == 2
    assert "no weights file none.h5" in capfd.readouterr().err
