"""`--existing continue`: finished images get the evaluations that they lack, from their outputs on."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, Ear, files, rows

from jaxstyle.data.image import Header
from jaxstyle.data.layout import STEPS
from jaxstyle.data.manifest import Manifest
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import Input
from jaxstyle.decode.worker import UNKNOWN, Probed
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError, SettingsError, SettingsMismatch, StorageError
from jaxstyle.planning.forecast import forecast
from jaxstyle.planning.inputs import NO_STYLE
from jaxstyle.planning.plan import Job, Unchanged, plan
from jaxstyle.planning.scales import stages
from jaxstyle.planning.styles import BrokenStyle, Styles
from jaxstyle.settings import RenderSettings
from jaxstyle.style.status import Status

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MORE = dict(evaluations=25, existing="continue")


@pytest.fixture
def place(tmp_path, devices):
    """Three photographs, of which two are finished with ten evaluations."""
    save(tmp_path / "style.png", painting())
    for k in range(3):
        save(tmp_path / "in" / f"{k}.png", photo(32, 24, seed=k))
    assert again(tmp_path, evaluations=10, limit=2).done == 2
    del devices[:]
    return tmp_path


def again(place, **changes):
    return render(place / "in", place / "style.png", place / "out", QUICK, **changes)


def put(device):
    """What was started: images by their colours, with their budgets and their starts."""
    return {stub.hexed(inputs["content"]): (budget, inputs["init"]) for _, budget, inputs in device.inputs}


def test_finished_images_go_on_from_their_outputs_and_new_ones_begin(place, devices):
    first = files(place / "out")
    ear = Ear()
    assert again(place, progress=ear, **MORE).done == 3
    found = rows(place / "out")
    assert {key: row["evaluations"] for key, row in found.items()} == dict.fromkeys(("0.png", "1.png", "2.png"), 25)
    for key in first:
        assert "continued from its output after 10 evaluations" in found[key]["notes"]
        curve = found[key]["curve"]
        assert curve["stages"] == [10] and curve["evaluations"][0] == 1 and curve["evaluations"][-1] == 25
    assert not found["2.png"]["notes"]
    started = put(devices[0])
    for k in range(3):
        picture = photo(32, 24, seed=k)
        budget, init = started[stub.hexed(np.pad(picture, ((0, 8), (0, 0), (0, 0)), mode="symmetric") / 255)]
        assert budget == (15 if f"{k}.png" in first else 25)
        if f"{k}.png" in first:
            np.testing.assert_allclose(init[:24, :32], 1 - picture / 255, atol=0.51 / 255)
    assert ear.spent == 15 + 15 + 25


def test_the_same_command_again_has_nothing_to_do_and_one_for_more_goes_on(place, devices):
    again(place, **MORE)
    before = (place / "out" / "manifest.jsonl").read_bytes()
    assert again(place, **MORE).rendered == 0 and len(devices) == 1
    assert (place / "out" / "manifest.jsonl").read_bytes() == before
    assert again(place, evaluations=25).rendered == 0  # the folder's number is the new one
    with pytest.raises(SettingsMismatch, match="evaluations is 10 now and 25 there"):
        again(place, evaluations=10)
    again(place, evaluations=30, existing="continue")
    found = rows(place / "out")["0.png"]
    assert found["evaluations"] == 30 and "continued from its output after 25 evaluations" in found["notes"]
    assert {budget for budget, _ in put(devices[-1]).values()} == {5}


def test_fewer_evaluations_and_other_settings_are_refused_and_the_remedy_is_named(place, devices):
    with pytest.raises(SettingsMismatch, match=r"evaluations is 25 now and 10 there. Use .*settings, --existing cont"):
        again(place, evaluations=25)
    with pytest.raises(SettingsMismatch, match="evaluations is 5 now and 10 there"):
        again(place, evaluations=5, existing="continue")
    with pytest.raises(SettingsMismatch, match="seed is 1 now and 0 there") as caught:
        again(place, seed=1, **MORE)
    assert "evaluations is" not in str(caught.value)
    with pytest.raises(SettingsMismatch) as caught:
        again(place, seed=1, evaluations=25)
    assert "--existing continue" not in str(caught.value)
    for changes in ({"strength": 0.5}, {"colors": "content"}, {"colors": "luminance"}):
        with pytest.raises(SettingsError, match="outputs are mixed with photographs"):
            RenderSettings(existing="continue", **changes)
    RenderSettings(existing="continue", colors="matched", retry_failed=True)
    with pytest.raises(SettingsError, match="the sink is 'memory'"):
        again(place, sink="memory", source="folders", **MORE)
    assert not devices and rows(place / "out")["0.png"]["evaluations"] == 10


def test_settings_json_keeps_what_else_it_says(place):
    def recorded():
        return json.loads((place / "out" / "settings.json").read_text())

    before = recorded()
    before["decides"]["settings"]["evaluations"] = 25
    again(place, **MORE)
    assert recorded() == before and before["decides"]["settings"]["precision"] == "float32"


def test_images_that_converged_or_stalled_are_left(place, devices):
    path = place / "out" / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for row, ended in zip(lines, ("converged", "stalled"), strict=True):
        row["ended"] = ended
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert again(place, **MORE).rendered == 1
    assert [row["evaluations"] for row in rows(place / "out").values()] == [10, 10, 25]


def test_only_the_last_stage_goes_on(place, devices):
    shutil.rmtree(place / "out")
    settings = dataclasses.replace(QUICK, size=64, scales="32,64", evaluations="6,4")
    save(place / "in" / "2.png", photo(64, 48))
    render(place / "in", place / "style.png", place / "out", settings, limit=3)
    render(place / "in", place / "style.png", place / "out", settings, evaluations="10,15", existing="continue")
    assert {row["evaluations"] for row in rows(place / "out").values()} == {25}
    assert {(group.bucket, group.stage, budget) for group, budget, _ in devices[-1].inputs} == {
        ((64, 64), 0, 15), ((32, 32), 0, 15)
    }  # fmt: skip


def test_an_output_that_is_not_as_its_row_says_is_rendered_anew(place, devices):
    Image.new("RGB", (32, 24), "red").save(place / "out" / "0.png")
    (place / "out" / "1.png").write_bytes(b"no picture")
    again(place, **MORE)
    found = rows(place / "out")
    for key in ("0.png", "1.png"):
        assert found[key]["notes"] == ["rendered anew: its earlier output was not as its row says"]
        assert found[key]["evaluations"] == 25
    assert {budget for budget, _ in put(devices[-1]).values()} == {25}


@pytest.mark.parametrize("at", ["before the row", "before the output"])
def test_a_crash_leaves_the_old_output_or_the_new_one_and_the_next_run_mends_all(place, monkeypatch, at):
    first = files(place / "out")

    def crash(*_):
        raise StorageError("the disk is gone")

    with monkeypatch.context() as patch:
        if at == "before the row":
            patch.setattr(Manifest, "append", crash)
        else:
            patch.setattr("jaxstyle.data.sinks.folders.FolderSink.write", crash)
        with pytest.raises(StorageError):
            again(place, evaluations=25, existing="continue", limit=1)
    between = files(place / "out")
    assert between.keys() == first.keys()
    for key in between:
        Image.open(place / "out" / key).load()
    assert again(place, **MORE).done == 3
    assert {row["evaluations"] for row in rows(place / "out").values()} == {25}


@pytest.mark.parametrize("status", [Status.STALLED, Status.DIVERGED])
def test_an_output_that_cannot_be_bettered_stays_and_is_not_tried_again(place, devices, monkeypatch, status):
    first, told = files(place / "out"), rows(place / "out")
    name = stub.hexed(np.pad(photo(32, 24, seed=0), ((0, 8), (0, 0), (0, 0)), mode="symmetric") / 255)
    result = stub.StubBatch.result

    def no_better(self, lane):
        found = result(self, lane)
        if stub.hexed(self.images[lane]) != name:
            return found
        image = np.full_like(found.image, np.nan) if status == Status.DIVERGED else found.image
        return found._replace(image=image, loss=found.start_loss)

    monkeypatch.setattr(stub.StubBatch, "result", no_better)
    summary = again(place, **MORE)
    assert (summary.done, summary.failed) == (3, 0) and len(summary.examples) == 2
    found = rows(place / "out")
    assert files(place / "out")["0.png"] == first["0.png"] and files(place / "out")["1.png"] is not None
    note = found["0.png"]["notes"][-1]
    assert note.startswith("not continued: ") and ("no better" in note or "diverged" in note)
    same = {"ended": "stalled", "run": found["0.png"]["run"], "notes": found["0.png"]["notes"]}
    assert found["0.png"] == told["0.png"] | same
    assert again(place, **MORE).rendered == 0


@pytest.mark.parametrize("what", ["full", "unreadable", "unwritable"])
def test_an_output_that_this_run_cannot_continue_stays_and_the_next_run_tries_again(place, devices, monkeypatch, what):
    first = files(place / "out")
    with monkeypatch.context() as patch:
        if what == "full":
            patch.setenv("STUB_ROOM", "0")
        elif what == "unreadable":

            def refuse(*_, **__):
                raise ImageError("its photograph cannot be read")

            patch.setattr("jaxstyle.engine.stages.prepare", refuse)
        else:

            def unwritable(*_):
                raise ImageError("its output cannot be written")

            patch.setattr("jaxstyle.data.sinks.folders.FolderSink.write", unwritable)
        for _ in range(2):
            again(place, batch=1, limit=2, **MORE)
            found = rows(place / "out")
            notes = [note for note in found["0.png"]["notes"] if note.startswith("not continued: ")]
            assert len(notes) == 1 and found["0.png"]["status"] == "done" and found["0.png"]["evaluations"] == 10
        assert files(place / "out") == first
    again(place, **MORE)
    assert {row["evaluations"] for row in rows(place / "out").values()} == {25}


def test_a_changed_photograph_is_rendered_from_its_beginning(place, devices):
    save(place / "in" / "0.png", photo(32, 24, seed=9))
    again(place, **MORE)
    assert rows(place / "out")["0.png"]["notes"] == []
    assert sorted(budget for budget, _ in put(devices[0]).values()) == [15, 25, 25]


def test_a_second_try_counts_the_evaluations_of_the_output_once(place, devices, monkeypatch):
    name = stub.hexed(np.pad(photo(32, 24, seed=0), ((0, 8), (0, 0), (0, 0)), mode="symmetric") / 255)
    monkeypatch.setenv("STUB_NAN_ONCE", name)
    ear = Ear()
    again(place, progress=ear, **MORE)
    found = rows(place / "out")["0.png"]
    assert found["evaluations"] == 25 and ear.spent == 15 + 15 + 25
    assert any("second try" in note for note in found["notes"]) and any("continued" in note for note in found["notes"])


def test_a_plan_counts_them_with_the_evaluations_that_they_lack(place, devices):
    made = forecast([place / "in"], [place / "style.png"], place / "out", dataclasses.replace(QUICK, **MORE),
                    lambda ready: stub.StubDevice(), measure=False)  # fmt: skip
    assert (made.render, made.finished) == (3, 0) and sum(one.evaluations for one in made.buckets) == 15 + 15 + 25


def test_shards_go_on_too(place, devices):
    shutil.rmtree(place / "out")
    for changes in ({"evaluations": 10}, MORE):
        for index in (2, 1):
            again(place, shard=f"{index}/2", **changes)
    assert {row["evaluations"] for row in rows(place / "out").values()} == {25}


def test_an_image_that_stalls_below_its_output_is_done(place, monkeypatch):
    advance, result = stub.StubBatch.advance, stub.StubBatch.result

    def stalls(self, ticks):
        found = advance(self, ticks)
        self.status[self.status == Status.BUDGET] = Status.STALLED
        return found._replace(status=self.status.copy())

    monkeypatch.setattr(stub.StubBatch, "advance", stalls)
    monkeypatch.setattr(stub.StubBatch, "result", lambda self, lane: result(self, lane)._replace(loss=3.99))
    assert again(place, **MORE).done == 2  # a new image must fall by 1%
    assert [row["ended"] for row in rows(place / "out").values()] == ["stalled"] * 3
    assert [row["evaluations"] for row in rows(place / "out").values()] == [25] * 3


def test_an_output_whose_style_cannot_be_read_any_more_stays_in_its_style(place, devices, monkeypatch):
    shutil.rmtree(place / "out")
    for name in ("a", "b"):
        save(place / "styles" / f"{name}.png", painting())
    render(place / "in", place / "styles", place / "out", QUICK, limit=3)
    first, told = files(place / "out"), rows(place / "out")

    lost, get = told["0.png"]["style"], Styles.get

    def broken(self, key):
        if key == lost:
            raise BrokenStyle(None)
        return get(self, key)

    monkeypatch.setattr(Styles, "get", broken)
    render(place / "in", place / "styles", place / "out", QUICK, **MORE)
    found = rows(place / "out")
    assert files(place / "out")["0.png"] == first["0.png"]
    assert found["0.png"]["style"] == lost and found["0.png"]["notes"] == [f"not continued: {NO_STYLE}"]
    assert {row["evaluations"] for row in found.values() if row["style"] != lost} <= {25}


def test_a_header_that_differs_leaves_the_job_at_its_last_stage():
    settings = dataclasses.replace(QUICK, size=64, scales="32,64", evaluations=40)
    header = Header(64, 48, "PNG", 1)
    job = Job("a.png", Path("a.png"), 1, 1, header, stages(header, settings)).continuing(
        Row("a.png", "done", evaluations=9)
    )
    turned = job.with_header(Header(48, 64, "PNG", 1), settings)
    assert turned.work == (48, 64) and turned.last and turned.evaluations == 31 and turned.evaluations_before == 9


def test_an_unchanged_input_whose_header_cannot_be_read_now_is_left(place):
    class Unreadable:
        def probe(self, locators):
            return [Probed(UNKNOWN, None, "cannot be read") for _ in locators]

    found = plan(
        [Input("a.png", Path("a.png"))], QUICK, lambda one: True, Unreadable(), lambda one: Row("a.png", "done")
    )
    assert [*found] == [Unchanged("a.png")]


FLAT = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled


def test_with_the_real_network_the_loss_goes_on_falling_from_where_it_was(tmp_path):
    settings = RenderSettings(size=32, batch=1, devices=1, workers=0, **FLAT)
    save(tmp_path / "style.png", painting())
    save(tmp_path / "in" / "a.png", photo(32, 24))

    def at(evaluations, folder="out", **changes):
        render(tmp_path / "in", tmp_path / "style.png", tmp_path / folder, settings, evaluations=evaluations, **changes)
        return rows(tmp_path / folder)["a.png"]

    early, late = at(20), at(40, existing="continue")
    whole = at(40, "whole")
    assert late["evaluations"] == whole["evaluations"] == 40
    # levels of 1/255 cost some of the loss (1.4 of 7.0 here), and the curvature is begun anew
    assert early["loss"]["total"] < late["start_loss"] < 0.1 * early["start_loss"] + early["loss"]["total"]
    gained, possible = (early["loss"]["total"] - one["loss"]["total"] for one in (late, whole))
    assert gained > 0.7 * possible > 0  # 0.87 was measured
    saved = at(40, "saved", save_every=15)  # where a call of the device ends decides nothing
    assert saved["loss"] == whole["loss"] and saved["output_sha256"] == whole["output_sha256"]
    steps = sorted((tmp_path / "saved" / STEPS / "a.png").iterdir())
    assert [one.name for one in steps] == ["000015.png", "000030.png"]
    moving = [np.asarray(Image.open(path), float) for path in (*steps, tmp_path / "saved" / "a.png")]
    assert 0 < np.abs(moving[1] - moving[2]).mean() < np.abs(moving[0] - moving[2]).mean()
