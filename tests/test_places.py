"""Where an output really lies: behind links, mounts and moved folders nothing of the user's is replaced; names that no
file can have cost one picture; and a folder that is moved away ends the run."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import stub
from pictures import painting, photo, save
from whole_runs import QUICK, Ear, rows

from jaxstyle.data import problems
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import TEMPORARY, UNFINISHED
from jaxstyle.data.mounts import real_places
from jaxstyle.data.sinks import folders
from jaxstyle.data.sinks.folders import FolderSink
from jaxstyle.data.sources.folders import FolderSource, refuse_overlap
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError, InputError, StorageError


@pytest.fixture
def place(tmp_path):
    """Input folders with files, and an output folder."""
    for name in ("in/a/x.png", "in/y.png", "in/deep/er/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "out").mkdir()
    return tmp_path


def sink_of(place, *protected):
    sink = FolderSink(place / "out")
    sink.begin(Folder(place / "out"), (place / "in", *protected))
    return sink


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def mounted(source, target, *options):
    target.mkdir(parents=True, exist_ok=True)
    line = ["mount", *(options or ["--bind"]), source, target]
    if subprocess.run(line, capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)  # errors of the test hold descriptors


# links ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("out/a", "in/a", "a/x.png"), ("out/a", "in/a", "a/new.png"), ("out/y.png", "in/y.png", "y.png"),
        ("out/deep/er", "in/deep/er", "deep/er/z.png"), ("out/deep", "in/deep", "deep/er/z.png"),
        ("out/y.png", "absent", "y.png"), ("out/a", "out", "a/x.png"), ("out/a", "out/a", "a/x.png"),
    ],
)  # fmt: skip
def test_no_output_is_written_or_deleted_behind_a_link(place, link, target, key):
    (place / link).parent.mkdir(exist_ok=True)
    (place / link).symlink_to(place / target)
    before, sink = contents(place / "in"), sink_of(place)
    with pytest.raises(ImageError, match="symbolic link") as caught:
        sink.write(key, b"new")
    assert str(place / link) in caught.value.what and caught.value.remedy
    sink.withdraw(key)
    assert not sink.has(key)
    assert contents(place / "in") == before and (place / link).is_symlink() and not (place / "absent").exists()
    sink.write("other.png", b"whole")
    assert (place / "out/other.png").read_bytes() == b"whole"


def test_a_link_that_takes_a_folders_place_during_the_run_is_not_followed(place):
    sink, before = sink_of(place), contents(place / "in")
    sink.write("a/x.png", b"new")
    (place / "out/a").rename(place / "out/b")
    (place / "out/a").symlink_to(place / "in/a")
    with pytest.raises(ImageError, match="Is a symbolic link"):
        sink.write("a/x.png", b"new")
    with pytest.raises(StorageError, match="out/a was moved, deleted or replaced during the run"):
        sink.commit(["a/x.png"])
    assert contents(place / "in") == before


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, 0o140644)])
def test_what_is_no_regular_file_is_not_replaced(place, make):
    make(place / "out/y.png")
    with pytest.raises(ImageError, match="there is no regular file"):
        sink_of(place).write("y.png", b"new")
    assert not (place / "out/y.png").is_file()


def test_the_folder_of_unfinished_files_is_not_followed_either(place):
    (place / "out" / UNFINISHED).symlink_to(place / "in")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        sink_of(place).write("y.png", b"new")
    assert "symbolic link" in caught.value.what and len(contents(place / "in")) == 3


def test_names_of_unfinished_files_cannot_be_foreseen_and_take_no_files_place(place, monkeypatch):
    from jaxstyle.data import writing

    name = f"{TEMPORARY}foreseen"
    monkeypatch.setattr(writing, "temporary_name", lambda part="": name)
    (place / "out" / UNFINISHED).mkdir()
    (place / "out" / UNFINISHED / name).symlink_to(place / "in/y.png")
    with pytest.raises(StorageError):
        sink_of(place).write("y.png", b"new")
    assert (place / "in/y.png").read_bytes() == b"in/y.png"
    monkeypatch.undo()
    assert len({writing.temporary_name()[-24:] for _ in range(3)}) == 3 and len(writing._own.split("-")[1]) == 16


# mounts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "given"),
    [
        ("in", "out", "in"), ("in/a", "out", "in"), (".", "view", "in"), ("in", "view", "view"),
        ("in/a", "out/a", "in"), ("in", "out", "in/y.png"),
    ],
)  # fmt: skip
def test_an_output_folder_that_is_mounted_from_the_inputs_is_refused(place, source, target, given):
    with mounted(place / source, place / target):
        output = {"view": place / "view/in/new" if source == "." else place / "in/new"}.get(target, place / "out")
        with pytest.raises(InputError, match="overlaps the input"):
            refuse_overlap(output, [place / given])
    refuse_overlap(place / "out", [place / "in"])


def test_another_file_system_below_the_output_is_no_overlap(place):
    with mounted("tmpfs", place / "out/sub", "-t", "tmpfs"):
        refuse_overlap(place / "out", [place / "in"])
        sink = sink_of(place)
        for name in ("sub/one.png", "sub/two.png", "sub/deep/three.png", "four.png"):
            sink.write(name, b"new")
        sink.commit(["sub/one.png", "sub/deep/three.png", "four.png"])
        sink.close()
        assert set(map(str, contents(place / "out"))) == {
            "sub/one.png",
            "sub/two.png",
            "sub/deep/three.png",
            "four.png",
        }


@pytest.mark.parametrize(
    ("source", "target", "key"),
    [("in/a", "out/a", "a/x.png"), ("in/deep", "out/a", "a/er/z.png"), ("in/deep/er", "out/b/c", "b/c/new.png"),
     (".", "out/a", "a/x.png")],
)  # fmt: skip
def test_an_input_folder_that_is_mounted_below_the_output_during_the_run_is_left_alone(place, source, target, key):
    sink, before = sink_of(place), contents(place / "in")
    with mounted(place / source, place / target):
        with pytest.raises(ImageError, match="its output would be written among the inputs"):
            sink.write(key, b"new")
        sink.withdraw(key)
        assert contents(place / "in") == before


def test_a_file_system_that_is_mounted_below_the_inputs_is_one_of_them(place):
    with mounted("tmpfs", place / "in/disk", "-t", "tmpfs"), mounted(place / "in/disk", place / "out/disk"):
        assert len(real_places(place / "in")) == 2
        with pytest.raises(ImageError, match="among the inputs"):
            sink_of(place).write("disk/x.png", b"new")


def test_a_folder_of_inputs_that_is_moved_to_the_outputs_is_left_alone(place):
    sink = sink_of(place)
    (place / "in").rename(place / "out/moved")
    with pytest.raises(ImageError, match="among the inputs"):
        sink.write("moved/y.png", b"new")
    assert (place / "out/moved/y.png").read_bytes() == b"in/y.png"


@pytest.mark.parametrize("how", ["link", "hard link"])
def test_an_input_whose_file_lies_at_its_output_is_not_replaced(place, how):
    original = place / "out/y.png"
    original.write_bytes(b"the original")
    (place / "in/y.png").unlink()
    (place / "in/y.png").symlink_to(original) if how == "link" else (place / "in/y.png").hardlink_to(original)
    with pytest.raises(ImageError, match="which this run reads"):
        sink_of(place).write("y.png", b"new")
    source = FolderSource([place / "in"])
    source.check(place / "out")
    [one] = [one for one in source.inputs() if one.key == "y.png"]
    assert ("link into the output folder" in one.failed) is (how == "link")
    assert original.read_bytes() == b"the original"


@pytest.mark.parametrize("file", ["style.png", "weights.h5"])
def test_a_file_that_the_run_needs_is_not_replaced(place, file):
    (place / "out" / file).write_bytes(b"kept")
    with pytest.raises(ImageError, match="which this run reads"):
        sink_of(place, place / "out" / file).write(file, b"new")
    assert (place / "out" / file).read_bytes() == b"kept"


# names ----------------------------------------------------------------------------------------------------------------

NAMES = ["x" * 256, f"{'y' * 300}/a.png", "nul\0.png", "half\ud800.png", "..", "../up.png", "a//b.png", "/root.png", ""]


@pytest.mark.parametrize("key", NAMES, ids=range(len(NAMES)))
def test_a_name_that_no_file_can_have_costs_one_picture(place, key):
    sink = sink_of(place)
    with pytest.raises(ImageError, match="cannot be written") as caught:
        sink.write(key, b"new")
    assert caught.value.remedy.endswith("--retry-failed.")
    sink.withdraw(key)
    assert not sink.has(key) and contents(place / "out") == {}


@pytest.mark.parametrize("first", ["a", "a/b"])
def test_a_file_and_a_folder_of_one_name_cost_one_picture_in_either_order(place, first):
    sink, second = sink_of(place), "a/b" if first == "a" else "a"
    sink.write(first, b"one")
    with pytest.raises(ImageError, match=r"Not a directory|Is a directory"):
        sink.write(second, b"two")
    sink.withdraw(second)
    assert contents(place / "out") == {Path(first): b"one"}


def test_a_path_longer_than_the_system_takes_at_once_is_written_and_found(place):
    key = "/".join(["d" * 200] * 30) + "/a.png"
    sink = sink_of(place)
    sink.write(key, b"deep")
    sink.commit([key])
    assert sink.has(key)
    sink.withdraw(key)
    assert not sink.has(key)


OF_ONE = ["ENAMETOOLONG", "EISDIR", "ENOTDIR", "EEXIST", "EINVAL", "EILSEQ", "ELOOP", "ENOTEMPTY", "EBUSY", "EACCES",
          "EPERM", "EROFS"]  # fmt: skip
OF_ALL = ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM", "EFBIG", "ENODEV", "ETIMEDOUT"]


@pytest.mark.parametrize("name", OF_ONE + OF_ALL)
def test_an_error_belongs_to_a_picture_or_to_the_storage(place, monkeypatch, name):
    code, sink = getattr(errno, name), sink_of(place)

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ImageError if name in OF_ONE else StorageError) as caught:
        sink.write("y.png", b"new")
    assert os.strerror(code) in caught.value.what and caught.value.remedy
    if name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EFBIG", "EMFILE", "ESTALE", "ENOMEM"):
        others = [text for other, text in problems.REMEDIES.items() if other != code]
        assert problems.REMEDIES[code] in caught.value.remedy and problems.REMEDIES[code] not in others


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "EROFS"])
def test_permissions_of_the_output_folder_itself_end_the_run(place, monkeypatch, name):
    code, sink = getattr(errno, name), sink_of(place)

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Folder, "is_writable", lambda folder: False)
    with pytest.raises(StorageError):
        sink.write("y.png", b"new")


def test_whether_a_folder_is_writable_is_tried(place, monkeypatch):
    folder = Folder(place / "out")
    assert folder.is_writable() and os.listdir(place / "out") == []
    monkeypatch.setattr(os, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    assert not folder.is_writable()


def test_an_old_output_that_cannot_be_deleted_is_one_pictures_problem(place, monkeypatch):
    sink = sink_of(place)
    sink.write("a/x.png", b"old")
    unlink = os.unlink

    def refuse(name, **options):
        if name == "x.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ImageError, match="its old output .* cannot be removed"):
        sink.withdraw("a/x.png")


def test_folders_that_bear_the_name_of_unfinished_files_are_no_reason_to_stop(place):
    (place / "out" / f"{TEMPORARY}folder").mkdir()
    (place / "out" / f"{TEMPORARY}file").touch()
    assert folders.sweep(place / "out") == 1 and os.listdir(place / "out") == [f"{TEMPORARY}folder"]


# folders that go away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["moved", "replaced", "deleted", "a link"])
def test_an_output_folder_that_goes_away_ends_the_run(place, what):
    sink = sink_of(place)
    sink.write("a/x.png", b"new")
    sink.commit(["a/x.png"])
    subprocess.run(["rm", "-r", place / "out"] if what == "deleted" else ["mv", place / "out", place / "moved"])
    if what == "replaced":
        (place / "out").mkdir()
    elif what == "a link":
        (place / "other").mkdir()
        (place / "out").symlink_to(place / "other")
    if what == "deleted":
        with pytest.raises(StorageError, match="during the run"):
            sink.write("a/x.png", b"new")
    else:
        sink.write("a/x.png", b"newer")
        with pytest.raises(StorageError, match="out was moved, deleted or replaced during the run"):
            sink.commit(["a/x.png"])
        assert (place / "moved/a/x.png").read_bytes() == b"newer"  # beside its rows
        assert what == "moved" or not list((place / "out").iterdir())


def test_a_subfolder_that_is_deleted_while_it_is_empty_is_made_again(place, monkeypatch):
    sink, replace, left = sink_of(place), os.replace, [1]

    def once(*names, **options):
        if left.pop() if left else False:
            (place / "out/a").rmdir()
        replace(*names, **options)

    monkeypatch.setattr(os, "replace", once)
    sink.write("a/x.png", b"new")
    sink.commit(["a/x.png"])
    assert (place / "out/a/x.png").read_bytes() == b"new"


# whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    for k in range(3):
        save(tmp_path / "in/a" / f"{k}.png", photo(32, 30, k))
    save(tmp_path / "in/z.png", photo(32, 30, 9))
    save(tmp_path / "style.png", painting())
    stub.install(monkeypatch.setattr)
    return tmp_path


def run(place, **options):
    return render(place / "in", place / "style.png", place / "out", QUICK, **options)


def test_what_is_in_the_way_of_some_outputs_costs_them_and_no_others(pictures):
    assert run(pictures).done == 4
    before = contents(pictures / "in")
    subprocess.run(["rm", "-r", pictures / "out/a", pictures / "out/z.png"], check=True)
    (pictures / "out/a").symlink_to(pictures / "in/a")
    (pictures / "out/z.png").mkdir()
    for retry in (False, True):
        summary = run(pictures, retry_failed=retry)
        assert (summary.done, summary.failed) == (0, 4) and contents(pictures / "in") == before
    reasons = {key: row["reason"] for key, row in rows(pictures / "out").items()}
    assert "out/a: Is a symbolic link" in reasons["a/0.png"] and "Is a directory" in reasons["z.png"]
    (pictures / "out/a").unlink()
    (pictures / "out/z.png").rmdir()
    assert run(pictures, retry_failed=True).done == 4


def test_the_style_is_among_the_files_that_no_output_replaces(pictures):
    (pictures / "out").mkdir()
    (pictures / "out/z.png").hardlink_to(pictures / "style.png")
    assert run(pictures, existing="overwrite").failed == 1
    assert "would replace" in rows(pictures / "out")["z.png"]["reason"]
    assert (pictures / "out/z.png").samefile(pictures / "style.png")


@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_a_run_whose_folder_goes_away_says_so(pictures, how):
    def take():
        (pictures / "out").rename(pictures / "moved")
        if how == "replaced":
            (pictures / "out").mkdir()

    for k in range(20):
        save(pictures / "in/b" / f"{k:02}.png", photo(20, 20, k))
    with pytest.raises(StorageError, match="during the run"):
        run(pictures, progress=Ear(1, take))
    assert how == "moved" or not list((pictures / "out").iterdir())
    found = rows(pictures / "moved")
    assert found and all((pictures / "moved" / key).is_file() for key, row in found.items() if row["status"] == "done")


def test_a_finished_folder_on_a_full_disk_is_finished(pictures):
    with mounted("tmpfs", pictures / "out", "-t", "tmpfs", "-o", "size=400k"):
        assert run(pictures).done == 4
        with (pictures / "out/fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        summary = run(pictures)
        assert (summary.done, summary.looked_at, summary.failed) == (4, 0, 0)
        save(pictures / "in/new.png", photo(20, 20, 1))
        with pytest.raises(StorageError, match="bytes free"):
            run(pictures)
        (pictures / "in/new.png").unlink()
        subprocess.run(["mount", "-o", "remount,ro", pictures / "out"], check=True)
        assert run(pictures).done == 4
        save(pictures / "in/new.png", photo(20, 20, 1))
        with pytest.raises(StorageError, match="Read-only file system"):
            run(pictures)
