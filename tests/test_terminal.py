"""What a terminal shows: hostile names cannot leave their line, and narrow and low terminals show what matters."""

import io
import json
import os
import re
import sys

import pytest
from command import run
from rich.cells import cell_len
from rich.console import Console

from jaxstyle.data import lock
from jaxstyle.data.audit import status
from jaxstyle.data.layout import lock_name
from jaxstyle.data.rows import Row
from jaxstyle.engine.events import ShardState
from jaxstyle.errors import OutputLocked
from jaxstyle.report import progress as P
from jaxstyle.report import terminal as T

NAMES = (
    "[bold red]x[/]/[link=http://elsewhere]b.png", "\x1b[2J\x1b]0;title\x07\x1b[31mevil.jpg", "new\nline\r.jpg",
    "\u202egpj.exe", "caf\udce9.png", "\u6f22\u5b57" * 200 + ".jpg", "e\u0301" * 300, "a/" * 400 + "end.png",
    ":smile:.jpg",
)  # fmt: skip
REASON = "[/][bold]cut\x1b[31m short\nat byte 7 " + "very " * 60


class Terminal(io.StringIO):
    def isatty(self):
        return True


def state(shard, word, done=0, failed=0, **more):
    rest = dict(rows=done + failed, lanes=0.0, inputs=40, before=0, seconds=100.0) | more
    return ShardState(shard, word, done, failed, **rest)


def shown(screen, width, height):
    """The lines that a terminal of this size shows of a screen, as it is now."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, record=True)
    screen._console = console
    console.print(screen)
    return console.export_text().splitlines()


@pytest.fixture
def screen(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(P.time, "monotonic", lambda: now[0])
    made = T.Screen(Terminal())
    made.begin(100)
    made.inputs(60)
    made.advance(1000, 2.5)
    now[0] += 10
    return made


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_hostile_name_stays_in_its_line_and_keeps_its_end(screen, width):
    screen._console = Console(file=io.StringIO(), width=width, force_terminal=True, record=True)
    screen.shards([state(k, "at work", k, 1) for k in range(1, 4)])
    above = screen._console
    for name in NAMES:
        screen.row(Row(name, "done", loss={"total": 2.345}, evaluations=100, seconds=12.3))
        screen.row(Row(name, "failed", REASON))
        results = shown(screen, width, 24)[-T.RESULTS :]
        assert all(cell_len(line) <= width for line in results) and results[-1].startswith("failed ")
        if width > 40:
            end = P.printable(name)[-12:]
            assert end in results[-1] and end in results[-2] and "loss 2.345" in results[-2]
            assert r"cut\x1b[31m" in results[-1]
        screen._console = above
    screen.say(f"The style {NAMES[1]} is not {NAMES[0]}")
    text = above.export_text()
    assert text.replace("\n", "").isprintable()  # the console's own colours are not in an exported text
    assert all(cell_len(line) <= width for line in text.splitlines())
    joined = re.sub(r"\s", "", text)
    markup = NAMES[0].replace(" ", "")
    assert f"failed:{markup}:[/][bold]cut\\x1b[31mshort\\natbyte7very" in joined
    assert r"Thestyle\x1b[2J" in joined and joined.endswith(f"isnot{markup}")


def test_the_bar_is_above_the_figures_where_both_have_no_room_in_a_line(screen):
    for width, lines in ((120, 1), (70, 2), (40, 3)):
        found = shown(screen, width, 24)
        assert len(found) == lines
        assert " ".join(line.strip() for line in found).endswith(screen.state())


def test_a_shard_has_its_counts_its_rate_and_the_time_that_is_left(screen):
    states = [
        state(1, "at work", 10, 2, lanes=3.0, inputs=50, before=20), state(2, "waiting", inputs=None, seconds=0.0),
        state(3, "finished", 40), state(4, "given up", 0, 5),
    ]  # fmt: skip
    screen.shards(states)
    lines = [line.split() for line in shown(screen, 80, 24)[-5:]]
    assert lines == [
        ["shard", "done", "failed", "inputs", "images/s", "time", "left"],
        ["1/4", "10", "2", "30", "0.13", "1:40"],  # 15 of 30 after 100 s
        ["2/4", "0", "0", "waiting"],
        ["3/4", "40", "0", "40", "0.4", "finished"],
        ["4/4", "0", "5", "40", "given", "up"],
    ]
    assert shown(screen, 40, 24)[-2].split() == ["3/4", "40", "0", "finished"]


def test_a_low_terminal_shows_the_shards_that_matter_and_counts_the_others(screen):
    words = {3: "given up", 50: "at work", 60: "waiting"}
    screen.shards([state(k, words.get(k, "finished"), 40) for k in range(1, 65)])
    for k in range(9):
        screen.row(Row(f"{k}.jpg", "done"))
        screen.row(Row(f"{k}.txt", "skipped", "not a picture"))
    for height in (10, 16, 30):
        lines = shown(screen, 80, height)
        assert len(lines) <= height - 1
        numbers = [line.split("/")[0] for line in lines if "/64" in line]
        assert {"3", "50", "60"} <= set(numbers) and numbers == sorted(numbers, key=int)
        assert f"and {64 - len(numbers)} finished" in [line.strip() for line in lines]
    assert [line.split()[1] for line in lines[-T.RESULTS :]] == [f"{k}.jpg" for k in range(4, 9)]
    screen.begin(10)
    assert not any("/64" in line or ".jpg" in line for line in shown(screen, 80, 24))


def test_a_terminal_that_cannot_redraw_gets_the_lines_of_a_log(monkeypatch):
    for name, redraws in (("xterm", True), ("dumb", False)):
        monkeypatch.setenv("TERM", name)
        with P.progress(Terminal()) as listener:
            assert isinstance(listener, T.Screen) is redraws


@pytest.fixture
def shards(tmp_path):
    """A folder with shards in every state: at work, killed, ended, and a coordinator."""
    for part, keys in (((1, 3), "ab"), ((3, 3), "cde")):
        rows = [f'{{"key": "{key}", "status": "{"failed" if key == "c" else "done"}", "run": 1}}\n' for key in keys]
        path = tmp_path / f"manifest-{part[0]}-of-{part[1]}.jsonl"
        path.write_text("".join(rows))
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (tmp_path / "manifest.jsonl").write_text('{"key": "a", "status": "failed"}\n{"key": "z", "status": "skipped"}\n')
    record = '{"host": "[red]\\u001bhost", "pid": 77, "since": "2020-01-01T00:00:00+00:00"}'
    (tmp_path / f"{lock_name((2, 3))}.json").write_text(record)
    with lock.locked(tmp_path, (0, 3)), lock.locked(tmp_path, (1, 3)) as mine:
        yield tmp_path, mine


def test_status_tells_of_each_shard_what_it_counted_and_whether_it_runs(shards, capsys):
    folder, mine = shards
    assert run("status", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    told = {one["part"]: one for one in found["shards"]}
    assert [*told] == ["0/3", "1/3", "2/3", "3/3"]
    assert [one["state"] for one in told.values()] == ["at work", "at work", "killed", "ended"]
    assert [(one["done"], one["skipped"], one["failed"]) for one in told.values()] == [
        (0, 0, 0), (2, 0, 0), (0, 0, 0), (2, 0, 1),
    ]  # fmt: skip
    assert found["rows"] == {"done": 4, "skipped": 1, "failed": 1}
    assert (told["1/3"]["pid"], told["1/3"]["host"]) == (os.getpid(), mine["host"])
    assert told["1/3"]["seen"] == mine["since"]  # it began after the last row of an earlier attempt
    assert told["2/3"]["seen"] == "2020-01-01T00:00:00+00:00" and told["3/3"]["seen"] == "2023-11-14T22:13:20+00:00"
    assert run("status", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "shard 3/3: 2 done, 0 skipped, 1 failed; ended, last sign of life 2023-11-14T22:13:20+00:00" in lines
    assert sum(line.startswith("at work: ") for line in lines) == 2


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_the_shards_of_a_folder_are_a_table(shards, monkeypatch, width):
    folder, _ = shards
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    T.show_status(status(folder), False, 1_700_000_060.0)
    plain = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert plain.replace("\n", "").isprintable() and plain.startswith(
        f"{folder}: 4 done, 1 skipped, 1 failed; last row "
    )
    table = plain[plain.index("shard ") :].splitlines()
    assert all(cell_len(line) <= width for line in table)
    assert [line.split()[0] for line in table] == ["shard", "coordinator", "1/3", "2/3", "3/3"]
    assert "killed" in table[3] and "1:00" in table[4] and "at work: shard" not in plain
    if width == 80:
        assert table[3].split()[4:] == ["33934:14:20", "ago", "killed,", "77", "on", r"[red]\x1bhost"]


def test_where_locks_cannot_be_tried_a_process_of_this_machine_is_known_all_the_same(shards, monkeypatch):
    def busy(*_, **__):
        raise OutputLocked("busy")

    monkeypatch.setattr(lock, "mutex", busy)
    states = {part: one.state for part, one in lock.survey(shards[0]).items()}
    assert states == {(0, 3): "at work", (1, 3): "at work", (2, 3): "unknown"}
    record = lock.processes.own_identity() | {"started": "1"}
    assert lock.Seen(record, None).state == "killed"
