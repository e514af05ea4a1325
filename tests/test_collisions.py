"""Inputs whose outputs would have one name: none takes the place of another, and each is accounted for."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_source import fold, listed, make, reasons

from jaxstyle.data.sources import walk as source
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.data.sources.walk import discover


def test_nested_inputs_list_a_file_under_each_of_its_keys(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.jpg", "sub/a.jpg")
    found = reasons(tmp_path, tmp_path / "sub")
    assert set(found) == {"a.jpg", "b.jpg", "sub/a.jpg", "sub/b.jpg"}
    assert [key for key, reason in found.items() if reason] == ["a.jpg"]


@pytest.mark.parametrize("second", ["two/sub", "two/sub/a.jpg"])
def test_of_two_files_with_one_key_neither_is_rendered_and_both_are_named(tmp_path, second):
    make(tmp_path, "one/a.jpg", "one/b.jpg", "two/sub/a.jpg")
    found = listed(tmp_path / "one", tmp_path / second)
    one, two = tmp_path / "one/a.jpg", tmp_path / "two/sub/a.jpg"
    reason = f"two inputs have this name: {one} and {two}; render them into two folders"
    assert found == {"a.jpg": Input("a.jpg", one, failed=reason), "b.jpg": Input("b.jpg", one.with_name("b.jpg"))}


def test_three_inputs_collide_if_any_two_files_differ(tmp_path):
    make(tmp_path, "one/a.jpg", "three/a.jpg")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a.jpg").symlink_to("../one/a.jpg")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert reasons(one, two) == {"a.jpg": ""}
    assert f"{one / 'a.jpg'} and {three / 'a.jpg'}" in reasons(one, two, three)["a.jpg"]
    assert f"{three / 'a.jpg'} and {two / 'a.jpg'}" in reasons(three, two, one)["a.jpg"]


def test_skipped_names_of_two_inputs_do_not_collide(tmp_path):
    make(tmp_path, "one/a.jpg", "one/.DS_Store", "one/.t/1", "two/b.jpg", "two/.DS_Store", "two/.t", "three/link/c.jpg")
    for name in ("one", "two"):
        (tmp_path / name / "link").symlink_to("..")
    found = listed(*(tmp_path / name for name in ("one", "two", "three")))
    assert {key: one.skipped for key, one in found.items()} == {
        "a.jpg": "", "b.jpg": "", ".DS_Store": "hidden file", ".t": "hidden folder", "link": "link to a folder",
        "link/c.jpg": "",
    }  # fmt: skip
    assert not any(one.failed for one in found.values())


def test_a_file_that_is_a_folder_elsewhere_fails_and_the_folder_is_walked(tmp_path):
    make(tmp_path, "one/a", "two/a/b.jpg")
    for inputs in (("one", "two"), ("two", "one"), ("one/a", "two")):
        found = reasons(*(tmp_path / name for name in inputs))
        assert found["a/b.jpg"] == "" and len(found) == 2
        assert f"{tmp_path / 'one/a'} and {tmp_path / 'two/a'}; render" in found["a"]


ALIKE = [
    (["A.jpg"], ["a.jpg"]),
    (["caf\u00e9.jpg"], ["cafe\u0301.jpg"]),  # sorts the other way round
    (["Stra\u00dfe.jpg"], ["STRASSE.jpg"]),
    (["\u212aelvin.jpg"], ["kelvin.jpg"]),
    (["\u1fb4.jpg"], ["\u03b1\u0345\u0301.jpg"]),  # needs to be composed before it is folded
    (["\u0390.jpg"], ["\u03aa\u0301.jpg"]),  # and after
    (["Photos/A.jpg"], ["photos/a.jpg"]),
    (["Photos/deep/a.jpg"], ["photos/Deep/a.jpg"]),
    ([os.fsdecode(b"\xe9A.jpg")], [os.fsdecode(b"\xe9a.jpg")]),
]


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_names_that_fold_to_one_are_noted_or_fail(tmp_path, one, two):
    make(tmp_path / "one", *one, "b.jpg")
    make(tmp_path / "two", *two, "c/A.jpg", "d/a.jpg")
    first, second = sorted(one + two)
    inputs = (tmp_path / "one", tmp_path / "two")
    apart, folded = listed(*inputs), listed(*inputs, case_insensitive=True)
    assert list(apart) == list(folded) and len(apart) == 5
    note = f"a name beside it differs only in case or Unicode form: {printable(first)}"
    reason = f"its output would replace that of {printable(first)}, whose name differs only in case or Unicode form"
    assert {key: one.note for key, one in apart.items() if one.note} == {second: note}
    assert {key: one.failed for key, one in folded.items() if one.failed} == {second: reason}
    assert not any(one.failed for one in apart.values()) and not any(one.note for one in folded.values())
    assert not any(one.skipped for one in (*apart.values(), *folded.values()))


def test_a_file_that_folds_to_a_folder_is_noted_or_fails_whichever_comes_first(tmp_path):
    make(tmp_path, "one/A", "one/b", "two/a/1.jpg", "two/B/2.jpg")
    inputs = (tmp_path / "one", tmp_path / "two")
    assert {key: one.note[-3:] for key, one in listed(*inputs).items()} == {
        "A": ": a", "b": ": B", "a/1.jpg": "", "B/2.jpg": "",
    }  # fmt: skip
    found = reasons(*inputs, case_insensitive=True)
    assert "take the place of the folder a," in found["A"] and "take the place of the folder B," in found["b"]
    assert found["a/1.jpg"] == found["B/2.jpg"] == ""


def test_of_many_names_that_fold_to_one_the_first_counts(tmp_path):
    make(tmp_path, "1/BB", "2/Bb", "3/bB", "3/bb", "4/bb")
    inputs = [tmp_path / name for name in "1234"]
    assert [one.note[-4:] for one in discover(inputs)] == ["", ": BB", ": BB", ": BB"]
    found = reasons(*inputs, case_insensitive=True)
    assert found["bb"].startswith("two inputs have this name") and "of BB," in found["Bb"] and "of BB," in found["bB"]


def test_skipped_names_have_no_output_to_replace(tmp_path):
    make(tmp_path, "one/.A.jpg", "two/.a.jpg", "two/.a/1", "one/sub/1.jpg")
    (tmp_path / "two/SUB").symlink_to("..")
    (tmp_path / "two/sub").mkdir()
    found = listed(tmp_path / "one", tmp_path / "two", case_insensitive=True)
    assert not any(one.failed or one.note for one in found.values()) and len(found) == 5


def test_a_collision_of_undecodable_names_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    make(tmp_path, f"one/{name}", f"two/{name}")
    reason = reasons(tmp_path / "one", tmp_path / "two")[name]
    assert reason.count("caf\\xe9.png") == 2 and reason.encode("utf-8")


PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=200)
LETTERS = st.sampled_from("aAb\u00e9e\u0301\u00dfsS\u017fkK\u212a\u0345\u03b1\u1fb3._\udce9")
ENTRIES = st.lists(st.tuples(st.integers(0, 2), st.text(LETTERS, min_size=1, max_size=3), st.booleans()), max_size=12)


@PROPERTY
@given(entries=ENTRIES, case_insensitive=st.booleans())
def test_rows_of_one_listing_have_keys_and_outputs_of_their_own(entries, case_insensitive):
    kinds = {(turn, name): folder for turn, name, folder in entries}
    walk = source._merge(
        [
            source._Entry(
                source._FILE if not folder else source._HIDDEN if name.startswith(".") else source._FOLDER,
                "", name, turn, Path(f"/nowhere/{turn}"), not folder, name.startswith("."),
            )
            for (turn, name), folder in kinds.items()
        ],
        case_insensitive,
    )  # fmt: skip
    found, below = [], []
    while not below:
        try:
            found.append(next(walk))
        except StopIteration as end:
            below.append(end.value)
    folders = {(turn, name) for (turn, name), folder in kinds.items() if folder and not name.startswith(".")}
    assert {(one.turn, one.key[:-1]) for group in below[0] for one in group} == folders
    assert [len({fold(one.key) for one in group}) for group in below[0]] == [1] * len(below[0])
    assert len({fold(group[0].key) for group in below[0]}) == len(below[0])

    assert sorted(one.key for one in found) == sorted({name for turn, name in kinds.keys() - folders})
    outputs = [one.key for one in found if not one.failed and not one.skipped]
    walked = {name for _, name in folders}
    assert not walked & set(outputs)
    assert all(sum(there == key for _, there in kinds) == 1 for key in outputs)
    if case_insensitive:
        assert len({*map(fold, outputs)} | {*map(fold, walked)}) == len(outputs) + len({*map(fold, walked)})
    crowded = {key for key in {name for _, name in kinds} if [fold(n) for _, n in kinds].count(fold(key)) > 1}
    assert {one.key for one in found if one.failed or one.note} <= crowded


NAMES = st.text(st.sampled_from("aAb\u00e9e\u0301._-% \n\\\udce9"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
TREES = st.lists(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8), min_size=1, max_size=3)


@settings(PROPERTY, max_examples=60)
@given(trees=TREES, case_insensitive=st.booleans())
def test_keys_are_injective_and_every_file_is_accounted_for(trees, case_insensitive):
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
        files, folders = defaultdict(list), set()
        for root in roots:
            for path in root.rglob("*"):
                key = path.relative_to(root)
                if not any(part.startswith(".") for part in key.parts):
                    if path.is_dir():
                        folders.add(str(key))
                    else:
                        files[str(key)].append(path)
        found = {key: one for key, one in listed(*roots, case_insensitive=case_insensitive).items() if not one.skipped}
        assert {key: one.locator for key, one in found.items()} == {key: paths[0] for key, paths in files.items()}
        alike = defaultdict(set)
        for key in (*files, *folders):
            alike[fold(key)].add(key)
        for key, one in found.items():
            exact = len(files[key]) > 1 or key in folders
            others = alike[fold(key)] - {key}
            later = bool(others & folders) or min(alike[fold(key)] & files.keys(), key=list(found).index) != key
            assert bool(one.failed) == (exact or (later and case_insensitive)), one
            assert bool(one.note) == (later and not case_insensitive), one
