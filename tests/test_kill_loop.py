"""A short sample of `kill_loop.py`: signals and kills at system calls, over the stub, two shards at once included."""

import shutil

import kill_loop
import pytest


def test_disturbed_runs_end_as_undisturbed_ones(tmp_path):
    calls = 4 if shutil.which("strace") else 0
    found = kill_loop.run(tmp_path, signals=7, calls=calls, real=0, seed=3)
    assert not found.faults, "\n".join(found.faults)
    assert found.counts["series"] >= 3
    assert sum(number for kind, number in found.counts.items() if kind.startswith(("SIG", "kill at"))) == 7 + calls


def test_the_loop_notices_what_is_not_as_it_must_be(tmp_path):
    (tmp_path / "stub").mkdir()
    loop, found = kill_loop.Loop(tmp_path / "stub", real=False), kill_loop.Found()
    output = tmp_path / "stub" / "out"
    ended = loop.finish(output, 1)
    loop._compare(output, ended, found, "good")
    assert not found.faults
    key = next(key for key in ended[1] if key.endswith(".png"))
    (output / ".jaxstyle-partial-1").touch()
    (output / ".jaxstyle-lock-1-of-1.json").touch()
    loop._compare(output, (ended[0] | {key: {"status": "failed"}}, ended[1] | {key: b"other"}), found, "bad")
    text = "\n".join(found.faults)
    assert f"rows differ: ['{key}']" in text and "pictures differ" in text and f"orphans: ['{key}']" in text
    assert ".jaxstyle-partial-1" in text and ".jaxstyle-lock-1-of-1.json" in text


@pytest.mark.parametrize("number", [1, 7, 40])
def test_disturbances_are_divided_and_none_is_lost(number):
    import random

    parts = kill_loop.shares([("x", k) for k in range(number)], random.Random(number))
    assert sorted(k for part in parts for _, k in part) == list(range(number))
    assert all(1 <= len(part) <= kill_loop.DISTURBANCES for part in parts)
