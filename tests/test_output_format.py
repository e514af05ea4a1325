"""`--output-format`: outputs in one format, under names that no two inputs share, and found again by all that reads."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.data import audit
from jaxstyle.data.fingerprint import output_format
from jaxstyle.data.layout import STEPS
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import Input
from jaxstyle.data.sources.walk import fold
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import SettingsError, SettingsMismatch
from jaxstyle.planning import preflight
from jaxstyle.planning.inputs import named_for
from jaxstyle.settings import RenderSettings

LANE = (32, 24)
NAMES = ("a.jpg", "a.png", "sub/a.jpg", "sub/a.jpg.png")
AS_PNG = {"a.jpg": "a.jpg.png", "a.png": "a.png", "sub/a.jpg": "sub/a.jpg.png", "sub/a.jpg.png": "sub/a.jpg.png.png"}


@pytest.fixture
def place(tmp_path, devices):
    """Photographs whose outputs would have one name if only the extension were changed, and a style."""
    save(tmp_path / "style.png", painting())
    for k, name in enumerate(NAMES):
        save(tmp_path / "in" / name, photo(*LANE, seed=k))
    return tmp_path


def again(place, output="out", **changes):
    changes = {"output_format": "png"} | changes
    return render(place / "in", place / "style.png", place / output, QUICK, **changes)


def pictures(output):
    return {one.relative_to(output).as_posix() for one in output.rglob("*") if kinds.by_name(one.name)}


@pytest.mark.parametrize(
    ("key", "format", "named"),
    [
        ("a/x.jpg", "keep", "a/x.jpg"), ("a/x.jpg", "png", "a/x.jpg.png"), ("a/x.png", "png", "a/x.png"),
        ("a/X.PNG", "png", "a/X.PNG"), ("x.tif", "jpeg", "x.tif.jpg"), ("x.tiff", "tiff", "x.tiff"),
        ("x.tif.jpg", "tiff", "x.tif.jpg.tif"),
        ("x.JPEG", "jpeg", "x.JPEG"),
        ("x.v2.webp", "webp", "x.v2.webp"), ("x.png.webp", "webp", "x.png.webp.webp"), ("x", "png", "x.png.png"),
        ("x.v2", "jpeg", "x.v2.jpg.jpg"), ("a.png/x.png", "png", "a.png/x.png"),
    ],
)  # fmt: skip
def test_a_name_gets_the_formats_extension_unless_it_ends_so(key, format, named):
    assert kinds.output_name(key, format) == named


@pytest.mark.parametrize("format", kinds.WRITTEN)
def test_no_two_names_become_one_not_even_where_case_is_ignored(format):
    parts = ["x", ".", ".jpg", ".JPEG", ".png", ".PNG", ".webp", ".tiff", ".ti\ufb00", ".v2"]
    names = {"".join(chosen) for n in range(1, 5) for chosen in itertools.product(parts, repeat=n)} - {".", "..", "..."}
    for folded in (str, fold):
        outputs = {}
        for name in names:
            outputs.setdefault(folded(kinds.output_name(name, format)), set()).add(folded(name))
        assert all(len(inputs) == 1 for inputs in outputs.values())
    assert all(kinds.by_name(kinds.output_name(name, format)) == kinds.WRITTEN[format] for name in names)


def test_what_is_skipped_keeps_its_key_and_what_failed_has_its_outputs():
    hidden = Input(".DS_Store", "x", skipped="hidden file")
    assert named_for(hidden, "png") is hidden
    failed = named_for(Input("a.jpg", "x", failed="is a link to nothing"), "png")
    assert (failed.key, failed.image, failed.plain) == ("a.jpg.png", "a.jpg", "a.jpg")
    several = named_for(Input("a~s.jpg", "x", image="a.jpg"), "png")
    assert (several.key, several.image, several.plain) == ("a~s.jpg.png", "a.jpg", "a~s.jpg")


@pytest.mark.parametrize(("format", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")])
def test_outputs_have_the_format_and_rows_tell_the_input(place, format, name):
    (place / "in" / "notes.txt").write_text("no picture")
    summary = again(place, output_format=format)
    assert (summary.done, summary.skipped, dict(summary.skipped_kinds)) == (len(NAMES), 1, {".txt": 1})
    found = rows(place / "out")
    for k, original in enumerate(NAMES):
        key = kinds.output_name(original, format)
        with Image.open(place / "out" / key) as picture:
            assert picture.format == name
            assert np.abs(np.asarray(picture.convert("RGB"), float) - 255 + photo(*LANE, seed=k)).mean() < 12
        assert found[key]["image"] == ("" if key == original else original)
    assert pictures(place / "out") == {kinds.output_name(one, format) for one in NAMES}
    assert audit.verify(place / "out").ok and not audit.verify(place / "out").orphans


def test_shards_limits_and_resumed_runs_make_the_same_files_and_render_nothing_twice(place, devices):
    again(place, "whole")
    again(place, limit=1)
    for index in (3, 1, 2):
        again(place, shard=f"{index}/3")
    assert pictures(place / "out") == pictures(place / "whole") == set(AS_PNG.values())
    for key in AS_PNG.values():
        assert (place / "out" / key).read_bytes() == (place / "whole" / key).read_bytes()
    assert again(place).rendered == 0
    (place / "out" / "a.jpg.png").unlink()
    assert again(place).rendered == 1 and audit.verify(place / "out").ok


def test_an_input_that_is_no_picture_any_more_loses_its_output_and_steps(place):
    again(place, save_every=4)
    steps = place / "out" / STEPS
    assert {one.name for one in (steps / "a.jpg.png").iterdir()} == {"000004.png", "000008.png"}
    (place / "in" / "a.jpg").write_bytes(b"no picture")
    again(place)
    assert not (place / "out" / "a.jpg.png").exists() and not (steps / "a.jpg.png").exists()
    assert (place / "out" / "a.png").exists() and (steps / "a.png").exists()
    assert rows(place / "out")["a.jpg.png"]["status"] == "failed"


def test_a_run_goes_on_from_outputs_of_another_name(place):
    again(place)
    assert again(place, evaluations=14, existing="continue").rendered == len(NAMES)
    assert all("continued from its output" in str(row["notes"]) for row in rows(place / "out").values())


@pytest.mark.parametrize("before", ["keep", "png", "webp"])
def test_a_folder_of_starts_is_read_by_its_own_format(place, monkeypatch, before):
    """With "png" before, a.jpg.png is the result of a.jpg; with "keep" that of the input a.jpg.png."""
    devices = stub.install(monkeypatch.setattr, record=True)
    again(place, "before", output_format=before)
    assert output_format(place / "before") == before and output_format(place / "in") == "keep"
    again(place, init=str(place / "before"))
    assert len(devices[1].inputs) >= len(NAMES)
    for _, _, inputs in devices[1].inputs:  # the stub's results are negatives
        assert np.abs(inputs["init"] - (1 - inputs["content"])).mean() < 0.05


def test_frames_start_from_outputs_of_another_name(tmp_path, devices):
    save(tmp_path / "style.png", painting())
    for k in range(3):
        save(tmp_path / "in" / f"f{k}.jpg", photo(*LANE, seed=k))
    again(tmp_path, frames=True)
    found = rows(tmp_path / "out")
    assert list(found) == ["f0.jpg.png", "f1.jpg.png", "f2.jpg.png"]
    assert "started from the result of f0.jpg.png" in found["f1.jpg.png"]["notes"][0]


def test_several_styles_and_another_style_for_a_broken_one(tmp_path, devices):
    for k in range(3):
        save(tmp_path / "styles" / f"s{k}.png", painting() ^ np.uint8(40 * k))
        save(tmp_path / "in" / f"{k}.jpg", photo(*LANE, seed=k))
    summary = render(tmp_path / "in", tmp_path / "styles", tmp_path / "each", QUICK, assign="each", output_format="png")
    assert summary.done == 9 and rows(tmp_path / "each")["1~s2.jpg.png"]["image"] == "1.jpg"
    render(tmp_path / "in", tmp_path / "styles", tmp_path / "one", QUICK, output_format="png")
    chosen = {row["style"] for row in rows(tmp_path / "one").values()}
    (tmp_path / "styles" / sorted(chosen)[0]).write_bytes(b"no picture")
    for output, options in (("fewer", {}), ("two", {"styles_per_image": 2})):
        shutil.rmtree(tmp_path / output, ignore_errors=True)
        found = render(tmp_path / "in", tmp_path / "styles", tmp_path / output, QUICK, output_format="png", **options)
        keys = pictures(tmp_path / output)
        assert found.done == len(keys) == 3 * options.get("styles_per_image", 1)
        assert all(key.endswith(".jpg.png") and ("~" in key) == bool(options) for key in keys)


def test_the_noise_of_a_start_is_that_of_the_input(place, monkeypatch):
    devices = stub.install(monkeypatch.setattr, record=True)
    again(place, "keep", output_format="keep", init="noise")
    again(place, "png", init="noise")
    one, two = ({inputs["init"].tobytes() for _, _, inputs in device.inputs} for device in devices)
    assert one == two and len(one) == len(NAMES)


def test_the_format_is_compared_and_an_older_folder_resumes(place):
    again(place, output_format="keep")
    recorded = json.loads((place / "out" / "settings.json").read_text())
    assert recorded["decides"]["settings"].pop("output_format") == "keep"
    (place / "out" / "settings.json").write_text(json.dumps(recorded))
    assert again(place, output_format="keep").rendered == 0
    with pytest.raises(SettingsMismatch, match="output_format is 'png' now and 'keep' there"):
        again(place)


def test_a_format_that_cannot_be_written_is_refused_first(place, monkeypatch):
    monkeypatch.setattr(preflight, "absent", lambda: ("WEBP",))
    with pytest.raises(SettingsError, match="output_format is 'webp'.*use png"):
        again(place, output_format="webp")
    assert not (place / "out").exists()


def test_a_bitmap_and_a_gray_picture_get_colours(tmp_path, devices):
    save(tmp_path / "style.png", painting())
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(*LANE)).convert("1").save(tmp_path / "in" / "a.pbm")
    Image.fromarray(photo(*LANE)).convert("L").save(tmp_path / "in" / "b.pgm")
    save(tmp_path / "in" / "c.png", photo(*LANE))
    (tmp_path / "in" / "c.png").rename(tmp_path / "in" / "c.jpg")
    assert again(tmp_path).done == 3
    found = rows(tmp_path / "out")
    assert set(found) == {"a.pbm.png", "b.pgm.png", "c.jpg.png"} and not any(row["notes"] for row in found.values())
    assert Image.open(tmp_path / "out" / "b.pgm.png").mode == "RGB"


def test_the_setting_is_one_of_five():
    with pytest.raises(SettingsError, match="output_format"):
        RenderSettings(output_format="gif")
    assert dataclasses.replace(QUICK, output_format="jpeg").pixels()["output_format"] == "jpeg"
