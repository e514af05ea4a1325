"""How a run ends, and what the exit code says of it; with a stub for the network."""

import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import stub
from command import BROKEN, run
from pictures import photo, save
from PIL import Image

from jaxstyle.data.lock import locked
from jaxstyle.engine.queues import Queues

pytestmark = pytest.mark.usefixtures("devices")


@pytest.fixture
def meanwhile(monkeypatch, devices):
    """A list of what is to happen in the first chunk on the device, and of events to wait for there."""
    todo = []
    advance = stub.StubBatch.advance

    def advancing(self, ticks):
        while todo:
            todo.pop(0)()
        return advance(self, ticks)

    monkeypatch.setattr(stub.StubBatch, "advance", advancing)
    return todo


def called(monkeypatch, owner, name):
    """A function that waits until a method has been called."""
    event, method = threading.Event(), getattr(owner, name)

    def calling(self, *arguments):
        method(self, *arguments)
        event.set()

    monkeypatch.setattr(owner, name, calling)
    return lambda: event.wait(60)


def test_broken_files_are_told_and_the_exit_code_is_3(folder, base, devices, capfd):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    assert run(*base) == 3
    told = capfd.readouterr().err
    assert "failed: bad.jpg:" in told and "2 done, 0 skipped, 1 failed" in told


def test_too_many_failures_exit_4_and_a_later_run_finishes(folder, base, meanwhile, monkeypatch, capfd):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    for k in range(4):
        save(folder / "in" / f"{k}.png", photo(32, 32, k))
    meanwhile.append(called(monkeypatch, Queues, "stop"))
    assert run(*base, "--max-failures", "0") == 4
    told = capfd.readouterr().err
    assert "Stopped (1 inputs have failed, more than 0)" in told and "run the same command again" in told
    assert len(list((folder / "out").rglob("*.png"))) < 6  # with the contact sheet
    assert run(*base) == 3
    assert "6 done, 0 skipped, 1 failed" in capfd.readouterr().err


def test_a_limit_that_is_reached_with_nothing_left_is_no_stop(folder, base, devices):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    assert run(*base) == 3
    assert run(*base, "--max-duration", "0.001s") == 3


def test_time_that_is_up_exits_4(base, meanwhile, monkeypatch, capfd):
    meanwhile.append(called(monkeypatch, Queues, "stop"))
    assert run(*base, "--max-duration", "0.01s") == 4
    told = capfd.readouterr().err
    assert "Stopped (its time is up)" in told and "second signal" not in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_images_on_the_device(folder, base, meanwhile, monkeypatch, capfd, number, code):
    before = signal.getsignal(number)
    meanwhile += [lambda: os.kill(os.getpid(), number), called(monkeypatch, Queues, "stop")]
    assert run(*base) == code and signal.getsignal(number) is before
    told = capfd.readouterr().err
    assert f"Stopping ({number.name})" in told and "run the same command again" in told
    assert "A second signal quits at once." in told
    assert "1 done, 0 skipped, 0 failed" in told
    assert run(*base) == 0
    assert np.asarray(Image.open(folder / "out" / "deep" / "b.png")).shape == (32, 24, 3)


def test_a_signal_that_comes_twice_at_once_is_one(base, meanwhile, monkeypatch, capfd):
    twice = lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)]  # noqa: E731  # as `timeout` does
    monkeypatch.setattr("jaxstyle.engine.stop.APART", 60)  # however slow this machine
    meanwhile += [twice, called(monkeypatch, Queues, "stop"), twice]
    assert run(*base) == 143
    told = capfd.readouterr().err
    assert "Stopping (SIGTERM)" in told and "1 done, 0 skipped, 0 failed" in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_quits_at_once(base, meanwhile, monkeypatch, capfd, number, code):
    monkeypatch.setattr("jaxstyle.engine.stop.APART", 0)
    again = lambda: os.kill(os.getpid(), number)  # noqa: E731
    meanwhile += [again, called(monkeypatch, Queues, "stop"), again, called(monkeypatch, Queues, "abandon")]
    assert run(*base) == code
    told = capfd.readouterr().err
    assert "quit; run the same command again" in told and "done" not in told
    assert run(*base) == 0


def test_a_full_disk_exits_5_before_anything_is_written(folder, base, devices, monkeypatch, capfd):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    assert run(*base) == 5
    assert "10 bytes free" in capfd.readouterr().err and not (folder / "out").exists()


def test_an_output_that_cannot_be_written_on_the_way_exits_5(folder, base, devices, monkeypatch, capfd):
    replace = os.replace

    def refuse(source, to, **at):
        if os.fspath(to).endswith("b.png"):
            raise OSError(28, "No space left on device")
        replace(source, to, **at)

    monkeypatch.setattr(os, "replace", refuse)
    assert run(*base) == 5
    told = capfd.readouterr().err
    assert "b.png cannot be written (No space left on device)" in told and "Traceback" not in told
    monkeypatch.undo()
    stub.install(monkeypatch.setattr)
    assert run(*base) == 0


def test_another_run_in_the_folder_exits_2(folder, base, devices, capfd):
    (folder / "out").mkdir()
    with locked(folder / "out"):
        assert run(*base) == 2
    assert "in use by a run on" in capfd.readouterr().err
    assert run(*base) == 0


def test_shards_share_a_folder_and_leave_one_manifest(folder, base, devices):
    for k in range(8):
        save(folder / "in" / f"{k}.png", photo(32, 32, k))
    assert run(*base, "--shard", "1/2") == 0 and run(*base, "--shard", "2/2") == 0
    rows = [json.loads(line) for line in (folder / "out" / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 10 and {row["status"] for row in rows} == {"done"}
    assert not list((folder / "out").glob("manifest-*"))
    assert run("verify", folder / "out") == 0


def test_a_signal_during_the_imports_stops_the_run(folder, base, devices, monkeypatch, capfd):
    """NumPy's import turns a KeyboardInterrupt into an ImportError."""
    import builtins

    imported, begin = [], builtins.__import__

    def importing(name, *more):
        if name == "jaxstyle.report.sheet" and not imported:
            imported.append(name)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # another thread hears it
        return begin(name, *more)

    monkeypatch.setattr(builtins, "__import__", importing)
    assert run(*base) == 130 and imported
    assert "SIGINT" in (told := capfd.readouterr().err) and "Traceback" not in told
    monkeypatch.undo()
