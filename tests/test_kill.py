"""Runs are killed at random moments, begun again until they are through, and must end as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import hostile
import pytest
from PIL import Image
from pictures import painting, photo, save

from jaxstyle.data import audit

KILLS, LOOPS = 60, 6
"""Kills that hit a living process, in all, and the tests that share them."""
SUFFIXES = ("jpg", "png", "webp", "tif", "bmp", "gif")
WORK = 0.6
"""Seconds between a run's hold of its folder and its end, about."""
SLOW = {"STUB_SECONDS": 0.04}
REAL = ["-m", "jaxstyle"]
SLEEPER = """
import sys, time
from pathlib import Path
if any("jaxstyle.data.worker" in word for word in sys.orig_argv):
    from jaxstyle.data import image
    here, read = Path(__file__).parent, image.read
    def slowly(*arguments):
        (here / "decoding").touch()
        while not (here / "go").exists():
            time.sleep(0.005)
        found = read(*arguments)
        (here / "decoded").touch()
        return found
    image.read = slowly
"""
"""sitecustomize.py of workers that wait before they decode."""


def check(output: Path) -> None:
    """What must hold at any moment: a file under a final name is whole, and a done row has its file."""
    for folder, _, files in os.walk(output):
        for name in files:
            path = Path(folder, name)
            if name.startswith(".jaxstyle-"):
                continue
            if name.endswith(".jsonl"):
                whole = path.read_bytes().rpartition(b"\n")[0]  # a last line without an end may be torn
                assert all(json.loads(line)["key"] for line in whole.splitlines())
            elif name == "settings.json":
                json.loads(path.read_bytes())
            else:
                with Image.open(path) as image:
                    image.load()
    if (output / "settings.json").exists():
        verdict = audit.verify(output)
        assert verdict.ok and not verdict.holders, verdict.lines()


def told(output: Path) -> dict[str, dict]:
    """The rows of a finished run, without what is measured."""
    return {key: row | {"seconds": 0} for key, row in sorted(hostile.rows(output).items())}


def assert_same(output: Path, reference: Path) -> None:
    check(output)
    assert hostile.pictures_of(output) == hostile.pictures_of(reference)
    assert told(output) == told(reference)
    assert (output / "settings.json").read_bytes() == (reference / "settings.json").read_bytes()
    assert not list(output.rglob(".jaxstyle-partial-*"))
    assert not list(output.glob(".jaxstyle-lock-*"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sixty small pictures of all formats and several shapes, and what is no picture, in folders."""
    root, chance = tmp_path_factory.mktemp("source"), random.Random(0)
    save(root / "style.png", painting())
    for k in range(60):
        size = chance.choice([(64, 64), (40, 40), (90, 60), (60, 90), (130, 40), (20, 31)])
        array = photo(*size, seed=k)
        name = f"{k}.{SUFFIXES[k % len(SUFFIXES)]}"
        save(root / "in" / chance.choice([".", "one", "one/two", "three"]) / name, array)
    save(root / "in" / "one" / hostile.CAFE, photo(50, 40))
    (root / "in" / "notes.txt").write_text("not a picture")
    (root / "in" / "three" / "cut.jpg").write_bytes((root / "in" / "one" / hostile.CAFE).read_bytes()[:-50])
    return root


@pytest.fixture(scope="module")
def reference(source):
    """A run that nobody disturbs; its folder and how long it took."""
    began = time.monotonic()
    code, said = hostile.run(job(source, source / "reference"), **SLOW)
    assert code == 3, said
    assert_same(source / "reference", source / "reference")
    assert sorted(hostile.statuses(source / "reference").values()) == 61 * ["done"] + ["failed", "skipped"]
    return source / "reference", time.monotonic() - began


def job(source: Path, output: Path, workers: int = 0) -> list[str]:
    return hostile.command(source / "in", source / "style.png", output, "--batch", 4, "--workers", workers)


def kill(line: list[str], how: signal.Signals, chance: random.Random, whole: float, log: Path) -> tuple[bool, int]:
    """Starts a run and kills it at a random moment: of its start, or of its work in the output folder.

    Returns:
        whether the signal found the process alive, and its exit code; nothing of it is left running.
    """
    tag, output = f"{os.getpid()}-{time.monotonic_ns()}", Path(line[line.index("-o") + 1])
    with log.open("ab") as said:
        process = hostile.start(line, log=said, **SLOW, JAXSTYLE_TEST=tag)
    try:
        if chance.random() < 0.2:
            process.wait(chance.uniform(0, whole))
        else:
            record = output / ".jaxstyle-lock-1-of-1.json"
            hostile.wait_for(lambda: process.poll() is not None or holds(record, process.pid))
            process.wait(chance.uniform(0, WORK))
        hit = False
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        hit = True
    code = process.wait(hostile.WAIT)
    hostile.wait_for(lambda: not hostile.processes(tag))
    return hit and code != 3, code


def holds(record: Path, pid: int) -> bool:
    """Whether a process has come so far that the folder is its own."""
    try:
        return f'"pid": {pid},'.encode() in record.read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("seed", range(LOOPS))
def test_killed_runs_end_as_undisturbed_ones_do(source, reference, tmp_path, seed):
    """SIGKILL and SIGTERM in turn, up to five into one folder; every tenth finds a run with a worker."""
    undisturbed, whole = reference
    chance, kills, number, log = random.Random(seed), 0, 0, tmp_path / "log"
    while kills < KILLS // LOOPS:
        number, output, code = number + 1, tmp_path / f"out{number}", 0
        for _ in range(5):
            how = (signal.SIGKILL, signal.SIGTERM)[kills % 2]
            hit, code = kill(job(source, output, workers=int(kills % 10 == 9)), how, chance, whole, log)
            expected = {3} if not hit else {-how, 143} if how == signal.SIGTERM else {-how}
            assert code in expected, log.read_text()[-2000:]
            kills += hit
            check(output)
            if code == 3:
                break
            assert code != 143 or not list(output.rglob(".jaxstyle-partial-*"))
        else:
            code, said = hostile.run(job(source, output))
            assert code == 3, said
        assert_same(output, undisturbed)
