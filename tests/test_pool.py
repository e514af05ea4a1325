"""Worker processes: the same pictures as without, whatever else a file does to its decoder, and no process left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import photo, save
from PIL import Image

from jaxstyle.data import image
from jaxstyle.decode import pool as pool_module
from jaxstyle.decode import worker
from jaxstyle.decode.pool import Decoders
from jaxstyle.errors import ImageError, ProcessError

LIMIT = 1_000_000
HOOKS = """
import os, signal, sys, time
from jaxstyle.data import image
from jaxstyle.decode import worker

def hooked(real):
    def call(source, *arguments):
        name = os.path.basename(os.fsdecode(source.name))
        log = os.path.join(os.path.dirname(os.fsdecode(source.name)), "log")
        def note(text):
            with open(log, "a") as file:
                file.write(text + chr(10))
        print("noise")
        os.write(1, b"noise" * 99)
        if "crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "leave" in name:
            os._exit(3)
        if "hang" in name:
            note("hangs")
            time.sleep(1000)
        if "slow" in name:
            note("slow begins")
            while "killed" not in open(log).read():
                time.sleep(0.01)
            time.sleep(0.7)
            note("slow ends")
        if "third" in name:
            note("third begins")
        if "memory" in name:
            if not os.path.exists(log) or "killed" not in open(log).read():
                note("killed")
                os.kill(os.getpid(), signal.SIGKILL)
            note("second try")
        return real(source, *arguments)
    return call

image.read, image.probe = hooked(image.read), hooked(image.probe)
"""
"""What a worker does with files of these names."""


def command(code: str, *arguments: str) -> list[str]:
    """A worker that runs some code before it begins."""
    return [sys.executable, "-P", "-c", f"{code}\nfrom jaxstyle.decode.worker import main\nmain()", *arguments]


def decoders(workers: int = 1, *, timeout: float = 60, code: str = HOOKS, max_pixels: int = LIMIT) -> Decoders:
    return Decoders(workers, max_pixels=max_pixels, timeout=timeout, command=command(code))


def pids(pool: Decoders) -> set[int]:
    return {one._process.pid for one in pool._all}


def gone(pid: int) -> bool:
    """Whether the process has ended; one that only its adopter has not waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


def result(call):
    """The picture that a call returns, or the error it raises, to be compared."""
    try:
        found = call()
    except ImageError as error:
        return str(error)
    arrays = [None if a is None else (a.shape, a.dtype.str, a.tobytes()) for a in (found.levels, found.alpha)]
    return (found.stat, found.sha256, found.header, found.notes, *arrays)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Files of many kinds, good and bad."""
    picture = photo(60, 40)
    rgba = np.dstack([picture, np.linspace(0, 255, 2400).reshape(40, 60).astype(np.uint8)])
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [Image.fromarray(photo(60, 40, seed)) for seed in (1, 2)]
    bomb = b"P6 3000 3000 255\n"
    good = [
        save(tmp_path / "a.jpg", picture, exif=turned),
        save(tmp_path / "b.png", rgba),
        save(tmp_path / "c.tif", picture, compression="tiff_deflate"),
        save(tmp_path / "d.tif", rgba),
        save(tmp_path / "e.gif", picture, save_all=True, append_images=frames),
        save(tmp_path / "f.png", np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20),
        save(tmp_path / os.fsdecode(b"not UTF-8 \xe9\xff\n.webp"), rgba, lossless=True),
        save(tmp_path / 'quote " \\ \u00fc \U0001f5bc.bmp', picture),
    ]
    bad = {
        "cut.png": good[1].read_bytes()[:-200], "text.jpg": b"Dear diary", "empty": b"", "bomb.ppm": bomb
    }  # fmt: skip
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    return [*good, *(tmp_path / name for name in (*bad, "pipe", "folder", "absent"))]


def test_a_worker_finds_what_image_finds(files):
    picture = image.read(files[1], LIMIT)  # 60 x 40, with alpha
    with decoders() as pool:
        small, full = (pool.read(files[1], 30, full_alpha=full) for full in (False, True))
        probed = pool.probe(files[1:2])
    found = files[1].stat()
    assert small.header == full.header == picture.header == probed[0].header
    assert small.stat == probed[0].stat == worker.Stat(found.st_size, found.st_mtime_ns)
    assert small.sha256 == hashlib.sha256(files[1].read_bytes()).hexdigest()
    assert small.notes == picture.notes != ()
    reduced = image.read(files[1], LIMIT, 30)
    assert np.array_equal(small.levels, reduced.levels) and small.levels.shape == (20, 30, 3)
    assert np.array_equal(small.alpha, reduced.alpha) and small.alpha.shape == (20, 30)
    assert np.array_equal(full.alpha, picture.alpha) and full.alpha.shape == (40, 60)


def test_many_threads_get_what_one_process_would_find(files):
    calls = [(path, size, full) for path in files for size, full in ((32, True), (100, False))]
    with decoders(0) as here, decoders(2) as pool, ThreadPoolExecutor(5) as threads:
        reads = threads.map(lambda c: result(lambda: pool.read(c[0], c[1], full_alpha=c[2])), calls)
        probes = list(threads.map(lambda _: pool.probe(files), range(4)))
        assert list(reads) == [result(lambda c=c: here.read(c[0], c[1], full_alpha=c[2])) for c in calls]
        assert probes == [here.probe(files)] * 4
        assert len(pids(pool)) == 2 and not pids(here)
    good, bad = probes[0][:8], probes[0][8:]
    assert all(one.header and not one.problem and one.picture for one in good)
    assert bad[0].header  # a cut PNG has a header
    assert [one.picture for one in bad] == [True, False, False, True, True, True, True]
    expected = [
        "no picture of a known format", "is empty", "claims 3000 x 3000", "not a regular file",
        "cannot be read (Is a directory)", "cannot be read (No such file or directory)",
    ]  # fmt: skip
    for one, words in zip(bad[1:], expected, strict=True):
        assert one.header is None and words in one.problem


@pytest.mark.parametrize(("name", "how"), [("crash", "signal SIGSEGV"), ("leave", "exit code 3")])
def test_a_crash_is_one_picture_s_error(tmp_path, name, how):
    good = [save(tmp_path / f"{i}.png", photo(20, 20, i)) for i in range(9)]
    bad = save(tmp_path / f"{name}.png", photo(20, 20))
    paths = [*good[:4], bad, *good[4:]]
    with decoders(2) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda path: result(lambda: pool.read(path, 20, full_alpha=False)), paths))
        assert found.pop(4) == f"its decoder crashed twice ({how})"
        with decoders(0) as here:
            assert found == [result(lambda p=path: here.read(p, 20, full_alpha=False)) for path in good]
        probed = pool.probe(paths)
    assert [one.problem for one in probed] == [""] * 4 + [f"its decoder crashed ({how})"] + [""] * 5
    assert probed[4].stat.length == bad.stat().st_size and probed[4].header is None


def test_a_hanging_decoder_is_given_up(tmp_path):
    good, bad = (save(tmp_path / f"{name}.png", photo(20, 20)) for name in ("good", "hang"))
    late = "was not decoded within 1 s"
    with decoders(timeout=1) as pool:
        with pytest.raises(ImageError, match=f"^{late}$"):
            pool.read(bad, 20, full_alpha=False)
        assert (tmp_path / "log").read_text() == "hangs\n"  # there is no second try
        assert not pids(pool)
        assert [one.problem for one in pool.probe([good, bad])] == ["", late]
        assert pool.read(good, 20, full_alpha=False).header.width == 20


def test_a_picture_whose_decoder_was_killed_is_tried_again_by_itself(tmp_path):
    paths = [save(tmp_path / f"{name}.png", photo(20, 20)) for name in ("slow", "memory", "third")]
    log = tmp_path / "log"
    with decoders(3) as pool, ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(pool.read, paths[0], 20, full_alpha=False)]
        wait_for(log.exists)
        calls.append(threads.submit(pool.read, paths[1], 20, full_alpha=False))
        wait_for(lambda: pool._alone)
        calls.append(threads.submit(pool.read, paths[2], 20, full_alpha=False))
        assert [call.result().header.width for call in calls] == [20] * 3
        assert not pool._alone
    assert log.read_text().splitlines() == ["slow begins", "killed", "slow ends", "second try", "third begins"]


@pytest.mark.parametrize(
    "lie",
    [
        "answers.write(b'Traceback\\n')",
        "answers.write(b'[' * 100_000 + b'\\n')",
        "answers.write(b'x' * 3_000_000)",
        "answers.write(json.dumps(real(request)[0]).encode()[:-1])",
    ],
    ids=["nonsense", "nested", "endless line", "half a line"],
)
def test_a_malformed_answer_counts_as_a_crash(tmp_path, lie):
    path = save(tmp_path / "a.png", photo(20, 20))
    code = f"""
import json, os
from jaxstyle.decode import worker
real, answers = worker._answer, os.fdopen(os.dup(1), "wb")
def answer(request):
    {lie}
    answers.flush()
    os._exit(0)
worker._answer = answer
"""
    with decoders(code=code) as pool:
        with pytest.raises(ImageError, match="its decoder crashed twice"):
            pool.read(path, 20, full_alpha=False)
        assert [one.problem[:19] for one in pool.probe([path])] == ["its decoder crashed"]
        assert not pids(pool)


def sending(lie: str) -> str:
    """A worker that sends something else than the array of its answer: `h` is the array's header, `v` its values."""
    return f"""
import threading
from jaxstyle.decode import worker
header = worker.array_header
def write_array(file, array):
    h, v, shape = header(array.shape, array.dtype), array.tobytes(), array.shape
    file.write({lie})
    threading.Timer(0.2, os._exit, (0,)).start()
worker.write_array = write_array
"""


@pytest.mark.parametrize("cut", ["h[:-1]", "h", "h + v[:-1]"])
def test_arrays_cut_short_count_as_a_crash(tmp_path, cut):
    path = save(tmp_path / "a.png", photo(200, 200))
    with decoders(code=HOOKS + sending(cut)) as pool, pytest.raises(ImageError, match=r"crashed twice \(exit code 0\)"):
        pool.read(path, 200, full_alpha=False)


@pytest.mark.parametrize(
    "lie",
    [
        "v + h",
        "header((10**9, 10**9, 3), array.dtype) + v",
        "header(shape[:2], array.dtype) + v",
        "header(shape, worker.np.dtype('>f4')) + v * 4",
        "header(shape, worker.np.dtype(object)) + b'cos\\nsystem\\n(S\"true\"\\ntR.' + v",
        "h.replace(b'False', b'True ') + v",
        "h.replace(b'NUMPY\\x01', b'NUMPY\\x03') + v",
    ],
)
def test_an_array_that_was_not_announced_counts_as_a_crash(tmp_path, lie):
    path = save(tmp_path / "a.png", photo(200, 200))
    with decoders(code=HOOKS + sending(lie)) as pool, pytest.raises(ImageError, match="its answer was malformed"):
        pool.read(path, 200, full_alpha=False)


def test_close_ends_all_workers_and_calls(tmp_path):
    good, bad = (save(tmp_path / f"{name}.png", photo(20, 20)) for name in ("good", "hang"))
    pool = decoders(2)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(pool.read, bad, 20, full_alpha=False) for _ in range(3)]  # the third waits for a worker
        calls.append(threads.submit(pool.probe, [bad, good]))
        wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("hangs") == 2)
        workers = pids(pool)
        pool.close()
        assert len(workers) == 2 and all(map(gone, workers))
        for call in calls:
            with pytest.raises(RuntimeError, match="closed"):
                call.result(30)
    for call in (lambda: pool.read(good, 20, full_alpha=False), lambda: pool.probe([good])):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    pool.close()
    assert not pids(pool)


def test_close_ends_a_worker_that_is_being_started():
    pool = decoders(code="import time\ntime.sleep(1000)")
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pool.probe, [Path("any")])
        wait_for(lambda: pids(pool))
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            call.result(30)


def test_close_ends_idle_workers(tmp_path):
    good = save(tmp_path / "good.png", photo(20, 20))
    with decoders() as pool:
        pool.probe([good])
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGINT)  # is for the run, not for its workers
        pool.probe([good])
        assert pids(pool) == {pid}
    assert gone(pid)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_workers_die_with_their_parent(tmp_path, busy):
    good, bad = (save(tmp_path / f"{name}.png", photo(20, 20)) for name in ("good", "hang"))
    code = """
import sys, time
from pathlib import Path
from jaxstyle.decode.pool import Decoders
good, bad, busy, *command = sys.argv[1:]
pool = Decoders(1, max_pixels=1000, timeout=1000, command=command)
pool.probe([Path(good)])
print(*(one._process.pid for one in pool._all), flush=True)
if busy == "True":
    pool.read(Path(bad), 20, full_alpha=False)
time.sleep(1000)
"""
    arguments = [sys.executable, "-c", code, good, bad, str(busy), *command(HOOKS)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        if busy:
            wait_for((tmp_path / "log").exists)
        assert not gone(pid)
        parent.kill()
    wait_for(lambda: gone(pid))


HELD = """
import os, time
from jaxstyle.data import image
def hanging(*_):
    if not os.fork():
        time.sleep(20)  # it holds the pipes of the worker open, as one that hangs in the kernel would
    time.sleep(600)
image.read = hanging
"""


def test_a_decoder_that_cannot_be_ended_is_given_up(tmp_path):
    bad = save(tmp_path / "a.png", photo(20, 20))
    with decoders(timeout=1, code=HELD) as pool:
        with pytest.raises(ImageError, match="was not decoded within 1 s"):
            pool.read(bad, 20, full_alpha=False)
        assert not pids(pool)


STARTS = """
import os, sys
with open(sys.argv[1], "a+") as file:
    file.write("x")
    file.seek(0)
    number = len(file.read())
if str(number) in sys.argv[2].split(","):
    raise SystemExit(f"start {number} has no luck")
"""


def starting(tmp_path, bad, workers=1):
    """A pool whose workers' starts of these numbers fail."""
    line = [sys.executable, "-P", "-c", f"{STARTS}\nfrom jaxstyle.decode.worker import main\nmain()"]
    return Decoders(workers, max_pixels=LIMIT, timeout=60, command=[*line, str(tmp_path / "starts"), bad])


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(pool_module, "PAUSES", (0.01, 0.01, 0.01))


def test_a_worker_that_does_not_start_is_tried_again(tmp_path, impatient):
    good = save(tmp_path / "a.png", photo(20, 20))
    with starting(tmp_path, "1,2,3") as pool:
        assert pool.read(good, 20, full_alpha=False).header.width == 20
    (tmp_path / "starts").unlink()
    with starting(tmp_path, "1,2,3,4") as pool, pytest.raises(ProcessError, match="exit code 1: start 4 has no luck"):
        pool.read(good, 20, full_alpha=False)


def test_where_no_further_worker_starts_those_that_work_do_all(tmp_path, impatient):
    good = [save(tmp_path / f"{i}.png", photo(20, 20, i)) for i in range(12)]
    with starting(tmp_path, ",".join(map(str, range(2, 99))), workers=3) as pool, ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda path: pool.read(path, 20, full_alpha=False).header.width, good))
        assert found == [20] * 12 and len(pids(pool)) == 1


@pytest.mark.parametrize("problem", [BlockingIOError(11, "Resource temporarily unavailable"), MemoryError()])
def test_a_machine_without_room_for_a_process_is_a_process_error(tmp_path, impatient, monkeypatch, problem):
    def full(*_, **__):
        raise problem

    good = save(tmp_path / "a.png", photo(20, 20))
    with decoders() as pool:
        monkeypatch.setattr(subprocess, "Popen", full)
        with pytest.raises(ProcessError, match="a decoder process cannot be started"):
            pool.read(good, 20, full_alpha=False)
        monkeypatch.undo()
        assert pool.read(good, 20, full_alpha=False).header.width == 20
