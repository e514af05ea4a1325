"""The bytes of an output depend on its input, style, settings and device alone: whole runs with the real network."""

import random

import pytest
from pictures import painting, photo, save
from whole_runs import MEASURED, Ear, files, rows

from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import Stop
from jaxstyle.settings import RenderSettings

FEW = dict(style_layers=("relu1_1", "relu2_1", "relu3_1"), content_layers=("relu2_2",))  # quickly compiled
SETTINGS = RenderSettings(preset="classic", size=64, evaluations=15, batch=4, workers=0, style_pixels=0, **FEW)
NUMBER = 14


class Cut(BaseException):
    """Ends a run in the middle, as a second signal does."""


def cut():
    raise Cut


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Fourteen photographs of two shapes, and the files that an undisturbed run makes of them."""
    root = tmp_path_factory.mktemp("bytes")
    save(root / "style.png", painting())
    for k in range(NUMBER):
        size = (64, 48) if k % 3 else (32, 30)
        save(root / "in" / f"{k}.png", photo(*size, seed=k))
    summary = render(root / "in", root / "style.png", root / "whole", SETTINGS)
    assert summary.done == NUMBER
    return root


def made(output):
    """Files by name, and rows without what is measured: a loss shows a difference that eight bits hide."""
    return files(output), {key: row | MEASURED for key, row in rows(output).items()}


def again(place, output, **changes):
    return render(place / "in", place / "style.png", output, SETTINGS, **changes)


def test_each_image_ran_in_a_batch_of_the_size_that_was_asked_for(place):
    assert {row["batch"] for row in rows(place / "whole").values()} == {4}
    assert not any(row["notes"] for row in rows(place / "whole").values())


@pytest.mark.parametrize("seed", range(2))
def test_runs_that_are_stopped_cut_short_and_limited_make_the_same_bytes(place, tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(4):
        how, at = chance.choice(["stop", "cut", "limit"]), chance.randint(1, 5)
        stop = Stop()
        call = {"stop": lambda stop=stop: stop.request("enough"), "cut": cut, "limit": lambda: None}[how]
        try:
            again(place, tmp_path / "out", limit=at if how == "limit" else None, progress=Ear(at, call), stop=stop)
        except Cut:
            continue
    assert again(place, tmp_path / "out").done == NUMBER
    assert made(tmp_path / "out") == made(place / "whole")


@pytest.mark.parametrize("parts", [3])
def test_shards_make_the_same_bytes(place, tmp_path, parts):
    for index in range(parts, 0, -1):
        again(place, tmp_path / "out", shard=f"{index}/{parts}")
    assert made(tmp_path / "out") == made(place / "whole")


@pytest.mark.parametrize("number", [1, 9])
def test_fewer_inputs_in_another_order_make_the_same_bytes(place, tmp_path, number):
    chosen = random.Random(number).sample(range(NUMBER), number)
    for k in chosen[: number // 2]:  # a folder that has results already
        render(place / "in" / f"{k}.png", place / "style.png", tmp_path / "out", SETTINGS)
    inputs = [place / "in" / f"{k}.png" for k in chosen]
    render(inputs, place / "style.png", tmp_path / "out", SETTINGS, workers=1)
    for here, whole in zip(made(tmp_path / "out"), made(place / "whole"), strict=True):
        assert here == {f"{k}.png": whole[f"{k}.png"] for k in chosen}


def test_the_faster_tail_rounds_differently_and_its_rows_say_so(place, tmp_path):
    """The tests above would notice: with smaller batches at the end some bytes are others."""
    render(place / "in", place / "style.png", tmp_path / "out", SETTINGS, tail="shrink", limit=7)
    again(place, tmp_path / "out", tail="shrink")
    here, whole = rows(tmp_path / "out"), rows(place / "whole")
    told = {key for key, row in here.items() if row["batch"] < 4 or any("smaller batches" in n for n in row["notes"])}
    differing = {key for key in here if here[key]["loss"] != whole[key]["loss"]}
    assert told and differing <= told
    if not differing:
        pytest.skip("this JAX rounds alike in batches of both sizes")
