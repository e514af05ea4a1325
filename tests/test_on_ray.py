"""`jaxstyle render --ray` on a real cluster of two nodes, with the stub's renderer in the shards."""

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from command import run
from hostile import wait_for
from pictures import painting, photo, save
from whole_runs import QUICK, files, rows

from jaxstyle.cluster import on_ray, worker
from jaxstyle.data.audit import status
from jaxstyle.data.lock import holders
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ClusterError
from jaxstyle.ray_settings import RaySettings

pytest.importorskip("ray", reason="Ray is not installed: pip install 'jaxstyle[ray]'")

SHARD = str(Path(__file__).with_name("ray_shard.py"))
NOTICED = {"period_ms": "300", "timeout_ms": "1000", "failure_threshold": "3"}
"""By which Ray notices within a second or two that a node is lost, and not within fifteen."""
MEMORY = 80 * 2**20
"""Bytes of a node's object store, the least that Ray allows."""


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, with a core for one shard each, and its second node. It is the only one of the suite."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as place:  # a short path
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", place)
        for name, value in NOTICED.items():
            patch.setenv(f"RAY_health_check_{name}", value)
        small = {"num_cpus": 1, "object_store_memory": MEMORY}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            head = {**small, "include_dashboard": False}
            cluster = Cluster(initialize_head=True, head_node_args=head)
        except (RuntimeError, TimeoutError, ConnectionError, PermissionError) as error:
            pytest.skip(f"Ray does not start on this machine: {error}")
        try:
            yield cluster, cluster.add_node(**small)
        finally:
            cluster.shutdown()
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own


@pytest.fixture
def photos(tmp_path):
    for k in range(24):
        save(tmp_path / "in" / f"s{k % 3}" / f"{k}.png", photo(20 + 4 * (k % 4), 24, seed=k))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    save(tmp_path / "style.png", painting())
    return tmp_path


def sizes(output):
    return {path.name: path.stat().st_size for path in output.glob("manifest*.jsonl")}


def once_two_shards_hold(output, hold, do):
    """Calls something once two shards have told a first row and hold, and then lets them go on."""
    before = sizes(output)

    def wait():
        try:
            wait_for(lambda: sum(size > before.get(name, 0) for name, size in sizes(output).items()) == 2)
            do()
        finally:
            hold.unlink()

    hold.touch()
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_run_that_is_stopped_and_loses_a_node_makes_what_one_machine_makes(
    photos, nodes, devices, monkeypatch, capfd
):
    """The coordinator is stopped, and started again with other shards; then a node is killed with the shard on it."""
    cluster, second = nodes
    out, hold, at_work = photos / "out", photos / "hold", []
    monkeypatch.setattr(worker, "PROGRAM", (sys.executable, SHARD, str(hold)))
    line = ["render", photos / "in", "--style", photos / "style.png", "-o", out, "--size", 32, "--evaluations", 10,
            "--batch", 1, "--workers", 0, "--ray", cluster.address, "--ray-shards"]  # fmt: skip

    def stop():
        at_work.extend(status(out).lines())
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: len(holders(out)) <= 1)  # the coordinator's at most

    def kill():
        cluster.remove_node(second, allow_graceful=False)
        wait_for(lambda: len(holders(out)) == 2)  # the coordinator and one shard

    thread = once_two_shards_hold(out, hold, stop)
    assert run(*line, 3) == 143  # one of the shards has waited for room
    thread.join()
    assert any(told.startswith("at work: the coordinator of 3 shards") for told in at_work)
    begun = sum(status(out).rows.values())
    assert 2 <= begun < 25

    thread = once_two_shards_hold(out, hold, kill)
    assert run(*line, 2) == 3  # one photograph is broken
    thread.join()
    said = capfd.readouterr().err
    assert "NodeDiedError" in said and "It is tried again." in said
    assert "24 done, 0 skipped, 1 failed" in said
    render(photos / "in", photos / "style.png", photos / "whole", QUICK, batch=1)
    assert files(out) == files(photos / "whole")
    assert rows(out).keys() == rows(photos / "whole").keys()
    assert not [*out.glob("manifest-*")] and not [*out.glob(".jaxstyle-*-*")]


def test_a_cluster_that_cannot_be_reached_is_told_of_before_anything_is_written(photos, devices, capfd):
    line = ["render", photos / "in", "--style", photos / "style.png", "-o", photos / "out", "--ray", "127.0.0.1:9"]
    assert run(*line) == 1
    assert "the Ray cluster at 127.0.0.1:9 cannot be reached (Connection refused)" in capfd.readouterr().err
    assert not (photos / "out").exists()


def test_what_ray_says_is_the_reason(photos, monkeypatch):
    import ray

    def refuse(*_, **__):
        raise RuntimeError("Version mismatch: the cluster has Ray 1\nand more")

    monkeypatch.setattr(ray, "init", refuse)
    before = signal.getsignal(signal.SIGTERM)
    told = r"cannot be reached \(Version mismatch: the cluster has Ray 1\)"
    with pytest.raises(ClusterError, match=told), on_ray.joined(RaySettings(ray="auto")):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
