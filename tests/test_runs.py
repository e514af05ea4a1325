"""More of whole runs with the stand-in renderer: what they hold in memory, leave behind, and do not do again."""

import json
import os
import struct
import threading
import weakref
import zlib

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import MEASURED

from jaxstyle.decode.pool import Decoders
from jaxstyle.engine import pipeline, publish, stages, threads
from jaxstyle.engine.events import Silent
from jaxstyle.engine.stop import Stop
from jaxstyle.settings import RenderSettings

QUICK = RenderSettings(size=32, evaluations=10, batch=4, workers=0)


class Ear(Silent):
    """Hears what a run tells; `on_row` is called with every row."""

    def __init__(self, on_row=lambda row: None):
        self.on_row, self.rows, self.said, self.spent = on_row, [], [], 0

    def row(self, row):
        self.rows.append(row)
        self.on_row(row)

    def say(self, text):
        self.said.append(text)

    def advance(self, evaluations, loss):
        self.spent += evaluations


class Place:
    """A folder of inputs, an output, and the runs between them."""

    def __init__(self, root, devices):
        self.inputs, self.out, self.devices = root / "in", root / "out", devices
        self.style = save(root / "style.png", painting())

    def add(self, *names, size=(32, 32)):
        for name in names:
            save(self.inputs / name, photo(*size, seed=zlib.crc32(os.fsencode(name))))

    def run(self, settings=QUICK, inputs=None, out=None, **options):
        return pipeline.render(inputs or self.inputs, self.style, out or self.out, settings, **options)

    def rows(self, out=None):
        lines = [json.loads(line) for line in ((out or self.out) / "manifest.jsonl").read_text().splitlines()]
        found = {row["key"]: row for row in lines}
        assert len(found) == len(lines), "a key has two rows"
        return found

    def files(self, out=None):
        """All outputs; of manifests and locks there are tests of their own."""
        out = out or self.out
        found = {os.fspath(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        return {name: data for name, data in found.items() if not name.startswith((".jaxstyle", "manifest"))}

    def check(self, *keys):
        """These outputs are their inputs with the colours turned round."""
        for key in keys or [key for key, row in self.rows().items() if row["status"] == "done"]:
            with Image.open(self.inputs / key) as one, Image.open(self.out / key) as other:
                np.testing.assert_array_equal(255 - np.asarray(one), np.asarray(other), err_msg=key)

    @property
    def put(self):
        """How many images were put on the last device."""
        return self.devices[-1].put.total()


@pytest.fixture
def place(tmp_path, monkeypatch):
    return Place(tmp_path, stub.install(monkeypatch.setattr))


@pytest.fixture
def at_once(monkeypatch):
    """Rows are kept, and limits looked at, after every event."""
    monkeypatch.setattr(threads, "COMMIT_SECONDS", 0)


def test_every_output_is_its_own_whatever_batch_workers_and_order(place, tmp_path):
    names = [f"{folder}{n}.png" for folder in ("", "sub/") for n in range(6)]
    for n, name in enumerate(names):
        place.add(name, size=[(64, 64), (50, 30), (20, 64), (64, 40), (9, 7), (33, 64)][n % 6])
    kept = None
    for number, changes in enumerate(
        [dict(batch=1), dict(batch=3), dict(batch=8), dict(batch="auto"), dict(workers=1), dict(workers=2, batch=5)]
    ):
        place.out = out = tmp_path / f"out{number}"
        inputs = [place.inputs, place.inputs / "0.png"][:: -1 if number % 2 else 1]
        summary = place.run(RenderSettings(size=64, evaluations=10, workers=0), inputs, out, **changes)
        assert (summary.done, summary.rendered, summary.stopped) == (12, 12, "")
        rows = {key: row | MEASURED | {"batch": 0} for key, row in place.rows(out).items()}
        pictures = {name: data for name, data in place.files(out).items() if name != "settings.json"}
        kept = kept or (pictures, rows)
        assert (pictures, rows) == kept
    place.check(*names)


def colour(name):
    """What the stub's switches call the picture of this name."""
    return stub.hexed(photo(32, 32, zlib.crc32(name.encode())).astype(np.float32) / 255)


def test_a_failed_row_tells_of_both_tries_and_a_done_one_of_the_first(place, monkeypatch):
    place.add("a.png", "nan.png", "once.png", "black.png")
    save(place.inputs / "flat.png", np.full((20, 30, 3), (10, 20, 30), np.uint8))
    for switch, name in {"NAN": "nan.png", "NAN_ONCE": "once.png", "BLACK": "black.png"}.items():
        monkeypatch.setenv(f"STUB_{switch}", colour(name))
    assert (place.run().failed, place.put) == (2, 5 + 3)
    rows = place.rows()
    for name, what in {
        "nan.png": "diverged: its loss was not finite",
        "black.png": "came out nearly black: mean level 0; the input has ",
    }.items():
        assert (
            rows[name]["reason"].startswith(what)
            and f" (on the second try; on the first: {what}" in rows[name]["reason"]
        )
        assert rows[name]["input_sha256"] and rows[name]["evaluations"] == (1 if name == "nan.png" else 10)
    assert rows["nan.png"]["ended"] == "diverged"
    assert rows["once.png"]["notes"] == ["second try: the first diverged: its loss was not finite"]
    assert rows["a.png"]["notes"] == [] and sorted(place.files()) == ["a.png", "flat.png", "once.png", "settings.json"]
    place.check()


def test_a_bucket_after_one_that_ran_out_of_memory_begins_with_no_more_pixels(place, monkeypatch):
    place.add(*(f"large{n}.png" for n in range(9)), size=(64, 64))
    place.add(*(f"small{n}.png" for n in range(8)), size=(32, 32))
    place.add(*(f"tall{n}.png" for n in range(8)), size=(32, 64))
    monkeypatch.setenv("STUB_ROOM", "2")
    ear = Ear()
    assert place.run(RenderSettings(size=64, evaluations=10, workers=0, batch=8), progress=ear).done == 25
    assert ["4 images of 64 x 64" in ear.said[0], "2 images of 64 x 64" in ear.said[1]] == [True, True]
    tried = [(group.bucket, size) for group, size in place.devices[0].made]
    assert {size for bucket, size in tried if bucket == (32, 64)} <= {4, 2, 1}
    place.check()


def stopping(stop, after):
    """A progress that asks for a stop at its n-th row."""
    ear = Ear(lambda row: len(ear.rows) == after and stop.request("enough"))
    return ear


def test_a_run_that_was_stopped_is_completed_to_the_same_files(place, tmp_path, monkeypatch, at_once):
    for n in range(40):
        place.add(f"{n:02}.png", size=(32, 32) if n % 3 else (20, 31))
    place.run(out=tmp_path / "whole")
    monkeypatch.setenv("STUB_SECONDS", "0.02")
    stop = Stop()
    ear = stopping(stop, 5)
    summary = place.run(stop=stop, progress=ear)
    assert summary.stopped == "enough" and 5 <= summary.done < 40
    assert len(ear.rows) == summary.done == len(place.rows()) == len(place.files()) - 1  # its batch is finished
    assert ear.spent == 10 * summary.done  # no evaluation was for nothing
    assert any("Stopping (enough)" in text for text in ear.said)
    second = place.run()
    assert second.rendered == 40 - summary.done and second.stopped == ""
    assert place.files() == place.files(tmp_path / "whole")
    rows, whole = place.rows(), place.rows(tmp_path / "whole")
    assert rows == {key: row | {name: rows[key][name] for name in MEASURED} for key, row in whole.items()}


@pytest.mark.parametrize("limits", [{}, {"max_failures": 3}], ids=["asked", "failures"])
def test_a_stop_ends_a_plan_that_has_nothing_to_render(place, monkeypatch, at_once, limits):
    """None of the inputs is a picture, so nothing is ever offered to the device."""
    place.inputs.mkdir()
    for n in range(500):
        (place.inputs / f"{n:04}.png").write_bytes(b"no picture")
    stop, stopping = Stop(), threading.Event()
    probe, ear = Decoders.probe, Ear(lambda row: limits or stop.request("enough"))
    ear.say = lambda text: stopping.set()

    def waits(decoders, paths):
        assert paths[0].name == "0000.png" or stopping.wait(60)
        return probe(decoders, paths)

    monkeypatch.setattr(Decoders, "probe", waits)
    assert place.run(stop=stop, progress=ear, **limits).stopped
    assert 4 <= len(place.rows()) < 500


@pytest.mark.parametrize("fate", ["well", "nan", "turned", "of many sizes"])
def test_few_pictures_are_held_in_memory(place, monkeypatch, fate):
    """However many wait, whatever becomes of them."""
    for n in range(150):
        place.add(f"{n:03}.png", size=(64, 30 if fate != "of many sizes" else 5 + 13 * n % 60))
        if fate == "turned":
            turn(place.inputs / f"{n:03}.png")
    if fate == "nan":
        monkeypatch.setattr(stub.StubBatch, "_image", lambda batch, lane: np.full_like(batch.images[lane], np.nan))
    held, most = [], []

    def watched(*arguments):
        prepared = prepare(*arguments)
        held.append(weakref.ref(prepared.inputs["content"]))
        most.append(sum(one() is not None for one in held))
        return prepared

    prepare = stages.prepare
    monkeypatch.setattr(stages, "prepare", watched)
    summary = place.run(RenderSettings(size=64, evaluations=10, workers=0, batch=2))
    assert summary.done == (0 if fate == "nan" else 150) and len(place.rows()) == 150
    # 2 on the device, 3 to follow, 3 of other buckets, 4 to be published, 2 in hands, and half as many again
    assert max(most) <= 24, f"{max(most)} pictures were held"


def turn(path):
    """Says behind a PNG's pixels, where a look at its header does not come, that it lies on its side."""
    data = b"eXIf" + b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk + content[-12:])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_png_that_says_late_that_it_lies_on_its_side_is_rendered_upright(place, workers):
    place.add("a.png", "b.png", size=(64, 30))
    turn(place.inputs / "a.png")
    place.run(RenderSettings(size=64, evaluations=10, workers=workers, batch=4))
    row = place.rows()["a.png"]
    assert row["input_size"] == row["work_size"] == row["output_size"] == [30, 64]
    assert place.rows()["b.png"]["work_size"] == [64, 30]
    assert {group.bucket for group, _ in place.devices[0].put} == {(64, 32), (32, 64)}
    with Image.open(place.inputs / "a.png") as one, Image.open(place.out / "a.png") as other:
        np.testing.assert_array_equal(255 - np.rot90(np.asarray(one), -1), np.asarray(other))
    place.check("b.png")
    assert place.run(RenderSettings(size=64, evaluations=10, workers=workers, batch=4)).rendered == 0


def test_another_picture_of_the_same_length_is_rendered_and_a_copy_of_the_same_is_not(place):
    place.add("a.bmp", "b.bmp", "c.bmp")
    place.run()
    before = place.files()
    save(place.inputs / "a.bmp", photo(32, 32, seed=99))
    for name in ("a.bmp", "b.bmp"):
        os.utime(place.inputs / name, ns=(10**18, 10**18))
    assert (place.inputs / "a.bmp").stat().st_size == (place.inputs / "b.bmp").stat().st_size
    assert (place.run().rendered, place.put) == (1, 1)
    place.check("a.bmp", "b.bmp", "c.bmp")
    assert {name for name, data in place.files().items() if data != before[name]} == {"a.bmp"}


def test_a_picture_that_changes_between_its_plan_and_its_turn_is_a_failed_row(place, monkeypatch):
    place.add("a.png", "b.png", "c.png")
    prepare = stages.prepare

    def meddled(job, *arguments):
        if job.key == "b.png":
            save(job.locator, photo(32, 32, seed=99))
        return prepare(job, *arguments)

    monkeypatch.setattr(stages, "prepare", meddled)
    summary = place.run()
    assert (summary.done, summary.failed) == (2, 1)
    assert place.rows()["b.png"]["reason"] == "changed while the run went on"
    monkeypatch.setattr(stages, "prepare", prepare)
    assert place.run(retry_failed=True).done == 3
    place.check("a.png", "b.png", "c.png")


def test_names_that_are_not_utf8_are_rendered_and_resumed(place):
    names = [os.fsdecode(name) for name in (b"caf\xe9.png", b"\xff\xfe/\x80.png", b"\xc3\xa9.png", b"new\nline.png")]
    place.add(*names)
    assert place.run().done == 4
    place.check(*names)
    assert set(place.rows()) == set(names) and place.run().rendered == 0


@pytest.mark.parametrize("where", ["row", "advance", "begin", "inputs"])
def test_an_error_of_the_listener_ends_the_run_and_the_next_one_completes(place, monkeypatch, at_once, where):
    names = [f"{n:02}.png" for n in range(20)]
    place.add(*names)
    ear = Ear()
    monkeypatch.setattr(ear, where, lambda *_: {}["nobody"], raising=False)
    with pytest.raises(KeyError, match="nobody"):
        place.run(progress=ear)
    kept = place.rows()
    assert place.run().rendered == 20 - len(kept)
    place.check(*names)


@pytest.mark.parametrize("end", ["whole", "stopped", "broken listener", "broken device", "broken writer"])
def test_no_thread_is_left_behind(place, monkeypatch, end):
    place.add(*(f"{n:02}.png" for n in range(30)))
    before, stop, ear = set(threading.enumerate()), Stop(), Ear()
    if end == "stopped":
        ear = stopping(stop, 3)
    elif end == "broken listener":
        ear = Ear(lambda row: {}["nobody"])
    elif end == "broken device":
        monkeypatch.setattr(stub.StubBatch, "advance", lambda *_: {}["nobody"])
    elif end == "broken writer":
        monkeypatch.setattr(publish.image, "encode", lambda *_, **__: {}["nobody"])
    if end.startswith("broken"):
        with pytest.raises(KeyError, match="nobody"):
            place.run(progress=ear, stop=stop, workers=2)
    else:
        place.run(progress=ear, stop=stop, workers=2)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread.name


def test_a_stop_before_the_beginning_renders_nothing(place):
    place.add("a.png", "b.png")
    stop = Stop()
    stop.request("never mind")
    summary = place.run(stop=stop)
    assert (summary.stopped, summary.rendered, place.rows()) == ("never mind", 0, {})
    assert place.run().done == 2
