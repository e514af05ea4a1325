"""`--save-every`: intermediate pictures lie beside the outputs, and are taken for neither outputs nor inputs."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import stub
from memory_io import install as install_memory
from pictures import encoded, painting, photo, save
from PIL import Image
from whole_runs import MEASURED, QUICK, Ear, files, rows

from jaxstyle import sweep
from jaxstyle.data import audit
from jaxstyle.data.layout import STEPS, is_reserved
from jaxstyle.data.sources.walk import discover
from jaxstyle.engine import stages, steps
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError, SettingsError
from jaxstyle.settings import RenderSettings

LANE = (32, 24)


@pytest.fixture
def place(tmp_path, devices):
    """Three photographs and a style."""
    save(tmp_path / "style.png", painting())
    for k in range(3):
        save(tmp_path / "in" / "sub" / f"{k}.jpg", photo(*LANE, seed=k))
    return tmp_path


def again(place, **changes):
    return render(place / "in", place / "style.png", place / "out", QUICK, **changes)


def saved(place, key="sub/0.jpg"):
    return sorted(int(one.stem) for one in (place / "out" / STEPS / key).glob("*.png"))


def test_each_image_is_saved_at_every_multiple_but_its_last(place, devices):
    assert again(place, save_every=3).done == 3
    for k in range(3):
        assert saved(place, f"sub/{k}.jpg") == [3, 6, 9]
        picture = np.asarray(Image.open(place / "out" / STEPS / "sub" / f"{k}.jpg" / "000006.png"))
        original = np.asarray(Image.open(place / "in" / "sub" / f"{k}.jpg"))
        np.testing.assert_array_equal(picture, 255 - original)  # in the colours and at the size of the output
    assert again(place, save_every=3).rendered == 0
    shutil.rmtree(place / "out")
    again(place, save_every=5)
    assert saved(place) == [5]  # the output has the tenth


def test_without_the_setting_nothing_is_saved_and_rows_and_outputs_are_the_same(place, devices):
    again(place)
    assert not (place / "out" / STEPS).exists()
    assert set(devices[0].ticks) == {1, 9}
    told, made = rows(place / "out"), files(place / "out")
    settings = (place / "out" / "settings.json").read_bytes()
    shutil.rmtree(place / "out")
    again(place, save_every=2)
    assert (place / "out" / "settings.json").read_bytes() == settings
    same = MEASURED
    assert {key: row | same for key, row in rows(place / "out").items()} == {
        key: row | same for key, row in told.items()
    }
    assert {key: data for key, data in files(place / "out").items() if not key.startswith(STEPS)} == made


def test_pictures_on_their_way_are_neither_outputs_nor_inputs(place, devices, monkeypatch):
    again(place, save_every=3)
    verdict = audit.verify(place / "out")
    assert verdict.ok and not verdict.orphans and verdict.checked == 3
    found = {one.key: one.skipped for one in discover([place / "out"])}
    assert found[STEPS] == "intermediate pictures of a run" and not any(key.startswith(f"{STEPS}/") for key in found)
    assert is_reserved(f"{STEPS}/a.png") and is_reserved(STEPS.upper()) and not is_reserved(f"sub/{STEPS}/a.png")
    assert {path.name for path in sweep._pictures(place / "out")} == {"0.jpg", "1.jpg", "2.jpg"}
    save(place / "in" / "sub" / STEPS / "own.jpg", photo(*LANE))  # below a folder it is a name like any other
    assert again(place).done == 4


def test_an_image_that_is_rendered_again_loses_its_old_ones_also_without_the_setting(place, devices):
    again(place, save_every=2)
    assert saved(place) == [2, 4, 6, 8]
    save(place / "in" / "sub" / "0.jpg", photo(*LANE, seed=9))
    again(place, save_every=3)
    assert saved(place) == [3, 6, 9] and saved(place, "sub/1.jpg") == [2, 4, 6, 8]
    (place / "out" / STEPS / "sub" / "1.jpg" / "mine.txt").write_text("kept")
    save(place / "in" / "sub" / "0.jpg", photo(*LANE, seed=10))
    (place / "in" / "sub" / "1.jpg").write_bytes(b"no picture")
    again(place)
    assert not (place / "out" / STEPS / "sub" / "0.jpg").exists()
    assert [one.name for one in (place / "out" / STEPS / "sub" / "1.jpg").iterdir()] == ["mine.txt"]


def test_a_second_try_has_pictures_of_its_own_only(place, devices, monkeypatch):
    name = stub.hexed(np.pad(photo(*LANE, seed=0), ((0, 8), (0, 0), (0, 0)), mode="symmetric") / 255)
    save(place / "in" / "sub" / "0.bmp", photo(*LANE, seed=0))
    result = stub.StubBatch.result

    def black_once(self, lane):
        first = stub.hexed(self.images[lane]) == name and not self.group.careful
        found = result(self, lane)
        return found._replace(image=np.zeros_like(found.image)) if first else found

    monkeypatch.setattr(stub.StubBatch, "result", black_once)
    again(place, save_every=3)
    assert any("second try" in note for note in rows(place / "out")["sub/0.bmp"]["notes"])
    assert saved(place, "sub/0.bmp") == [3, 6, 9]
    for path in (place / "out" / STEPS / "sub" / "0.bmp").iterdir():
        assert np.asarray(Image.open(path)).any()


def test_a_picture_of_a_first_try_that_comes_late_is_dropped(monkeypatch):
    first = SimpleNamespace(key="a.png", first_problem="", evaluations_before=0)
    second = SimpleNamespace(key="a.png", first_problem="black", evaluations_before=0)
    shared = SimpleNamespace(begun_again=set(), tell=lambda *_: None, queues=SimpleNamespace(requeue=lambda job: None))
    shared.ready = None
    renderer = object.__new__(stages._Renderer)
    renderer._shared = shared
    monkeypatch.setattr(stages, "next_job", lambda *_: second)
    renderer._hand_on(SimpleNamespace(task=SimpleNamespace(job=first), evaluations=3))
    stages._write_step(steps.Step(SimpleNamespace(job=first), None, 3), shared)  # the stub lacks what writing needs
    with pytest.raises(AttributeError):
        stages._write_step(steps.Step(SimpleNamespace(job=second), None, 3), shared)


@pytest.mark.parametrize(("stage", "continued", "cleared"), [(0, None, ["a"]), (1, None, []), (0, "a row", [])])
def test_only_an_image_at_its_beginning_loses_its_pictures(stage, continued, cleared):
    found = []
    ready = SimpleNamespace(sink=SimpleNamespace(clear_steps=found.append))
    steps.clear(SimpleNamespace(key="a", stage=stage, continued=continued), ready)
    assert found == cleared


def test_stages_count_together_and_the_end_of_one_is_on_the_way(place, devices):
    save(place / "in" / "large.png", photo(64, 48))
    settings = dataclasses.replace(QUICK, size=64, scales="32,64", evaluations="10,15", save_every=5)
    render(place / "in" / "large.png", place / "style.png", place / "out", settings)
    assert saved(place, "large.png") == [5, 10, 15, 20]
    sizes = [Image.open(place / "out" / STEPS / "large.png" / f"{n:06}.png").size for n in (5, 10, 15, 20)]
    assert sizes == [(32, 24), (32, 24), (64, 48), (64, 48)]


def test_more_evaluations_add_pictures_to_those_there_are(place, devices):
    again(place, save_every=4)
    again(place, save_every=4, evaluations=21, existing="continue")
    assert saved(place) == [4, 8, 12, 16, 20]


def test_an_image_that_is_not_finite_is_not_written_and_one_that_cannot_be_is_told_once(place, devices, monkeypatch):
    result = stub.StubBatch.result

    def at_first_none(self, lane):
        found = result(self, lane)
        return found if self.evaluations[lane] > 6 else found._replace(image=np.full_like(found.image, np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(stub.StubBatch, "result", at_first_none)
        assert again(place, save_every=3).done == 3 and saved(place) == [9]
    shutil.rmtree(place / "out")

    def refuse(*_):
        raise ImageError("its name is too long")

    monkeypatch.setattr(steps.image, "encode", lambda *a, **k: refuse() if a[2] == "PNG" else encode(*a, **k))
    ear = Ear()
    assert again(place, save_every=3, progress=ear).done == 3
    assert [text for text in ear.said if "intermediate" in text] == [
        next(text for text in ear.said if "intermediate pictures cannot be written" in text)
    ]


encode = steps.image.encode


def test_other_sinks_hold_them_too(place, devices, monkeypatch):
    content, outputs = {"a.png": encoded(photo(*LANE), "PNG")}, {f"{STEPS}/a.png/000007.png": b"old"}
    install_memory(monkeypatch.setitem, content, outputs)
    render("memory", place / "style.png", place / "out", QUICK, source="memory", sink="memory", save_every=4)
    assert sorted(outputs) == ["a.png", f"{STEPS}/a.png/000004.png", f"{STEPS}/a.png/000008.png"]


def test_their_number_is_bounded():
    with pytest.raises(SettingsError, match="save_every is 0.*at least 1, for at most 1000 pictures of an image"):
        RenderSettings(save_every=0)
    with pytest.raises(SettingsError, match="save_every is 4.*at least 5"):
        RenderSettings(save_every=4, evaluations=5000)
    RenderSettings(save_every=5, evaluations=5000)


def test_settings_json_of_a_folder_does_not_hold_it(place):
    again(place, save_every=3)
    assert "save_every" not in json.loads((place / "out" / "settings.json").read_text())["decides"]["settings"]
