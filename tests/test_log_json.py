"""What a run tells: events for programs with --log-json, nothing with --quiet."""

import io
import json
import re
from datetime import datetime

import pytest
from command import BROKEN, photographs, rendering, run
from documents import TEXTS

from jaxstyle.report import events
from jaxstyle.report.events import JsonEvents


@pytest.fixture
def folder(tmp_path, devices):
    (photographs(tmp_path) / "in" / "c.png").write_bytes(BROKEN)
    return tmp_path


def test_a_run_is_a_sequence_of_events(folder, capsys):
    assert run(*rendering(folder), "--log-json") == 3
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    names = [one["event"] for one in told]
    assert names[0] == "begin" and names[-1] == "end" and set(names) >= {"inputs", "row", "advance"}
    assert [one["time"] for one in told] == sorted(one["time"] for one in told)
    described = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXTS["docs/reference.md"].split("### Events")[1], re.MULTILINE)
    )
    for one in told:
        if one["event"] != "row":
            fields = set(re.findall(r"`(\w+)`", described[one["event"]]))
            assert one.keys() - {"event", "time"} == fields, one["event"]
    assert all(datetime.fromisoformat(one["time"]).utcoffset() is not None for one in told)
    rows = {one["key"]: one for one in told if one["event"] == "row"}
    with open(folder / "out" / "manifest.jsonl") as manifest:
        assert {row["key"]: row for row in map(json.loads, manifest)} == {
            key: {name: value for name, value in row.items() if name not in ("event", "time")}
            for key, row in rows.items()
        }
    assert rows["c.png"]["status"] == "failed" and rows["c.png"]["reason"]
    end = told[-1]
    assert (end["done"], end["failed"], end["rendered"], end["stopped"], end["shard"]) == (2, 1, 2, "", None)
    assert end["sheet"] == str(folder / "out" / "contact_sheet.png") and end["output"] == str(folder / "out")
    spent = sum(one["evaluations"] for one in told if one["event"] == "advance")
    assert spent == sum(row["evaluations"] for row in rows.values())


def test_a_second_run_tells_what_was_finished_before(folder, capsys):
    run(*rendering(folder), "--quiet")
    capsys.readouterr()
    assert run(*rendering(folder), "--log-json") == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(one["number"] for one in told if one["event"] == "finished") == 3
    assert told[-1]["rendered"] == 0 and told[-1]["sheet"] is None and "row" not in {one["event"] for one in told}


def test_quiet_says_nothing_but_errors(folder, capsys):
    assert run(*rendering(folder), "--quiet") == 3
    assert capsys.readouterr() == ("", "")
    assert run(*rendering(folder), "--quiet", "--size", "48") == 2
    assert "size" in capsys.readouterr().err


def test_both_at_once_are_refused(folder, capsys):
    assert run(*rendering(folder), "--quiet", "--log-json") == 2
    assert "--quiet and --log-json are given" in capsys.readouterr().err


def test_advances_are_at_least_a_second_apart_and_none_is_lost(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    listener = JsonEvents(stream)
    for n in range(30):
        now[0] += 0.25
        listener.advance(10, float("nan") if n % 2 else n)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["evaluations"] for one in told] == [10, *[40] * 7] and told[-1]["loss"] == 28


def test_a_loss_that_is_not_known_is_null_and_messages_are_told():
    stream = io.StringIO()
    listener = JsonEvents(stream)
    listener.advance(-10, float("nan"))
    listener.say("caf\udce9 is out of memory")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["loss"] is None and first["evaluations"] == -10
    assert second["event"] == "message" and second["text"] == "caf\udce9 is out of memory"


def test_a_reader_that_has_gone_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    JsonEvents(Gone()).say("anything")
