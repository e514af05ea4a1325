"""`jaxstyle init` and `jaxstyle completion`: what they write is what the program takes."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command import run
from documents import generate

from jaxstyle.config import read
from jaxstyle.settings import RenderSettings

SETTING = re.compile(r"^# (\w+) = (.*)$", re.MULTILINE)


@pytest.fixture
def made(tmp_path):
    assert run("init", tmp_path / "run.toml") == 0
    return tmp_path / "run.toml"


def test_the_file_has_every_setting_and_changes_none_as_it_is(made):
    assert read(made, "render") == {}
    names = [name for name, _ in SETTING.findall(made.read_text())]
    assert names == ["style", "output", *(field.name for field in dataclasses.fields(RenderSettings))]


def test_its_values_are_the_defaults(made):
    lines = [f"{name} = {value}" for name, value in SETTING.findall(made.read_text()) if not value.startswith("#")]
    made.write_text("\n".join(lines))
    values = read(made, "render")
    assert values.pop("style") and values.pop("output") and len(values) > 40
    given, usual = RenderSettings(**values), RenderSettings()
    assert given.objective() == usual.objective()
    decided = {name: getattr(given, name) for name in values if getattr(usual, name) is None}
    assert given == dataclasses.replace(usual, **decided) and len(decided) > 10


def test_an_absent_value_says_what_it_would_be(made):
    absent = {name: value for name, value in SETTING.findall(made.read_text()) if value.startswith("#")}
    assert absent["limit"] == "# a whole number" and absent["weights"] == '# "a path"' and "evaluations" not in absent
    assert "style_layer_weights" not in absent and all(len(value) > 5 for value in absent.values())
    assert "temporal_weight" in absent  # its default depends on frames


def test_it_describes_each_setting_in_lines_of_a_hundred_characters(made):
    lines = made.read_text().splitlines()
    assert max(map(len, lines)) <= 100
    told = " ".join(" ".join(line.lstrip("# ") for line in lines).split())
    for flag, *_, text in generate.flags():
        assert text in told, flag


def test_a_file_that_is_there_stays(tmp_path, capsys):
    (tmp_path / "run.toml").write_text("size = 64")
    assert run("init", tmp_path / "run.toml") == 2
    assert (tmp_path / "run.toml").read_text() == "size = 64" and "Move it away" in capsys.readouterr().err


def test_a_folder_that_cannot_take_the_file_is_told(tmp_path, capsys):
    assert run("init", tmp_path / "none" / "run.toml") == 5
    assert "none/run.toml cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_understands_its_script(shell, capsys, tmp_path):
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert {"render", "--style-weight", "continue"} <= set(re.findall(r"[\w-]+", script))
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize(
    ("words", "offered"), [("jaxstyle rend", ["render"]), ("jaxstyle render --style-w", ["--style-weight"])]
)
def test_bash_completes(words, offered, capsys, tmp_path):
    if not shutil.which("bash"):
        pytest.skip("no bash")
    assert run("completion", "bash") == 0
    Path(tmp_path / "script").write_text(capsys.readouterr().out)
    given = words.split()
    ask = f"source ./script; COMP_WORDS=({words}); COMP_CWORD={len(given) - 1}; _jaxstyle; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered
