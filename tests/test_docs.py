"""Documentation that can be checked is checked: commands, examples, links, and tables that repeat the code."""

import ast
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from documents import PATHS, ROOT, TEXTS, anchors, blocks, commands, gallery, generate
from pictures import painting, photo, save

from jaxstyle import cli, errors
from jaxstyle.presets import PRESETS
from jaxstyle.ray_settings import RaySettings

pytestmark = pytest.mark.usefixtures("quickly_compiled")

README = TEXTS["README.md"]
OURS = [command for _, command in commands() if shlex.split(command)[0].endswith("jaxstyle")]


def test_the_readme_is_a_landing_page():
    assert len(README.splitlines()) <= 150


def test_the_two_commands_are_marked():
    for name in ("try", "test"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n.+?\n```", README), name


WORK = {
    "render": "jaxstyle.engine.pipeline.render",
    "plan": "jaxstyle.planning.forecast.forecast",
    "sweep": "jaxstyle.sweep.run",
    "targets": "jaxstyle.engine.averaging.average",
    "init": "jaxstyle.settings_file.write",
    "completion": "cyclopts.App.generate_completion",
    "pack": "jaxstyle.data.packing.pack",
    "publish": "jaxstyle.data.publishing.publish",
    "manifest": "jaxstyle.data.table.write",
    "replay": "jaxstyle.engine.replay.replay",
    "report": "jaxstyle.report.rows_index.Asked",  # both with --watch and without
    "status": "jaxstyle.data.audit.status",
    "verify": "jaxstyle.data.audit.verify",
    "demo": "jaxstyle.demo.demo.run",
    "bench": "jaxstyle.bench.measure.run",
    "doctor": "jaxstyle.doctor.examine",
    "weights convert": "jaxstyle.model.convert.convert",
}
"""The function behind a command."""


def test_the_documentation_shows_every_command():
    shown = {" ".join(shlex.split(command)[1:3]) for command in OURS}
    assert all(any(text.startswith(name) for text in shown) for name, _ in generate.commands())
    assert {name for name, _ in generate.commands()} == {*WORK, "weights list", "weights verify"}


def prepared(folder):
    """The files that commands and examples of the documentation name."""
    save(folder / "photos" / "a.jpg", photo(40, 30))
    save(folder / "painting.jpg", painting())
    drawn = [f"styles/{name}.png" for name in ("flow", "glass", "scallops")]
    for name in ("photos/chelsea.jpg", "photos/coffee.jpg", "photos/rocket.jpg", "shots/000.png", "masks/coffee.png",
                 "masks/halves.png", "pairs/halves.png", *drawn):  # fmt: skip
        save(folder / name, photo(16, 16))
    (folder / "data").mkdir()
    for name in ("data/train.csv", "data/train.jsonl", "instances.json"):
        (folder / name).write_text("path\n")
    (folder / "run.toml").write_text(blocks("toml")[0][1])
    (folder / "vgg16.pth").write_bytes(b"")


@pytest.mark.parametrize("command", OURS)
def test_every_command_is_understood(command, tmp_path, monkeypatch):
    """Each one is parsed by the real program, with its work replaced by a note of what it was asked to do."""
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path)
    asked = []
    for name, target in (*WORK.items(), ("render", "jaxstyle.cli_ray.render")):

        def note(*_, name=name, **__):
            asked.append(name)
            raise KeyboardInterrupt

        monkeypatch.setattr(target, note)
    words = shlex.split(command)[1:]
    expected = "plan" if "--dry-run" in words else " ".join(words[:2]) if words[0] == "weights" else words[0]
    assert run(*words) == (130 if expected in WORK else 0), command
    assert asked == ([expected] if expected in WORK else [])


def test_the_files_and_extras_that_commands_name_are_there():
    project = (ROOT / "pyproject.toml").read_text()
    for name, command in commands():
        for word in shlex.split(command):
            if re.fullmatch(r"\w[\w/]*\.py", word):
                assert (ROOT / word).is_file(), f"{name}: {command}"
            for extra in re.findall(r"^\.\[([\w,]+)\]$", word):
                assert all(re.search(rf"^{one} = \[", project, re.MULTILINE) for one in extra.split(",")), command


QUICKLY = 'evaluations=2, preconditioner="none", style_layers=("relu1_1",), content_layers=("relu2_1",)'
"""So that the examples' programs are quickly compiled."""
EXAMPLES = blocks("python", where=[name for name in TEXTS if name != "CONTRIBUTING.md"])


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_every_python_example_runs(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxstyle.engine.jax_setup.set_up", lambda *_: None)  # of other tests' process
    prepared(tmp_path)
    shortened = re.sub(r"evaluations=\d+", QUICKLY, re.sub(r"size=\d+", "size=32", code))
    exec(compile(shortened, name, "exec"), {})
    assert (tmp_path / "stylized" / "a.jpg").is_file()


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith("docs/")])
def test_tables_are_what_the_code_says(name):
    assert TEXTS[name] == generate.generated(TEXTS[name]), f"{name} is stale: run `python docs/generate.py`"


def test_every_table_stands_somewhere():
    markers = re.findall(r"<!-- generated: (\w+) -->", "".join(TEXTS.values()))
    assert sorted(markers) == sorted(generate.TABLES)


def test_there_is_a_row_for_every_flag_and_none_besides():
    rows = re.findall(r"^\| `(--[\w-]+)` \|", TEXTS["docs/reference.md"], re.MULTILINE)
    settings = {name for one in cli.app["render"].assemble_argument_collection() if one.keys for name in one.names}
    assert set(rows) == {name for name in settings if not name.startswith(("--no-", "--empty-"))}
    assert "--network" in rows and len(set(rows)) == len(rows)


def names(command):
    """The flags of a command, as the program has them."""
    found = {name for one in cli.app[command].assemble_argument_collection() for name in one.names}
    return {name for name in found if not name.startswith(("--no-", "--empty-"))}


def test_a_plan_takes_the_flags_of_a_render():
    assert names("plan") <= names("render")
    ray = {flag.strip("`") for flag, *_ in generate.flags(RaySettings)}
    assert names("render") - names("plan") == {"--dry-run", "--quiet", "--log-json"} | ray


def test_help_says_what_the_dataclasses_say():
    run = subprocess.run(
        [sys.executable, "-m", "jaxstyle", "render", "--help"], capture_output=True, text=True, check=True
    )
    helped = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run.stdout).split())
    for flag, _, default, text in generate.flags():
        assert flag.strip("`") in helped
        words = [w for w in re.split(r"\W+", text.split("[default")[0]) if len(w) > 3]
        assert sum(w in helped for w in words) >= 0.9 * len(words), flag  # narrow columns break some words
        if default:
            assert f"[default: {default.strip('`')}]" in helped, flag


def test_every_exit_code_is_told():
    told = re.findall(r"^\| (\d+) \|", TEXTS["docs/promises.md"], re.MULTILINE)
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    codes |= {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert sorted(codes | {128 + signal.SIGTERM}) == [int(code) for code in told]


def test_the_readme_has_the_presets_of_the_code():
    section = README.split("## Presets")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.MULTILINE))
    assert rows == {name: generate.weights_of(preset) for name, preset in PRESETS.items()}


def test_every_link_leads_somewhere():
    paths = [*PATHS, *(ROOT / "weights").glob("*.md"), *(ROOT / "tests").glob("*.md"), *(ROOT / "bench").glob("*.md")]
    for path in paths:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
            file, _, anchor = target.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), f"{path.name} links to {target}"
            assert not anchor or anchor in anchors(there.read_text()), f"{path.name} links to {target}"


def test_the_readme_leads_to_every_document():
    linked = set(re.findall(r"\]\(([^)#\s]+)", README))
    assert set(TEXTS) - {"README.md"} <= linked


def test_files_that_the_documentation_names_are_there():
    """Paths in backticks, from the root or from the package."""
    for name, text in TEXTS.items():
        if name != "CHANGELOG.md":
            for path in re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|md))`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
                assert (ROOT / path).exists() or (ROOT / "jaxstyle" / path).exists(), f"{name} names {path}"


def test_the_gallery_has_a_picture_for_each_of_its_commands(tmp_path, monkeypatch):
    """And its program makes the files that they name."""
    from PIL import Image

    entries, text = gallery.entries(), TEXTS["docs/gallery.md"]
    assert len(entries) == text.count("```sh") == text.count("](gallery/") > 10
    for name, _ in entries:
        with Image.open(ROOT / "docs" / "gallery" / f"{name}.jpg") as picture:
            assert picture.width <= gallery.WIDTH
            assert Path(picture.filename).stat().st_size < 250_000
    assert {path.stem for path in (ROOT / "docs" / "gallery").iterdir()} == {name for name, _ in entries}
    monkeypatch.setattr(gallery, "STYLES", dict.fromkeys(gallery.STYLES, lambda: painting(16, 16)))
    gallery.prepare(tmp_path)
    words = {word for _, command in entries for word in shlex.split(command)}
    named = {word.split(":")[0] for word in words if re.match(r"(photos|styles|masks|shots|pairs)\b", word)}
    assert len(named) > 8 and all((tmp_path / name).exists() for name in named)


def test_the_rest_of_the_folder_map_is_there():
    section = TEXTS["docs/folder-map.md"].split("## The rest")[1]
    mapped = re.findall(r"^\| `([\w/.]+)` \|", section, re.MULTILINE)
    assert mapped and all((ROOT / name).exists() for name in mapped)


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


def test_troubleshooting_quotes_messages_that_the_program_has():
    constants = set()
    for path in (ROOT / "jaxstyle").rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                constants.add(node.value)
    text = "\0".join(constants).lower()
    quoted = re.findall(r"^\| `([^`]+)` \|", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
    assert len(quoted) > 20
    for message in quoted:
        pieces = [piece for piece in re.split("…", message) if piece.strip(" .,()")]
        assert pieces, message
        for piece in pieces:
            assert piece.lower().strip() in text, f"no message says {piece!r}"
