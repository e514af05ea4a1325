"""Documentation that can be checked is checked: commands, flags, defaults, the folder map."""

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import painting, photo, save

from jaxstyle import cli
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


@pytest.mark.parametrize("command", RENDERS)
def test_every_command_of_the_readme_is_understood(command, tmp_path, monkeypatch):
    """Each one is parsed by the real program, with its work replaced by a note of what it was asked to do."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photos" / "a.jpg", photo(40, 30))
    save(tmp_path / "painting.jpg", painting())
    (tmp_path / "run.toml").write_text("size = 64\n")
    (tmp_path / "vgg16.pth").write_bytes(b"")
    asked = []
    for target in ("jaxstyle.engine.pipeline.render", "jaxstyle.demo.demo.run", "jaxstyle.model.convert.convert"):
        monkeypatch.setattr(target, lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt(asked.append(a))))
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(command)[1:])
    assert caught.value.code == (130 if asked else 0), command
    if "render" in command:
        assert asked


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


def test_the_readme_lists_every_flag_with_its_default():
    table = dict(re.findall(r"^\| `(--[\w-]+)` \| (.*?) \|", README, re.MULTILINE))
    expected = {flag: f"`{default}`" if default else "" for flag, default, _ in flags()}
    assert table == expected


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
