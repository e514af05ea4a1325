"""A worker and the process of its shard: news, endings, silence, and that the process ends with its worker."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import wait_for
from pictures import painting, photo, save
from whole_runs import QUICK, rows

from jaxstyle.cluster import worker
from jaxstyle.cluster.messages import GO_ON, HOLD, LOST, STOP, order, settings_of
from jaxstyle.settings import RenderSettings

TOKEN = ".jaxstyle-partial-ray-0"
SHARD = (sys.executable, str(Path(__file__).with_name("ray_shard.py")))


def acting(code):
    """A program in the place of a shard's process; its order is `told`."""
    head = "import json, os, signal, sys, time\ntold = json.loads(sys.stdin.readline())\n"
    return sys.executable, "-S", "-c", head + code


@pytest.fixture
def told(tmp_path):
    """An order whose folder is seen."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / TOKEN).touch()
    made = order([tmp_path / "in"], [tmp_path / "style.png"], tmp_path / "out", QUICK, 2, TOKEN)
    return made | {"interval": 0.05}


class Board:
    """Remembers what it is told; answers one after the other, then to go on."""

    def __init__(self, *answers):
        self.answers, self.calls, self.heard = [*answers], [], 0

    def __call__(self, calls):
        answer = self.answers.pop(0) if self.answers else GO_ON
        self.heard += 1
        assert self.heard < 400, "the attempt does not end"
        self.calls += calls if answer != HOLD else []
        return answer


def test_an_order_is_json_and_gives_the_settings_back(tmp_path):
    settings = RenderSettings(
        size=64, style_layers=("relu1_1",), max_failures="5%", max_duration="8h", existing="error",
        content_masks=tmp_path, keep="black", scales="32,64", evaluations="5,5",
    )  # fmt: skip
    made = json.loads(json.dumps(order(["a"], ["b.jpg:2"], Path("out"), settings, 8, "x")))
    found = settings_of(made, 3)
    assert found.part() == (3, 8) and found.existing == "resume"
    assert found.failures() == (None, None) and found.seconds() is None  # the coordinator counts
    assert found.pixels() == settings.pixels() and found.content_masks == tmp_path
    assert (made["inputs"], made["style"], made["output"], made["folder"]) == (["a"], ["b.jpg:2"], "out", os.getcwd())


def test_a_shard_is_rendered_and_tells_its_rows(told, tmp_path):
    for k in range(7):
        save(tmp_path / "in" / f"{k}.png", photo(20, 24, seed=k))
    save(tmp_path / "style.png", painting())
    board = Board()
    outcome = worker.attend(told, 2, board, SHARD)
    assert (outcome.code, outcome.failure) == (0, None) and outcome.node
    names = [name for name, _ in board.calls]
    assert names[0] == "begin" and names[-1] == "end" and "advance" in names
    keys = {arguments[0]["key"] for name, arguments in board.calls if name == "row"}
    assert keys == set(rows(tmp_path / "out")) and 0 < len(keys) < 7
    (number,) = (arguments[0] for name, arguments in board.calls if name == "inputs")
    assert number == len(keys)


def test_an_error_of_a_shard_comes_with_its_class_and_remedy(told, tmp_path):
    outcome = worker.attend(told | {"version": "0"}, 1, Board(), SHARD)
    assert outcome.code == 2 and outcome.failure.kind == "SettingsMismatch"
    assert "and 0 where the run was started" in outcome.failure.what
    assert outcome.failure.error().remedy == "Install the same version on all machines."


def test_a_folder_that_is_not_the_coordinators_is_told_before_anything_begins(told, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "SEEN_SECONDS", 0.2)
    (tmp_path / "out" / TOKEN).unlink()
    for change, what in (({}, "the output folder"), ({"folder": str(tmp_path / "none")}, "the working folder")):
        board = Board()
        outcome = worker.attend(told | change, 1, board, ("/no/such/program",))
        assert outcome.code == 2 and outcome.failure.error().what.startswith(what) and not board.heard
        assert outcome.failure.error().exit_code == 2 and outcome.failure.remedy


def test_a_process_that_is_killed_or_fails_is_told_with_its_last_words(told):
    killed = worker.attend(told, 1, Board(), acting("os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.code == -9 and killed.failure == (LOST, "its process was ended by signal 9", "")
    failed = worker.attend(told, 1, Board(), acting("raise ValueError('odd')"))
    assert failed.code == 1 and failed.failure.what == "its process failed: ValueError: odd"


def test_a_process_that_tells_nothing_is_killed(told):
    stopped = acting("print(json.dumps([['say', [os.getpid()]]]), flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)")
    board = Board()
    outcome = worker.attend(told | {"silence": 0.5}, 1, board, stopped)
    assert outcome.code is None and outcome.failure.what == "it has told nothing for 0.5 s"
    ((_, (pid,)),) = board.calls
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stop_is_passed_on_and_the_last_news_are_told(told):
    patient = acting(
        "heard = []\nsignal.signal(signal.SIGTERM, lambda *_: heard.append(1))\nprint('[]', flush=True)\n"
        "while not heard: time.sleep(0.01)\nprint(json.dumps([['say', ['bye']]]), flush=True)\nos._exit(143)"
    )
    outcome = worker.attend(told, 1, Board(GO_ON, *[GO_ON] * 10, *[STOP] * 99), patient)
    assert (outcome.code, outcome.failure) == (143, None)
    board = Board(STOP)  # it waited for a machine until the stop came
    assert worker.attend(told, 1, board, ("/no/such/program",)).code == 143


def test_news_that_the_board_has_no_room_for_are_told_later(told):
    board = Board(GO_ON, HOLD, HOLD, HOLD)
    worker.attend(told, 1, board, acting("print(json.dumps([['say', ['once']]]), flush=True)\ntime.sleep(0.3)"))
    assert board.calls == [["say", ["once"]]]


def test_the_process_of_a_shard_ends_with_its_worker():
    code = """
from jaxstyle.cluster import shard
def render(*_):
    print("here", file=shard.sys.stderr, flush=True)
    shard.time.sleep(60)
shard._render = render
shard.main()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    assert process.stderr.readline() == b"here\n" and process.poll() is None
    process.stdin.close()
    assert process.wait(20) == -signal.SIGKILL


def test_a_cancelled_attempt_leaves_no_process(told):
    pids = []

    def tell(calls):
        pids.extend(arguments[0] for _, arguments in calls)
        if pids:
            raise KeyboardInterrupt
        return GO_ON

    with pytest.raises(KeyboardInterrupt):
        worker.attend(told, 1, tell, acting("print(json.dumps([['say', [os.getpid()]]]), flush=True)\ntime.sleep(60)"))
    wait_for(lambda: not Path(f"/proc/{pids[0]}").exists())
