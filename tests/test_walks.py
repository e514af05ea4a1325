"""A run lists its inputs once, no more of them than it needs, and never walks its outputs."""

import os
from collections import Counter
from pathlib import Path

import pytest
import stub
from pictures import painting, photo, save

from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

QUICK = RenderSettings(size=32, evaluations=10, batch=2, workers=0)


class Ear(Silent):
    def __init__(self):
        self.numbers, self.rows = [], []
        self.inputs, self.row = self.numbers.append, self.rows.append


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Ten folders of three photographs, in one."""
    stub.install(monkeypatch.setattr)
    for folder in range(10):
        for k in range(3):
            save(tmp_path / "in" / str(folder) / f"{k}.png", photo(32, 32, seed=3 * folder + k))
    save(tmp_path / "style.png", painting())
    return tmp_path


@pytest.fixture
def listed(place, monkeypatch):
    """How often each folder was listed, by its path."""
    counts, scandir = Counter(), os.scandir

    def counting(path="."):
        if Path(path).is_relative_to(place):
            counts[Path(path).relative_to(place).as_posix()] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    return counts


def run(place, **options):
    return render(place / "in", place / "style.png", place / "out", QUICK, **options)


def test_each_folder_of_the_inputs_is_listed_once_and_none_of_the_outputs(place, listed):
    ear = Ear()
    assert run(place, progress=ear).done == 30 and ear.numbers == [30]
    # The way to the first input is listed before anything is written, too.
    once = {f"in/{folder}": 1 for folder in range(10)} | {"in": 2, "in/0": 2}
    assert {path: number for path, number in listed.items() if path != "out"} == once
    listed.clear()
    again = Ear()
    assert run(place, progress=again).looked_at == 0 and again.numbers == [30]
    assert {path: number for path, number in listed.items() if path != "out"} == once


@pytest.mark.parametrize(("limit", "folders"), [(1, 2), (4, 2), (5, 4)])
def test_a_limit_lists_no_more_folders_than_it_needs(place, listed, limit, folders):
    ear = Ear()
    assert run(place, limit=limit, progress=ear).rendered == limit
    assert sum(path.startswith("in/") for path in listed) == folders  # 4, 8 ... inputs are looked at together
    assert ear.numbers == [limit] and len(ear.rows) == limit


def test_a_limit_above_the_number_of_inputs_renders_all(place):
    ear = Ear()
    assert run(place, limit=99, progress=ear).rendered == 30 and ear.numbers == [30]


def test_of_a_shard_its_own_inputs_count(place):
    ears = [Ear(), Ear()]
    made = [run(place, shard=f"{i}/2", progress=ear).rendered for i, ear in enumerate(ears, 1)]
    assert sum(made) == 30 and [ear.numbers for ear in ears] == [[number] for number in made]


def test_a_folder_that_vanishes_before_the_walk_ends_the_run(place, monkeypatch):
    scandir, seen = os.scandir, []

    def gone(path="."):
        if Path(path).name == "in":
            seen.append(path)
            if len(seen) == 2:
                raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    with pytest.raises(InputError, match="in cannot be read"):
        run(place)
    monkeypatch.undo()
    stub.install(monkeypatch.setattr)
    assert run(place).done == 30
