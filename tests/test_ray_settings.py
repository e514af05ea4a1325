"""`render --ray` without Ray: its settings, what is refused before anything is written, the coordinator's lock."""

import dataclasses
import json
import sys

import pytest
from command import run
from pictures import painting, photo, save
from whole_runs import QUICK, Ear, rows

from jaxstyle.cluster import messages
from jaxstyle.cluster import render as on_cluster
from jaxstyle.cluster.messages import News, Outcome
from jaxstyle.cluster.on_ray import Room
from jaxstyle.data.audit import status
from jaxstyle.data.lock import if_unlocked, locked
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import OutputLocked, SettingsError
from jaxstyle.ray_settings import RaySettings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ray": "photos"}, "ray is 'photos'. It must be auto, local, or HOST:PORT"),
        ({"ray": "ray://head:10001"}, "ray is"),
        ({"ray": "auto", "ray_shards": 0}, "ray_shards is 0"),
        ({"ray": "auto", "ray_gpus": -1.0}, "ray_gpus is -1.0"),
        ({"ray": "auto", "ray_cpus": float("inf")}, "ray_cpus is inf"),
        ({"ray": "auto", "ray_tries": 0}, "ray_tries is 0"),
        ({"ray_shards": 4}, "ray_shards is given without --ray"),
    ],
)
def test_impossible_settings_are_refused_by_name(given, told):
    with pytest.raises(SettingsError, match=told):
        RaySettings(**given)


@pytest.fixture
def asked(monkeypatch):
    """Settings that a run on Ray was asked for; it ends there."""
    heard = []

    def hear(inputs, style, output, settings, given, quiet, log_json):
        heard.append((given, settings))
        return 0

    monkeypatch.setattr("jaxstyle.cli_ray.render", hear)
    return heard


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ray"], RaySettings(ray="auto")),
        (["--ray", "--ray-shards", "8"], RaySettings(ray="auto", ray_shards=8)),
        (["--ray", "local", "--ray-cpus", "0.5"], RaySettings(ray="local", ray_cpus=0.5)),
        (["--ray=head:6379", "--ray-tries", "5"], RaySettings(ray="head:6379", ray_tries=5)),
    ],
)
def test_flags_reach_the_settings(folder, base, asked, words, expected):
    assert run(*base, *words) == 0
    assert asked[0][0] == expected and asked[0][1].size == 32


def test_the_settings_stand_in_a_file_or_the_environment_too(folder, base, asked, monkeypatch):
    (folder / "run.toml").write_text('size = 64\n[render]\nray = "auto"\nray_shards = 3\n')
    monkeypatch.setenv("JAXSTYLE_RAY_SHARDS", "6")
    assert run(*base, "--config", folder / "run.toml") == 0
    assert asked[0][0] == RaySettings(ray="auto", ray_shards=6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shard", "1/2"], "shard is '1/2' with --ray"),
        (["--limit", "3"], "limit is 3 with --ray"),
        (["--existing", "overwrite"], "existing is 'overwrite' with --ray"),
        (["--content-masks", "/no/masks"], "/no/masks"),
    ],
)
def test_what_cannot_be_rendered_so_is_told_before_a_cluster_is_joined(folder, base, devices, capfd, words, told):
    assert run(*base, "--ray", "127.0.0.1:9", *words) == 2
    assert told in capfd.readouterr().err and not (folder / "out").exists()


def test_where_ray_is_not_installed_the_extra_is_named(folder, base, devices, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(*base, "--ray") == 2
    assert "pip install 'jaxstyle[ray]'" in capfd.readouterr().err and not (folder / "out").exists()


HEAD, BOX = {"CPU": 0, "node:10.0.0.1": 1}, {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("machines", "given", "room"),
    [
        ([HEAD, BOX, BOX], {}, (1, 1, 16)),  # a shard for each GPU
        ([HEAD, BOX, BOX], {"ray_gpus": 4.0}, (4, 1, 4)),
        ([HEAD, BOX], {"ray_cpus": 16.0}, (1, 16, 4)),
        ([HEAD, {"CPU": 8.0}, {"CPU": 16.0}], {}, (0, 8, 3)),  # without GPUs one for each machine of the smallest size
        ([HEAD, BOX], {"ray_gpus": 0.0}, (0, 64, 1)),
        ([HEAD], {"ray_gpus": 1.0}, (1, 1, 0)),  # machines are still to come
    ],
)
def test_a_shard_takes_a_gpu_or_a_machine(machines, given, room):
    found = Room(machines, RaySettings(ray="auto", **given))
    assert (found.gpus, found.cpus, found.shards) == room


def test_the_lock_of_the_coordinator_admits_its_shards_alone(tmp_path):
    with locked(tmp_path, (0, 4)):
        for part in ((0, 4), (1, 1), (1, 5), (0, 5)):
            with pytest.raises(OutputLocked), locked(tmp_path, part):
                pass
        with locked(tmp_path, (1, 4)), locked(tmp_path, (4, 4)):
            assert not if_unlocked(tmp_path, pytest.fail)
        assert not if_unlocked(tmp_path, pytest.fail)  # so that no shard unites the ledgers
    assert if_unlocked(tmp_path, lambda: None)


class Here:
    """A cluster that renders one shard after the other in this process."""

    def __init__(self, output):
        self.output, self.todo, self.told, self.seen = output, [], [], []

    def start(self, told):
        assert (self.output / told["token"]).is_file()
        self.order = told

    def begin(self, shard, attempt, avoid):
        self.todo.append((shard, attempt))

    def ended(self, seconds):
        shard, attempt = self.todo.pop(0)
        ear, told = Ear(), self.order
        settings = messages.settings_of(told, shard)
        summary = render(told["inputs"], told["style"], told["output"], settings, progress=ear)
        figures = {"stopped": "", "occupancy": 1.0, "seconds": 2.0, "device_seconds": 1.0}
        calls = [["begin", [10]], *(["row", [row.as_json()]] for row in ear.rows), ["end", [figures]]]
        self.told.append(News(shard, attempt, calls))
        self.seen.append((sorted(p.name for p in self.output.glob("manifest*")), status(self.output).lines()[-1]))
        return [(shard, attempt, Outcome(3 if summary.failed else 0))]

    def news(self, stop):
        told, self.told = self.told, []
        return told


def test_the_ledgers_are_united_once_and_the_summary_is_the_folders(tmp_path, devices):
    for k in range(9):
        save(tmp_path / "in" / f"{k}.png", photo(20, 24, seed=k))
    (tmp_path / "in" / "notes.txt").write_text("Dear diary")
    style, out = save(tmp_path / "style.png", painting()), tmp_path / "out"
    cluster = Here(out)
    inputs, given, labels = [tmp_path / "in"], RaySettings(ray="auto"), tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"path": f"{k}.png", "n": k}) + "\n" for k in range(9)))
    ready = on_cluster.check(inputs, [style], out, dataclasses.replace(QUICK, annotations=labels))
    assert not out.exists()
    summary, totals = on_cluster.render(ready, inputs, [style], cluster, 3, given, progress=Ear(), stop=Stop())
    assert [len(names) for names, _ in cluster.seen] == [1, 2, 3]  # each shard's own until the end
    assert all(line.startswith("at work: the coordinator of 3 shards on ") for _, line in cluster.seen)
    assert (summary.done, summary.skipped, summary.failed, summary.rendered) == (9, 1, 0, 9)
    assert summary.skipped_kinds == {".txt": 1} and summary.looked_at == 10 and not summary.stopped
    assert (totals.seconds, summary.occupancy) == (6, 1) and 0 < summary.device_seconds < summary.seconds
    assert len(rows(out)) == 10 and (out / "annotations.jsonl").read_text() == labels.read_text()
    assert not [*out.glob("manifest-*")] and not [*out.glob(f"{on_cluster.TEMPORARY}*")]


def test_a_folder_in_which_another_run_is_at_work_is_refused(tmp_path, devices, monkeypatch):
    monkeypatch.setattr(on_cluster, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(on_cluster, "LOCK_PAUSE", 0.1)
    ear, out, photos = Ear(), tmp_path / "out", [save(tmp_path / "a.png", photo(20, 24))]
    ready = on_cluster.check(photos, photos, out, QUICK)
    out.mkdir()
    given = RaySettings(ray="auto")
    with locked(out), pytest.raises(OutputLocked):
        on_cluster.render(ready, photos, photos, Here(out), 3, given, progress=ear, stop=Stop())
    assert any("waiting up to" in said for said in ear.said)
