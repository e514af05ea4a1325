"""Runs are killed at random moments, begun again until they are through, and must end as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import pytest
from pictures import painting, photo, save
from PIL import Image
from whole_runs import MEASURED

from jaxstyle.data import audit
from jaxstyle.engine.stop import APART

KILLS, LOOPS = 10, 1
"""Kills that hit a living process, in all, and the tests that share them."""
SUFFIXES = ("jpg", "png", "webp", "tif", "bmp", "gif")
WORK = 0.5
"""Seconds between a run's hold of its folder and its end, about."""
SLOW = {"STUB_SECONDS": 0.03}
REAL = ["-m", "jaxstyle"]
SLEEPS = """
import time
from pathlib import Path
from jaxstyle.data import image
here, read = Path(__file__).parent, image.read
def slowly(file, *arguments):
    if file.name.endswith("style.png"):
        return read(file, *arguments)
    (here / "decoding").touch()
    while not (here / "go").exists():
        time.sleep(0.005)
    found = read(file, *arguments)
    (here / "decoded").touch()
    return found
image.read = slowly
"""
STOPS = """
import os, signal
from jaxstyle.data import image
read = image.read
def stopping(file, *arguments):
    if file.name.endswith("cut.jpg"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return read(file, *arguments)
image.read = stopping
"""
"""What workers do before they decode."""


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
    return {key: row | MEASURED for key, row in sorted(hostile.rows(output).items())}


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


@pytest.mark.parametrize("turn", range(LOOPS))
def test_killed_runs_end_as_undisturbed_ones_do(source, reference, tmp_path, turn):
    """SIGKILL and SIGTERM in turn, up to five into one folder; every fifth finds a run with a worker."""
    undisturbed, whole = reference
    checking = threading.Lock()

    def loop(seed: int) -> None:
        chance, kills, number = random.Random(seed), 0, 0
        while kills < KILLS // LOOPS // 2:
            number, code = number + 1, 0
            output, log = tmp_path / f"{seed}-{number}", tmp_path / f"{seed}-{number}.log"
            for _ in range(5):
                how = (signal.SIGKILL, signal.SIGTERM)[kills % 2]
                hit, code = kill(job(source, output, workers=int(kills % 5 == 4)), how, chance, whole, log)
                expected = {3} if not hit else {-how, 143} if how == signal.SIGTERM else {-how}
                assert code in expected, log.read_text()[-2000:]
                kills += hit
                with checking:
                    check(output)
                if code == 3:
                    break
                assert code != 143 or not list(output.rglob(".jaxstyle-partial-*"))
            else:
                code, said = hostile.run(job(source, output))
                assert code == 3, said
            with checking:
                assert_same(output, undisturbed)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(loop, (2 * turn, 2 * turn + 1)))


@pytest.mark.parametrize(
    ("first", "second", "code"), [(signal.SIGINT, signal.SIGINT, 130), (signal.SIGINT, signal.SIGTERM, 143)]
)
def test_a_second_signal_ends_a_run_at_once_and_its_rows_are_kept(source, tmp_path, first, second, code):
    output, said = tmp_path / "out", tmp_path / "log"
    process = hang(source, output, said)
    process.send_signal(first)
    hostile.wait_for(lambda: "Stopping (SIGINT)" in said.read_text())
    time.sleep(APART)
    assert process.poll() is None  # it waits for its batch
    process.send_signal(second)
    assert process.wait(20) == code
    assert "run the same command again" in said.read_text() and "Traceback" not in said.read_text()
    check(output)
    assert done(output) == 4
    assert hostile.run(job(source, output))[0] == 3


def hang(source: Path, output: Path, said: Path, *more) -> subprocess.Popen:
    """A run whose first batch of four is on the disk, and whose second one never ends."""
    with said.open("wb") as log:
        process = hostile.start([*job(source, output), *more], log=log, STUB_HANG=3)
    hostile.wait_for(lambda: process.poll() is not None or done(output) == 4)
    assert process.poll() is None, said.read_text()
    return process


def done(output: Path) -> int:
    return [row["status"] for row in hostile.ledger(output)].count("done")


def test_a_signal_to_the_whole_group_does_not_reach_a_worker_and_none_is_left(source, tmp_path):
    """As from a terminal's Ctrl-C, or a scheduler that wants its node back."""
    hooks, output, said = hostile.in_workers(tmp_path / "hooks", SLEEPS), tmp_path / "out", tmp_path / "log"
    tag = f"{tmp_path.name}-{os.getpid()}"
    with said.open("wb") as log:
        process = hostile.start(job(source, output, 1), log=log, PYTHONPATH=hooks, JAXSTYLE_TEST=tag)
    hostile.wait_for((hooks / "decoding").exists)
    assert len(hostile.processes(tag)) == 2
    os.killpg(process.pid, signal.SIGTERM)
    hostile.wait_for(lambda: "Stopping (SIGTERM)" in said.read_text())
    assert not (hooks / "decoded").exists() and len(hostile.processes(tag)) == 2
    (hooks / "go").touch()
    assert process.wait(hostile.WAIT) == 143
    assert (hooks / "decoded").exists() and "Traceback" not in said.read_text()
    hostile.wait_for(lambda: not hostile.processes(tag))
    check(output)
    assert not list(output.rglob(".jaxstyle-partial-*")) and not list(output.glob(".jaxstyle-lock-*"))


def test_a_stopped_worker_costs_its_picture_and_the_others_finish(source, tmp_path):
    hooks, output, tag = (
        hostile.in_workers(tmp_path / "hooks", STOPS),
        tmp_path / "out",
        f"{tmp_path.name}-{os.getpid()}",
    )
    line = [*job(source, output, 2), "--stall-timeout", "3"]
    code, said = hostile.run(line, PYTHONPATH=hooks, JAXSTYLE_TEST=tag)
    assert code == 3 and "failed: three/cut.jpg: was not decoded within 3 s" in said
    assert done(output) == 61
    hostile.wait_for(lambda: not hostile.processes(tag))


def test_rows_are_on_the_disk_long_before_the_end(tmp_path):
    save(tmp_path / "style.png", painting())
    for k in range(12):
        save(tmp_path / "in" / f"{k}.png", photo(64, 64, k))
    line = hostile.command(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", "--batch", 11, "--workers", 0)
    process = hostile.start(line, STUB_HANG=3)  # with the last picture
    hostile.wait_for(lambda: done(tmp_path / "out") == 11)
    process.kill()
    process.communicate()
    code, said = hostile.run(line)
    assert code == 0 and "1 rendered" in said


def test_of_two_runs_into_a_folder_the_second_is_refused_until_the_first_is_gone(source, tmp_path):
    output = tmp_path / "out"
    holder = hang(source, output, tmp_path / "log")
    before = hostile.pictures_of(output)
    code, said = hostile.run(job(source, output))
    assert code == 2 and f"in use by a run on {socket.gethostname()}, process {holder.pid}, since 20" in said
    assert hostile.pictures_of(output) == before
    holder.kill()
    holder.wait()
    code, said = hostile.run(job(source, output))
    assert code == 3 and done(output) == 61, said


def test_with_the_real_network_too(network, tmp_path):
    """Two kills at random moments between the start and the last picture; results do not depend on them."""
    chance, root = random.Random(1), tmp_path
    save(root / "style.png", painting())
    for k, size in enumerate([(32, 32), (40, 30), (32, 20), (64, 64)]):
        save(root / "in" / f"{k}.{SUFFIXES[k]}", photo(*size, seed=k))
    (root / "in" / "cut.jpg").write_bytes((root / "in" / "0.jpg").read_bytes()[:-60])

    def line(name: str) -> list[str]:
        """With a program that is quickly compiled."""
        more = ["--size", 32, "--evaluations", 20, "--batch", 3, "--workers", 0]
        more += ["--preset", "classic", "--style-layers", "relu1_1", "relu2_1", "--content-layers", "relu2_2"]
        return hostile.command(root / "in", root / "style.png", root / name, *more, program=REAL, common=())

    began = time.monotonic()
    assert hostile.run(line("undisturbed"))[0] == 3
    whole, hits, output = time.monotonic() - began, 0, root / "out"
    for wanted in (0, 3):  # outputs that are there before the kill
        process = hostile.start(line("out"), log=subprocess.DEVNULL)
        hostile.wait_for(lambda: process.poll() is not None or len(hostile.pictures_of(output)) >= wanted)  # noqa: B023
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, whole / 2 if wanted == 0 else 0.2))
        process.kill()
        hits += process.wait(hostile.WAIT) == -signal.SIGKILL
        check(output)
    code, said = hostile.run(line("out"))
    assert code == 3 and hits, said
    assert_same(output, root / "undisturbed")
