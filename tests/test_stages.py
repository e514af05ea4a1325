"""Jobs of two stages: each picture is optimised small, then larger, starting from what the first stage made."""

import dataclasses
import json
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.data.image import Header, resize
from jaxstyle.engine import publish, stages
from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.queues import Queues
from jaxstyle.planning import scales
from jaxstyle.planning.contract import Group
from jaxstyle.planning.course import NO_COURSE
from jaxstyle.planning.forecast import forecast
from jaxstyle.planning.plan import Job
from jaxstyle.settings import RenderSettings

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL, LARGE = 6, 4
"""Evaluations of the two stages."""
SETTINGS = RenderSettings(size=64, scales="32,64", evaluations=f"{SMALL},{LARGE}", batch=4, workers=0)


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


class Ear(Silent):
    def __init__(self):
        self.spent, self.rows = 0, []

    def begin(self, evaluations):
        self.budget = evaluations

    def advance(self, evaluations, loss):
        self.spent += evaluations

    def row(self, row):
        self.rows.append(row)


def rows(output):
    return {row["key"]: row for row in map(json.loads, (output / "manifest.jsonl").read_text().splitlines())}


def test_a_job_moves_through_its_stages_and_begins_again_from_the_first():
    first, second = scales.Stage((32, 24), (32, 32), 6), scales.Stage((64, 48), (64, 48), 4)
    job = Job("a", "a", 1, 2, None, (first, second))
    assert (job.work, job.bucket, job.evaluations, job.last) == ((32, 24), (32, 32), 6, False)
    assert job.group == Group((32, 32), False, 0, coarse=True)
    later = job.next_stage(np.zeros((24, 32, 3)), 6, 1.5, NO_COURSE.after(6, {"style": 3.0}, 1.5, 1.5))
    assert (later.work, later.bucket, later.evaluations, later.last) == ((64, 48), (64, 48), 4, True)
    assert later.course.points == ((6, {"style": 3.0}),)
    assert later.group == Group((64, 48), False, 1) and later.previous is not None
    assert (later.evaluations_before, later.seconds_before) == (6, 1.5)
    after = dataclasses.replace(later, stages=(first, second, second)).next_stage(np.zeros((48, 64, 3)), 4, 0.5)
    assert (after.evaluations_before, after.seconds_before) == (10, 2.0)  # of both
    again = later.second_try("black")
    assert (
        again.group == Group((32, 32), True, 0, coarse=True)
        and again.first_problem == "black"
        and again.previous is None
    )
    assert (again.evaluations_before, again.seconds_before, again.course.points) == (0, 0.0, ())


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_picture_goes_through_both_stages(style, tmp_path, devices, batch):
    pictures = {}
    for k in range(11):
        pictures[f"{k:02}.png"] = photo(*[(64, 48), (50, 64), (20, 20)][k % 3], seed=k)
        save(tmp_path / "in" / f"{k:02}.png", pictures[f"{k:02}.png"])
    ear = Ear()
    summary = render(tmp_path / "in", style, tmp_path / "out", SETTINGS, batch=batch, progress=ear)
    assert summary.done == 11 and ear.spent == 11 * (SMALL + LARGE) == sum(row.evaluations for row in ear.rows)
    assert ear.budget == SMALL + LARGE
    assert summary.occupancy > 0.2
    for key, row in rows(tmp_path / "out").items():
        with Image.open(tmp_path / "out" / key) as made:
            np.testing.assert_array_equal(np.asarray(made), 255 - pictures[key])  # of its own size and content
        assert row["evaluations"] == SMALL + LARGE and row["work_size"] == list(pictures[key].shape[1::-1])
        assert row["curve"].get("stages") == (None if row["work_size"] == [20, 20] else [SMALL])
        assert row["curve"]["evaluations"][-1] == SMALL + LARGE and row["curve"]["style"][-1] == 1
        assert 0 < row["occupancy"] <= 1
    put = Counter((group.stage, group.coarse, evaluations) for group, evaluations, _ in devices[0].inputs)
    assert put == {(0, True, SMALL): 8, (1, False, LARGE): 8, (0, False, SMALL + LARGE): 3}  # three fit the first scale


def test_the_second_stage_starts_from_the_image_of_the_first_without_its_border(style, tmp_path, devices, monkeypatch):
    save(tmp_path / "in" / "a.png", photo(60, 40, seed=1))
    prepared, prepare = [], stages.prepare
    monkeypatch.setattr(stages, "prepare", lambda *arguments: prepared.append(prepare(*arguments)) or prepared[-1])
    render(tmp_path / "in", style, tmp_path / "out", SETTINGS, init="content")
    (small, _, first), (large, _, second) = devices[0].inputs
    assert (small.bucket, large.bucket) == ((32, 32), (64, 64)) and second["inside"].sum() == 60 * 40
    made = 1 - first["content"][:21, :32]  # what the stub makes of it; the rest is border
    np.testing.assert_allclose(second["init"][:40, :60], resize(made, 60, 40), atol=1e-6)
    np.testing.assert_allclose(first["init"], first["content"])
    assert [task.job.previous for task in prepared] == [None, None]  # the image is dropped once it is the start


@pytest.mark.parametrize(
    ("picture", "works", "buckets", "evaluations"),
    [
        ((4000, 3000), [(128, 96), (256, 192), (512, 384)], [(128, 96), (256, 192), (512, 384)], [30, 20, 10]),
        ((300, 200), [(128, 85), (256, 171), (300, 200)], [(128, 96), (256, 192), (384, 224)], [30, 20, 10]),
        ((256, 192), [(128, 96), (256, 192)], [(128, 96), (256, 192)], [30, 30]),
        ((129, 90), [(128, 89), (129, 90)], [(128, 96), (256, 96)], [30, 30]),
        ((128, 96), [(128, 96)], [(128, 96)], [60]),
        ((9, 20), [(9, 20)], [(32, 64)], [60]),
    ],
)
def test_no_picture_is_enlarged_and_each_has_all_evaluations(picture, works, buckets, evaluations):
    settings = RenderSettings(size=512, scales="128,256,512", evaluations="30,20,10")
    made = scales.stages(Header(*picture, "PNG", 1), settings)
    assert [stage.work for stage in made] == works and [stage.evaluations for stage in made] == evaluations
    assert [stage.bucket for stage in made] == buckets
    assert scales.total_evaluations(settings) == 60


def test_a_stage_that_ends_early_leaves_the_next_its_own_evaluations(style, tmp_path, devices, monkeypatch):
    save(tmp_path / "in" / "a.png", photo(64, 48, seed=1))
    put = stub.StubBatch.put
    early = lambda self, lane, inputs, n, style: put(self, lane, inputs, 3 if self.group.coarse else n, style)  # noqa: E731
    monkeypatch.setattr(stub.StubBatch, "put", early)
    ear = Ear()
    assert render(tmp_path / "in", style, tmp_path / "out", SETTINGS, progress=ear).done == 1
    assert ear.spent == ear.rows[0].evaluations == 3 + LARGE


def test_the_forecast_counts_a_picture_in_every_bucket_of_its_stages(style, tmp_path, devices):
    for k, size in enumerate([(128, 96), (128, 64), (60, 40)]):
        save(tmp_path / "in" / f"{k}.png", photo(*size, seed=k))
    settings = RenderSettings(size=128, scales="64,128", evaluations=f"{SMALL},{LARGE}", workers=0)
    found = {}
    for weight in (None, 3.0):
        own = dataclasses.replace(settings, coarse_content_weight=weight)
        made = forecast(tmp_path / "in", style, tmp_path / "out", own, lambda _: stub.StubDevice(), measure=False)
        found[weight] = {(one.width, one.height): (one.images, one.evaluations, one.programs) for one in made.buckets}
        assert made.render == 3
    one_each = {(64, 32): (1, SMALL, 1), (128, 96): (1, LARGE, 1), (128, 64): (1, LARGE, 1)}
    both = (2, SMALL + SMALL + LARGE)  # the first stage of one picture and the only one of another
    assert found == {None: one_each | {(64, 64): (*both, 1)}, 3.0: one_each | {(64, 64): (*both, 2)}}


def test_a_second_try_begins_at_the_first_stage_and_its_evaluations_alone_count(style, tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", photo(64, 48, seed=1))
    save(tmp_path / "in" / "b.png", photo(64, 48, seed=2))
    devices = stub.install(monkeypatch.setattr, record=True)
    problem = publish.problem

    def wrong(ended, *more):
        job = ended.task.job
        return "wrong" if job.key == "a.png" and job.last else problem(ended, *more)

    monkeypatch.setattr(publish, "problem", wrong)
    ear = Ear()
    summary = render(tmp_path / "in", style, tmp_path / "out", SETTINGS, progress=ear)
    assert (summary.done, summary.failed) == (1, 1)
    careful = [(group.stage, evaluations) for group, evaluations, _ in devices[0].inputs if group.careful]
    assert careful == [(0, SMALL), (1, LARGE)]
    row = rows(tmp_path / "out")["a.png"]
    assert row["evaluations"] == SMALL + LARGE and row["reason"] == "wrong (on the second try; on the first: wrong)"
    assert ear.spent == 2 * (SMALL + LARGE)  # the first try is taken back


def test_few_images_of_first_stages_wait_in_memory(style, tmp_path, devices, monkeypatch):
    for k in range(120):
        save(tmp_path / "in" / f"{k:03}.png", photo(64, 20 + k % 40, seed=k))
    held, most, next_job = [], [], stages.next_job

    def watched(ended, ready):
        job = next_job(ended, ready)
        if job is not None:
            held.append(weakref.ref(job.previous))
            most.append(sum(one() is not None for one in held))
        return job

    monkeypatch.setattr(stages, "next_job", watched)
    assert render(tmp_path / "in", style, tmp_path / "out", SETTINGS, batch=4).done == 120
    buckets = {group.bucket for group, _, _ in devices[0].inputs if group.stage == 1}
    assert len(most) == 120 and len(buckets) > 1
    assert max(most) <= len(buckets) * 4 + 4 + 5  # a batch of each bucket, the lanes that ran, decoded ones


class Waiting:
    shot = ""

    def __init__(self, group, number):
        self.group, self.number = group, number


def test_a_full_later_stage_does_not_let_the_device_wait_for_an_earlier_one():
    early, late = Group((32, 32)), Group((64, 64), stage=1)
    queues = Queues(lambda _: 1, window=100)
    queues.offer(Waiting(early, 0))
    queues.requeue(Waiting(late, 0))
    made = []
    thread = threading.Thread(target=lambda: made.append(queues.take(early, None)), daemon=True)
    thread.start()
    thread.join(60)
    assert made == [None]


def test_a_later_stage_with_a_full_batch_goes_first_and_ends_the_refilling_of_earlier_ones():
    early, late = Group((32, 32)), Group((64, 64), stage=1)
    queues = Queues(lambda _: 2, window=100)
    for n in range(9):
        queues.offer(Waiting(early, n))
    assert queues.choose() == (early, 9)
    queues.ready(early, "a"), queues.ready(early, "b")
    assert queues.take(early, 0) == "a"
    queues.requeue(Waiting(late, 0))
    assert queues.take(early, 0) == "b"  # one alone waits
    queues.requeue(Waiting(late, 1))
    assert queues.take(early, 60) is None  # at once, though it has jobs that are not decoded
    queues.ready(early, "c")
    assert queues.take(early, 60) is None and queues.pending(early) == 10  # though one is decoded
    assert queues.job()[0] == late  # decoders serve it at once too
    assert queues.choose() == (late, 2)
    queues.decoded(late, "d")
    assert queues.take(late, 0) == "d"
    assert queues.choose() == (early, 10) and queues.take(early, 0) == "c"


def test_two_stages_with_the_real_network(network, style, tmp_path):
    picture = photo(64, 48, seed=3)
    save(tmp_path / "in" / "a.png", picture)
    save(tmp_path / "in" / "b.png", photo(48, 64, seed=4))
    few = dict(preconditioner="none", style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))
    summary = render(tmp_path / "in", style, tmp_path / "out", SETTINGS, batch=1, **few)
    assert summary.done == 2 and summary.programs <= 4
    for row in rows(tmp_path / "out").values():
        assert row["evaluations"] == SMALL + LARGE and row["ended"] == "budget"
        assert 0 < row["loss"]["total"] < row["start_loss"]
    with Image.open(tmp_path / "out" / "a.png") as made:
        assert made.size == (64, 48) and np.abs(np.asarray(made).astype(int) - picture).mean() > 3
