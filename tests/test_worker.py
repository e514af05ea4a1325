"""What a worker does with one file, and what is believed of what it says."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import photo, save
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.pictures.metadata import MOST_BYTES
from jaxstyle.decode import pool as pool_module
from jaxstyle.decode import process, worker
from jaxstyle.decode.pool import Decoders, _groups
from jaxstyle.errors import ImageError, ProcessError

LIMIT = 1_000_000


class Source:
    """A worker that sends whatever array is asked for, full of one value."""

    def __init__(self, value=0):
        self.value = value

    def array(self, shape, dtype):
        return np.full(shape, self.value, dtype)


STAT = {"length": 9, "modified": -1}
HEADER = {"width": 60, "height": 40, "format": "PNG", "frames": 1}
ANSWER = {
    "stat": STAT, "sha256": "0f" * 32, "header": HEADER, "notes": ["ü"], "exif": "4500", "arrays": ["uint8", "uint8"],
}  # fmt: skip


def test_a_sensible_answer_is_believed():
    found = process.decoded(Source(), ANSWER, 30, 2400, True)
    assert found.levels.shape == (20, 30, 3) and found.alpha.shape == (40, 60) and found.notes == ("ü",)
    assert found.exif == b"E\0"
    assert found.levels.dtype == found.alpha.dtype == np.uint8
    opaque = process.decoded(Source(0.5), ANSWER | {"arrays": ["float32"]}, 30, 2400, True)
    assert opaque.alpha is None and opaque.levels.dtype == np.float32 and (opaque.pixels == 0.5).all()
    one = {"stat": STAT, "header": HEADER, "problem": "", "picture": True}
    assert process.probed([one], 1, 2400)[0].header == found.header
    refused = process.decoded(Source(), {"what": "it", "remedy": "Do."}, 30, 2400, True)
    assert isinstance(refused, ImageError) and str(refused) == "it. Do."


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": []}, {"arrays": None}, {"arrays": ["uint8", "float32"]}, {"arrays": ["float64"]},
        {"arrays": ["object"]}, {"arrays": ["uint8"] * 3}, {"arrays": [["uint8"]]}, {"arrays": "uint8"},
        {"header": HEADER | {"width": 61}}, {"header": HEADER | {"width": 10**12}}, {"header": HEADER | {"width": 0}},
        {"header": HEADER | {"width": -60, "height": -40}}, {"header": HEADER | {"width": 60.0}},
        {"header": HEADER | {"height": True}}, {"header": HEADER | {"frames": "1"}}, {"header": None},
        {"header": HEADER | {"format": "EPS"}}, {"header": {}}, {"header": [60, 40, "PNG", 1]},
        {"stat": STAT | {"length": -1}}, {"stat": STAT | {"length": 2**63}}, {"stat": STAT | {"modified": 1.5}},
        {"stat": None}, {"sha256": "0f" * 31}, {"sha256": "../" * 21 + "x"}, {"sha256": 5}, {"notes": "note"},
        {"exif": None}, {"exif": "xx"}, {"exif": 5},
        {"notes": [1]}, {"notes": ["\ud800"]}, {"what": "it"}, {"what": None, "remedy": ""},
    ],
    ids=str,
)  # fmt: skip
def test_no_other_answer_is_believed(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        process.decoded(Source(), ANSWER | change, 30, 2400, True)
    if change.keys() & {"header", "stat"}:
        one = {"stat": STAT, "header": HEADER, "problem": "", "picture": True} | change
        with pytest.raises((ValueError, TypeError, KeyError)):
            process.probed([one], 1, 2400)


def test_no_more_exif_is_believed_than_a_jpeg_holds():
    assert len(process.decoded(Source(), ANSWER | {"exif": "00" * MOST_BYTES}, 30, 2400, True).exif) == MOST_BYTES
    with pytest.raises(ValueError):
        process.decoded(Source(), ANSWER | {"exif": "00" * (MOST_BYTES + 1)}, 30, 2400, True)


@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01, float("inf")])
def test_floats_outside_0_to_1_are_not_believed(value):
    with pytest.raises(ValueError):
        process.decoded(Source(value), ANSWER | {"arrays": ["float32"]}, 30, 2400, True)


@pytest.mark.parametrize("answer", [None, 5, {}, [], [1], "x", [{}], [{"header": None, "problem": ""}]])
def test_no_other_answer_of_a_probe_is_believed(answer):
    with pytest.raises((ValueError, TypeError, KeyError)):
        process.probed(answer, 1, 2400)


def test_requests_to_probe_fit_into_a_pipe():
    paths = [Path("/", "\udcff" * length, str(i)) for i, length in enumerate([1, 4000, 90] * 70 + [2000] * 90)]
    groups = list(_groups(paths))
    assert [path for group in groups for path in group] == paths
    requests = [json.dumps({"probe": [os.fspath(path) for path in group], "max_pixels": 10**9}) for group in groups]
    assert max(map(len, requests)) < 65536 and max(map(len, groups)) <= 64
    assert list(_groups([])) == []


@pytest.mark.parametrize(
    ("starter", "why"),
    [
        (["/nonexistent/python"], r"\(No such file or directory\)"),
        ([sys.executable, "-c", "raise SystemExit('out of luck')"], r"\(exit code 1: out of luck\)"),
        ([sys.executable, "-c", "print('hello')"], "cannot be started"),
    ],
)
def test_a_worker_that_cannot_be_started_is_no_picture_s_error(tmp_path, monkeypatch, starter, why):
    monkeypatch.setattr(pool_module, "PAUSES", (0, 0))
    path = save(tmp_path / "a.png", photo(20, 20))
    with Decoders(1, max_pixels=LIMIT, timeout=60, command=starter) as pool:
        for call in (lambda: pool.probe([path]), lambda: pool.read(path, 20, full_alpha=False)):
            with pytest.raises(ProcessError, match=why) as raised:
                call()
            assert raised.value.exit_code == 1 and "--workers 0" in raised.value.remedy
        assert not pool._all


def test_a_worker_loads_no_jax_and_inherits_the_path(tmp_path, monkeypatch):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "path")
    path = save(tmp_path / "a.tif", photo(20, 20), compression="tiff_lzw")
    code = f"""
import sys, only_here
from jaxstyle.decode import worker
real = worker._answer
def answer(request):
    made = real(request)
    open({str(tmp_path / "modules")!r}, "w").write(" ".join(sys.modules))
    return made
worker._answer = answer
"""
    command = [sys.executable, "-P", "-c", f"{code}\nworker.main()"]
    with Decoders(1, max_pixels=LIMIT, timeout=60, command=command) as pool:
        pool.read(path, 20, full_alpha=False)
    modules = {name.split(".")[0] for name in (tmp_path / "modules").read_text().split()}
    assert "PIL" in modules and not modules & {"jax", "flax", "optax", "jaxopt", "multiprocessing"}


def test_the_pool_itself_loads_no_jax():
    code = "import sys, jaxstyle.decode.pool; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {name.split(".")[0] for name in shown.split()} & {"jax", "flax", "optax", "jaxopt"}


@pytest.mark.parametrize("damage", [False, True])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, damage):
    path = save(tmp_path / "a.png", photo(20, 20))
    real = image.read, image.probe

    def change(function, source, *arguments):
        found = function(source, *arguments)
        with path.open("ab") as file:
            file.write(b"more")
        if damage:
            raise ImageError("cannot be decoded")
        return found

    monkeypatch.setattr(image, "read", lambda *a: change(real[0], *a))
    monkeypatch.setattr(image, "probe", lambda *a: change(real[1], *a))
    with Decoders(0, max_pixels=LIMIT, timeout=60) as here:
        with pytest.raises(ImageError, match="^changed while it was read$"):
            here.read(path, 20, full_alpha=False)
        (probed,) = here.probe([path])
    assert probed.problem == "changed while it was read" and probed.header is None and probed.stat.length


def test_notes_are_bounded_and_printable_and_a_lack_of_memory_is_an_image_error(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", photo(20, 20))
    picture = dataclasses.replace(image.read(path, LIMIT), notes=("\udcff",) * 5000)
    monkeypatch.setattr(image, "read", lambda *_: picture)
    assert worker.read(path, 20, LIMIT, full_alpha=False).notes == ("\\udcff",) * worker.MAX_NOTES
    monkeypatch.setattr(image, "read", lambda *_: np.empty(1 << 59))
    with pytest.raises(ImageError, match="memory"):
        worker.read(path, 20, LIMIT, full_alpha=False)


def test_pictures_are_read_from_open_files_which_stay_open(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(photo(20, 30)).save(stream, "PNG")
    for look in (image.probe, image.read):
        assert look(stream, LIMIT) is not None and not stream.closed
        with pytest.raises(ImageError, match="claims 20 x 30"):
            look(stream, 599)
        assert not stream.closed
    with pytest.raises(image.NotAPicture, match="is empty"):
        image.probe(io.BytesIO(), LIMIT)
