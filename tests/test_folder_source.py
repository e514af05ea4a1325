"""Files and folders as a source: it checks its inputs, lists them, opens them, and says whether they have changed."""

import os
from pathlib import Path

import pytest

from jaxstyle.data.sources import SOURCES
from jaxstyle.data.sources.folders import FolderSource, refuse_overlap
from jaxstyle.errors import InputError

OLD = b"old content"


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
        refuse_overlap(Path(output), [tmp_path / "other/absent", tmp_path / given])
    with pytest.raises(InputError, match="overlaps the input"):
        FolderSource([tmp_path / given]).check(Path(output))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("given", ["in", "in/a.jpg", "in-put"])
def test_an_output_beside_the_inputs_is_no_overlap(tmp_path, given):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(OLD)
    (tmp_path / "in-put").mkdir()
    (tmp_path / "in-put/b.jpg").write_bytes(OLD)
    output = tmp_path / "in-put-out" / "deep"
    before = sorted(tmp_path.rglob("*"))
    FolderSource([tmp_path / given]).check(output)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_single_file_may_be_rendered_into_a_folder_beside_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(OLD)
    FolderSource([tmp_path / "a.jpg"]).check(tmp_path / "out")


def test_an_overlap_of_an_undecodable_name_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.mkdir()
    with pytest.raises(InputError, match=r"caf\\xe9"):
        FolderSource([path]).check(path)


def test_no_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no input"):
        FolderSource([]).check(tmp_path / "out")


def test_a_check_lists_the_first_folder_only(tmp_path, monkeypatch):
    for name in ("in/a.jpg", "in/sub/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(OLD)
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    FolderSource([tmp_path / "in"]).check(tmp_path / "out")
    assert listed == ["in"]


def test_an_input_can_be_opened_and_its_stamp_changes_with_it(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(OLD)
    source = FolderSource([tmp_path])
    (one,) = source.inputs()
    assert (one.key, one.locator) == ("a.jpg", path)
    with source.open(one.locator) as file:
        assert file.read() == OLD
    before = source.stamp(one.locator)
    assert before == (len(OLD), path.stat().st_mtime_ns)
    os.utime(path, ns=(1, 1))
    assert source.stamp(one.locator) == (len(OLD), 1)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source.stamp(one.locator)


def test_the_registry_has_the_folders():
    assert SOURCES["folders"] is FolderSource and isinstance(SOURCES["folders"]([]), FolderSource)


def test_an_input_is_opened_behind_a_link_and_not_waited_for_as_a_pipe(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(OLD)
    (tmp_path / "link.jpg").symlink_to(path)
    os.mkfifo(tmp_path / "pipe.jpg")
    source = FolderSource([tmp_path])
    with source.open(tmp_path / "link.jpg") as file:
        assert file.read() == OLD
    with pytest.raises(OSError, match="Not a regular file"):
        source.open(tmp_path / "pipe.jpg")
