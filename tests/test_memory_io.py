"""Sources and sinks are what their protocols say, no more: a whole run from memory to memory."""

import io
import json

import numpy as np
import pytest
import stub
from memory_io import install
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.decode.pool import Decoders
from jaxstyle.decode.reader import Reader
from jaxstyle.engine import stages
from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError, InputError
from jaxstyle.settings import RenderSettings

QUICK = RenderSettings(size=32, evaluations=10, batch=2, workers=0)


def png(seed, size=(32, 24)):
    made = io.BytesIO()
    Image.fromarray(photo(*size, seed)).save(made, "PNG")
    return made.getvalue()


class Memory:
    def __init__(self, folder, patch):
        self.content = {f"{n}.png": png(n) for n in range(4)} | {"sub/5.png": png(5), "cut.png": png(6)[:60]}
        self.content["notes.txt"] = b"Dear diary"
        self.outputs, self.folder = {}, folder
        self.style = save(folder / "style.png", painting())
        self.sources, self.sinks = install(patch, self.content, self.outputs)

    def run(self, settings=QUICK, **options):
        return render([], self.style, self.folder / "out", settings, source="memory", sink="memory", **options)

    def rows(self):
        lines = (self.folder / "out" / "manifest.jsonl").read_text().splitlines()
        return {row["key"]: row for row in map(json.loads, lines)}


@pytest.fixture
def memory(tmp_path, monkeypatch):
    stub.install(monkeypatch.setattr)
    return Memory(tmp_path, monkeypatch.setitem)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_from_memory_to_memory(memory, workers):
    summary = memory.run(workers=workers)
    assert (summary.done, summary.skipped, summary.failed, len(summary.examples)) == (5, 1, 1, 5)
    assert set(memory.outputs) == {"0.png", "1.png", "2.png", "3.png", "sub/5.png"} == memory.sinks[0].committed
    assert memory.sinks[0].calls == ["begin", "sweep", "close"]
    for key, data in memory.outputs.items():
        with Image.open(io.BytesIO(data)) as made, Image.open(io.BytesIO(memory.content[key])) as source:
            np.testing.assert_array_equal(np.asarray(made), 255 - np.asarray(source))
    assert not list((memory.folder / "out").rglob("*.png"))
    row = memory.rows()["0.png"]
    assert row["input_bytes"] == len(memory.content["0.png"]) and row["input_modified"] > 2**32


def test_a_later_run_renders_what_has_changed_is_new_or_has_lost_its_output(memory):
    memory.run()
    assert memory.run().looked_at == 0
    memory.content["1.png"], memory.content["9.png"] = png(77), png(9)
    del memory.outputs["2.png"]
    memory.content["3.png"] = memory.content["3.png"][:50]
    summary = memory.run()
    assert (summary.rendered, summary.done, summary.failed) == (3, 5, 2)
    assert "3.png" not in memory.outputs and memory.rows()["3.png"]["status"] == "failed"  # withdrawn


def test_outputs_are_committed_before_their_rows_are_kept(memory):
    class Checking(Silent):
        def row(self, row):
            assert row.status != "done" or row.key in memory.sinks[0].committed

    assert memory.run(progress=Checking()).done == 5


def test_an_input_that_vanishes_or_changes_is_a_failed_row(memory, monkeypatch):
    prepare = stages.prepare

    def meddled(job, *arguments):
        if job.key == "0.png":
            del memory.content["0.png"]
        if job.key == "1.png":
            memory.content["1.png"] = png(66)
        return prepare(job, *arguments)

    monkeypatch.setattr(stages, "prepare", meddled)
    assert memory.run().failed == 3
    assert memory.rows()["0.png"]["reason"] == "cannot be read (No such input)"
    assert memory.rows()["1.png"]["reason"] == "changed while the run went on"


def test_a_source_without_inputs_is_refused(memory):
    memory.content.clear()
    with pytest.raises(InputError, match="there is no input"):
        memory.run()


def test_a_reader_copies_what_has_no_path_and_nothing_else(memory, tmp_path):
    memory.run()
    source = memory.sources[0]
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    with Decoders(0, max_pixels=10**6, timeout=60) as decoders:
        reader = Reader(source, decoders)
        assert reader.probe([path]) == decoders.probe([path])
        inside, outside, absent = reader.probe(["memory:1.png", path, "memory:nothing"])
        assert inside.header == outside.header
        assert (inside.stat.length, inside.stat.modified) == source.stamp("memory:1.png")
        assert absent.problem == "cannot be read (No such input)"
        one = reader.read("memory:1.png", 32, full_alpha=False)
        np.testing.assert_array_equal(one.pixels, reader.read(path, 32, full_alpha=False).pixels)
        with pytest.raises(ImageError, match="No such input"):
            reader.read("memory:nothing", 32, full_alpha=False)
