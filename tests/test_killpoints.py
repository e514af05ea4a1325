"""A run ends before each of its changes of the file system, one after the other, and the next one mends all; disks.

Where tests/test_kill.py hits moments at random, this hits every one, and cuts off half of what was not synced, as a
power loss might. A program without threads imports everything and forks a child for each kill, so that a kill costs a
few hundredths of a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from pictures import painting, photo, save
from test_kill import check
from whole_runs import MEASURED

PROGRAM = """
import errno, json, os, secrets, shutil, signal, sys, threading
import stub
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import JaxstyleError
from jaxstyle.data import writing

scenario = json.loads(sys.argv[1])
stub.install()

def run(output, changes):
    return render("in", "style.png", output, **{"size": 32, "evaluations": 10, "batch": 2, "workers": 0} | changes)

def child(work):
    "Runs it in a process of its own; returns how that ended."
    pid = os.fork()
    if not pid:
        code = 70
        writing._own = f"{os.getpid()}-{secrets.token_hex(4)}"  # as an import would make them
        try:
            work()
            code = 0
        except JaxstyleError as error:
            code = error.exit_code
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed(output, changes, point):
    "A run that is killed, or finds the disk full, at its change number `point` of the file system."
    left = point
    synced = {}  # bytes of files written to that a power loss leaves for certain
    def count():
        nonlocal left
        left -= 1
        if left == -1 and not scenario.get("full"):
            try:
                for path, length in list(synced.items()):
                    if os.path.isfile(path) and os.path.getsize(path) > length:
                        os.truncate(path, (length + os.path.getsize(path)) // 2)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        if left < 0 and scenario.get("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    def located(name, handle):
        folder = os.getcwd() if handle in (None, -1) else os.readlink(f"/proc/self/fd/{handle}")
        return os.path.join(folder, name)
    def heard(event, arguments):
        if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            count()
            if event == "os.rename":
                old, new = located(arguments[0], arguments[2]), located(arguments[1], arguments[3])
                synced[new] = synced.pop(old, 0)
    os_open, fsync = os.open, os.fsync
    def opened(name, flags, *rest, dir_fd=None):
        if flags & (os.O_WRONLY | os.O_RDWR):
            count()
        handle = os_open(name, flags, *rest, dir_fd=dir_fd)
        if flags & (os.O_WRONLY | os.O_RDWR):
            synced.setdefault(located(name, dir_fd), os.fstat(handle).st_size)
        return handle
    def counted(handle):
        count()
        fsync(handle)
        synced[os.readlink(f"/proc/self/fd/{handle}")] = os.fstat(handle).st_size
    os.open, os.fsync = opened, counted
    sys.addaudithook(heard)
    run(output, changes)

run("warm", {})  # imports what is imported late
assert threading.active_count() == 1
for before in scenario["before"]:
    assert child(lambda: run("before", before)) == 0
point = 0
while True:
    output = f"out-{point}"
    if scenario["before"]:
        shutil.copytree("before", output)
    code = child(lambda: killed(output, scenario["killed"], point))
    print(json.dumps([output, code]))
    through = code == 0
    assert through or code == (5 if scenario.get("full") else -signal.SIGKILL), code
    shutil.copytree(output, f"killed-{point}") if os.path.exists(output) else os.mkdir(f"killed-{point}")
    for after in scenario["after"]:
        code = child(lambda: run(output, after))
        if code == 2 and scenario.get("refused"):
            code = child(lambda: run(output, scenario["killed"]))
        assert code == 0, (point, code)
    if through:
        break
    point += 1
"""

TESTS = Path(__file__).parent
AGAIN = {"retry_failed": True}
OTHER = {"evaluations": 20}
SCENARIOS = {
    "a new folder": {"before": [], "killed": {}, "after": [{}]},
    "a full disk": {"before": [], "killed": {}, "after": [{}], "full": True},
    "failed ones again": {"before": [{}], "killed": AGAIN, "after": [AGAIN]},
    "failed ones again on a full disk": {"before": [{}], "killed": AGAIN, "after": [AGAIN], "full": True},
    "other settings": {"before": [{}], "killed": OTHER | {"existing": "overwrite"}, "after": [OTHER], "refused": True},
    "the last shard": {"before": [{"shard": "1/2"}], "killed": {"shard": "2/2"}, "after": [{"shard": "2/2"}]},
}
"""Settings of the runs before the one that is killed, of that one, and of those after it, which may be refused if
the settings are the older ones still."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The program of each scenario with its folder, all begun at once: half of their time they wait for the disk."""
    begun = {}
    environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    for name, scenario in SCENARIOS.items():
        folder = tmp_path_factory.mktemp("scenario")
        save(folder / "style.png", painting())
        for k in (1, 2):  # the shards have one each
            save(folder / "in" / f"{k % 2}" / f"{k}.png", photo(32, 30, k))
        (folder / "in" / "cut.png").write_bytes((folder / "in" / "0" / "2.png").read_bytes()[:-40])
        line = [sys.executable, "-c", PROGRAM, json.dumps(scenario)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begun[name] = folder, subprocess.Popen(line, cwd=folder, env=environment, **pipes)
    yield begun
    for _, process in begun.values():
        with process:  # closes its pipes and waits for it
            process.kill()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_before_any_change_of_the_file_system_is_mended_by_the_next_run(programs, name):
    folder, program = programs[name]
    said, wrong = program.communicate()
    assert program.returncode == 0, said[-500:] + wrong[-2000:]
    outputs = [folder / json.loads(line)[0] for line in said.splitlines()]
    assert len(outputs) > 10  # so many changes there are, at least
    undisturbed = outputs.pop()
    expected = {key: row | MEASURED for key, row in sorted(hostile.rows(undisturbed).items())}
    for output in outputs:
        check(output.with_name(output.name.replace("out", "killed")))
        check(output)
        assert {key: row | MEASURED for key, row in sorted(hostile.rows(output).items())} == expected, output
        assert hostile.pictures_of(output) == hostile.pictures_of(undisturbed)
        assert not list(output.rglob(".jaxstyle-partial-*")) and not list(output.glob(".jaxstyle-lock-*"))


def test_a_full_disk_ends_the_run_and_a_later_one_with_room_finishes(tmp_path):
    style = save(tmp_path / "style.png", painting())
    for k in range(40):
        save(tmp_path / "in" / f"{k:02}.bmp", photo(128, 128, k))  # outputs of 48 KiB, of which 1 MiB holds 20
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        line = hostile.command(
            tmp_path / "in", style, disk / "out", "--size", 128, "--batch", 4, "--workers", 0, common=()
        )
        code, said = hostile.run(line)
        assert code == 5 and "No space left on device" in said and "Free space" in said and "Traceback" not in said
        done = [row for row in hostile.ledger(disk / "out") if row["status"] == "done"]
        made = hostile.pictures_of(disk / "out")
        assert 10 <= len(done) <= 21
        assert all(hashlib.sha256(made[row["key"]]).hexdigest() == row["output_sha256"] for row in done)
        assert hostile.run(line)[0] == 5  # nothing is lost by trying again
        subprocess.run(["mount", "-o", "remount,size=9m", disk], check=True)
        code, said = hostile.run(line)
        assert code == 0 and set(hostile.statuses(disk / "out").values()) == {"done"}, said
        after = hostile.pictures_of(disk / "out")
        assert len(after) == 40 and all(after[row["key"]] == made[row["key"]] for row in done)
        assert not list((disk / "out").rglob(".jaxstyle-partial-*"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_may_not_grow_ends_the_run_like_a_full_disk(tmp_path):
    style = save(tmp_path / "style.png", painting())
    for k in range(8):
        side = 128 if k == 6 else 40
        save(tmp_path / "in" / f"{k}.bmp", photo(side, side, k))
    line = hostile.command(tmp_path / "in", style, tmp_path / "out", "--size", 128, "--batch", 1, "--workers", 0,
                           common=())  # fmt: skip
    limited = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", *line]  # 20 KiB
    code, said = hostile.run(limited)
    assert code == 5 and "6.bmp cannot be written" in said and "Traceback" not in said
    kept = hostile.pictures_of(tmp_path / "out")
    assert "6.bmp" not in kept and {row["key"] for row in hostile.ledger(tmp_path / "out")} <= kept.keys()
    assert hostile.run(line)[0] == 0
    after = hostile.pictures_of(tmp_path / "out")
    assert len(after) == 8 and all(after[key] == data for key, data in kept.items())


def test_a_read_only_file_system_exits_5(tmp_path):
    source, style = (save(tmp_path / name, painting()) for name in ("in/a.png", "style.png"))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        code, said = hostile.run(hostile.command(source, style, disk / "out"), STUB_CRASH=1)
        assert code == 5 and "cannot be written" in said and "Traceback" not in said
    finally:
        subprocess.run(["umount", disk], check=True)
