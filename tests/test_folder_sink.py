"""A folder as a sink: outputs are whole and durable, and what killed runs left is found without walking the tree."""

import errno
import os
from pathlib import Path

import pytest

from jaxstyle.data.layout import TEMPORARY, UNFINISHED
from jaxstyle.data.sinks import SINKS
from jaxstyle.data.sinks.folders import FolderSink, drop_unfinished
from jaxstyle.errors import StorageError


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def where(handle):
    return Path(os.readlink(f"/proc/self/fd/{handle}"))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_output_is_written_found_and_withdrawn(out):
    sink = FolderSink(out)
    assert not sink.has("sub/a.png")
    sink.write("sub/a.png", b"one")
    sink.write("sub/a.png", b"another")
    assert sink.has("sub/a.png") and (out / "sub/a.png").read_bytes() == b"another" and files(out) == ["sub/a.png"]
    sink.withdraw("sub/a.png")
    sink.withdraw("sub/a.png")
    assert not sink.has("sub/a.png") and files(out) == []


def test_a_folder_is_no_output(out):
    (out / "a.png").mkdir()
    assert not FolderSink(out).has("a.png")


@pytest.mark.parametrize(("part", "prefix"), [((1, 1), ""), ((2, 8), "2-of-8-")])
def test_an_unfinished_output_lies_in_one_folder_under_the_name_of_its_shard(out, monkeypatch, part, prefix):
    moved, replace = [], os.replace

    def record(old, new, *, src_dir_fd, dst_dir_fd):
        moved.append((where(src_dir_fd) / old, where(dst_dir_fd) / new))
        replace(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", record)
    FolderSink(out, part).write("deep/er/a.png", b"data")
    (old, new) = moved[0]
    assert new == out / "deep/er/a.png" and old.parent == out / UNFINISHED
    assert old.name.startswith(TEMPORARY + prefix) and old.name[len(TEMPORARY + prefix)].isdigit()


def test_the_file_is_synced_at_once_and_its_folder_when_it_is_committed(out, monkeypatch):
    synced, fsync = [], os.fsync
    sink = FolderSink(out)
    sink.write("first/0.png", b"")  # makes the folders
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(where(handle)) or fsync(handle))
    for key in ("first/a.png", "first/b.png"):
        sink.write(key, b"data")
    assert len(synced) == 2 and {path.parent for path in synced} == {out / UNFINISHED}
    sink.commit(["first/a.png", "first/b.png", "first/0.png"])
    assert synced[2:] == [out / "first"]  # once


def test_an_output_on_another_file_system_is_written_beside_its_place(out, monkeypatch):
    replace, tried = os.replace, []

    def other_device(old, new, *, src_dir_fd, dst_dir_fd):
        tried.append(where(src_dir_fd))
        if where(src_dir_fd) != where(dst_dir_fd):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "replace", other_device)
    sink = FolderSink(out)
    sink.write("sub/a.png", b"one")
    sink.write("sub/b.png", b"two")
    assert tried == [out / UNFINISHED, out / "sub", out / "sub"]  # the second goes there at once
    assert files(out) == ["sub/a.png", "sub/b.png"]


def test_a_refusal_is_a_storage_error(out, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"a\.png cannot be written \(No space left on device\)"):
        FolderSink(out).write("a.png", b"data")
    assert files(out) == []


def test_sweeping_lists_two_folders_whatever_the_tree(out, monkeypatch):
    FolderSink(out).write("one/two/three.png", b"data")
    for folder in (out, out / UNFINISHED):
        for prefix in ("", "2-of-8-"):
            (folder / f"{TEMPORARY}{prefix}99-ab-1").write_bytes(b"half")
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda handle: listed.append(where(handle)) or listdir(handle))
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"{path} was walked"))
    FolderSink(out, (2, 8)).sweep()
    assert listed == [out, out / UNFINISHED]
    monkeypatch.undo()
    assert len([name for name in files(out) if "-ab-" in name]) == 2
    FolderSink(out).sweep()
    assert files(out) == ["one/two/three.png"]


def test_the_folder_of_unfinished_files_goes_at_the_end_unless_a_shard_may_need_it(out):
    alone, shard = FolderSink(out), FolderSink(out, (1, 2))
    shard.write("a.png", b"data")
    shard.close()
    assert (out / UNFINISHED).is_dir()
    (out / UNFINISHED / "kept").touch()
    alone.close()
    assert (out / UNFINISHED).is_dir()
    (out / UNFINISHED / "kept").unlink()
    alone.close()
    assert not (out / UNFINISHED).exists()
    drop_unfinished(out)  # it may be gone


def test_case_is_told_by_the_file_system(out, monkeypatch):
    for differs in (True, False):
        monkeypatch.setattr("jaxstyle.data.sinks.folders.tells_case_apart", lambda path, differs=differs: differs)
        assert FolderSink(out).case_insensitive is not differs


def test_the_registry_has_the_folder():
    assert SINKS["folders"] is FolderSink


def test_a_link_or_a_file_in_the_place_of_the_folder_of_unfinished_files_is_refused(out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    theirs = elsewhere / f"{TEMPORARY}theirs"
    theirs.touch()
    (out / UNFINISHED).symlink_to(elsewhere)
    with pytest.raises(StorageError, match=r"cannot be listed \(Is a symbolic link\)"):
        FolderSink(out).sweep()
    assert theirs.exists()
    (out / UNFINISHED).unlink()
    (out / UNFINISHED).touch()
    with pytest.raises(StorageError, match="cannot be listed"):
        FolderSink(out).sweep()
