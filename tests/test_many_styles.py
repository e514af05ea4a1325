"""Whole runs in many styles: rows, resumed runs, broken paintings, shards, and lanes of several styles in a batch."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from checks import batch_equal_to_its_single_runs
from pictures import painting, photo, save
from whole_runs import MEASURED, QUICK, Ear, files, rows

from jaxstyle.engine import pipeline
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, SettingsError, SettingsMismatch
from jaxstyle.planning import buckets
from jaxstyle.planning.forecast import forecast
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylizer import stylizer

STYLES, PHOTOS, SHEET = 6, 12, "contact_sheet.png"


def paint(folder, number=STYLES, size=(40, 30)):
    for n in range(number):
        save(folder / f"s{n:02}.png", np.roll(painting(*size), 5 * n, (0, 1)) ^ np.uint8(16 * (n % 8)))
    return folder


@pytest.fixture
def place(tmp_path):
    """Photographs in two folders, and paintings."""
    for n in range(PHOTOS):
        save(tmp_path / "in" / f"class{n % 2}" / f"{n:03}.png", photo(32, 32, n))
    paint(tmp_path / "styles")
    return tmp_path


def styles_of(output):
    """The style of each output."""
    return {key: row["style"] for key, row in rows(output).items() if row["status"] == "done"}


def test_every_row_tells_its_style_and_the_styles_file(place, devices):
    found = render(place / "in", place / "styles", place / "out", QUICK)
    assert found.done == PHOTOS and found.style_image is None
    done = rows(place / "out")
    assert len(set(styles_of(place / "out").values())) > 2
    for row in done.values():
        path = place / "styles" / row["style"]
        assert row["style_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and row["image"] == ""
        assert (row["style_bytes"], row["style_modified"]) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert json.loads((place / "out" / "settings.json").read_text())["decides"]["style"] == "assigned"


def test_files_among_the_styles_that_are_no_pictures_are_told(place, devices):
    (place / "styles" / "notes.txt").write_text("a museum")
    ear = Ear()
    render(place / "in", place / "styles", place / "out", QUICK, progress=ear)
    assert any("Left out of the styles" in text and "1 .txt" in text for text in ear.said)
    assert all("notes.txt" not in key for key in rows(place / "out"))


def test_a_run_again_changes_nothing_and_a_new_style_only_the_images_it_gets(place, devices):
    render(place / "in", place / "styles", place / "out", QUICK)
    before, pictures = styles_of(place / "out"), files(place / "out")
    assert render(place / "in", place / "styles", place / "out", QUICK).rendered == 0
    for path in (place / "styles").iterdir():  # a copy has lost the times
        os.utime(path, ns=(0, 5))
    assert render(place / "in", place / "styles", place / "out", QUICK).rendered == 0
    paint(place / "styles", STYLES + 3)
    summary = render(place / "in", place / "styles", place / "out", QUICK)
    after = styles_of(place / "out")
    moved = {key for key in after if after[key] != before[key]}
    assert summary.rendered == len(moved) > 0 and {after[key] for key in moved} <= {"s06.png", "s07.png", "s08.png"}
    assert files(place / "out").keys() == pictures.keys()


def test_a_painting_that_was_painted_over_has_its_images_rendered_again(place, devices):
    render(place / "in", place / "styles", place / "out", QUICK)
    of = Counter(styles_of(place / "out").values())
    style, number = of.most_common(1)[0]
    save(place / "styles" / style, painting(50, 50))
    assert render(place / "in", place / "styles", place / "out", QUICK).rendered == number


@pytest.mark.parametrize("per_image", [1, 2])
def test_a_broken_painting_is_a_row_and_its_images_get_the_next_one(place, devices, per_image):
    broken = [place / "styles" / "s01.png", place / "styles" / "s04.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    settings = dict(styles_per_image=per_image)
    summary = render(place / "in", place / "styles", place / "out", QUICK, **settings)
    found = rows(place / "out")
    lost = {key for key, row in found.items() if row["status"] == "failed"}
    assert lost == {"style://s01.png", "style://s04.png"} and summary.failed == 2
    assert "a style that cannot be read" in found["style://s01.png"]["reason"]
    assert summary.done == PHOTOS * per_image and not {"s01.png", "s04.png"} & set(styles_of(place / "out").values())
    for path in broken:
        path.unlink()
    again = render(place / "in", place / "styles", place / "fresh", QUICK, **settings)
    assert again.failed == 0 and styles_of(place / "fresh") == styles_of(place / "out")


def test_what_is_called_a_painting_and_is_none_is_a_row_and_not_waited_for(place, devices):
    os.mkfifo(place / "styles" / "pipe.png")
    (place / "styles" / "gone.png").symlink_to("nowhere")
    summary = render(place / "in", place / "styles", place / "out", QUICK, assign="each")
    found = rows(place / "out")
    lost = {key for key, row in found.items() if key.startswith("style://")}
    assert lost == {"style://pipe.png", "style://gone.png"} and summary.done == PHOTOS * STYLES
    assert found["class0/000~pipe.png"]["reason"] == "its style cannot be read"


def test_a_broken_painting_is_known_to_the_next_run_until_it_changes(place, devices):
    path = place / "styles" / "s01.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    render(place / "in", place / "styles", place / "out", QUICK)
    ear = Ear()
    assert render(place / "in", place / "styles", place / "out", QUICK, progress=ear).rendered == 0
    assert any("s01.png could not be read by an earlier run" in text for text in ear.said)
    assert render(place / "in", place / "styles", place / "out", QUICK, retry_failed=True).failed == 1
    path.write_bytes(whole)
    summary = render(place / "in", place / "styles", place / "out", QUICK)
    whole_styles = styles_of(place / "out")
    assert summary.rendered == Counter(whole_styles.values())["s01.png"] > 0 and summary.failed == 0
    assert rows(place / "out")["style://s01.png"]["status"] == "skipped"
    render(place / "in", place / "styles", place / "fresh", QUICK)
    assert styles_of(place / "fresh") == whole_styles


def test_without_a_style_that_can_be_read_every_image_fails(place, devices):
    for path in (place / "styles").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = render(place / "in", place / "styles", place / "out", QUICK)
    assert summary.done == 0 and summary.failed == PHOTOS + STYLES
    assert rows(place / "out")["class0/000.png"]["reason"] == "no style can be read"


def test_each_gives_every_image_in_every_style(place, devices):
    summary = render(place / "in", place / "styles", place / "out", QUICK, assign="each")
    assert summary.done == PHOTOS * STYLES
    row = rows(place / "out")["class0/000~s03.png"]
    assert (row["image"], row["style"]) == ("class0/000.png", "s03.png")
    assert (place / "out" / "class0" / "000~s03.png").exists()
    assert render(place / "in", place / "styles", place / "out", QUICK, assign="each").rendered == 0


def test_cycle_gives_a_folders_images_one_style_after_the_other(place, devices):
    render(place / "in", place / "styles", place / "out", QUICK, assign="cycle")
    found = styles_of(place / "out")
    for c in range(2):
        assert len({found[key] for key in found if key.startswith(f"class{c}")}) == 6
    for shard in ("1/2", "2/2"):  # the positions count the images of all shards
        render(place / "in", place / "styles", place / "parts", QUICK, assign="cycle", shard=shard)
    assert styles_of(place / "parts") == found


def test_a_manifest_or_a_table_is_a_mapping(place, devices):
    render(place / "in", place / "styles", place / "out", QUICK, styles_per_image=2)
    made = styles_of(place / "out")
    manifest = str(place / "out" / "manifest.jsonl")
    render(place / "in", place / "styles", place / "again", QUICK, assign=manifest, seed=5)
    assert styles_of(place / "again") == made
    with (place / "map.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["style", "image"], ["s02.png", "class0/000.png"], ["s02.png", "class0/000.png"]])
    summary = render(place / "in", place / "styles", place / "few", QUICK, assign=str(place / "map.csv"))
    assert styles_of(place / "few") == {"class0/000.png": "s02.png"} and summary.skipped == PHOTOS - 1
    assert rows(place / "few")["class1/001.png"]["reason"] == "the mapping gives it no style"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,style\nclass0/000.png,s99.png\n", "gives class0/000.png the style s99.png, which is not among"),
        ("picture,style\n", "no columns image and style"),
        ("image,style\n", "names no image"),
        ("image,style\nclass0/000.png\n", "line 2 has too few columns"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_before_anything_is_written(place, devices, text, message):
    (place / "map.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        render(place / "in", place / "styles", place / "out", QUICK, assign=str(place / "map.csv"))
    assert not (place / "out").exists()


def test_settings_of_many_styles_are_refused_with_one(place, devices):
    with pytest.raises(SettingsError, match="assign is 'each', and all photographs get the same style"):
        render(place / "in", place / "styles" / "s00.png", place / "out", QUICK, assign="each")
    with pytest.raises(SettingsError, match="styles_per_image is 7"):
        render(place / "in", place / "styles", place / "out", QUICK, styles_per_image=7)
    with pytest.raises(InputError, match="overlaps the styles"):
        render(place / "in", place / "styles", place / "styles" / "out", QUICK)
    render(place / "in", place / "styles", place / "out", QUICK)
    with pytest.raises(SettingsMismatch, match="assign is 'balanced' now and 'random' there"):
        render(place / "in", place / "styles", place / "out", QUICK, assign="balanced")
    with pytest.raises(SettingsMismatch, match="style is"):
        render(place / "in", place / "styles" / "s00.png", place / "out", QUICK)


def test_files_are_blended_by_their_weights_and_assigned_where_asked(place, devices):
    two = [f"{place}/styles/s00.png:3", place / "styles" / "s01.png"]
    summary = render(place / "in", two, place / "out", QUICK)
    assert set(styles_of(place / "out").values()) == {"s00.png:3 + s01.png:1"}
    assert summary.style_image.shape == (24 + 8, 32, 3)  # three parts of one, one of the other
    with pytest.raises(SettingsMismatch, match="style is"):
        render(place / "in", [two[1], place / "styles" / "s00.png"], place / "out", QUICK)
    render(place / "in", two, place / "either", QUICK, styles="assign")
    found = Counter(styles_of(place / "either").values())
    assert found.keys() == {"s00.png", "s01.png"} and found["s00.png"] > found["s01.png"]


def test_a_style_has_a_size_and_a_crop_of_its_own(place, devices):
    style = place / "styles" / "s00.png"
    sizes = []
    for options in ({}, {"style_scale": 0.5}, {"style_crop": True}, {"style_size": 32, "style_scale": 1.1}):
        summary = render(place / "in", style, place / str(len(sizes)), QUICK, size=64, limit=1, **options)
        sizes.append(summary.style_image.shape[:2])
    assert sizes == [(30, 40), (24, 32), (30, 30), (26, 35)]  # of a painting of 40 x 30


def test_a_plan_counts_the_images_of_each_style(place, devices):
    made = forecast(place / "in", place / "styles", place / "out", QUICK, pipeline.device_for)
    render(place / "in", place / "styles", place / "out", QUICK)
    assert made.styles == Counter(styles_of(place / "out").values()) and made.seconds > 0
    numbers = list(made.styles.values())
    assert numbers == sorted(numbers, reverse=True)
    assert f"{len(numbers)} styles in use, {numbers[-1]} to {numbers[0]} images each" in made.lines()
    assert made.as_json()["styles"] == made.styles


def run(place, output, *more, seconds=0.0):
    command = [sys.executable, Path(__file__).with_name("stub.py"), "render", place / "in", "-o", output, *more]
    command += ["--style", place / "styles", "--assign", "balanced", "--size", 32, "--batch", 4, "--workers", 1]
    environment = os.environ | {"STUB_SECONDS": str(seconds)}
    return subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True)


def told(output):
    """The rows, without what is measured."""
    return {key: row | MEASURED for key, row in rows(output).items()}


def test_two_shards_one_killed_and_a_broken_pair_end_as_an_undisturbed_run(tmp_path):
    for n in range(200):
        save(tmp_path / "in" / f"class{n % 4}" / f"{n:03}.png", photo(32, 32, n))
    paint(tmp_path / "styles", 40)
    for broken in (tmp_path / "in" / "class1" / "021.png", tmp_path / "styles" / "s07.png"):
        broken.write_bytes(broken.read_bytes()[:70])
    assert run(tmp_path, tmp_path / "whole").wait() == 3
    first, second = (run(tmp_path, tmp_path / "out", "--shard", f"{k}/2", seconds=0.005) for k in (1, 2))
    ledger = tmp_path / "out" / "manifest-1-of-2.jsonl"
    deadline = time.monotonic() + 60
    while not (ledger.exists() and ledger.read_bytes().count(b"\n") > 5):
        assert time.monotonic() < deadline and first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait() == 3 and run(tmp_path, tmp_path / "out", "--shard", "1/2").wait() == 3
    assert told(tmp_path / "out") == told(tmp_path / "whole") and len(told(tmp_path / "out")) == 201
    made, wanted = (files(tmp_path / name) for name in ("out", "whole"))
    assert made | {SHEET: b""} == wanted | {SHEET: b""}
    counts = Counter(styles_of(tmp_path / "out").values())
    assert len(counts) == 39 and max(counts.values()) <= 9  # 200 / 40 = 5, and 40 more
    for n in range(0, 200, 2):
        (tmp_path / "in" / f"class{n % 4}" / f"{n:03}.png").unlink()
    assert run(tmp_path, tmp_path / "half").wait() == 3
    half, whole = styles_of(tmp_path / "half"), styles_of(tmp_path / "out")
    assert len(half) == 99 and all(whole[key] == style for key, style in half.items())


FEW = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))


def test_lanes_of_different_styles_in_one_batch_equal_their_single_runs(network):
    settings = RenderSettings(preset="classic", size=32, evaluations=8, style_pixels=0, **FEW)
    styles = [Painting.of(painting(40 + 8 * n, 30)[:, ::-1].astype(np.float32) / 255 * (1 - 0.2 * n)) for n in range(3)]
    content = photo(32, 32).astype(np.float32) / 255
    inputs = [lane_inputs(content, content, 32, 32)] * 3  # styles of other sizes compile nothing
    together, _, found = batch_equal_to_its_single_runs(settings, network, styles, inputs)
    alone = JaxDevice(settings, network, styles[0])
    assert abs(found[0].image - found[1].image).mean() > 0.01
    assert together.memory_bytes((32, 32), 2) > alone.memory_bytes((32, 32), 2)


def test_a_blend_has_the_weighted_mean_of_the_targets(network):
    settings = RenderSettings(preset="classic", size=32, **FEW)
    engine = stylizer(settings, network)
    pictures = [painting(32, 32), photo(32, 32)]
    blend = Painting("both", [Part(one, weight, str(weight)) for one, weight in zip(pictures, (3, 1), strict=True)])
    device = JaxDevice(settings, network, blend)
    found = device._targets_of(device._engines[False, False], blend)
    each = [engine.style_targets(one.astype(np.float32) / 255) for one in pictures]
    for name in FEW["style_layers"]:
        layer = f"block{name[4]}_conv1"
        wanted = 0.75 * np.asarray(each[0]["style"][layer]) + 0.25 * np.asarray(each[1]["style"][layer])
        np.testing.assert_allclose(found["style"][layer], wanted, rtol=1e-5, atol=1e-6)


def test_styles_of_all_sizes_have_few_shapes():
    sizes = [(512, h) for h in range(100, 513, 3)] + [(w, 512) for w in range(100, 513, 3)]
    assert len({buckets.bucket(size, 512) for size in sizes}) <= 2 * len(buckets.SHORT_SIDES)
