"""The command line as a user meets it: exit codes, streams, where settings come from, and what --help costs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from pictures import painting, photo, save
from PIL import Image

from jaxstyle import cli

FAST = ["--size", "32", "--evaluations", "2", "--batch", "1"]


def jaxstyle(*arguments, **environment):
    """Runs the installed program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "jaxstyle", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def run(*arguments):
    """Runs it in this process, which has jax already; returns the exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    return caught.value.code


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "in" / "a.jpg", photo(40, 30))
    save(tmp_path / "in" / "deep" / "b.png", photo(30, 40, 1))
    save(tmp_path / "style.png", painting())
    return tmp_path


def test_render_end_to_end(folder):
    done = jaxstyle("render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # data goes to stdout, and a render has none
    assert "2 done, 0 skipped, 0 failed" in done.stderr
    assert (folder / "out" / "a.jpg").exists() and (folder / "out" / "deep" / "b.png").exists()
    with Image.open(folder / "out" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 32
    again = jaxstyle("render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST)
    assert again.returncode == 0 and "2 inputs finished before" in again.stderr


def test_broken_files_are_told_and_the_exit_code_is_3(folder, capfd):
    (folder / "in" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture at all")
    assert run("render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST) == 3
    told = capfd.readouterr().err
    assert "failed: bad.jpg:" in told and "2 done, 0 skipped, 1 failed" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "IN"], "--style"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--size", "big"], "size"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--size", "7"], "32 to 8192"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--preset", "monet"], "monet"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--style-layers", "relu9_9"], "relu9_9"),
        (["render", "IN", "--style", "STYLE", "-o", "IN"], "overlaps"),
        (["render", "IN/none", "--style", "STYLE", "-o", "OUT"], "does not exist"),
        (["render", "IN", "--style", "IN/none.png", "-o", "OUT"], "not a file"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--init", "nothing.png"], "init"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--no-such-flag"], "no-such-flag"),
        (["paint"], "paint"),
        (["weights", "verify", "IN/none.h5"], "no weights file"),
        (["weights", "convert", "IN/none.pth", "OUT"], "cannot be read"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--init", "IN/deep"], "init"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_why(folder, capfd, arguments, message):
    places = {"IN": str(folder / "in"), "STYLE": str(folder / "style.png"), "OUT": str(folder / "out")}
    resolved = [a.replace(*next(((k, v) for k, v in places.items() if a.startswith(k)), ("", ""))) for a in arguments]
    assert run(*resolved) == 2
    told = capfd.readouterr().err
    assert message in told and "Traceback" not in told
    assert not (folder / "out").exists()


def test_other_settings_in_the_same_folder_exit_2(folder, capfd):
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST]
    assert run(*base) == 0
    assert run(*base, "--style-weight", "3") == 2
    assert "style_weight is 3.0 now and 40.0 there" in capfd.readouterr().err


def test_flags_win_over_environment_over_file_over_defaults(folder, monkeypatch):
    (folder / "run.toml").write_text('size = 64\nevaluations = 2\nstyle_weight = 7.0\nstyle-layers = ["relu2_1"]\n')
    monkeypatch.setenv("JAXSTYLE_SIZE", "32")
    monkeypatch.setenv("JAXSTYLE_STYLE_WEIGHT", "8.0")
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "run.toml", "--style-weight", "9", "--batch", "1") == 0
    settings = json.loads((folder / "out" / "settings.json").read_text())["decides"]["settings"]
    assert settings["size"] == 32  # environment over file
    assert settings["style_weight"] == 9.0  # flag over environment
    assert settings["evaluations"] == 2 and settings["style_layers"] == ["block2_conv1"]  # file over defaults
    assert settings["preset"] == "balanced"  # default


def test_settings_of_render_do_not_disturb_other_commands(folder, monkeypatch, capfd):
    (folder / "run.toml").write_text("size = 64\n")
    monkeypatch.setenv("JAXSTYLE_CONFIG", str(folder / "run.toml"))
    monkeypatch.setenv("JAXSTYLE_PATH", "nothing.h5")
    assert run("weights", "verify") == 0 and run("weights", "list") == 0


def test_a_missing_or_wrong_config_exits_2(folder, capfd):
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "none.toml") == 2
    (folder / "bad.toml").write_text("no_such_setting = 1\n")
    assert run(*base, "--config", folder / "bad.toml") == 2
    (folder / "torn.toml").write_text("size = \n")
    assert run(*base, "--config", folder / "torn.toml") == 2
    assert "Traceback" not in capfd.readouterr().err


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from jaxstyle import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "assert not {'jax', 'flax', 'jaxopt', 'optax', 'PIL', 'h5py'} & set(sys.modules); sys.exit(code)"
    )
    for arguments in (["--help"], ["render", "--help"], ["--version"], ["weights", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_weights_commands(capfd, tmp_path):
    assert run("weights", "verify") == 0
    described = json.loads(capfd.readouterr().out)
    assert described["preprocessing"] == "torchvision" and len(described["sha256"]) == 64
    assert run("weights", "convert", described["path"], tmp_path / "copy.h5") == 0
    assert run("weights", "verify", tmp_path / "copy.h5") == 0
    assert run("weights", "list") == 0
    assert "default" in capfd.readouterr().out


def test_an_interrupt_exits_130_and_a_later_run_finishes(folder, capfd, monkeypatch):
    from jaxstyle.engine import pipeline

    publish = pipeline._publish

    def interrupted(ended, *arguments):
        if ended.task.job.key == "deep/b.png":
            raise KeyboardInterrupt
        return publish(ended, *arguments)

    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST]
    monkeypatch.setattr(pipeline, "_publish", interrupted)
    assert run(*base) == 130
    assert "run the same command again" in capfd.readouterr().err
    monkeypatch.setattr(pipeline, "_publish", publish)
    assert run(*base) == 0
    assert np.asarray(Image.open(folder / "out" / "deep" / "b.png")).shape == (32, 24, 3)


def test_a_log_gets_lines_and_no_control_characters(folder, capfd):
    assert run("render", folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST) == 0
    told = capfd.readouterr().err
    assert "\x1b" not in told and "\r" not in told and len(told.splitlines()) < 12
