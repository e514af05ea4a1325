"""Discovery lists every file once, in one order, under a key of its own; what it cannot look at, it says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.data.source import Input, discover, printable
from jaxstyle.errors import InputError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    return root


def listed(*inputs: Path) -> dict[str, Input]:
    found = list(discover(inputs))
    keys = [one.key for one in found]
    assert len(set(keys)) == len(keys)
    return {one.key: one for one in found}


def test_keys_are_paths_below_the_input(tmp_path):
    make(tmp_path, "a.jpg", "sub/a.jpg", "sub/deep/b.png", "notes.txt")
    found = listed(tmp_path)
    assert set(found) == {"a.jpg", "sub/a.jpg", "sub/deep/b.png", "notes.txt"}
    assert all(one.path == tmp_path / key and not one.skipped and not one.failed for key, one in found.items())


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
    found = listed(tmp_path)
    assert {key: one.skipped for key, one in found.items()} == {
        "a.jpg": "",
        ".DS_Store": "hidden file",
        ".thumbs": "hidden folder",
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


def test_an_unreadable_folder_is_a_failure_and_its_neighbours_are_listed(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":  # as for a user without permission; these tests may run as root
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = listed(tmp_path)
    assert {key: one.failed for key, one in found.items()} == {
        "a/1.jpg": "", "b": "folder cannot be read (Permission denied)", "c/3.jpg": "",
    }  # fmt: skip


def test_files_of_a_folder_that_may_be_listed_but_not_entered_fail(tmp_path, monkeypatch):
    make(tmp_path, "a.jpg", "locked/b.jpg")
    stat = Path.stat

    def refuse(self, **options):
        if self.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    found = listed(tmp_path)
    assert found["locked/b.jpg"].failed == "cannot be read (Permission denied)" and not found["a.jpg"].failed


def test_names_that_are_not_utf8_or_have_control_characters_are_kept(tmp_path):
    names = [os.fsdecode(b"caf\xe9.png"), "line\nbreak.png", "café.png", "<img onerror=x>.png"]
    make(tmp_path, *names)
    found = listed(tmp_path)
    assert set(found) == set(names)
    assert all(found[name].path.read_bytes() == os.fsencode(name) for name in names)


def test_printable_names_can_be_encoded():
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert printable(Path("größe.jpg")) == "größe.jpg"


def test_inputs_given_twice_are_listed_once(tmp_path, monkeypatch):
    make(tmp_path, "in/a.jpg", "in/sub/b.jpg", "in/.hidden")
    (tmp_path / "in/broken").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    assert set(listed(folder, folder, Path("in"), folder / "a.jpg")) == {"a.jpg", "sub/b.jpg", ".hidden", "broken"}


@pytest.mark.parametrize("second", ["two", "two/a.jpg"])
def test_two_files_for_one_output_are_refused_with_both_names(tmp_path, second):
    make(tmp_path, "one/a.jpg", "two/a.jpg")
    with pytest.raises(InputError, match=r"one/a\.jpg and .*two/a\.jpg would both be written to a\.jpg"):
        list(discover([tmp_path / "one", tmp_path / second]))


def test_hidden_files_of_one_name_in_two_inputs_do_not_clash(tmp_path):
    make(tmp_path, "one/a.jpg", "one/.DS_Store", "two/b.jpg", "two/.DS_Store")
    assert set(listed(tmp_path / "one", tmp_path / "two")) == {"a.jpg", "b.jpg", ".DS_Store"}


def test_a_clash_with_an_undecodable_name_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    make(tmp_path, f"one/{name}", f"two/{name}")
    with pytest.raises(InputError) as caught:
        list(discover([tmp_path / "one", tmp_path / "two"]))
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("broken_link", [False, True])
def test_a_missing_input_is_an_input_error(tmp_path, broken_link):
    path = tmp_path / "absent.jpg"
    if broken_link:
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"absent\.jpg does not exist"):
        list(discover([path]))


def test_an_empty_folder_has_nothing(tmp_path):
    assert listed(tmp_path) == {}


NAMES = st.text(st.sampled_from("aAbé._-% \n\\\udce9"), min_size=1, max_size=4).filter(lambda n: n not in (".", ".."))


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(trees=st.lists(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8), min_size=1, max_size=2))
def test_keys_are_injective_and_every_file_is_accounted_for(trees):
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder, str(n)) for n in range(len(trees))]
        for root, tree in zip(roots, trees, strict=True):
            root.mkdir()
            for parts in tree:
                path = root.joinpath(*parts)
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
                except OSError:  # a name taken by a file or a folder before
                    continue
        plain = [
            path for root in roots for path in root.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]  # fmt: skip
        outputs = [path.relative_to(folder).parts[1:] for path in plain]
        if len(set(outputs)) < len(outputs):
            with pytest.raises(InputError):
                list(discover(roots))
        else:
            found = listed(*roots)
            assert sorted(one.path for one in found.values() if not one.skipped) == sorted(plain)
            assert all(Path(key).parts == one.path.relative_to(folder).parts[1:] for key, one in found.items())
