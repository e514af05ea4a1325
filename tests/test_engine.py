"""Whole runs with the stand-in renderer: nothing is lost, nothing is done twice, whatever ends a run or a lane."""

import json
import os
import time

import hostile
import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, Ear, files, rows

from jaxstyle.data.sinks.folders import FolderSink
from jaxstyle.decode import pool
from jaxstyle.engine import pipeline, publish
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import DeviceError, ImageError, ProcessError, SettingsMismatch, StorageError


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def tree(tmp_path):
    for k in range(23):
        save(tmp_path / "in" / f"s{k % 3}" / f"{k}.png", photo(20 + 4 * (k % 4), 24, seed=k))
    return tmp_path / "in"


@pytest.mark.parametrize("changes", [{}, {"batch": 1}, {"batch": 16}, {"workers": 1}, {"batch": "auto", "workers": 2}])
def test_every_output_is_that_of_its_own_input(tree, style, tmp_path, devices, changes):
    ear = Ear()
    summary = render(tree, style, tmp_path / "out", QUICK, progress=ear, **changes)
    assert (summary.done, summary.failed, summary.skipped, summary.rendered, summary.stopped) == (23, 0, 0, 23, "")
    for path in tree.rglob("*.png"):
        with Image.open(path) as source, Image.open(tmp_path / "out" / path.relative_to(tree)) as made:
            np.testing.assert_array_equal(np.asarray(made), 255 - np.asarray(source))
    assert {row.key for row in ear.rows} == set(rows(tmp_path / "out")) and ear.spent == 23 * 10 and ear.number == 23
    assert 0.5 < summary.occupancy <= 1 and summary.programs == len(devices[0].made)
    row = rows(tmp_path / "out")["s0/0.png"]
    data = (tmp_path / "out" / "s0/0.png").read_bytes()
    assert row["output_bytes"] == len(data) and row["start_loss"] == 4.0 and len(row["input_sha256"]) == 64


def test_a_finished_run_starts_no_device(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", QUICK)
    before, ear = files(tmp_path / "out"), Ear()
    summary = render(tree, style, tmp_path / "out", QUICK, progress=ear)
    assert len(devices) == 1 and (summary.rendered, summary.done, ear.rows, ear.before) == (0, 23, [], 23)
    assert files(tmp_path / "out") == before


def one_of(tree):
    path = sorted(tree.rglob("*.png"))[5]
    with Image.open(path) as image:
        return path, stub.hexed(padded(np.asarray(image, np.float32) / 255))


def padded(pixels):
    height, width = (-(-side // 32) * 32 for side in pixels.shape[:2])
    return np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), mode="symmetric")


@pytest.mark.parametrize(
    ("switch", "status", "words"),
    [
        ("NAN", "failed", "diverged"),
        ("NAN_ONCE", "done", "second try: the first diverged"),
        ("BLACK", "failed", "black"),
    ],
)
def test_what_comes_out_wrong_is_tried_once_more_and_never_called_done(
    tree, style, tmp_path, devices, monkeypatch, switch, status, words
):
    path, name = one_of(tree)
    monkeypatch.setenv(f"STUB_{switch}", name)
    summary = render(tree, style, tmp_path / "out", QUICK)
    key = path.relative_to(tree).as_posix()
    row = rows(tmp_path / "out")[key]
    assert row["status"] == status and words in row["reason"] + "".join(row["notes"])
    assert (tmp_path / "out" / key).exists() == (status == "done")
    assert summary.done == 23 - (status == "failed")
    assert sum(number for (group, _), number in devices[0].put.items() if group.careful) == 1


def test_one_colour_is_a_result_of_one_colour(style, tmp_path, devices):
    for level in (60, 90, 200):
        save(tmp_path / "in" / f"{level}.png", np.full((30, 30, 3), level, np.uint8))
    assert render(tmp_path / "in", style, tmp_path / "out", QUICK).done == 3
    assert rows(tmp_path / "out")["90.png"]["judgement"]["spread"] < 0.001


def test_out_of_memory_halves_the_batch_and_loses_nothing(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_ROOM", "2")
    ear = Ear()
    summary = render(tree, style, tmp_path / "out", QUICK, progress=ear, batch=16)
    assert summary.done == 23 and {size for _, size in devices[0].put} <= {1, 2}
    assert any("going on with 2 images" in text for text in ear.said)


def test_out_of_memory_alone_is_a_failed_row(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_ROOM", "0")
    assert render(tree, style, tmp_path / "out", QUICK).failed == 23
    assert all("out of memory" in row["reason"] for row in rows(tmp_path / "out").values())


@pytest.mark.parametrize("limit", [{"max_failures": 3}, {"max_failures": "20%"}, {"max_duration": 1}])
def test_a_limit_ends_the_run_and_the_next_one_finishes(style, tmp_path, devices, monkeypatch, limit):
    number = 150
    for k in range(number):
        path = save(tmp_path / "in" / f"{k:03}.png", photo(16, 16, seed=k))
        if k % 3 == 0:
            path.write_bytes(path.read_bytes()[:40])
    monkeypatch.setenv("STUB_SECONDS", "0.2")
    first = render(tmp_path / "in", style, tmp_path / "out", QUICK, **limit)
    kept = rows(tmp_path / "out")
    assert first.stopped and 0 < len(kept) < number
    monkeypatch.setenv("STUB_SECONDS", "0.001")
    second = render(tmp_path / "in", style, tmp_path / "out", QUICK)
    assert (second.stopped, second.done, second.failed) == ("", 100, 50)
    assert second.rendered == 100 - first.rendered


def test_a_stopped_run_and_the_next_make_what_one_run_makes(tree, style, tmp_path, devices, monkeypatch):
    render(tree, style, tmp_path / "whole", QUICK)
    monkeypatch.setenv("STUB_SECONDS", "0.4")
    stop = Stop()
    summary = render(tree, style, tmp_path / "out", QUICK, stop=stop, progress=Ear(2, lambda: stop.request("enough")))
    assert summary.stopped == "enough" and 2 <= summary.rendered < 23
    assert len(rows(tmp_path / "out")) == summary.rendered  # the batch was finished, nothing else begun
    monkeypatch.delenv("STUB_SECONDS")
    assert render(tree, style, tmp_path / "out", QUICK).rendered == 23 - summary.rendered
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_stop_after_the_last_image_is_no_stop(tree, style, tmp_path, devices):
    stop = Stop()
    summary = render(tree, style, tmp_path / "out", QUICK, stop=stop, progress=Ear(23, lambda: stop.request("late")))
    assert (summary.done, summary.stopped) == (23, "")


def test_failed_rows_are_tried_again_when_asked(tree, style, tmp_path, devices):
    broken = sorted(tree.rglob("*.png"))[:3]
    whole = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    assert render(tree, style, tmp_path / "out", QUICK).failed == 3
    before = (tmp_path / "out" / "manifest.jsonl").stat()
    assert render(tree, style, tmp_path / "out", QUICK).looked_at == 0
    after = (tmp_path / "out" / "manifest.jsonl").stat()  # its time of access may have changed: it was read
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    again = render(tree, style, tmp_path / "out", QUICK, retry_failed=True)
    assert (again.looked_at, again.rendered, again.failed) == (3, 0, 3)
    for path, data in zip(broken, whole, strict=True):
        path.write_bytes(data)
    summary = render(tree, style, tmp_path / "out", QUICK)  # what has changed needs no asking
    assert (summary.rendered, summary.done, summary.failed) == (3, 23, 0) and len(rows(tmp_path / "out")) == 23


def test_what_was_no_picture_is_looked_at_again_when_it_has_changed(tree, style, tmp_path, devices):
    (tree / "notes.txt").write_text("not a picture")
    assert render(tree, style, tmp_path / "out", QUICK).skipped == 1
    assert render(tree, style, tmp_path / "out", QUICK).looked_at == 0
    save(tree / "other.png", photo(40, 30)).rename(tree / "notes.txt")
    summary = render(tree, style, tmp_path / "out", QUICK)
    assert (summary.rendered, summary.skipped) == (1, 0)


def test_an_output_goes_when_its_input_has_become_rubbish(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", QUICK)
    spoilt, *_ = sorted(tree.rglob("*.png"))
    key = spoilt.relative_to(tree).as_posix()
    spoilt.write_bytes(spoilt.read_bytes()[:60])
    assert render(tree, style, tmp_path / "out", QUICK).failed == 1
    assert rows(tmp_path / "out")[key]["status"] == "failed" and not (tmp_path / "out" / key).exists()


def test_only_a_changed_input_is_rendered_again(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "out", QUICK)
    longer, other, touched, *_ = sorted(tree.rglob("*.png"))
    longer.write_bytes(longer.read_bytes() + b"more")
    data = bytearray(other.read_bytes())
    data[-20] ^= 1  # damages it: same length
    other.write_bytes(data)
    for path in (other, touched):
        os.utime(path, ns=(1, 1))
    summary = render(tree, style, tmp_path / "out", QUICK)
    found = rows(tmp_path / "out")
    assert (summary.rendered, summary.failed) == (1, 1)
    assert found[other.relative_to(tree).as_posix()]["status"] == "failed"


def test_what_goes_wrong_in_leaving_does_not_hide_what_went_wrong_before(tree, style, tmp_path, devices, monkeypatch):
    def full(self):
        raise StorageError("no room", "Make some.")

    monkeypatch.setattr(pipeline.Manifest, "close", full)
    with pytest.raises(StorageError, match="no room"):
        render(tree, style, tmp_path / "out", QUICK)
    monkeypatch.setattr(stub.StubBatch, "advance", lambda *_: {}["the first"])
    with pytest.raises(KeyError, match="the first"):
        render(tree, style, tmp_path / "two", QUICK)


@pytest.mark.parametrize("error", [ImageError("no such encoder"), TypeError("a bug")])
def test_an_encoder_that_refuses_is_a_row_and_a_bug_ends_the_run(tree, style, tmp_path, devices, monkeypatch, error):
    encode, calls = publish.image.encode, []

    def third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return encode(*arguments, **options)

    monkeypatch.setattr(publish.image, "encode", third)
    if isinstance(error, ImageError):
        assert render(tree, style, tmp_path / "out", QUICK).failed == 1
        return
    with pytest.raises(TypeError, match="a bug"):
        render(tree, style, tmp_path / "out", QUICK)
    assert len(rows(tmp_path / "out")) >= 2 and all(r["status"] == "done" for r in rows(tmp_path / "out").values())
    assert render(tree, style, tmp_path / "out", QUICK).done == 23


def test_all_lanes_of_a_batch_may_end_while_the_disk_is_slow(style, tmp_path, devices, monkeypatch):
    write = FolderSink.write

    def slow(sink, key, data):
        until = time.monotonic() + 60
        while devices[0].put.total() < 16:
            assert time.monotonic() < until, f"only {devices[0].put.total()} images were put on the device"
            time.sleep(0.001)
        write(sink, key, data)

    for k in range(16):
        save(tmp_path / "in" / f"{k}.png", photo(32, 32, seed=k))
    monkeypatch.setattr(FolderSink, "write", slow)
    assert render(tmp_path / "in", style, tmp_path / "out", QUICK, batch=8).done == 16


def test_the_precision_that_auto_has_come_to_is_recorded(tree, style, tmp_path, devices, monkeypatch):
    render(tree, style, tmp_path / "out", QUICK, precision="auto", limit=1)
    recorded = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert recorded["decides"]["settings"]["precision"] == stub.StubDevice.precision == "float32"
    monkeypatch.setattr(stub.StubDevice, "precision", "bfloat16")
    with pytest.raises(SettingsMismatch, match="computed in float32, and this run computes in bfloat16"):
        render(tree, style, tmp_path / "out", QUICK, precision="auto")


def test_a_device_that_hangs_ends_the_run_with_its_rows_kept(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_HANG", "3")
    with pytest.raises(DeviceError, match="not answered for 1 s"):
        render(tree, style, tmp_path / "out", QUICK, stall_timeout=1)
    kept = rows(tmp_path / "out")
    assert 0 < len(kept) < 23 and all((tmp_path / "out" / key).exists() for key in kept)
    monkeypatch.delenv("STUB_HANG")
    assert render(tree, style, tmp_path / "out", QUICK).done == 23


def test_a_signal_after_a_limit_is_heard():
    stop = Stop()
    stop.request("its time is up")
    stop.request("SIGINT", 2)
    assert (stop.reason, stop.signal) == ("its time is up", 2)


def test_images_of_a_halved_batch_say_so_and_the_others_do_not(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_ROOM", "2")
    render(tree, style, tmp_path / "out", QUICK)
    told = "the device was out of memory: optimised in a batch of 2 instead of 4"
    assert all(row["notes"] == [told] and row["batch"] == 2 for row in rows(tmp_path / "out").values())
    monkeypatch.delenv("STUB_ROOM")
    render(tree, style, tmp_path / "other", QUICK)
    assert all(row["notes"] == [] and row["batch"] == 4 for row in rows(tmp_path / "other").values())


def test_a_run_that_rounds_otherwise_says_so_and_goes_on(tree, style, tmp_path, devices, monkeypatch):
    render(tree, style, tmp_path / "out", QUICK, limit=2)
    ear = Ear()
    render(tree, style, tmp_path / "out", QUICK, limit=2, progress=ear)
    assert not any("rounded" in text or "rounding" in text for text in ear.said)
    render(tree, style, tmp_path / "out", QUICK, limit=2, batch=2, tail="shrink", progress=ear)
    assert any("batch is 2 now and was 4, tail is 'shrink' now and was 'same'" in text for text in ear.said)
    monkeypatch.setattr(stub.StubDevice, "name", "another stub")
    render(tree, style, tmp_path / "out", QUICK, progress=ear)
    assert "This folder was begun on a stub; pictures of another stub differ by rounding." in ear.said
    assert len(rows(tmp_path / "out")) == 23


def test_a_batch_that_needs_more_than_is_free_keeps_its_size(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setattr(stub.StubDevice, "free", 3 * 2**20)
    ear = Ear()
    assert render(tree, style, tmp_path / "out", QUICK, progress=ear).done == 23
    assert [text for text in ear.said if "are free" in text] == [
        "A batch of 4 needs about 4 MiB, and 3 MiB are free. If the run is killed, end other programs or give a "
        "smaller --batch."
    ]
    assert {row["batch"] for row in rows(tmp_path / "out").values()} == {4}


LOSES = """
import os, sys
from pathlib import Path
if Path(os.environ["FULL"]).exists():
    raise SystemExit("no room for another decoder")
from jaxstyle.data import image
read = image.read
def reading(file, *arguments):
    if "20.png" in file.name:
        Path(os.environ["FULL"]).touch()
        os._exit(7)
    return read(file, *arguments)
image.read = reading
"""


def test_a_decoder_that_cannot_be_replaced_ends_the_run_with_its_rows_kept(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setattr(pool, "PAUSES", (0.01,))
    monkeypatch.setenv("FULL", str(tmp_path / "full"))
    monkeypatch.syspath_prepend(hostile.in_workers(tmp_path / "hooks", LOSES))
    with pytest.raises(
        ProcessError, match=r"cannot be started \(exit code 1: .*no room for another decoder\)"
    ) as raised:
        render(tree, style, tmp_path / "out", QUICK, workers=1, batch=1)
    assert raised.value.exit_code == 1
    kept = rows(tmp_path / "out")
    assert 0 < len(kept) < 23 and all((tmp_path / "out" / key).exists() for key in kept)
    (tmp_path / "full").unlink()
    assert render(tree, style, tmp_path / "out", QUICK).done == 23
