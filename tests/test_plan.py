"""Every input becomes a job or a row, and every job fits a bucket of a ladder with few rungs and little waste."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxstyle.architecture import STRIDE
from jaxstyle.data.image import work_size
from jaxstyle.data.layout import MANIFEST, SETTINGS, SHEET
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.folders import FolderSource
from jaxstyle.decode.pool import Decoders, Probed, Stat
from jaxstyle.decode.reader import Reader
from jaxstyle.errors import InputError
from jaxstyle.planning.buckets import LONG_SIDES, SHORT_SIDES, bucket
from jaxstyle.planning.inputs import inputs_of
from jaxstyle.planning.plan import GROUP, Job, Unchanged, plan
from jaxstyle.planning.shots import in_shard
from jaxstyle.settings import RenderSettings

MOST_BUCKETS = len(LONG_SIDES) * (2 * len(SHORT_SIDES) - 1)
"""Shapes that one working size can lead to, whatever the pictures: every rung in both directions, squares once."""
PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=500)
NOTHING = Probed(Stat(0, 0), None, "the file is empty")
SIDE = st.one_of(st.integers(1, 20_000), st.integers(1, 70))


@PROPERTY
@given(width=SIDE, height=SIDE, size=st.integers(STRIDE, 2048))
def test_every_picture_fits_its_bucket(width, height, size):
    work = work_size(width, height, size)
    shape = bucket(work, size)
    assert 1 <= work[0] <= min(width, size) and 1 <= work[1] <= min(height, size)  # never enlarged
    assert max(work) == min(size, max(width, height))
    assert work[0] <= shape[0] and work[1] <= shape[1]
    assert all(side % STRIDE == 0 and side >= STRIDE for side in shape)
    assert max(shape) < size + STRIDE
    scale = max(work) / max(width, height)
    assert abs(work[0] - width * scale) <= 1 and abs(work[1] - height * scale) <= 1  # rounding, and no side of 0


@PROPERTY
@given(width=SIDE, height=SIDE, size=st.integers(STRIDE, 2048))
def test_portrait_mirrors_landscape(width, height, size):
    work = work_size(width, height, size)
    assert work_size(height, width, size) == work[::-1]
    if work[0] != work[1]:  # a square one may lie in a landscape bucket
        assert bucket(work[::-1], size) == bucket(work, size)[::-1]


@pytest.mark.parametrize("size", [32, 33, 100, 256, 512, 1000])
def test_there_are_few_buckets_for_a_size(size):
    sides = sorted({1, size, *range(1, size, max(1, size // 128))})
    shapes = {bucket((width, height), size) for width in sides for height in sides}
    assert len(shapes) <= MOST_BUCKETS == 75
    assert len(shapes) <= (-(-size // STRIDE)) ** 2  # and small sizes have fewer


@PROPERTY
@given(width=SIDE, height=SIDE, size=st.integers(STRIDE, 2048))
def test_a_bucket_is_a_rung_of_the_ladder(width, height, size):
    long, short = sorted(bucket(work_size(width, height, size), size), reverse=True)
    up = lambda length: max(STRIDE, math.ceil(length / STRIDE) * STRIDE)  # noqa: E731
    assert long in {up(part * size) for part in LONG_SIDES}
    assert short in {up(part * long) for part in SHORT_SIDES}


@pytest.mark.parametrize("ratio", [(1, 1), (5, 4), (4, 3), (7, 5), (3, 2), (16, 10), (16, 9), (2, 1), (3, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_common_aspect_ratios_waste_little(ratio, turned):
    width, height = (1000 * side for side in (ratio[::-1] if turned else ratio))
    work = work_size(width, height, 512)
    shape = bucket(work, 512)
    assert 1 - work[0] * work[1] / (shape[0] * shape[1]) < 0.12  # of the bucket's area


@pytest.mark.parametrize("ratio", [(1, 1), (4, 3), (3, 2), (16, 9), (2, 1)])
def test_common_pictures_of_any_size_waste_less_than_their_own_area_and_a_stride(ratio):
    for width in range(64, 1025, 7):
        work = (width, max(1, round(width * ratio[1] / ratio[0])))
        shape = bucket(work, 1024)
        # Rungs are at most 2 apart in the long side; the short side follows it, to the next stride.
        assert shape[0] < 2 * work[0] + STRIDE and shape[1] < 2.3 * work[1] + STRIDE


@pytest.mark.parametrize(
    ("picture", "size", "work", "shape"),
    [
        ((4000, 3000), 512, (512, 384), (512, 384)),
        ((3000, 4000), 512, (384, 512), (384, 512)),
        ((512, 512), 512, (512, 512), (512, 512)),
        ((100, 80), 512, (100, 80), (128, 96)),
        ((1, 1), 512, (1, 1), (64, 32)),
        ((1, 10_000), 512, (1, 512), (96, 512)),
        ((20_000, 3), 64, (64, 1), (64, 32)),
        ((640, 480), 500, (500, 375), (512, 384)),
    ],
)
def test_known_pictures(picture, size, work, shape):
    assert work_size(*picture, size) == work
    assert bucket(work, size) == shape


@pytest.fixture
def folder(tmp_path):
    """Inputs of every kind."""
    Image.new("RGB", (100, 60)).save(tmp_path / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "sub" / "PHOTO", "PNG")
    (tmp_path / "text.jpg").write_text("Dear diary")
    (tmp_path / "empty.PNG").touch()
    (tmp_path / "notes.txt").write_text("Dear diary")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "cut.png").write_bytes(b"GIF89a\0\0")
    return tmp_path


def every(inputs, finished=(), case_insensitive=False, **overrides) -> list[Job | Row | Unchanged]:
    made = RenderSettings(size=64, **overrides)
    source = FolderSource(inputs, case_insensitive=case_insensitive)
    with Decoders(0, max_pixels=made.max_pixels, timeout=60) as decoders:
        unchanged = lambda one: one.key in finished  # noqa: E731
        ready = SimpleNamespace(source=source, settings=made, styles=SimpleNamespace(assignment=None), only="")
        return list(plan(inputs_of(ready), made, unchanged, Reader(source, decoders)))


def planned(folder, finished=(), **overrides) -> dict[str, Job | Row | Unchanged]:
    found = every([folder], finished, **overrides)
    assert len({one.key for one in found}) == len(found)
    return {one.key: one for one in found}


def test_every_input_is_a_job_or_a_row_that_says_why_not(folder):
    found = planned(folder)
    jobs = {key: (one.work, one.bucket) for key, one in found.items() if isinstance(one, Job)}
    rows = {key: (one.status, one.reason) for key, one in found.items() if isinstance(one, Row)}
    assert jobs == {
        "a.jpg": ((38, 64), (64, 64)),  # upright
        "b.png": ((64, 38), (64, 64)),
        "sub/PHOTO": ((30, 30), (32, 32)),
    }
    assert rows.pop("cut.png")[0] == "failed"
    assert rows == {
        "text.jpg": ("failed", "the file is no picture of a known format"),
        "empty.PNG": ("failed", "the file is empty"),
        "notes.txt": ("skipped", "not a picture: the file is no picture of a known format"),
        ".hidden.png": ("skipped", "hidden file"),
        "gone.png": ("failed", "a link to nothing"),
    }
    job, stat = found["b.png"], (folder / "b.png").stat()
    assert job.locator == folder / "b.png" and job.header.format == "PNG" and job.note == ""
    assert (job.length, job.modified) == (stat.st_size, stat.st_mtime_ns)


def test_too_many_pixels_is_a_failed_row(folder):
    found = planned(folder, max_pixels=1000)
    assert found["a.jpg"].status == "failed" and "more than 1000" in found["a.jpg"].reason
    assert isinstance(found["sub/PHOTO"], Job)


def test_finished_inputs_are_told_by_key_and_not_looked_at(folder, monkeypatch):
    everything = planned(folder)
    finished = {"a.jpg", "notes.txt", "gone.png", "never-seen.jpg"}
    probed = []
    probe = Decoders.probe
    monkeypatch.setattr(Decoders, "probe", lambda self, paths: probed.extend(paths) or probe(self, paths))
    found = planned(folder, finished)
    told = finished & set(everything)
    assert found == everything | {key: Unchanged(key) for key in told}
    assert list(found) == list(everything)  # in the same order
    assert not told & {path.name for path in probed} and len(probed) == len(everything) - len(told) - 1  # the hidden
    probed.clear()
    assert planned(folder, everything) == {key: Unchanged(key) for key in everything} and probed == []


def test_headers_are_asked_for_in_groups_that_grow_to_a_bound(tmp_path, monkeypatch):
    for k in range(3 * GROUP):
        (tmp_path / f"{k}.txt").touch()
    asked = []
    monkeypatch.setattr(Decoders, "probe", lambda self, paths: asked.append(len(paths)) or [NOTHING] * len(paths))
    assert len(planned(tmp_path)) == 3 * GROUP
    assert asked[0] <= 8 and max(asked) == GROUP and sum(asked) == 3 * GROUP and asked[:-1] == sorted(asked[:-1])


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_every_input_is_in_one_shard_whatever_else_there_is(folder, number):
    everything = planned(folder)
    shards = [planned(folder, shard=f"{k}/{number}") for k in range(1, number + 1)]
    assert sum(map(len, shards)) == len(everything)
    assert {key: one for shard in shards for key, one in shard.items()} == everything
    for k, shard in enumerate(shards, 1):
        assert all(in_shard(key, (k, number)) for key in shard)
    (folder / "b.png").unlink()
    after = [planned(folder, shard=f"{k}/{number}") for k in range(1, number + 1)]
    assert after == [{key: one for key, one in shard.items() if key != "b.png"} for shard in shards]


def test_shards_are_of_about_one_size():
    keys = [f"folder/{k:06}.jpg" for k in range(8000)]
    sizes = [sum(in_shard(key, (k, 8)) for key in keys) for k in range(1, 9)]
    assert sum(sizes) == len(keys) and min(sizes) > 850 and max(sizes) < 1150


def test_a_key_stays_in_its_shard_in_every_version():
    """Shards on machines with different versions must not take one input twice, or not at all."""
    keys = ("a.jpg", "sub/b.png", "caf\udce9")
    assert [next(k for k in range(1, 9) if in_shard(key, (k, 8))) for key in keys] == [2, 8, 4]


@pytest.mark.parametrize("case_insensitive", [False, True])
def test_names_that_differ_in_case_fail_where_the_outputs_would_be_one(tmp_path, case_insensitive):
    for name in ("A.png", "a.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes both names for one")
    first, second = every([tmp_path], case_insensitive=case_insensitive)
    assert isinstance(first, Job)
    if case_insensitive:
        assert isinstance(second, Row) and second.status == "failed" and "differs only in case" in second.reason
    else:
        assert isinstance(second, Job) and "differs only in case" in second.note


def test_two_pictures_with_one_key_are_one_failed_row(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "a.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "two" / "b.png")
    first, second = every([tmp_path / "one", tmp_path / "two"])
    assert (first.key, first.status) == ("a.png", "failed") and "two inputs have this name" in first.reason
    assert isinstance(second, Job) and second.key == "b.png"


@pytest.mark.parametrize("name", [MANIFEST, SETTINGS, SHEET, "manifest-2-of-8.jsonl"])
@pytest.mark.parametrize("inside", [False, True])
def test_names_that_the_run_needs_for_itself_fail(tmp_path, name, inside):
    path = tmp_path / name / "a.png" if inside else tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 40)).save(path, "PNG")
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "sub" / name, "PNG")
    found = planned(tmp_path)
    row = found[f"{name}/a.png" if inside else name]
    assert isinstance(row, Row) and row.status == "failed" and name in row.reason
    assert isinstance(found[f"sub/{name}"], Job)  # only at the top


def test_a_file_that_cannot_be_read_is_a_failed_row(folder, monkeypatch):
    real = os.open

    def refuse(path, *arguments, **options):
        if os.fspath(path).endswith("b.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    found = planned(folder)
    assert found["b.png"].status == "failed" and "Permission denied" in found["b.png"].reason
    assert isinstance(found["a.jpg"], Job)


def test_impossible_inputs_end_the_plan(tmp_path):
    with pytest.raises(InputError):
        every([tmp_path / "absent"])
