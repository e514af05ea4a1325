"""Faults that users of batch and image tools met: FAULTS.md lists them with their tests, and the rest are here."""

from __future__ import annotations

import ast
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.decode import worker
from jaxstyle.engine import stages
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.shared import Shared
from jaxstyle.errors import StorageError
from jaxstyle.planning import preflight
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import pad_reflect

TESTS = Path(__file__).parent
TINY = RenderSettings(size=64, evaluations=10, batch=4, workers=0)
ALONE = ("--batch", 4, "--workers", 0)


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def source(tmp_path):
    """Twelve pictures, all of one bucket."""
    for k in range(12):
        save(tmp_path / "in" / f"{k:02}.png", photo(64, 60, seed=k))
    return tmp_path / "in"


@pytest.fixture
def device(monkeypatch):
    """The stub in this process."""
    return stub.install(monkeypatch.setattr)


def put_on_path(folder: Path, monkeypatch, *programs: str) -> Path:
    """Makes programs that leave a mark when they are run; returns where."""
    for program in programs:
        script = folder / "bin" / program
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {folder}/was-run\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    return folder / "was-run"


def test_the_table_names_every_fault_once_and_only_tests_that_exist():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (TESTS / "FAULTS.md").read_text().splitlines()
            if re.match(r"\| *\d", line)]  # fmt: skip
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 54
    functions: dict[str, set[str]] = {}
    for number, fault, where in rows:
        named = re.findall(r"`tests/(\w+\.py)::(\w+)`", where)
        assert fault and (named or where.startswith("not yet")), number
        for file, name in named:
            if file not in functions:
                tree = ast.parse((TESTS / file).read_text())
                functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions[file], f"fault {number}: tests/{file} has no {name}"


def test_every_hostile_odd_or_oddly_named_file_gets_one_row(style, tmp_path, monkeypatch):
    source, marks = tmp_path / "in", put_on_path(tmp_path, monkeypatch, "gs", "gswin64c", "touch")
    expected = {}
    for make in (hostile.odd, hostile.broken, hostile.names):
        expected |= {f"{make.__name__}/{key}": status for key, status in make(source / make.__name__).items()}
    (source / "links" / ".hidden").mkdir(parents=True)
    (source / "links" / "loop").symlink_to("..")
    (source / "links" / "gone.jpg").symlink_to("nowhere")
    (source / "links" / "again.jpg").symlink_to("../odd/LOUD.JPEG")
    os.mkfifo(source / "links" / "pipe.png")
    (source / "links" / ".thumb.jpg").write_bytes((source / "odd" / "LOUD.JPEG").read_bytes())
    (source / "links" / os.fsdecode(b"na\xefve.jpg")).write_bytes(b"text")
    expected |= {
        "links/.hidden": "skipped", "links/loop": "skipped", "links/gone.jpg": "failed", "links/again.jpg": "done",
        "links/pipe.png": "failed", "links/.thumb.jpg": "skipped", "links/" + os.fsdecode(b"na\xefve.jpg"): "failed",
    }  # fmt: skip
    output = tmp_path / "out"
    code, said = hostile.run(hostile.command(source, style, output, "--workers", 1))
    assert code == 3, said
    found = hostile.rows(output)
    assert {key: row["status"] for key, row in found.items()} == expected
    assert all(row["reason"] for row in found.values() if row["status"] != "done")
    assert set(hostile.pictures_of(output)) == {key for key, status in expected.items() if status == "done"}
    for key, row in found.items():
        if row["status"] == "done":
            with Image.open(output / key) as image:
                image.load()
                assert list(image.size) == row["output_size"]
    assert found["odd/animated.png"]["frames"] == found["odd/pages.tif"]["frames"] == 3
    assert found["odd/turned-6.jpg"]["input_size"] == [40, 30] and found["odd/line.png"]["work_size"] == [1, 64]
    assert "na\\xefve.jpg" in said and "Traceback" not in said
    assert not marks.exists()
    assert sum(bool(row["notes"]) for key, row in found.items() if key.startswith("names/")) == 2  # case, and Unicode


def test_of_a_picture_cut_at_a_hundred_places_nothing_half_is_rendered(style, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(photo(90, 70)).save(whole, "JPEG", quality=90)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "whole.jpg").write_bytes(whole.getvalue())
    for cut, data in hostile.truncations(whole.getvalue(), 100).items():
        (tmp_path / "in" / f"cut-{cut}.jpg").write_bytes(data)
    assert hostile.run(hostile.command(tmp_path / "in", style, tmp_path / "out", *ALONE))[0] == 3
    found, made = hostile.statuses(tmp_path / "out"), hostile.pictures_of(tmp_path / "out")
    assert len(found) == 101 and set(found.values()) == {"done", "failed"}
    assert list(found.values()).count("failed") >= 95  # without its last bytes, an end mark, it may be whole
    assert all(data == made["whole.jpg"] for data in made.values())


def test_a_writer_that_fails_leaves_no_input_without_a_row_or_a_second_try(
    device, source, style, tmp_path, monkeypatch
):
    publish, calls = stages.publish, []

    def failing(ended, *arguments):
        calls.append(ended)
        if len(calls) == 3:
            raise RuntimeError("of nobody's making")
        return publish(ended, *arguments)

    monkeypatch.setattr(stages, "publish", failing)
    with pytest.raises(RuntimeError, match="of nobody's making"):
        render(source, style, tmp_path / "out", TINY)
    kept = hostile.statuses(tmp_path / "out")
    assert set(kept) <= set(hostile.pictures_of(tmp_path / "out")) and len(kept) < 12
    monkeypatch.setattr(stages, "publish", publish)
    summary = render(source, style, tmp_path / "out", TINY)
    assert summary.done == 12 == len(hostile.statuses(tmp_path / "out")) and summary.rendered == 12 - len(kept)


def test_an_input_that_gets_lost_on_the_way_is_noticed(device, source, style, tmp_path, monkeypatch):
    put, seen = Shared.put, []

    def losing(self, where, what):
        if isinstance(what, Ended):
            seen.append(what)
        if len(seen) != 3 or not isinstance(what, Ended):
            put(self, where, what)

    monkeypatch.setattr(Shared, "put", losing)
    with pytest.raises(AssertionError, match="1 images have no row"):
        render(source, style, tmp_path / "out", TINY)
    assert len(hostile.statuses(tmp_path / "out")) == 11


@pytest.mark.parametrize("place", [".", "below/it", ".."])
def test_an_output_among_the_inputs_is_refused_and_they_stay_as_they_are(source, style, tmp_path, place):
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    code, said = hostile.run(hostile.command(source, style, source / place, "--existing", "overwrite"))
    assert code == 2 and "overlaps the input" in said
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize(("switch", "why"), [("STUB_NAN", "not finite"), ("STUB_BLACK", "black")])
def test_one_picture_comes_out_wrong_and_its_neighbours_do_not_notice(
    device, source, style, tmp_path, monkeypatch, switch, why
):
    render(source, style, tmp_path / "whole", TINY)
    content = pad_reflect(worker.read(source / "06.png", 64, 10**6, full_alpha=False).pixels, 64, 64)
    monkeypatch.setenv(switch, stub.hexed(content))
    summary = render(source, style, tmp_path / "out", TINY)
    assert (summary.done, summary.failed) == (11, 1)
    row = hostile.rows(tmp_path / "out")["06.png"]
    assert row["status"] == "failed" and why in row["reason"] and "second try" in row["reason"]
    whole = hostile.pictures_of(tmp_path / "whole")
    assert whole.pop("06.png") and hostile.pictures_of(tmp_path / "out") == whole


def test_five_hundred_odd_sizes_take_few_programs_and_no_more_memory_than_fifty(style, tmp_path):
    chance = random.Random(0)
    sizes = [(chance.randint(2, 400), chance.randint(2, 400)) for _ in range(550)]
    for k, (width, height) in enumerate(sizes):
        noise = np.random.default_rng(k).integers(0, 256, (height, width), np.uint8)
        save(tmp_path / ("few" if k < 50 else "many") / f"{k}.png", noise)
    code = """
import json, resource, sys
import stub
from jaxstyle.engine.pipeline import render
devices, told = stub.install(), []
for name in ("few", "many"):
    summary = render(name, "style.png", f"{name}-out", size=128, evaluations=1, batch=4, workers=0)
    told.append([summary.done, summary.programs, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])
print(json.dumps(told))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(TESTS)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    (few, programs, before), (many, all_programs, after) = json.loads(done.stdout)
    assert (few, many) == (50, 500)
    assert programs <= all_programs <= 3 * 34  # a bucket has three sizes of batches
    assert after - before < 32 * 1024  # KiB


def test_nothing_is_forked_and_nothing_is_warned_of(source, style, tmp_path):
    """A process that runs JAX must not be forked; subprocess does not, by Python's own hooks."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    mark = "import os, pathlib; os.register_at_fork(before=lambda: (pathlib.Path(__file__).parent / 'forked').touch())"
    (hooks / "sitecustomize.py").write_text(mark)
    line = hostile.command(source, style, tmp_path / "out", "--workers", 2, program=("-W", "error", hostile.STUB))
    code, said = hostile.run(line, PYTHONPATH=hooks)
    assert code == 0 and "arning" not in said, said
    assert not (hooks / "forked").exists()
    subprocess.run([sys.executable, "-c", "import os; os.fork()"], env=os.environ | {"PYTHONPATH": str(hooks)})
    assert (hooks / "forked").exists()  # it would have been seen


def test_a_folder_that_may_not_be_written_is_told_before_the_weights_load(source, style, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(preflight.weights, "load", lambda path=None: pytest.fail("weights were loaded"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "out")
    for output in (tmp_path / "out", tmp_path / "out" / "below" / "it"):
        with pytest.raises(StorageError, match="cannot be written"):
            render(source, style, output, TINY)
    assert not list((tmp_path / "out").iterdir())


def test_a_log_of_many_failures_is_short(style, tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(200):
        (tmp_path / "in" / f"{k:03}.jpg").write_bytes(b"no picture")
    code, said = hostile.run(hostile.command(tmp_path / "in", style, tmp_path / "out", *ALONE))
    assert code == 3 and len(hostile.rows(tmp_path / "out")) == 200
    assert 20 <= len(said.splitlines()) <= 25 and not re.search(r"[\x00-\x09\x0b-\x1f]", said)


def test_a_name_forges_no_line_of_the_log_and_commands_no_terminal(style, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\x1b[31m\nfailed: other.jpg: forged.jpg").write_bytes(b"no picture")
    code, said = hostile.run(hostile.command(tmp_path / "in", style, tmp_path / "out", *ALONE))
    assert code == 3 and "\x1b" not in said and "\nfailed: other" not in said


def test_a_finished_job_claims_no_work_and_changes_nothing(source, style, tmp_path):
    line = hostile.command(source, style, tmp_path / "out", *ALONE)
    assert "12 rendered" in hostile.run(line)[1]
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in (tmp_path / "out").iterdir()}
    code, said = hostile.run(line)
    assert code == 0 and "12 done, 0 skipped, 0 failed" in said and "rendered" not in said
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in (tmp_path / "out").iterdir()} == before


def test_a_name_that_looks_like_a_command_is_a_name(style, tmp_path, monkeypatch):
    mark = put_on_path(tmp_path, monkeypatch, "touch")
    code, said = hostile.run(hostile.command(f"pipe:touch {tmp_path}/was-run", style, tmp_path / "out"))
    assert code == 2 and "does not exist" in said and not mark.exists()


def test_pictures_of_extreme_shapes_survive_the_real_network(network, style, tmp_path):
    for name, array in {
        "dot.png": photo(1, 1), "line.png": photo(1, 10_000), "gray.png": photo(40, 30)[..., 0],
        "flat.png": np.full((9, 9, 3), 128, np.uint8), "good.png": photo(32, 32),
    }.items():  # fmt: skip
        save(tmp_path / "in" / name, array)
    render(tmp_path / "in", style, tmp_path / "out", size=32, evaluations=2, batch=1, workers=0)
    found = hostile.rows(tmp_path / "out")
    assert len(found) == 5 and {found[key]["status"] for key in ("line.png", "gray.png", "good.png")} == {"done"}
    for row in found.values():
        assert row["status"] == "done" or row["reason"]
        assert row["status"] != "done" or np.isfinite(list(row["loss"].values())).all()
