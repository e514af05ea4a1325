"""A run is killed before each of its changes of the file system, one after the other, and the next one mends all.

Where tests/test_kill.py hits moments at random, this hits every one. A program without threads imports everything and
forks a child for each kill, so that a kill costs a few hundredths of a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from pictures import painting, photo, save
from test_kill import check

PROGRAM = """
import json, os, secrets, shutil, signal, sys, threading
import stub
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import JaxstyleError, SettingsMismatch
from jaxstyle.data import lock, sink

scenario = json.loads(sys.argv[1])
stub.install()

def run(output, changes):
    return render("in", "style.png", output, **{"size": 32, "evaluations": 10, "batch": 2, "workers": 0} | changes)

def child(work):
    "Runs it in a process of its own; returns how that ended."
    pid = os.fork()
    if not pid:
        code = 70
        sink._own = lock._process = f"{os.getpid()}-{secrets.token_hex(4)}"  # as an import would make them
        try:
            work()
            code = 0
        except SettingsMismatch:
            code = 2
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed(output, changes, point):
    "A run that ends before its change number `point` of the file system."
    left = point
    def count():
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def heard(event, arguments):
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in ("os.rename", "os.remove", "os.mkdir", "os.truncate"):
            count()
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
            count()
    fsync = os.fsync
    def counted(handle):
        count()
        fsync(handle)
    os.fsync = counted
    sys.addaudithook(heard)
    run(output, changes)

run("warm", {})  # imports what is imported late
assert threading.active_count() == 1
point = 0
while True:
    output = f"out-{point}"
    for before in scenario["before"]:
        assert child(lambda: run(output, before)) == 0
    code = child(lambda: killed(output, scenario["killed"], point))
    print(json.dumps([output, code]))
    through = code == 0
    assert through or code == -signal.SIGKILL, code
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

SCENARIOS = {
    "a new folder": {"before": [], "killed": {}, "after": [{}]},
    "a folder half done": {"before": [{"limit": 2}], "killed": {}, "after": [{}]},
    "failed ones again": {"before": [{}], "killed": {"retry_failed": True}, "after": [{"retry_failed": True}]},
    "other settings over it": {
        "before": [{}],
        "killed": {"evaluations": 20, "existing": "overwrite"},
        "after": [{"evaluations": 20}],
        "refused": True,
    },
    "the last shard": {
        "before": [{"shard": "1/2"}],
        "killed": {"shard": "2/2"},
        "after": [{"shard": "2/2"}, {}],
    },
    "a shard after another number of them": {
        "before": [{"shard": "1/3"}],
        "killed": {"shard": "1/2"},
        "after": [{"shard": "1/2"}, {"shard": "2/2"}],
    },
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_before_any_change_of_the_file_system_is_mended_by_the_next_run(tmp_path, name):
    save(tmp_path / "style.png", painting())
    for k in range(3):
        save(tmp_path / "in" / f"{k % 2}" / f"{k}.png", photo(32, 30, k))
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "0" / "0.png").read_bytes()[:-40])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    program = [sys.executable, "-c", PROGRAM, json.dumps(SCENARIOS[name])]
    told = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-500:] + told.stderr[-2000:]
    outputs = [tmp_path / json.loads(line)[0] for line in told.stdout.splitlines()]
    assert len(outputs) > 10  # so many changes there are, at least
    undisturbed = outputs.pop()
    expected = {key: row | {"seconds": 0} for key, row in sorted(hostile.rows(undisturbed).items())}
    for output in outputs:
        check(output.with_name(output.name.replace("out", "killed")))
        check(output)
        assert {key: row | {"seconds": 0} for key, row in sorted(hostile.rows(output).items())} == expected, output
        assert hostile.pictures_of(output) == hostile.pictures_of(undisturbed)
        assert not list(output.rglob(".jaxstyle-partial-*")) and not list(output.glob(".jaxstyle-lock-*"))
