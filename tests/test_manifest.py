"""The manifest keeps every row that was appended, through kills, and takes in those of shards."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import MANIFEST, ledger_name
from jaxstyle.data.ledger import PastRow, forget
from jaxstyle.data.manifest import Manifest
from jaxstyle.data.rows import STATUSES, Row
from jaxstyle.errors import SettingsMismatch, StorageError

DONE = Row(
    "sub/a.jpg", "done", style="s.png", seed=7, ended="budget", loss={"content": 1.5, "total": 2.25}, evaluations=200,
    seconds=1.25, start_loss=9.5, input_bytes=812, input_modified=1_700_000_000_123_456_789, input_sha256="ab" * 32,
    input_size=(640, 480), work_size=(512, 384), output_size=(512, 384), output_bytes=4321, output_sha256="cd" * 32,
    frames=3, notes=("first of 3",),
)  # fmt: skip
SKIPPED = Row("notes.txt", "skipped", "not a picture")
FAILED = Row("b.jpg", "failed", "cannot be decoded")


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / MANIFEST).read_text("ascii").splitlines()]


def reloaded(output: Path) -> dict[str, dict]:
    """The rows by key, after a run that had nothing to do."""
    Manifest(output).close()
    rows = lines(output)
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


@pytest.fixture
def written(tmp_path):
    """An output folder with three rows."""
    manifest = Manifest(tmp_path)
    manifest.append(DONE)
    manifest.append(SKIPPED, FAILED)
    manifest.close()
    return tmp_path


def test_rows_come_back_as_they_were(written):
    rows = reloaded(written)
    assert list(rows) == ["sub/a.jpg", "notes.txt", "b.jpg"]
    assert rows["sub/a.jpg"] == {
        "key": "sub/a.jpg", "status": "done", "reason": "", "image": "", "style": "s.png",
        "style_sha256": "", "style_bytes": 0, "style_modified": 0, "masks_sha256": "", "seed": 7, "ended": "budget",
        "loss": {"content": 1.5, "total": 2.25}, "evaluations": 200, "precision": "", "seconds": 1.25,
        "start_loss": 9.5,
        "input_bytes": 812, "input_modified": 1_700_000_000_123_456_789, "input_sha256": "ab" * 32,
        "input_size": [640, 480], "work_size": [512, 384], "output_size": [512, 384],
        "output_bytes": 4321, "output_sha256": "cd" * 32, "frames": 3, "notes": ["first of 3"], "run": 1,
        "batch": 0, "judgement": {}, "occupancy": 0.0, "lane_seconds": 0.0, "curve": {},
    }  # fmt: skip
    assert rows["b.jpg"]["reason"] == "cannot be decoded"


def test_a_later_run_knows_of_a_row_what_decides_whether_it_is_done_with(written):
    manifest = Manifest(written)
    assert manifest.before.get("sub/a.jpg") == PastRow("done", 812, 1_700_000_000_123_456_789, 0xABABABABABABABAB)
    assert manifest.before.get("b.jpg") == PastRow("failed", 0, 0, 0)
    assert manifest.before.get("new.jpg") is None
    manifest.append(Row("new.jpg", "done"))
    assert manifest.before.get("new.jpg") is None  # only what was there before
    manifest.close()


def test_a_row_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(len(lines(tmp_path))), fsync(handle)))
    manifest = Manifest(tmp_path)
    manifest.append(DONE)
    manifest.append(SKIPPED, FAILED)
    assert synced == [0, 1, 3] and len(lines(tmp_path)) == 3  # the folder's new file, then the rows
    manifest.close()


def test_statuses_are_counted_over_all_runs_by_the_last_row_of_a_key(written):
    manifest = Manifest(written)
    assert [manifest.count(status) for status in STATUSES] == [1, 1, 1]
    manifest.append(Row("b.jpg", "done"), Row("c.jpg", "failed"))
    manifest.append(Row("notes.txt", "done"))
    assert [manifest.count(status) for status in STATUSES] == [3, 0, 1]
    manifest.close()
    manifest = Manifest(written)
    assert [manifest.count(status) for status in STATUSES] == [3, 0, 1]
    manifest.close()


def test_closing_leaves_one_row_a_key_and_the_last_one_wins(written):
    manifest = Manifest(written)
    manifest.append(Row("b.jpg", "done", evaluations=9))
    assert len(lines(written)) == 4
    manifest.close()
    assert [(row["key"], row["status"]) for row in lines(written)] == [
        ("sub/a.jpg", "done"), ("notes.txt", "skipped"), ("b.jpg", "done"),
    ]  # fmt: skip
    assert reloaded(written)["b.jpg"]["evaluations"] == 9
    assert [path.name for path in written.iterdir()] == [MANIFEST]


def test_without_closing_the_last_row_wins_too(written):
    with (written / MANIFEST).open("a") as file:
        file.write(json.dumps({"key": "b.jpg", "status": "done"}) + "\n")
    assert reloaded(written)["b.jpg"]["status"] == "done"
    assert len(lines(written)) == 3


def test_a_manifest_of_one_row_a_key_is_not_rewritten(written):
    before = (written / MANIFEST).stat().st_ino
    reloaded(written)
    assert (written / MANIFEST).stat().st_ino == before


def test_a_fresh_manifest_forgets(written):
    forget(written)
    manifest = Manifest(written)
    assert len(manifest.before) == 0 and manifest.count("done") == 0
    manifest.append(FAILED)
    manifest.close()
    assert [row["key"] for row in lines(written)] == ["b.jpg"]


def test_what_was_forgotten_stays_so_after_a_power_loss(written, monkeypatch):
    synced = []
    monkeypatch.setattr(Folder, "sync", lambda folder: synced.append(folder.names()))
    forget(written)
    assert synced == [[]]


def test_a_fresh_manifest_forgets_the_shards_too(written):
    shard(written, (1, 2), Row("c.jpg", "done"))
    forget(written)
    Manifest(written).close()
    assert [path.name for path in written.iterdir()] == [MANIFEST] and lines(written) == []


def shard(output: Path, part: tuple[int, int], *rows: Row) -> None:
    manifest = Manifest(output, part)
    manifest.append(*rows)
    manifest.close()


def test_a_shard_writes_a_ledger_of_its_own_and_knows_all_rows_of_the_folder(written):
    before = (written / MANIFEST).read_bytes()
    shard(written, (1, 2), Row("c.jpg", "done"))
    manifest = Manifest(written, (2, 2))
    assert manifest.before.get("c.jpg") == PastRow("done", 0, 0, 0) and manifest.before.get("b.jpg").status == "failed"
    manifest.append(Row("b.jpg", "done"))
    assert [manifest.count(status) for status in STATUSES] == [3, 1, 0]
    manifest.close()
    assert (written / MANIFEST).read_bytes() == before
    names = sorted(path.name for path in written.iterdir())
    assert names == ["manifest-1-of-2.jsonl", "manifest-2-of-2.jsonl", MANIFEST]


def test_a_shards_torn_last_line_is_dropped_by_itself_and_left_alone_by_others(tmp_path):
    shard(tmp_path, (1, 2), Row("a.jpg", "done"))
    path = tmp_path / "manifest-1-of-2.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "b.jpg"')
    shard(tmp_path, (2, 2), Row("c.jpg", "done"))  # the other may be writing that line just now
    assert path.read_bytes() == whole + b'{"key": "b.jpg"'
    shard(tmp_path, (1, 2), Row("d.jpg", "done"))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a.jpg", "d.jpg"]


def test_the_whole_folders_manifest_takes_in_the_shards_rows(written):
    shard(written, (1, 2), Row("b.jpg", "done"))
    shard(written, (2, 2), Row("c.jpg", "failed"))
    manifest = Manifest(written)
    assert [manifest.count(status) for status in STATUSES] == [2, 1, 1]
    manifest.close()
    rows = reloaded(written)
    assert {key: row["status"] for key, row in rows.items()} == {
        "sub/a.jpg": "done", "notes.txt": "skipped", "b.jpg": "done", "c.jpg": "failed",
    }  # fmt: skip
    assert [path.name for path in written.iterdir()] == [MANIFEST]


def test_the_later_row_counts_when_the_number_of_shards_has_changed(tmp_path):
    shard(tmp_path, (2, 2), Row("a.jpg", "failed"))  # killed: its ledger was not compacted
    shard(tmp_path, (1, 3), Row("a.jpg", "done"))
    assert reloaded(tmp_path)["a.jpg"]["status"] == "done"


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_torn_last_line_is_dropped_and_appending_goes_on(written, kept):
    whole = (written / MANIFEST).read_bytes().splitlines(keepends=True)
    length = len(whole[kept])
    for cut in {*range(1, length, 9), length - 2, length - 1}:  # the last has all but the newline
        (written / MANIFEST).write_bytes(b"".join(whole[:kept]) + whole[kept][:cut])
        manifest = Manifest(written)
        assert len(manifest.before) == kept
        manifest.append(Row("new.jpg", "done"))
        manifest.close()
        assert (written / MANIFEST).read_bytes().startswith(b"".join(whole[:kept]))
        assert [row["key"] for row in lines(written)][kept:] == ["new.jpg"]


def test_zeros_that_a_power_loss_leaves_at_the_end_are_dropped(written):
    with (written / MANIFEST).open("ab") as file:
        file.write(bytes(4096))
    manifest = Manifest(written)
    assert len(manifest.before) == 3
    manifest.append(Row("new.jpg", "done"))
    manifest.close()
    assert len(lines(written)) == 4


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"7", b'"key"', b'{"status": "done"}', b'{"key": "a"}', b"\xff\0"])
def test_a_damaged_line_is_an_error_that_names_it(written, damage):
    whole = (written / MANIFEST).read_bytes().splitlines(keepends=True)
    data = b"".join([whole[0], damage + b"\n", whole[2]])
    (written / MANIFEST).write_bytes(data)
    with pytest.raises(SettingsMismatch, match=rf"line 2 of .*{MANIFEST}") as caught:
        Manifest(written)
    assert caught.value.remedy
    assert (written / MANIFEST).read_bytes() == data  # nothing was lost


@pytest.mark.parametrize(
    "key", [os.fsdecode(b"caf\xe9.png"), "new\nline\r\x85\u2028.png", 'quo"te\\.png', "größe 图.jpg"]
)
def test_any_name_can_be_a_key(tmp_path, key):
    manifest = Manifest(tmp_path)
    manifest.append(Row(key, "failed"), SKIPPED)
    manifest.close()
    manifest = Manifest(tmp_path)
    assert manifest.before.get(key).status == "failed"
    manifest.append(Row(key, "done"))
    assert len(lines(tmp_path)) == 3
    manifest.close()  # rewrites
    assert len(lines(tmp_path)) == 2 and reloaded(tmp_path)[key]["status"] == "done"


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    manifest = Manifest(tmp_path)
    manifest.append(SKIPPED)
    monkeypatch.setattr(os, "fsync", lambda _: full())
    with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be written \(No space left on device\)"):
        manifest.append(DONE)
    assert manifest.count("done") == 0
    monkeypatch.undo()
    manifest.close()
    assert [row["key"] for row in lines(tmp_path)] == [SKIPPED.key]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "Is a directory"), (os.mkfifo, "Not a regular file"),
        (lambda path: path.symlink_to("elsewhere"), "Is a symbolic link"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", [(1, 1), (1, 2)])
def test_a_manifest_that_is_not_a_regular_file_is_a_storage_error(tmp_path, make, reason, part):
    make(tmp_path / ledger_name(part))
    with pytest.raises(StorageError, match=rf"{ledger_name(part)} cannot be read \({reason}\)"):
        Manifest(tmp_path, part)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_appears_after_the_rows_were_read_is_neither_waited_for_nor_followed(tmp_path, make):
    shard(tmp_path, (1, 2), SKIPPED)
    manifest = Manifest(tmp_path)
    make(tmp_path / MANIFEST)
    with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be written"):
        manifest.append(DONE)
    assert not (tmp_path / "elsewhere").exists()


def test_a_manifest_that_cannot_be_removed_is_a_storage_error(tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(StorageError, match=r"manifest\.jsonl cannot be removed"):
        forget(tmp_path)


def test_a_failed_rewrite_keeps_all_rows(written, monkeypatch):
    manifest = Manifest(written)
    manifest.append(Row("b.jpg", "done"))

    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError):
        manifest.close()
    assert len(lines(written)) == 4
    monkeypatch.undo()
    assert reloaded(written)["b.jpg"]["status"] == "done"


def test_a_row_that_did_not_fit_leaves_nothing_in_the_way_of_the_next(tmp_path, monkeypatch):
    manifest = Manifest(tmp_path)
    manifest.append(DONE)

    class Full:
        """A disk with room for half of what is written."""

        def __init__(self, file):
            self.file = file

        def write(self, data):
            return self.file.write(data[: len(data) // 2])

        def __getattr__(self, name):
            return getattr(self.file, name)

    whole, manifest._file = manifest._file, Full(manifest._file)
    with pytest.raises(StorageError, match="No space left"):
        manifest.append(*[Row(f"{k}.jpg", "done") for k in range(50)])
    manifest._file = whole  # there is room again
    manifest.append(FAILED)
    manifest.close()
    assert [row["key"] for row in lines(tmp_path)] == [DONE.key, FAILED.key]


def test_rows_carry_the_number_of_their_run(tmp_path):
    for n in (1, 2, 3):
        manifest = Manifest(tmp_path, (1, n))
        assert manifest.run == n
        manifest.append(Row("a.jpg", STATUSES[n - 1]))
        manifest.close()
    for n in (1, 2, 3):  # the clock says otherwise
        os.utime(tmp_path / ledger_name((1, n)), ns=(0, (9 - n) * 10**9))
    assert reloaded(tmp_path)["a.jpg"]["status"] == STATUSES[2]


def test_the_number_of_a_run_has_room_however_large_a_planted_one_is(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"key": "a", "status": "done", "run": 2**31 - 2}) + "\n")
    manifest = Manifest(tmp_path)
    manifest.append(FAILED)
    manifest.close()
    assert set(reloaded(tmp_path)) == {"a", FAILED.key}


@pytest.mark.parametrize("what", ["removed", "replaced", "truncated", "appended to", "folder moved", "folder replaced"])
def test_a_ledger_that_others_change_during_the_run_is_a_storage_error(tmp_path, what):
    out = tmp_path / "out"
    out.mkdir()
    manifest, path = Manifest(out), out / MANIFEST
    manifest.append(DONE)
    if what == "removed":
        path.unlink()
    elif what == "replaced":
        path.rename(out / "other")
        path.write_bytes((out / "other").read_bytes())
    elif what == "truncated":
        os.truncate(path, 0)
    elif what == "appended to":
        path.write_bytes(path.read_bytes() + b"{}\n")
    else:
        out.rename(tmp_path / "moved")
        if what == "folder replaced":
            out.mkdir()
    with pytest.raises(StorageError, match="during the run") as caught:
        manifest.append(FAILED)
    assert caught.value.exit_code == 5 and caught.value.remedy
    if what not in ("truncated", "appended to"):
        with pytest.raises(StorageError, match="during the run"):
            manifest.close()


def test_a_finished_run_writes_nothing(written):
    shard(written, (1, 2), Row("b.jpg", "done"))
    with (written / ledger_name((1, 2))).open("ab") as file:
        file.write(b"torn")
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    manifest = Manifest(written, (1, 2))
    manifest.close()
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


def test_a_finished_run_on_a_full_disk_leaves_the_tidying_to_the_next(written, monkeypatch):
    shard(written, (1, 2), Row("b.jpg", "done"))
    manifest = Manifest(written)
    monkeypatch.setattr(os, "fsync", lambda _: full())
    manifest.close()
    monkeypatch.undo()
    assert (written / ledger_name((1, 2))).exists() and reloaded(written)["b.jpg"]["status"] == "done"
