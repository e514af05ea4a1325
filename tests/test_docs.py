"""Documentation that can be checked is checked: commands, flags, defaults, the folder map."""

import dataclasses
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from pictures import painting, photo, save

from jaxstyle import cli, errors
from jaxstyle.settings import PRESETS, RenderSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part.strip() for part in re.split(r"&&", line.split("#")[0]) if part.strip())


RENDERS = [c for c in commands() if shlex.split(c)[0].endswith("jaxstyle")]


def test_the_two_commands_are_marked():
    for name in ("try", "test"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n.+?\n```", README), name


WORK = {
    "render": "jaxstyle.engine.pipeline.render",
    "plan": "jaxstyle.planning.forecast.forecast",
    "status": "jaxstyle.data.audit.status",
    "verify": "jaxstyle.data.audit.verify",
    "demo": "jaxstyle.demo.demo.run",
    "bench": "jaxstyle.bench.measure.run",
    "doctor": "jaxstyle.doctor.examine",
    "weights convert": "jaxstyle.model.convert.convert",
}
"""The function behind a command."""


def test_the_readme_shows_every_command():
    shown = {" ".join(shlex.split(c)[1:3]) for c in RENDERS}
    weights = {f"weights {name}" for name in ("list", "convert", "verify")}
    assert all(any(text.startswith(command) for text in shown) for command in {*WORK, *weights})


@pytest.mark.parametrize("command", RENDERS)
def test_every_command_of_the_readme_is_understood(command, tmp_path, monkeypatch):
    """Each one is parsed by the real program, with its work replaced by a note of what it was asked to do."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photos" / "a.jpg", photo(40, 30))
    save(tmp_path / "painting.jpg", painting())
    (tmp_path / "run.toml").write_text("size = 64\n")
    (tmp_path / "vgg16.pth").write_bytes(b"")
    asked = []
    for name, target in WORK.items():

        def note(*_, name=name, **__):
            asked.append(name)
            raise KeyboardInterrupt

        monkeypatch.setattr(target, note)
    words = shlex.split(command)[1:]
    expected = "plan" if "--dry-run" in words else " ".join(words[:2]) if words[0] == "weights" else words[0]
    assert run(*words) == (130 if expected in WORK else 0), command
    assert asked == ([expected] if expected in WORK else [])


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photos" / "a.jpg", photo(40, 30))
    save(tmp_path / "painting.jpg", painting())
    shortened = re.sub(r"evaluations=\d+", "evaluations=2", re.sub(r"size=\d+", "size=32", code))
    exec(compile(shortened, "README.md", "exec"), {})


def flags():
    """Name of each setting's flag, its default in words, and its description, from the dataclasses."""
    texts = {}
    for owner in RenderSettings.__mro__:
        for name, text in re.findall(r"^        (\w+): (.*(?:\n {12}.*)*)", owner.__doc__ or "", re.MULTILINE):
            texts.setdefault(name, " ".join(text.split()))
    for field in dataclasses.fields(RenderSettings):
        default = "" if field.default is None else str(field.default)
        yield "--" + field.name.replace("_", "-"), default, texts[field.name]


def test_the_readme_lists_every_flag_with_its_default_and_meaning_in_order():
    table = re.findall(r"^\| `(--[\w-]+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert table == [(flag, f"`{default}`" if default else "", text) for flag, default, text in flags()]


def names(command):
    """The flags of a command, as the program has them."""
    found = {name for one in cli.app[command].assemble_argument_collection() for name in one.names}
    return {name for name in found if not name.startswith(("--no-", "--empty-"))}


def test_a_plan_takes_the_flags_of_a_render():
    assert names("plan") - names("render") == {"--json", "--measure"}
    assert names("render") - names("plan") == {"--dry-run"}
    assert {flag for flag, _, _ in flags()} < names("plan") & names("render")


def test_the_readme_tells_every_exit_code():
    told = README.split("**Exit codes.**")[1].split("- **")[0]
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    codes |= {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert codes | {128 + signal.SIGTERM} == {int(code) for code in re.findall(r"\b\d+\b", told)}


def test_help_says_what_the_dataclasses_say():
    run = subprocess.run(
        [sys.executable, "-m", "jaxstyle", "render", "--help"], capture_output=True, text=True, check=True
    )
    helped = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run.stdout).split())
    for flag, default, text in flags():
        assert flag in helped
        words = [w for w in re.split(r"\W+", text.split("[default")[0]) if len(w) > 3]
        assert sum(w in helped for w in words) >= 0.9 * len(words), flag  # narrow columns break some words
        if default:
            assert f"[default: {default}]" in helped, flag


def test_the_presets_of_the_readme_are_those_of_the_code():
    rows = dict(
        re.findall(r"^\| `(\w+)`[^|]*\| ([^|]*) \|", README.split("## Presets")[1].split("\n## ")[0], re.MULTILINE)
    )
    assert {name: weights.strip() for name, weights in rows.items()} == {
        name: f"{p.content_weight:g} : {p.style_weight:g} : {p.tv_weight:g}" for name, p in PRESETS.items()
    }


def test_the_folder_map_names_every_file():
    section = README.split("## Folder map")[1].split("\n## ")[0]
    mapped = set(re.findall(r"^\| `([\w/.]+)` \|", section, re.MULTILINE))
    files = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "jaxstyle").rglob("*.py")
        if p.name not in ("__init__.py", "__main__.py")
    }
    assert files <= mapped, files - mapped
    assert all((ROOT / name).exists() for name in mapped)


def test_no_file_names_this_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ""} and path.is_file():
            text = path.read_text()
            for word in ("/" + "work/", "../" + "shared", "/" + "root/"):
                assert word not in text, f"{name} names {word}"
