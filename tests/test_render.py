"""Runs over files: one row an input, resuming, refusals, shapes; with the real network where it matters."""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.engine import prepare, stages
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, SettingsError, SettingsMismatch
from jaxstyle.planning.buckets import bucket
from jaxstyle.settings import RenderSettings

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FEW = dict(preconditioner="none", style_layers=("relu1_1",), content_layers=("relu2_1",))  # quickly compiled
TINY = RenderSettings(size=32, evaluations=3, batch=2, workers=0, **FEW)


def rows(output):
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in lines}) == len(lines)
    return {row["key"]: row for row in lines}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(output):
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in output.rglob("*") if p.is_file()}


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "in"
    for k, (name, size) in enumerate({"a.png": (40, 30), "sub/b.jpg": (30, 40), "sub/deep/c.JPEG": (64, 20)}.items()):
        save(root / name, photo(*size, seed=k))
    (root / "notes.txt").write_text("not a picture")
    (root / "sub" / "broken.jpg").write_bytes((root / "sub" / "b.jpg").read_bytes()[:300])
    return root


def test_a_folder_is_mirrored_with_one_row_an_input(tree, style, tmp_path):
    summary = render(tree, style, tmp_path / "out", TINY)
    found = rows(tmp_path / "out")
    assert {k: r["status"] for k, r in found.items()} == {
        "a.png": "done", "sub/b.jpg": "done", "sub/deep/c.JPEG": "done", "notes.txt": "skipped",
        "sub/broken.jpg": "failed",
    }  # fmt: skip
    assert (summary.done, summary.skipped, summary.failed, summary.rendered) == (3, 1, 1, 3)
    assert all(row["reason"] for row in found.values() if row["status"] != "done")
    for key, (size, format) in {
        "a.png": ((32, 24), "PNG"), "sub/b.jpg": ((24, 32), "JPEG"), "sub/deep/c.JPEG": ((32, 10), "JPEG")
    }.items():  # fmt: skip
        with Image.open(tmp_path / "out" / key) as image:
            assert (image.size, image.format) == (size, format)
        row = found[key]
        assert row["work_size"] == row["output_size"] == list(size)
        assert row["evaluations"] == 3 and row["ended"] == "budget" and row["seconds"] > 0 and row["start_loss"] > 0
        assert row["input_sha256"] == sha256(tree / key) and row["output_sha256"] == sha256(tmp_path / "out" / key)
        assert row["input_bytes"] == (tree / key).stat().st_size and row["output_bytes"] > 0
        assert row["style"] == "style.png" and row["seed"] == 0
        terms = row["loss"]
        assert terms["total"] == pytest.approx(terms["content"] + terms["style"] + terms["tv"])
    own = {".jaxstyle-lock", "manifest.jsonl", "settings.json"}
    assert set(files(tmp_path / "out")) == {"a.png", "sub/b.jpg", "sub/deep/c.JPEG"} | own


def test_running_again_changes_nothing(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", TINY)
    before = files(tmp_path / "out")
    summary = render(tree, style, tmp_path / "out", TINY)
    assert summary.rendered == 0 and summary.done == 3 and summary.failed == 1
    assert files(tmp_path / "out") == before


def test_a_later_run_renders_what_is_missing(tree, style, tmp_path, devices):
    first = render(tree, style, tmp_path / "out", TINY, limit=1)
    assert first.rendered == 1
    before = (tmp_path / "out" / "a.png").stat()
    second = render(tree, style, tmp_path / "out", TINY)
    assert second.rendered == 2 and second.done == 3
    after = (tmp_path / "out" / "a.png").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # not written again


def test_failed_inputs_are_retried_when_they_have_changed_or_when_asked(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", TINY)
    assert render(tree, style, tmp_path / "out", TINY).looked_at == 0
    assert render(tree, style, tmp_path / "out", TINY, retry_failed=True).looked_at == 1
    save(tree / "sub" / "broken.jpg", photo(40, 40))
    summary = render(tree, style, tmp_path / "out", TINY)
    assert summary.rendered == 1 and summary.failed == 0
    assert rows(tmp_path / "out")["sub/broken.jpg"]["status"] == "done"


def test_other_settings_weights_or_style_into_the_same_folder_are_refused(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", TINY)
    before = files(tmp_path / "out")
    with pytest.raises(SettingsMismatch, match=r"style_weight is 99\.0 now and"):
        render(tree, style, tmp_path / "out", TINY, style_weight=99.0)
    other = save(tmp_path / "other.png", painting()[::-1])
    with pytest.raises(SettingsMismatch, match="style is"):
        render(tree, other, tmp_path / "out", TINY)
    with pytest.raises(InputError, match="results already"):
        render(tree, style, tmp_path / "out", TINY, existing="error")
    assert files(tmp_path / "out") == before
    summary = render(tree, style, tmp_path / "out", TINY, size=64, existing="overwrite")
    assert summary.rendered == 3 and summary.done == 3
    assert files(tmp_path / "out")["a.png"] != before["a.png"]


def test_another_picture_of_the_same_name_is_not_taken_for_finished(style, tmp_path, devices):
    for k, folder in enumerate(("one", "two")):
        save(tmp_path / folder / "a.png", photo(40, 30, k))
    render(tmp_path / "one", style, tmp_path / "out", TINY)
    before = files(tmp_path / "out")["a.png"]
    assert render(tmp_path / "two", style, tmp_path / "out", TINY).rendered == 1
    assert files(tmp_path / "out")["a.png"] != before
    assert list(rows(tmp_path / "out")) == ["a.png"]


def test_a_lost_output_is_rendered_again(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", TINY)
    before = files(tmp_path / "out")
    (tmp_path / "out" / "a.png").unlink()
    assert render(tree, style, tmp_path / "out", TINY).rendered == 1
    assert files(tmp_path / "out")["a.png"] == before["a.png"]


def test_a_picture_that_cannot_be_encoded_is_a_failed_row(tree, style, tmp_path, monkeypatch, devices):
    from jaxstyle.data import image

    encode = image.encode

    def refusing(pixels, alpha, format, *more, **options):
        return encode(pixels, alpha, "no such format" if format == "PNG" else format, *more, **options)

    monkeypatch.setattr(image, "encode", refusing)
    assert render(tree, style, tmp_path / "out", TINY).done == 2
    assert "cannot be written as" in rows(tmp_path / "out")["a.png"]["reason"]


def test_every_row_has_style_and_seed(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", TINY, seed=5)
    assert {(row["style"], row["seed"]) for row in rows(tmp_path / "out").values()} == {("style.png", 5)}


def test_files_of_others_are_not_overwritten(tree, style, tmp_path, devices):
    mine = save(tmp_path / "mine" / "a.png", photo(20, 20))
    before = mine.read_bytes()
    with pytest.raises(InputError, match="no run of jaxstyle"):
        render(tree, style, tmp_path / "mine", TINY)
    for existing in ("resume", "overwrite"):
        with pytest.raises(InputError, match="lies in the output folder"):
            render(tree, mine, tmp_path / "mine", TINY, existing=existing)
    assert mine.read_bytes() == before and len(files(tmp_path / "mine")) == 1


def test_output_size_input_keeps_the_input_pixels_and_alpha(style, tmp_path, devices):
    rgba = np.dstack([photo(90, 50), np.tile(np.linspace(0, 255, 90), (50, 1)).astype(np.uint8)])
    source = save(tmp_path / "in" / "a.png", rgba)
    render(source, style, tmp_path / "out", TINY, output_size="input")
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (90, 50) and image.mode == "RGBA"
        alpha = np.asarray(image)[..., 3].astype(int)
    assert np.abs(alpha - rgba[..., 3]).max() <= 1  # it was not resized: only rounding


def test_a_mixed_folder_compiles_few_programs(style, tmp_path):
    sizes = [(32, 32), (300, 280), (64, 48), (100, 75), (64, 36), (320, 180), (36, 64)]
    for k, size in enumerate(sizes):
        save(tmp_path / "in" / f"{k}.png", photo(*size, seed=k))
    settings = RenderSettings(preset="classic", size=64, evaluations=1, batch=4, seed=1, workers=0, **FEW)
    summary = render(tmp_path / "in", style, tmp_path / "out", settings)
    assert summary.done == len(sizes)
    buckets = Counter(bucket(tuple(row["work_size"]), 64) for row in rows(tmp_path / "out").values())
    assert 1 <= summary.programs <= len(buckets) < len(sizes)


class Ear(Silent):
    def __init__(self):
        self.begun, self.spent, self.heard, self.counted, self.before, self.said = [], 0, [], [], 0, []
        self.begin, self.inputs, self.say = self.begun.append, self.counted.append, self.said.append

    def finished(self, number):
        self.before += number

    def advance(self, evaluations, loss):
        self.spent += evaluations

    def row(self, row):
        self.heard.append(row)


@pytest.mark.parametrize("limit", [None, 2])
def test_progress_hears_every_evaluation_and_every_row(tree, style, tmp_path, devices, limit):
    ear = Ear()
    render(tree, style, tmp_path / "out", TINY, limit=limit, progress=ear)
    found = rows(tmp_path / "out")
    assert sorted(row.key for row in ear.heard) == sorted(found)
    assert all(json.loads(json.dumps(dataclasses.asdict(row))) == found[row.key] for row in ear.heard)
    assert ear.begun == [3] and ear.spent == sum(row.evaluations for row in ear.heard) == (limit or 3) * 3
    assert ear.counted == [3 if limit else 5] and ear.before == 0  # with a limit no more are listed than needed
    again = Ear()
    render(tree, style, tmp_path / "out", TINY, progress=again)
    assert again.before == len(found) and len(again.heard) == 5 - len(found)


def test_a_row_is_told_when_it_is_on_the_disk(tree, style, tmp_path, devices):
    class Checking(Silent):
        def row(self, row):
            assert row.key in rows(tmp_path / "out")
            assert row.status != "done" or (tmp_path / "out" / row.key).exists()

    assert render(tree, style, tmp_path / "out", TINY, progress=Checking()).done == 3


def test_a_picture_that_changes_after_planning_is_a_failed_row(tree, style, tmp_path, devices, monkeypatch):
    before = prepare.prepare

    def meddled(job, *arguments):
        if job.key == "a.png":
            save(tree / "a.png", photo(99, 10))
        return before(job, *arguments)

    monkeypatch.setattr(stages, "prepare", meddled)
    assert render(tree, style, tmp_path / "out", TINY).done == 2
    assert "changed" in rows(tmp_path / "out")["a.png"]["reason"]
    monkeypatch.undo()
    stub.install(monkeypatch.setattr)
    assert render(tree, style, tmp_path / "out", TINY, retry_failed=True).rendered == 1


def test_an_early_stop_ends_lanes_on_their_own_and_refills_them(style, tmp_path, monkeypatch):
    for k in range(5):
        save(tmp_path / "in" / f"{k}.png", photo(32, 32, seed=k) if k % 2 else np.full((32, 32, 3), 40 * k, np.uint8))
    settings = RenderSettings(size=32, evaluations=60, batch=2, tolerance=0.2, workers=0, **FEW)
    made, batch = [], JaxDevice.batch
    monkeypatch.setattr(JaxDevice, "batch", lambda self, *a: made.append(a) or batch(self, *a))
    summary = render(tmp_path / "in", style, tmp_path / "out", settings)
    assert summary.done == 5 and len(made) < 3  # batches of two were refilled
    ended = rows(tmp_path / "out").values()
    assert any(row["ended"] == "converged" and row["evaluations"] < 60 for row in ended)
    assert len({row["evaluations"] for row in ended}) > 1


def test_a_diverged_picture_is_a_failed_row_and_the_others_are_done(style, tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", photo(32, 32, 1))
    save(tmp_path / "in" / "b.png", photo(32, 32, 2))

    def poisoned(settings, content, style_image, key, start):
        init = initial(settings, content, style_image, key, start)
        if key == "a.png":
            init[0, 0, 0] = np.nan
        return init

    initial = prepare.initial
    monkeypatch.setattr(prepare, "initial", poisoned)
    summary = render(tmp_path / "in", style, tmp_path / "out", TINY)
    found = rows(tmp_path / "out")
    assert summary.failed == 1 and found["a.png"]["status"] == "failed" and found["a.png"]["ended"] == "diverged"
    assert found["a.png"]["reason"].count("diverged") == 2 and "second try" in found["a.png"]["reason"]
    assert found["b.png"]["status"] == "done" and not (tmp_path / "out" / "a.png").exists()


def test_two_folders_with_one_name_are_a_failed_row_and_neither_is_rendered(tree, style, tmp_path, devices):
    save(tmp_path / "other" / "a.png", photo(30, 30, 9))
    save(tmp_path / "other" / "sub" / "d.png", photo(30, 30, 8))
    summary = render([tree, tmp_path / "other"], style, tmp_path / "out", TINY)
    found = rows(tmp_path / "out")
    assert summary.done == 3 and {"sub/b.jpg", "sub/d.png"} <= set(found)
    assert found["a.png"]["status"] == "failed" and "two inputs have this name" in found["a.png"]["reason"]
    assert not (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("init", ["noise", "matched", "file"])
def test_every_start_works(style, tmp_path, init):
    for k in range(2):  # as many as have been compiled for
        save(tmp_path / "in" / f"{k}.png", photo(32, 32, k))
    start = str(save(tmp_path / "start.png", photo(20, 20, 5))) if init == "file" else init
    assert render(tmp_path / "in", style, tmp_path / "out", TINY, init=start).done == 2


@pytest.mark.parametrize("kind", ["pipe", "device", "gone"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_style_that_is_no_regular_file_is_refused_and_not_waited_for(tree, tmp_path, devices, kind, workers):
    odd = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "gone": tmp_path / "gone"}[kind]
    if kind == "pipe":
        os.mkfifo(odd)
    with pytest.raises(InputError, match="the style .* cannot be read"):
        render(tree, odd, tmp_path / "out", TINY, workers=workers)
    assert not (tmp_path / "out").exists()


def test_an_empty_input_that_becomes_a_pipe_is_not_waited_for(tree, style, tmp_path, devices):
    (tree / "a.png").write_bytes(b"")
    render(tree, style, tmp_path / "out", TINY)
    (tree / "a.png").unlink()
    os.mkfifo(tree / "a.png")
    render(tree, style, tmp_path / "out", TINY)
    assert rows(tmp_path / "out")["a.png"]["status"] != "done"


def test_the_pictures_of_the_whole_run_are_decoded_in_a_worker(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setattr("jaxstyle.data.image.read", None)  # of this process
    start = save(tmp_path / "start.png", photo(200, 100))
    assert render(tree, style, tmp_path / "out", TINY, init=str(start), workers=1).done == 3


def test_mistakes_are_found_before_anything_is_written(tree, style, tmp_path, devices):
    out = tmp_path / "out"
    for call, error in [
        (lambda: render(tmp_path / "nowhere", style, out, TINY), InputError),
        (lambda: render([], style, out, TINY), InputError),
        (lambda: render(tree, tmp_path, out, TINY), InputError),
        (lambda: render(tree, tree / "notes.txt", out, TINY), InputError),
        (lambda: render(tree, style, out, TINY, size=7), SettingsError),
        (lambda: render(tree, style, tree / "out", TINY), InputError),
        (lambda: render(tree, style, tree, TINY), InputError),
        (lambda: render(tree, style, out, TINY, init=str(tree / "notes.txt")), InputError),
        (lambda: render(tree, style, out, TINY, shard="3/2"), SettingsError),
    ]:
        with pytest.raises(error):
            call()
    assert not out.exists() and not (tree / "out").exists()


def test_a_run_starts_from_the_results_of_an_earlier_one(tree, style, tmp_path, monkeypatch):
    devices = stub.install(monkeypatch.setattr, record=True)
    render(tree, style, tmp_path / "first", TINY)
    (tmp_path / "first" / "a.png").unlink()
    summary = render(tree, style, tmp_path / "second", TINY, init=str(tmp_path / "first"))
    found = rows(tmp_path / "second")
    assert summary.failed > 0 and "its start" in found["a.png"]["reason"] and "first/a.png" in found["a.png"]["reason"]
    done = [key for key, row in found.items() if row["status"] == "done"]
    assert done and all(any("started from a result" in note for note in found[key]["notes"]) for key in done)
    starts = {inputs["init"].tobytes() for _, _, inputs in devices[1].inputs}
    contents = {inputs["content"].tobytes() for _, _, inputs in devices[1].inputs}
    assert len(starts) > 1 and not starts & contents
    for _, _, inputs in devices[1].inputs:  # the stand-in turns the colours round
        np.testing.assert_allclose(inputs["init"].mean(), 1 - inputs["content"].mean(), atol=0.05)
    with pytest.raises(InputError, match="overlaps the init folder"):
        render(tree, style, tmp_path / "first", TINY, init=str(tmp_path / "first"))
    with pytest.raises(SettingsError, match="path of a picture or folder"):
        RenderSettings(init=str(tmp_path / "nothing"))
