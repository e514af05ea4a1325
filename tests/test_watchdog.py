"""Calls that never return end the run: storage, inputs, the device; and signals are heard meanwhile."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hanging
import hostile
import pytest
import stub
from pictures import painting, photo, save
from whole_runs import QUICK, files, rows

from jaxstyle.data.sinks.folders import FolderSink
from jaxstyle.engine import watchdog
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import APART
from jaxstyle.engine.watchdog import Calls, Watchdog
from jaxstyle.errors import DeviceError, StorageError

PROGRAM = (Path(__file__).with_name("hanging.py"),)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("watchdog")
    save(root / "style.png", painting())
    for k in range(6):
        save(root / "in" / f"{k}.png", photo(32, 32, k))
    return root


def job(place, output, *more):
    line = ("--batch", 2, "--workers", 0, *more)
    return hostile.command(place / "in", place / "style.png", output, *line, program=PROGRAM)


@pytest.fixture(scope="module")
def ended(place):
    """How runs end that hang in each of the places, all at once: by name, (output, code, what was said)."""

    def run(name):
        output, more = place / f"out-{name}", ("--shard", "1/1") if name != "unite" else ("--shard", "1/2")
        if name == "stamp":  # an input is looked at where it has a row
            assert hostile.run(job(place, output), HANG="list", HANG_AT=9, MARK=place / "none")[0] == 0
        code, said = hostile.run(job(place, output, *more, "--stall-timeout", 2), HANG=name, MARK=place / name)
        return output, code, said

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(hanging.PLACES, pool.map(run, hanging.PLACES), strict=True))


@pytest.mark.parametrize("name", hanging.PLACES)
def test_storage_that_hangs_ends_the_run_with_its_exit_code(ended, place, name):
    output, code, said = ended[name]
    assert (place / name).exists(), said
    assert code == 5, said
    assert "takes longer than" in said and "Look after the storage" in said and "Traceback" not in said
    if name in ("sheet", "close"):
        assert len(rows(output)) == 6  # the rows had been kept


def test_rows_of_what_was_published_before_are_kept(place, tmp_path):
    line = [*job(place, tmp_path / "out"), "--stall-timeout", "2"]
    code, said = hostile.run(line, HANG="write", HANG_AT=5, MARK=tmp_path / "mark", GRACE=60)
    assert code == 5 and "writing an output to" in said
    kept = rows(tmp_path / "out")
    assert len(kept) == len(files(tmp_path / "out")) == 4
    code, said = hostile.run(line, HANG="list", HANG_AT=9, MARK=tmp_path / "mark")
    assert code == 0 and len(rows(tmp_path / "out")) == 6


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("where", ["commit", "look"])
def test_a_second_signal_ends_a_run_whose_main_thread_hangs(place, tmp_path, where, number, code):
    with (tmp_path / "log").open("wb") as log:
        process = hostile.start(job(place, tmp_path / "out"), log=log, HANG=where, MARK=tmp_path / "mark")
    try:
        hostile.wait_for((tmp_path / "mark").exists)
        process.send_signal(number)
        time.sleep(2 * APART)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(hostile.WAIT / 4) == code
    finally:
        process.kill()
    assert "run the same command again" in (tmp_path / "log").read_text()


def test_a_second_signal_ends_a_run_whose_stderr_nobody_reads(place, tmp_path):
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, bytes(4096))
    environment = os.environ | {"HANG": "list", "HANG_AT": "9", "MARK": str(tmp_path / "mark"), "GRACE": "0.5"}
    process = subprocess.Popen(job(place, tmp_path / "out"), stderr=write, env=environment, start_new_session=True)
    hostile.wait_for(lambda: (tmp_path / "out" / "manifest.jsonl").exists())
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(2 * APART)
    assert process.wait(hostile.WAIT) == 143
    os.close(read), os.close(write)


def test_a_library_call_raises_what_hangs_in_a_thread_of_its_own(place, tmp_path, monkeypatch):
    stub.install(monkeypatch.setattr)
    over = threading.Event()
    monkeypatch.setattr(FolderSink, "write", lambda *_: over.wait(60))
    with pytest.raises(StorageError, match="writing an output to .* takes longer than 1 s"):
        render(place / "in", place / "style.png", tmp_path / "out", QUICK, stall_timeout=1)
    over.set()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def test_what_takes_too_long_is_named(clock):
    calls = Calls()
    dog = Watchdog(10, calls, own_process=False)
    with calls.of("writing"), calls.of("compacting", extra=20):
        assert dog._found(1010, 0) is None
        error = dog._found(1010.5, 0)
        assert isinstance(error, StorageError) and "writing takes longer than 10 s" in str(error)
    with calls.of("compacting", extra=20):
        assert dog._found(1029, 0) is None and "longer than 30 s" in str(dog._found(1031, 0))
    assert not calls.under_way() and dog._found(10**6, 0) is None
    dog.device = lambda: 1000.0
    assert dog._found(1010, 0) is None and isinstance(dog._found(1011, 0), DeviceError)


def test_time_in_which_the_process_was_suspended_does_not_count(clock):
    calls = Calls()
    dog = Watchdog(10, calls, own_process=False)
    with calls.of("writing"):
        assert dog._found(5000, 4995) is None and dog._found(5006, 4995) is not None
    dog.device = lambda: 1000.0
    assert dog._found(5000, 4995) is None


def test_a_call_that_fails_is_under_way_no_longer():
    calls = Calls()
    with pytest.raises(OSError), calls.of("writing"):
        raise OSError
    calls.watched(lambda: None, "closing")()
    assert not calls.under_way()
