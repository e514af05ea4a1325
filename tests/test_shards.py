"""Whole runs of shards with the stand-in renderer: together they make what one run makes."""

import threading
import time

import pytest
from pictures import painting, photo, save
from whole_runs import QUICK, Ear, files, rows

from jaxstyle.engine import pipeline
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import StorageError


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def tree(tmp_path):
    for k in range(23):
        save(tmp_path / "in" / f"s{k % 3}" / f"{k}.png", photo(20 + 4 * (k % 4), 24, seed=k))
    return tmp_path / "in"


def test_shards_make_what_one_run_makes_and_leave_one_manifest(tree, style, tmp_path, devices):
    render(tree, style, tmp_path / "whole", QUICK)
    done = [render(tree, style, tmp_path / "out", QUICK, shard=f"{i}/3").rendered for i in (2, 1, 3)]
    assert sum(done) == 23 and all(done)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert set(rows(tmp_path / "out")) == set(rows(tmp_path / "whole"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file() and not p.name.startswith(".")) == [
        "manifest.jsonl",
        "settings.json",
    ]
    assert render(tree, style, tmp_path / "out", QUICK).rendered == 0


def test_shards_at_the_same_time_do_not_disturb_each_other(tree, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_SECONDS", "0.03")
    made = {}

    def shard(i):
        made[i] = render(tree, style, tmp_path / "out", QUICK, shard=f"{i}/2")

    threads = [threading.Thread(target=shard, args=(i,)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(one.rendered for one in made.values()) == 23
    render(tree, style, tmp_path / "out", QUICK)
    assert len(rows(tmp_path / "out")) == len(files(tmp_path / "out")) == 23


def test_a_shard_that_starts_while_the_manifests_are_united_waits(tree, style, tmp_path, devices, monkeypatch):
    fold, threads, made = pipeline.ledger.compact, [], []

    def slow(output):
        if not threads:
            work = lambda: made.append(render(tree, style, tmp_path / "out", QUICK, shard="2/2"))  # noqa: E731
            threads.append(threading.Thread(target=work))
            threads[0].start()
            time.sleep(0.5)
        fold(output)

    monkeypatch.setattr(pipeline.ledger, "compact", slow)
    first = render(tree, style, tmp_path / "out", QUICK, shard="1/2")
    threads[0].join(60)
    assert first.rendered + made[0].rendered == 23 == len(rows(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("manifest-*"))


def test_manifests_that_cannot_be_united_stay_apart_and_are_told_of(tree, style, tmp_path, devices, monkeypatch):
    def full(output):
        raise StorageError("no room", "Make some.")

    heard = Ear()
    heard.said = []
    heard.say = heard.said.append
    monkeypatch.setattr(pipeline.ledger, "compact", full)
    assert render(tree, style, tmp_path / "out", QUICK, shard="1/1").done == 23
    summary = render(tree, style, tmp_path / "two", QUICK, shard="1/2", progress=heard)
    assert summary.rendered and "no room" in heard.said[-1]
    monkeypatch.undo()
