"""A file under its final name is whole, whatever fails; the output folder is checked before anything is computed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxstyle.data.folder import LEAST_FREE, Folder, sync
from jaxstyle.data.layout import TEMPORARY, UNFINISHED
from jaxstyle.data.sinks import folders as sink
from jaxstyle.data.writing import write_file, writing
from jaxstyle.errors import StorageError

OLD, NEW = b"old content", b"new content, which is longer"


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "out" / "sub" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(OLD)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_publish_makes_folders_and_leaves_the_whole_file_and_nothing_else(tmp_path):
    data = os.urandom(3_000_000)
    write_file(tmp_path / "deep" / "er" / "a.png", data)
    assert (tmp_path / "deep/er/a.png").read_bytes() == data
    assert files(tmp_path) == ["deep/er/a.png"]


def test_publish_takes_the_place_of_an_old_file(target):
    write_file(target, NEW)
    assert target.read_bytes() == NEW and files(target.parent) == ["a.png"]


def test_a_name_that_is_not_utf8_or_long_can_be_published(tmp_path):
    for name in (os.fsdecode(b"caf\xe9.png"), "x" * 251 + ".png"):
        write_file(tmp_path / name, NEW)
        assert (tmp_path / name).read_bytes() == NEW


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(target, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        calls.append(("fsync folder" if path.is_dir() else "fsync file", path, path.is_file() and path.read_bytes()))
        fsync(handle)

    def record_replace(source, destination, *, src_dir_fd, dst_dir_fd):
        old, new = (Path(os.readlink(f"/proc/self/fd/{at}")) for at in (src_dir_fd, dst_dir_fd))
        calls.append(("rename", old / source, new / destination))
        replace(source, destination, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_file(target, NEW)
    temporary = calls[0][1]
    assert calls == [
        ("fsync file", temporary, NEW),
        ("rename", temporary, target),
        ("fsync folder", target.parent, False),
    ]
    assert temporary.parent == target.parent and temporary.name.startswith(TEMPORARY)


def test_a_file_can_be_written_piece_by_piece(target):
    with writing(target) as file:
        file.write(NEW[:4])
        file.write(NEW[4:])
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW and files(target.parent) == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing(target, error):
    with pytest.raises(error), writing(target) as file:
        file.write(NEW)
        raise error
    assert target.read_bytes() == OLD and files(target.parent) == ["a.png"]


def test_a_folder_that_may_not_be_synced_is_no_error_and_a_broken_one_is(target, monkeypatch):
    answers = [errno.EINVAL, errno.ENOTSUP, errno.EIO]

    def refuse(_):
        number = answers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    folder = Folder(target.parent)
    folder.sync()
    sync(folder.handle, folder)
    with pytest.raises(StorageError, match="sub cannot be synced"):
        folder.sync()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_says_what_and_why(target, monkeypatch, function):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(StorageError, match=r"a\.png cannot be written \(No space left on device\)") as caught:
        write_file(target, NEW)
    assert caught.value.exit_code == 5 and caught.value.remedy
    assert target.read_bytes() == OLD and files(target.parent) == ["a.png"]


def test_a_write_cut_short_by_the_system_keeps_the_old_file(target):
    script = """
import resource, signal, sys
from pathlib import Path
from jaxstyle.data.writing import write_file
from jaxstyle.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), bytes(100_000))
except StorageError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True)
    assert "File too large" in run.stdout
    assert target.read_bytes() == OLD and files(target.parent) == ["a.png"]


@pytest.mark.parametrize("obstacle", ["file as folder", "folder as file"])
def test_an_obstacle_in_the_way_is_a_storage_error(target, obstacle):
    path = target / "b.png" if obstacle == "file as folder" else target.parent
    with pytest.raises(StorageError):
        write_file(path, NEW)
    assert files(target.parents[1]) == ["sub/a.png"] and target.read_bytes() == OLD


def test_an_error_about_an_undecodable_name_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.mkdir()
    with pytest.raises(StorageError, match=r"caf\\xe9"):
        write_file(path, NEW)


LEFT = ["", "2-of-8-", "12-of-80-"]  # names of unfinished files of whole runs, and of shards, go on so


@pytest.fixture
def swept(tmp_path):
    """An output folder with what killed runs left, in it and in the folder for unfinished outputs."""
    (tmp_path / "out/sub").mkdir(parents=True)
    (tmp_path / "out" / UNFINISHED).mkdir()
    left = [f"{folder}{TEMPORARY}{part}99-ab-1" for part in LEFT for folder in ("", f"{UNFINISHED}/")]
    for name in ("a.png", "sub/b.png", ".other", *left):
        (tmp_path / "out" / name).write_bytes(OLD)
    return tmp_path / "out"


def test_unfinished_files_are_swept_and_others_kept(swept):
    assert sink.sweep(swept) == 2 * len(LEFT)
    assert files(swept) == [".other", "a.png", "sub/b.png"]
    assert sink.sweep(swept) == 0


def test_a_shard_sweeps_its_own_unfinished_files_only(swept):
    before = files(swept)
    assert sink.sweep(swept, "2-of-8-") == 2
    assert files(swept) == [name for name in before if f"{TEMPORARY}2-of-8-" not in name]


def test_a_file_that_is_being_written_is_not_swept(target):
    with writing(target) as file:
        file.write(NEW)
        assert sink.sweep(target.parent) == 0
    assert target.read_bytes() == NEW


def test_preparing_sweeps_nothing(swept):
    before = files(swept)
    sink.make_output_folder(swept)
    assert files(swept) == before


def test_a_writable_place_is_found_so_without_writing(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    sink.check_writable(tmp_path)
    sink.check_writable(tmp_path / "new" / "deep" / "out")
    assert not list(tmp_path.iterdir()) and tmp_path.stat().st_mtime_ns == before


def test_a_place_without_permission_or_room_is_a_storage_error(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(Path(path)))
    with pytest.raises(StorageError, match=r"cannot be written \(Permission denied\)"):
        sink.check_writable(tmp_path / "new" / "out")
    assert asked == [tmp_path]  # the folder that is there
    monkeypatch.undo()
    monkeypatch.setattr(sink.shutil, "disk_usage", lambda _: SimpleNamespace(free=LEAST_FREE - 1))
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "manifest.jsonl").touch()
    sink.check_writable(tmp_path / "finished")  # which may need no room
    with pytest.raises(StorageError, match=r"has 65,535 bytes free") as caught:
        sink.check_writable(tmp_path)
    assert caught.value.exit_code == 5 and caught.value.remedy


def test_names_that_differ_in_case_are_told_apart_where_the_file_system_does(tmp_path):
    (tmp_path / "Probe").touch()
    differs = not (tmp_path / "pROBE").exists()
    folder = tmp_path / "Folder"
    folder.mkdir()
    assert sink.tells_case_apart(folder) == sink.tells_case_apart(folder / "new" / "1") == differs
    assert files(tmp_path) == ["Probe"]


@pytest.mark.parametrize("same", [False, True])
def test_where_both_cases_are_there_it_counts_whether_they_are_one(tmp_path, monkeypatch, same):
    (tmp_path / "Folder").mkdir()
    (tmp_path / "fOLDER").mkdir(exist_ok=True)
    monkeypatch.setattr(Path, "samefile", lambda self, other: same)  # as a file system that folds, or does not
    assert sink.tells_case_apart(tmp_path / "Folder" / "new") is not same


def test_a_folder_that_may_not_be_looked_at_leaves_the_question_to_its_parent(tmp_path, monkeypatch):
    inner = tmp_path / "Outer" / "Inner"
    inner.mkdir(parents=True)
    looked_at = []

    def samefile(self, other):
        looked_at.append(self.name)
        if self.name == "iNNER":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return True

    monkeypatch.setattr(Path, "samefile", samefile)
    assert sink.tells_case_apart(inner) is False and looked_at == ["iNNER", "oUTER"]


def test_an_output_that_cannot_be_made_is_a_storage_error(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))  # as for a user without permission

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"out cannot be written \(Read-only file system\)"):
        sink.make_output_folder(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_a_storage_error(tmp_path):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        sink.check_writable(tmp_path / "out")


def test_an_output_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "out").write_bytes(OLD)
    with pytest.raises(StorageError, match="out cannot be written"):
        sink.make_output_folder(tmp_path / "out")
