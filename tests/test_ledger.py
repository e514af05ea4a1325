"""The compact ledger answers as a dict of all rows would, in few bytes; compacting shards' ledgers loses nothing."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.data import ledger
from jaxstyle.data.layout import MANIFEST, TEMPORARY, ledger_name
from jaxstyle.data.ledger import Ledger, PastRow, compact
from jaxstyle.data.rows import STATUSES
from jaxstyle.errors import SettingsMismatch, StorageError

PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=60)
SHA = "0123456789abcdef" * 4
MOST_BYTES = 56
"""Of memory that a row may take."""

KEYS = ["a.jpg", "sub/a.jpg", "b.png", "größe 图.jpg", "caf\udce9.png", "new\nline\u2028.png", ""]
ROW = st.fixed_dictionaries(
    {"key": st.sampled_from(KEYS) | st.text(max_size=4), "status": st.sampled_from(STATUSES)},
    optional={
        "input_bytes": st.integers(0, 2**50),
        "input_modified": st.integers(-(2**62), 2**62),
        "input_sha256": st.sampled_from(["", SHA, "f" * 64, "00" * 32]),
        "reason": st.text(max_size=3),
    },
)


def row(key, status="done", **fields):
    return {"key": key, "status": status, **fields}


def write(path, *rows):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), "ascii")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def made(*paths):
    """A ledger of these files, which lie in one folder."""
    return Ledger(paths[0].parent if paths else Path("absent"), [path.name for path in paths])


def past(one):
    """What `Ledger.get` is to say of a row."""
    checksum = int(one.get("input_sha256", "")[:16] or "0", 16)
    return PastRow(one["status"], one.get("input_bytes", 0), one.get("input_modified", 0), checksum)


def nbytes(made):
    """Of all arrays that a ledger holds."""
    held = [value for values in vars(made).values() for value in (values if isinstance(values, list) else [values])]
    return sum(value.nbytes for value in held if isinstance(value, np.ndarray))


def test_a_key_is_found_with_what_its_row_said_and_others_are_not(tmp_path):
    rows = [
        row("a.jpg", input_bytes=7, input_modified=1_700_000_000_123_456_789, input_sha256=SHA),
        row("sub/a.jpg", "failed", input_bytes=2**40),
        row("notes.txt", "skipped"),
    ]
    found = made(write(tmp_path / MANIFEST, *rows))
    assert found.get("a.jpg") == PastRow("done", 7, 1_700_000_000_123_456_789, 0x0123456789ABCDEF)
    assert found.get("sub/a.jpg") == PastRow("failed", 2**40, 0, 0)
    assert found.get("notes.txt") == PastRow("skipped", 0, 0, 0)
    assert all(found.get(key) is None for key in ("A.jpg", "a", "sub", "", "a.jpg/"))
    assert len(found) == found.rows == 3 and [found.count(status) for status in STATUSES] == [1, 1, 1]


def test_without_rows_nothing_is_found(tmp_path):
    for found in (made(), made(write(tmp_path / MANIFEST))):
        assert len(found) == found.rows == 0 and found.get("a.jpg") is None and found.count("done") == 0


def test_the_last_row_of_a_key_counts(tmp_path):
    rows = [row("a.jpg", "failed"), row("b.jpg"), row("a.jpg", "skipped"), row("a.jpg", input_bytes=5)]
    found = made(write(tmp_path / MANIFEST, *rows))
    assert found.get("a.jpg") == PastRow("done", 5, 0, 0)
    assert (found.rows, len(found)) == (4, 2) and [found.count(status) for status in STATUSES] == [2, 0, 0]


def test_rows_of_later_ledgers_replace_those_of_earlier_ones(tmp_path):
    one = write(tmp_path / "one", row("a.jpg", "failed"), row("b.jpg"))
    two = write(tmp_path / "two", row("a.jpg", input_bytes=2))
    assert made(one, two).get("a.jpg") == PastRow("done", 2, 0, 0)
    assert made(two, one).get("a.jpg") == PastRow("failed", 0, 0, 0)


def test_rows_of_version_0_1_are_read(tmp_path):
    old = {
        "key": "a.jpg", "status": "done", "reason": "", "style": "s.png", "seed": 0, "ended": "budget",
        "loss": {"total": 1.5}, "evaluations": 200, "seconds": 1.25, "input_bytes": 812, "input_size": [640, 480],
        "work_size": [512, 384], "output_size": [512, 384], "frames": 1, "notes": [],
    }  # fmt: skip
    found = made(write(tmp_path / MANIFEST, old, {"key": "b", "status": "failed"}))
    assert found.get("a.jpg") == PastRow("done", 812, 0, 0) and found.get("b") == PastRow("failed", 0, 0, 0)


@pytest.mark.parametrize("cut", [1, 2, 20, -2, -1])
def test_a_torn_last_line_is_left_out(tmp_path, cut):
    path = write(tmp_path / MANIFEST, row("a.jpg"), row("b.jpg", "failed"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    found = made(path)
    assert len(found) == 1 and found.get("b.jpg") is None


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[1]", b"7", b'"key"', b"null", b'{"status": "done"}', b'{"key": "a"}', b"\xff\0",
        b'{"key": [], "status": "done"}', b'{"key": "a", "status": "lost"}', b'{"key": null, "status": "done"}',
        b"[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("reader", ["Ledger", "compact"])
def test_a_line_that_is_not_a_row_is_named_and_nothing_is_changed(tmp_path, line, reader):
    path = write(tmp_path / MANIFEST, row("a.jpg"), row("a.jpg"))
    damaged = path.read_bytes() + line + b"\n" + path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(SettingsMismatch, match=rf"^line 3 of .*{MANIFEST} is not a row") as caught:
        made(path) if reader == "Ledger" else compact(tmp_path)
    assert caught.value.remedy
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(MANIFEST, damaged)]


@pytest.mark.parametrize(
    "fields",
    [
        {"input_bytes": "7"}, {"input_bytes": 1.5}, {"input_modified": None}, {"input_bytes": 2**70},
        {"input_sha256": 7}, {"input_sha256": "not hexadecimal"},
        {"input_sha256": "-f"},
    ],
)  # fmt: skip
def test_a_row_with_impossible_fields_is_named(tmp_path, fields):
    write(tmp_path / MANIFEST, row("a.jpg"), row("b.jpg", **fields))
    with pytest.raises(SettingsMismatch, match=f"line 2 of .*{MANIFEST}"):
        made(tmp_path / MANIFEST)


def test_a_ledger_that_cannot_be_read_is_a_storage_error(tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(StorageError, match=rf"{MANIFEST} cannot be read \(Is a directory\)"):
        made(tmp_path / MANIFEST)


@PROPERTY
@given(files=st.lists(st.lists(ROW, max_size=12), max_size=3))
def test_a_ledger_answers_as_a_dict_does(files):
    model = {one["key"]: past(one) for rows in files for one in rows}
    with tempfile.TemporaryDirectory() as folder:
        found = made(*[write(Path(folder, str(n)), *rows) for n, rows in enumerate(files)])
    assert {key: found.get(key) for key in [*model, *KEYS]} == {key: model.get(key) for key in [*model, *KEYS]}
    assert len(found) == len(model) and found.rows == sum(map(len, files))
    for status in STATUSES:
        assert found.count(status) == sum(one.status == status for one in model.values())


def test_a_row_takes_few_bytes_of_memory_however_long_it_is(tmp_path):
    number = 5000
    rows = [row(f"a/long/folder/name/{k:06}.jpg", input_sha256=SHA, reason="x" * 200) for k in range(number)]
    found = made(write(tmp_path / MANIFEST, *rows, *rows[:100]))
    assert len(found) == number
    assert 0 < nbytes(found) <= MOST_BYTES * number


def test_ledgers_are_the_whole_folders_and_then_the_shards(tmp_path):
    assert ledger.ledgers(tmp_path) == []
    names = [ledger_name((2, 3)), ledger_name((1, 1)), ledger_name((1, 3))]
    assert names == ["manifest-2-of-3.jsonl", MANIFEST, "manifest-1-of-3.jsonl"]
    for k, name in enumerate((*names, "manifest-old.jsonl", "settings.json")):
        write(tmp_path / name)
        os.utime(tmp_path / name, ns=(0, k * 10**9))
    assert ledger.ledgers(tmp_path) == [MANIFEST, *names[::2]]  # by when they were written


@pytest.fixture
def shards(tmp_path):
    """A folder with a manifest and the ledgers of three shards, some keys in more than one of them."""
    write(tmp_path / MANIFEST, row("a", "failed"), row("b"), row("old", "skipped"))
    write(tmp_path / "manifest-1-of-3.jsonl", row("a", "done", evaluations=1), row("c", "failed"), row("c"))
    write(tmp_path / "manifest-2-of-3.jsonl", row("caf\udce9.png"), row("new\nline"))
    write(tmp_path / "manifest-3-of-3.jsonl", row("b", "failed"), row("a", "done", evaluations=3))
    return tmp_path


COMPACTED = {
    "a": row("a", "done", evaluations=3), "b": row("b", "failed"), "c": row("c"), "caf\udce9.png": row("caf\udce9.png"),
    "new\nline": row("new\nline"), "old": row("old", "skipped"),
}  # fmt: skip


def by_key(rows):
    assert len({one["key"] for one in rows}) == len(rows)
    return {one["key"]: one for one in rows}


def test_compacting_leaves_one_manifest_with_the_last_row_of_every_key(shards):
    compact(shards)
    assert by_key(read(shards / MANIFEST)) == COMPACTED
    assert [path.name for path in shards.iterdir()] == [MANIFEST]


def test_compacting_twice_rewrites_nothing(shards):
    compact(shards)
    before = (shards / MANIFEST).stat()
    compact(shards)
    after = (shards / MANIFEST).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_compacting_an_empty_folder_makes_nothing(tmp_path):
    compact(tmp_path)
    assert not list(tmp_path.iterdir())


def test_compacting_a_single_shard_makes_the_manifest(tmp_path):
    write(tmp_path / "manifest-2-of-2.jsonl", row("a"), row("b"))
    compact(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert by_key(read(tmp_path / MANIFEST)) == {"a": row("a"), "b": row("b")}


def test_compacting_keeps_the_bytes_of_a_row(tmp_path):
    line = b'{"status":"done",  "key":"a", "of a later version": [1, 2.50]}\n'
    (tmp_path / "manifest-1-of-2.jsonl").write_bytes(line)
    compact(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == line


def test_compacting_drops_a_torn_last_line_and_no_other(shards):
    with (shards / "manifest-3-of-3.jsonl").open("a") as file:  # which stays the last one to be written to
        file.write('{"key": "torn", "status"')
    compact(shards)
    assert by_key(read(shards / MANIFEST)) == COMPACTED


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_between_writing_the_manifest_and_removing_the_shards_loses_nothing(shards, monkeypatch, removed):
    unlink, left = os.unlink, [removed]

    def killed(name, **options):
        if not name.startswith(TEMPORARY):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        unlink(name, **options)

    before = Ledger(shards, ledger.ledgers(shards))
    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(shards)
    monkeypatch.undo()
    assert len(list(shards.glob("manifest-*-of-*.jsonl"))) == 3 - removed
    between = Ledger(shards, ledger.ledgers(shards))
    assert {key: between.get(key) for key in COMPACTED} == {key: before.get(key) for key in COMPACTED}
    compact(shards)
    assert by_key(read(shards / MANIFEST)) == COMPACTED and [path.name for path in shards.iterdir()] == [MANIFEST]


def test_a_kill_before_the_manifest_is_in_place_loses_nothing(shards, monkeypatch):
    before = {path.name: path.read_bytes() for path in shards.iterdir()}

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(shards)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before
    compact(shards)
    assert by_key(read(shards / MANIFEST)) == COMPACTED


def test_shards_that_cannot_be_removed_are_a_storage_error_and_the_rows_are_kept(shards, monkeypatch):
    unlink = os.unlink

    def refuse(name, **options):
        if not name.startswith(TEMPORARY):
            raise PermissionError(13, "Permission denied")
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StorageError, match=r"manifest-1-of-3\.jsonl cannot be removed \(Permission denied\)"):
        compact(shards)
    assert by_key(read(shards / MANIFEST)) == COMPACTED


@PROPERTY
@given(files=st.lists(st.lists(ROW, max_size=8), min_size=1, max_size=4))
def test_compacting_is_as_updating_a_dict(files):
    model = {one["key"]: one for rows in files for one in rows}
    with tempfile.TemporaryDirectory() as folder:
        names = [MANIFEST, *(ledger_name((n, len(files))) for n in range(1, len(files)))]
        for name, rows in zip(names, files, strict=True):
            write(Path(folder, name), *rows)
        compact(Path(folder))
        assert by_key(read(Path(folder, MANIFEST))) == model


# the order of rows ----------------------------------------------------------------------------------------------------


def test_of_two_ledgers_the_row_of_the_later_run_counts_whatever_their_times(tmp_path):
    """A clock that was set back, or a copy of the folder, changes the times of ledgers."""
    old = write(tmp_path / "manifest-2-of-2.jsonl", row("a", "failed", run=3), row("b", run=3))
    new = write(tmp_path / "manifest-1-of-3.jsonl", row("a", "done", run=4, input_bytes=9))
    for times in ((2, 1), (1, 2)):
        for path, at in zip((old, new), times, strict=True):
            os.utime(path, ns=(0, at * 10**9))
        found = Ledger(tmp_path, ledger.ledgers(tmp_path))
        assert found.get("a") == PastRow("done", 9, 0, 0) and found.get("b").status == "done"
        assert found.latest_run == 4 and [found.count(status) for status in STATUSES] == [2, 0, 0]
    compact(tmp_path)
    assert by_key(read(tmp_path / MANIFEST))["a"]["run"] == 4


def test_rows_without_a_number_come_first_unless_an_older_version_appended_them_later(tmp_path):
    write(tmp_path / MANIFEST, row("a", run=2), row("b", "failed", run=1), row("b", "skipped"), row("c", run=5))
    write(tmp_path / "manifest-1-of-2.jsonl", row("a", "failed"), row("d", "failed"))
    found = Ledger(tmp_path, ledger.ledgers(tmp_path))
    assert {key: found.get(key).status for key in "abcd"} == {"a": "done", "b": "skipped", "c": "done", "d": "failed"}


def test_within_one_ledger_the_number_counts_before_the_place(tmp_path):
    found = made(write(tmp_path / MANIFEST, row("a", run=2), row("a", "failed", run=1), row("a", "skipped", run=1)))
    assert found.get("a").status == "done"


@pytest.mark.parametrize("number", [-1, 2**31 - 1, 1.0, "1", None, True])
def test_an_impossible_number_of_a_run_is_named(tmp_path, number):
    with pytest.raises(SettingsMismatch, match="its run is not valid"):
        made(write(tmp_path / MANIFEST, row("a", run=number)))


# lines that are no rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n", b"\n\n\n"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_blank_lines_which_an_editor_leaves_are_no_damage(tmp_path, blank, at):
    path = write(tmp_path / MANIFEST, row("a"), row("a", "failed"))
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:at], blank, *whole[at:]]))
    assert made(path).get("a").status == "failed" and made(path).rows == 2
    compact(tmp_path)
    assert read(path) == [row("a", "failed")]


def test_a_line_without_end_takes_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LONGEST_LINE", 200)
    path = write(tmp_path / MANIFEST, row("a"))
    path.write_bytes(path.read_bytes() + b"x" * 10_000 + b"\n" + path.read_bytes())
    with path.open("rb") as file:
        assert [len(line) for line in ledger.raw_lines(file)] == [31, 101, 31]
    with pytest.raises(SettingsMismatch, match="line 2 of"):
        made(path)
    path.write_bytes(write(path, row("a")).read_bytes() + b"\0" * 10_000)  # a torn line, which a power loss leaves
    assert made(path).rows == 1
