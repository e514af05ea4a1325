"""Discovery lists every file once, in one order, under a key of its own; what it cannot look at, it says."""

from __future__ import annotations

import gc
import os
import unicodedata
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxstyle.data.sources import walk as source
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.data.sources.walk import discover
from jaxstyle.errors import InputError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    return root


def listed(*inputs: Path, case_insensitive: bool = False) -> dict[str, Input]:
    found = list(discover(inputs, case_insensitive=case_insensitive))
    keys = [one.key for one in found]
    assert len(set(keys)) == len(keys)
    return {one.key: one for one in found}


def reasons(*inputs: Path, case_insensitive: bool = False) -> dict[str, str]:
    return {key: one.failed for key, one in listed(*inputs, case_insensitive=case_insensitive).items()}


def fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def entry(name: str, folder: bool = False) -> SimpleNamespace:
    """As from os.scandir, of a file system that tells kinds in its listings."""
    return SimpleNamespace(name=name, is_file=lambda follow_symlinks: not folder, is_dir=lambda follow_symlinks: folder)


def test_keys_are_paths_below_the_input(tmp_path):
    make(tmp_path, "a.jpg", "sub/a.jpg", "sub/deep/b.png", "notes.txt")
    found = listed(tmp_path)
    assert set(found) == {"a.jpg", "sub/a.jpg", "sub/deep/b.png", "notes.txt"}
    assert all(one.locator == tmp_path / key and not one.skipped and not one.failed for key, one in found.items())


def test_a_single_file_has_its_name_as_key_even_if_hidden(tmp_path):
    make(tmp_path, "sub/.a.jpg")
    path = tmp_path / "sub" / ".a.jpg"
    assert list(discover([path])) == [Input(".a.jpg", path)]
    assert list(discover([str(path)])) == [Input(".a.jpg", path)]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    make(tmp_path, "b.jpg", "a.jpg", "z/1.jpg", "c/2.jpg", "c/1.jpg", "B.jpg")
    before = [one.key for one in discover([tmp_path])]
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = iter(list(entries)[::-1])

        __enter__ = __iter__ = lambda self: self
        __next__ = lambda self: next(self.entries)  # noqa: E731
        __exit__ = close = lambda self, *_: None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert [one.key for one in discover([tmp_path])] == before == [
        "B.jpg", "a.jpg", "b.jpg", "c/1.jpg", "c/2.jpg", "z/1.jpg",
    ]  # fmt: skip


def test_hidden_files_and_folders_are_skipped_but_listed(tmp_path):
    make(tmp_path, "a.jpg", ".DS_Store", ".thumbs/a.jpg", "sub/._a.jpg")
    (tmp_path / ".link").symlink_to("sub")
    (tmp_path / ".broken").symlink_to("nowhere")
    found = listed(tmp_path)
    assert {key: one.skipped for key, one in found.items()} == {
        "a.jpg": "",
        ".DS_Store": "hidden file",
        ".thumbs": "hidden folder",
        ".link": "hidden folder",
        ".broken": "hidden file",
        "sub/._a.jpg": "hidden file",
    }


def test_a_link_to_a_folder_is_listed_once_and_not_followed(tmp_path):
    make(tmp_path, "in/sub/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "in/sub/loop").symlink_to("..")
    (tmp_path / "in/other").symlink_to(tmp_path / "elsewhere")
    found = listed(tmp_path / "in")
    assert set(found) == {"sub/a.jpg", "sub/loop", "other"}
    assert found["sub/loop"].skipped == found["other"].skipped == "link to a folder"


def test_an_input_that_is_a_link_to_a_folder_is_walked(tmp_path):
    make(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert set(listed(tmp_path / "link")) == {"a.jpg"}


def test_links_to_files_are_files_and_broken_ones_fail(tmp_path):
    make(tmp_path, "in/a.jpg", "b.jpg")
    (tmp_path / "in/good.jpg").symlink_to("../b.jpg")
    (tmp_path / "in/broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "in/itself.jpg").symlink_to("itself.jpg")
    found = listed(tmp_path / "in")
    assert not found["good.jpg"].failed
    assert found["broken.jpg"].failed == "a link to nothing"
    assert "cannot be read" in found["itself.jpg"].failed


@pytest.mark.parametrize("given_directly", [False, True])
def test_a_fifo_is_not_opened(tmp_path, given_directly):
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would block for ever
    (found,) = discover([tmp_path / "pipe.jpg" if given_directly else tmp_path])
    assert (found.key, found.failed) == ("pipe.jpg", "not a regular file")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file")])
def test_a_folder_that_cannot_be_listed_or_vanished_is_a_failure_and_its_neighbours_are_listed(
    tmp_path, monkeypatch, error
):
    make(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":  # as for a user without permission; these tests may run as root
            raise error
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert reasons(tmp_path) == {"a/1.jpg": "", "b": f"folder cannot be read ({error.strerror})", "c/3.jpg": ""}


def test_what_a_folder_lists_before_it_fails_is_kept(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def ends_early():
        yield entry("1.jpg")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", lambda path: nullcontext(ends_early()) if path.name == "a" else scandir(path))
    assert reasons(tmp_path) == {"a": "folder cannot be read (Input/output error)", "a/1.jpg": "", "b/2.jpg": ""}


def test_unreadable_folders_have_a_row_each_key_even_where_a_file_has_the_key(tmp_path, monkeypatch):
    make(tmp_path, "one/sub/1.jpg", "two/sub/2.jpg", "three/sub", "three/a.jpg")
    scandir = os.scandir

    def refuse(path):
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    denied = "folder cannot be read (Permission denied)"
    assert reasons(tmp_path / "one", tmp_path / "two") == {"sub": denied}
    found = reasons(tmp_path / "one", tmp_path / "two", tmp_path / "three")
    assert found.pop("sub").startswith("a file in one input is a folder in another")
    assert found == {"sub/": denied, "a.jpg": ""}


def test_names_whose_kind_cannot_be_found_out_fail(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "locked/b.jpg")
    stat, scandir = os.stat, os.scandir

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    unknown = SimpleNamespace(name="b.jpg", is_file=denied, is_dir=denied)
    refuse = lambda path, **options: denied() if "locked" in Path(path).parts[:-1] else stat(path, **options)  # noqa: E731
    monkeypatch.setattr(os, "scandir", lambda path: nullcontext([unknown]) if path.name == "locked" else scandir(path))
    monkeypatch.setattr(os, "stat", refuse)
    assert reasons(tmp_path) == {"a.jpg": "", "locked/b.jpg": "cannot be read (Permission denied)"}


def test_names_that_are_not_utf8_or_have_control_characters_are_kept(tmp_path):
    names = [os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "café.png", "<img onerror=x>.png"]
    make(tmp_path, *names)
    found = listed(tmp_path)
    assert set(found) == set(names)
    assert all(found[name].locator.read_bytes() == os.fsencode(name) for name in names)


def test_printable_names_can_be_encoded():
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert printable(Path("größe.jpg")) == "größe.jpg"


@pytest.mark.parametrize("broken_link", [False, True])
def test_a_missing_input_is_an_input_error(tmp_path, broken_link):
    path = tmp_path / "absent.jpg"
    if broken_link:
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"absent\.jpg does not exist"):
        list(discover([path]))


def test_an_input_below_a_file_does_not_exist(tmp_path):
    make(tmp_path, "a.jpg")
    for below in (tmp_path / "a.jpg" / "b.jpg", "null\0.jpg"):
        with pytest.raises(InputError, match="does not exist"):
            list(discover([below]))


@pytest.mark.parametrize("function", ["stat", "scandir"])
def test_an_input_that_may_not_be_looked_at_is_an_input_error(tmp_path, monkeypatch, function):
    make(tmp_path, "ours/a.jpg", "locked/b.jpg")
    real = getattr(os, function)

    def refuse(path, *args, **options):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, function, refuse)
    walk = discover([tmp_path / "ours", tmp_path / "locked"])
    with pytest.raises(InputError, match=r"locked cannot be read \(Permission denied\)\. Correct"):
        next(walk)  # before any work is done


def test_an_empty_folder_has_nothing(tmp_path):
    assert listed(tmp_path) == {} == listed()


def test_inputs_given_twice_are_listed_once(tmp_path, monkeypatch):
    make(tmp_path, "in/a.jpg", "in/sub/b.jpg", "in/.hidden")
    (tmp_path / "in/broken").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    found = reasons(folder, folder, Path("in"), tmp_path / "link", folder / "a.jpg", folder / "a.jpg")
    assert found == {"a.jpg": "", "sub/b.jpg": "", ".hidden": "", "broken": "a link to nothing"}


def test_a_hidden_file_that_is_given_too_is_not_skipped(tmp_path):
    make(tmp_path, ".a.jpg", "b.jpg")
    assert listed(tmp_path, tmp_path / ".a.jpg")[".a.jpg"] == Input(".a.jpg", tmp_path / ".a.jpg")


def test_inputs_are_walked_as_one_tree(tmp_path):
    make(tmp_path, "one/b.jpg", "one/sub/2.jpg", "two/a.jpg", "two/sub/1.jpg", "two/sub/deep/3.jpg", "c.jpg")
    found = listed(tmp_path / "one", tmp_path / "c.jpg", tmp_path / "two")
    assert list(found) == ["a.jpg", "b.jpg", "c.jpg", "sub/1.jpg", "sub/2.jpg", "sub/deep/3.jpg"]
    assert found["sub/1.jpg"].locator == tmp_path / "two/sub/1.jpg" and found["sub/2.jpg"].locator.parts[-3] == "one"


def test_folders_are_listed_when_their_turn_comes(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "one/1.jpg", "two/2.jpg")
    seen, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(path.name) or scandir(path))
    walk = discover([tmp_path, tmp_path])  # but once
    steps = [(next(walk).key, list(seen)) for _ in range(3)]
    top = tmp_path.name
    assert steps == [("a.jpg", [top]), ("one/1.jpg", [top, "one"]), ("two/2.jpg", [top, "one", "two"])]


def test_nothing_is_retained_and_files_are_not_looked_at(tmp_path, monkeypatch):
    """Of a tree that exists in listings only, so that a look at one of its files would fail."""
    top = [entry(f"{n:02}", folder=True) for n in range(20)]
    monkeypatch.setattr(
        os, "scandir", lambda path: nullcontext(top if path == tmp_path else (entry(f"{n}.jpg") for n in range(1000)))
    )
    entries = lambda: sum(type(one) is source._Entry for one in gc.get_objects())  # noqa: E731
    gc.collect()
    gc.freeze()  # what there is already is not looked through twenty times
    references, held = [], []
    try:
        for one in discover([tmp_path]):
            assert not one.failed
            if one.key.endswith("/0.jpg"):
                references.append(weakref.ref(one))
                assert sum(reference() is not None for reference in references) <= 2
                held.append(entries())
    finally:
        gc.unfreeze()
    assert len(held) == 20 and max(held) <= 1000
