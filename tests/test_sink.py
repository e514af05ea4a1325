"""A file under its final name is whole, whatever fails; the output folder is checked before anything is computed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstyle.data import sink
from jaxstyle.errors import InputError, StorageError

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
    sink.publish(tmp_path / "deep" / "er" / "a.png", data)
    assert (tmp_path / "deep/er/a.png").read_bytes() == data
    assert files(tmp_path) == ["deep/er/a.png"]


def test_publish_takes_the_place_of_an_old_file(target):
    sink.publish(target, NEW)
    assert target.read_bytes() == NEW and files(target.parent) == ["a.png"]


def test_a_name_that_is_not_utf8_or_long_can_be_published(tmp_path):
    for name in (os.fsdecode(b"caf\xe9.png"), "x" * 251 + ".png"):
        sink.publish(tmp_path / name, NEW)
        assert (tmp_path / name).read_bytes() == NEW


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(target, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        calls.append(("fsync folder" if path.is_dir() else "fsync file", path, path.is_file() and path.read_bytes()))
        fsync(handle)

    def record_replace(source, destination):
        calls.append(("rename", Path(source), Path(destination)))
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    sink.publish(target, NEW)
    temporary = calls[0][1]
    assert calls == [
        ("fsync file", temporary, NEW),
        ("rename", temporary, target),
        ("fsync folder", target.parent, False),
    ]
    assert temporary.parent == target.parent and temporary.name.startswith(sink.TEMPORARY)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_says_what_and_why(target, monkeypatch, function):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(StorageError, match=r"a\.png cannot be written \(No space left on device\)") as caught:
        sink.publish(target, NEW)
    assert caught.value.exit_code == 5 and caught.value.remedy
    assert target.read_bytes() == OLD and files(target.parent) == ["a.png"]


def test_a_write_cut_short_by_the_system_keeps_the_old_file(target):
    script = """
import resource, signal, sys
from pathlib import Path
from jaxstyle.data.sink import publish
from jaxstyle.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    publish(Path(sys.argv[1]), bytes(100_000))
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
        sink.publish(path, NEW)
    assert files(target.parents[1]) == ["sub/a.png"] and target.read_bytes() == OLD


def test_an_error_about_an_undecodable_name_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.mkdir()
    for function in (lambda: sink.publish(path, NEW), lambda: sink.prepare(path, [path])):
        with pytest.raises((StorageError, InputError)) as caught:
            function()
        assert "caf\\xe9" in str(caught.value)


@pytest.mark.parametrize(
    ("output", "given"),
    [
        ("in", "in"),
        ("in/out", "in"),
        ("in/sub/new/out", "in"),
        (".", "in"),
        ("in/../in", "in"),
        ("link", "in"),
        ("in", "link"),
        ("link/out", "in"),
        ("in", "in/a.jpg"),
        ("link", "in/a.jpg"),
        ("in", "in/elsewhere.jpg"),
        ("other", "in/elsewhere.jpg"),
    ],
)
def test_an_output_among_the_inputs_is_refused_and_nothing_is_made(tmp_path, monkeypatch, output, given):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(OLD)
    (tmp_path / "other/b.jpg").write_bytes(OLD)
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "in/elsewhere.jpg").symlink_to("../other/b.jpg")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="overlaps the input"):
        sink.prepare(Path(output), [tmp_path / "other/absent", tmp_path / given])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("given", ["in", "in/a.jpg", "in-put"])
def test_an_output_beside_the_inputs_is_made(tmp_path, given):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(OLD)
    (tmp_path / "in-put").mkdir()
    output = tmp_path / "in-put-out" / "deep"
    sink.prepare(output, [tmp_path / given])
    assert output.is_dir() and files(output) == []


def test_a_single_file_may_be_rendered_into_a_folder_beside_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(OLD)
    sink.prepare(tmp_path / "out", [tmp_path / "a.jpg"])
    assert (tmp_path / "out").is_dir() and (tmp_path / "a.jpg").read_bytes() == OLD


def test_unfinished_files_are_swept_and_others_kept(tmp_path):
    (tmp_path / "out/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png", ".other", f"{sink.TEMPORARY}1", f"sub/{sink.TEMPORARY}99999"):
        (tmp_path / "out" / name).write_bytes(OLD)
    sink.prepare(tmp_path / "out", [])
    assert files(tmp_path / "out") == [".other", "a.png", "sub/b.png"]


@pytest.mark.parametrize("function", ["mkdir", "write_bytes", "unlink"])
def test_an_output_that_cannot_be_written_is_a_storage_error(tmp_path, monkeypatch, function):
    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))  # as for a user without permission

    monkeypatch.setattr(Path, function, refuse)
    with pytest.raises(StorageError, match=r"out cannot be written \(Read-only file system\)"):
        sink.prepare(tmp_path / "out", [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_a_storage_error(tmp_path):
    output = tmp_path / "out"
    output.mkdir(mode=0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        sink.prepare(output, [])


def test_an_output_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "out").write_bytes(OLD)
    with pytest.raises(StorageError, match="out cannot be written"):
        sink.prepare(tmp_path / "out", [])
