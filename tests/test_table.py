"""`jaxstyle manifest`: the rows as CSV, Parquet and JSON lines, whatever keys and figures they have."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
import tracemalloc

import pytest
from command import run
from test_rows import FULL

from jaxstyle.data import table
from jaxstyle.data.rows import Row
from jaxstyle.errors import InputError

ODD = "=1+1.jpg"
FAILED = Row(ODD, "failed", "cannot be read\nat all", run=5)


def lines(*rows):
    return "".join(json.dumps(row.as_json()) + "\n" for row in rows)


@pytest.fixture
def output(tmp_path):
    """An unfinished folder: the ledgers of two shards, the second of which has a later row of one key."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "manifest-2-of-2.jsonl").write_text(lines(FULL) + '{"key": "torn.jpg", "sta')
    os.utime(folder / "manifest-2-of-2.jsonl", (2e9, 2e9))  # ledgers stand in the order of their last change
    (folder / "manifest-1-of-2.jsonl").write_text(lines(dataclasses.replace(FULL, status="failed", run=1), FAILED))
    return folder


def written(output, format, name="rows"):
    target = output.parent / f"{name}.{format}"
    assert run("manifest", output, "-o", target) == 0
    return target


def records(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_last_row_of_every_key_and_every_field(output, capfd):
    failed, done = records(written(output, "csv"))
    assert "2 rows: " in capfd.readouterr().err
    nested = {"input_size": (640, 480), "work_size": (512, 384), "output_size": (512, 384)}
    expected = {field.name: str(getattr(FULL, field.name)) for field in dataclasses.fields(Row)}
    for name, (width, height) in nested.items():
        expected |= {name.replace("size", "width"): str(width), name.replace("size", "height"): str(height)}
        del expected[name]
    del expected["loss"], expected["judgement"]
    assert json.loads(done["curve"]) == {"content": [2.5, 1.5], "evaluations": [1, 200]} and failed["curve"] == ""
    expected["curve"] = done["curve"]
    expected |= {"loss_content": "1.5", "loss_total": "2.25", "judgement_fall": "0.5", "notes": "first of 3"}
    assert done == expected
    assert failed["status"] == "failed" and failed["reason"] == "cannot be read\nat all"
    assert failed["loss_total"] == failed["work_width"] == ""


def test_json_lines_and_parquet_say_the_same(output):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow (the extra parquet) is not installed")
    ours = [json.loads(line) for line in written(output, "jsonl").read_text().splitlines()]
    found = parquet.read_table(written(output, "parquet"))
    assert found.to_pylist() == ours and ours[0]["key"] == ODD and ours[0]["loss_total"] is None
    kinds = {name: str(found.schema.field(name).type) for name in ("key", "input_modified", "loss_total", "work_width")}
    assert kinds == {"key": "string", "input_modified": "int64", "loss_total": "double", "work_width": "int64"}
    assert ours[1]["input_modified"] == FULL.input_modified  # a float64 would round it


def test_content_is_on_the_disk_before_its_name(output, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("sync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(os.path.basename(new)) or replace(old, new))
    written(output, "csv")
    assert calls == ["sync", "rows.csv", "sync"]


def test_a_spreadsheet_finds_no_formula(output):
    begun = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "'")
    keys = [f"{begin}cmd.jpg" for begin in begun]
    (output / "manifest-1-of-2.jsonl").write_text(lines(*(Row(key, "failed", judgement={"=x": -1.5}) for key in keys)))
    with written(output, "csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert [row[0] for row in rows[:-1]] == [f"'{key}" for key in keys]
    assert all(not one.startswith(begun[:-1]) for row in (head, *rows) for one in row if one != "-1.5")
    assert rows[0][head.index("judgement_=x")] == "-1.5"  # a number is one


def test_names_that_are_not_utf8_are_escaped_in_csv_and_parquet(output):
    (output / "manifest-2-of-2.jsonl").write_text(lines(Row("caf\udce9.jpg", "failed")))
    assert records(written(output, "csv"))[-1]["key"] == r"caf\xe9.jpg"
    assert json.loads(written(output, "jsonl").read_text().splitlines()[-1])["key"] == "caf\udce9.jpg"
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow (the extra parquet) is not installed")
    assert parquet.read_table(written(output, "parquet"))["key"].to_pylist()[-1] == r"caf\xe9.jpg"


def test_without_a_file_csv_goes_to_the_standard_output_and_lines_that_are_no_rows_are_told(output, capfd):
    with (output / "manifest-1-of-2.jsonl").open("a") as file:
        file.write("not a row\n")
    assert run("manifest", output) == 3
    told = capfd.readouterr()
    assert [row["key"] for row in csv.DictReader(io.StringIO(told.out, newline=""))] == [f"'{ODD}", FULL.key]
    assert "2 rows, 1 lines that are no rows left out: standard output" in told.err


@pytest.mark.parametrize(
    ("target", "format", "message"),
    [
        ("manifest.jsonl", "jsonl", "would lie in the output folder"),
        ("sub/../rows.csv", "csv", "would lie in the output folder"),
        ("../photo.jpg", "csv", r"photo.jpg is csv and is not called so. End its name in .csv."),
        ("../none/rows.csv", "csv", "none does not exist"),
        ("../folder.csv", "csv", "is no file"),
        (None, "parquet", "does not go to the standard output"),
    ],
)
def test_targets_that_would_harm_something_are_refused(output, target, format, message):
    (output / "sub").mkdir()
    (output.parent / "folder.csv").mkdir()
    before = {path: path.read_bytes() for path in output.glob("*.jsonl")}
    with pytest.raises(InputError, match=message):
        table.write(output, None if target is None else output / target, format)
    assert before == {path: path.read_bytes() for path in output.glob("*.jsonl")}


def test_parquet_without_pyarrow_names_the_extra(output, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="extra 'parquet'"):
        table.write(output, output.parent / "rows.parquet", "parquet")
    assert not (output.parent / "rows.parquet").exists()


def test_a_folder_of_none_of_our_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="not an output folder"):
        table.write(tmp_path, None, "csv")


def test_rows_with_ever_new_names_are_refused(output):
    named = {f"x{n}": 1.0 for n in range(table.MOST_NAMES + 1)}
    (output / "manifest-1-of-2.jsonl").write_text(lines(Row("a", "done", loss=named)))
    with pytest.raises(InputError, match="more than 1000 names"):
        table.write(output, output.parent / "rows.csv", "csv")


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_rows(output, format):
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow (the extra parquet) is not installed")
    count, text = 600, json.dumps(FULL.as_json())
    with (output / "manifest-1-of-2.jsonl").open("w") as file:
        for n in range(count):
            file.write(text.replace("sub/a.jpg", f"{n}.jpg") + "\n")
    table.write(output, output.parent / f"few.{format}", format)  # imports
    table.BLOCK, before = 64, table.BLOCK
    try:
        tracemalloc.start()
        made = table.write(output, output.parent / f"rows.{format}", format)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        table.BLOCK = before
    assert made.rows == count + 1
    assert peak < 600_000  # bytes; the rows themselves would take 1.6 million
