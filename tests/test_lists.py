"""Lists as inputs: what their rows name is rendered, each once; what they cannot name is a failed row that says why."""

from __future__ import annotations

import json
import os

import pytest
import stub
from pictures import painting, photo, save
from whole_runs import QUICK, files, rows

from jaxstyle.data.lists import ListFile
from jaxstyle.data.sources.lists import TWICE, ListSource
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.replay import replay
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.settings import RenderSettings


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Three pictures in folders of a folder, and a style."""
    stub.install(monkeypatch.setattr)
    for n, name in enumerate(("a.jpg", "deep/b.png", "deep/c.png")):
        save(tmp_path / "data" / name, photo(30, 24, n))
    save(tmp_path / "style.png", painting())
    return tmp_path


def listed(place, text, name="list.csv"):
    path = place / "data" / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def run(place, path, out="out", **options):
    return render(path, place / "style.png", place / out, QUICK, **options)


def inputs(path, *, case_insensitive=False, **settings):
    source = ListSource([path], settings=RenderSettings(**settings), case_insensitive=case_insensitive)
    source.check(path.parent.parent / "out")
    return list(source.inputs())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", 'path,label\na.jpg,cat\n"deep/b.png","a, b"\n'),
        ("list.tsv", "\ufefflabel\tpath\r\ncat\ta.jpg\r\n\r\ndog\t./deep//b.png\r\n"),
        ("list.jsonl", '{"path": "a.jpg", "box": [1, 2]}\n\n{"label": 3, "path": "deep/b.png"}'),
    ],
)
def test_what_a_list_names_is_what_a_folder_has(place, name, text):
    assert run(place, place / "data", "folder").done == 3
    assert run(place, listed(place, text, name)).done == 2
    every = files(place / "folder")
    assert files(place / "out") == {key: every[key] for key in ("a.jpg", "deep/b.png")}
    again = run(place, place / "data" / name)
    assert (again.done, again.rendered) == (2, 0)
    assert replay(place / "out", "deep/b.png").equal


def test_the_column_of_paths_may_have_another_name(place):
    path = listed(place, "file name,x\na.jpg,1\n")
    with pytest.raises(InputError, match=r"has no column path; it has file name, x. Name the column .*--path-column"):
        run(place, path)
    assert run(place, path, path_column="file name").done == 1
    assert replay(place / "out", "a.jpg").equal
    with pytest.raises(InputError, match="has no column path; it has p"):
        run(place, listed(place, '{"p": "a.jpg"}\n', "list.jsonl"), "other")
    with pytest.raises(SettingsError, match="path_column is 'x', and no input is a list"):
        run(place, place / "data", "other", path_column="x")


def test_each_bad_row_is_a_failed_row_that_says_why(place):
    save(place / "outside.png", photo(20, 20))
    paths = ("../outside.png", "/etc/passwd", "deep/../a.jpg", "", "absent.png", "deep", "a.jpg", "null\0.png")
    text = "path,label\n" + "".join(f"{path},{n}\n" for n, path in enumerate(paths))
    summary = run(place, listed(place, text))
    found = {row["key"]: row["reason"] for row in rows(place / "out").values() if row["status"] == "failed"}
    assert (summary.done, summary.failed) == (1, len(found)) == (1, 7)
    for line, path in ((2, "../outside.png"), (3, "/etc/passwd"), (4, "deep/../a.jpg")):
        assert found[f"list.csv:{line}"].startswith(f"line {line} of the list has the path {path}, which leads out of")
    assert found["list.csv:5"] == "line 5 of the list has no path"
    assert found["list.csv:9"].startswith("line 9 of the list")
    assert found["absent.png"] == "cannot be read (No such file or directory)"
    assert found["deep"].startswith("cannot be read")
    save(place / "data" / "absent.png", photo(20, 20))  # once it is there, it is rendered
    assert run(place, place / "data" / "list.csv").done == 2


def test_damaged_lines_cost_one_row_each(place):
    lines = ["not json", "[1]", '{"x": 1}', '{"path": 7}', '{"path": "deep/b.png"}', "[" * 10_000]
    found = inputs(listed(place, "\n".join(['{"path": "a.jpg"}', *lines]), "list.jsonl"))
    assert [one.key for one in found] == ["a.jpg", *(f"list.jsonl:{n}" for n in (2, 3, 4, 5)), "deep/b.png",
                                          "list.jsonl:7"]  # fmt: skip
    assert all(bool(one.failed) == one.key.startswith("list") for one in found)
    huge = 'path\na.jpg\n"' + "x" * 200_000 + '"\ndeep/b.png\n'
    found = inputs(listed(place, huge))
    assert next(one.key for one in found if not one.failed) == "a.jpg"
    assert sum(bool(one.failed) for one in found) == 1 and "field larger than" in found[1].failed


def test_an_absolute_path_below_the_lists_folder_is_one_like_others(place):
    assert [one.key for one in inputs(listed(place, f"path\n{place}/data/deep/b.png\n"))] == ["deep/b.png"]


def test_a_name_that_comes_twice_is_one_row_with_a_note(place):
    run(place, listed(place, "path,label\na.jpg,1\ndeep/b.png,2\n./a.jpg,3\na.jpg,4\n"))
    every = rows(place / "out")
    assert list(every) and set(every) == {"a.jpg", "deep/b.png"}
    assert every["a.jpg"]["notes"] == [TWICE] and every["deep/b.png"]["notes"] == []


@pytest.mark.parametrize("case_insensitive", [False, True])
def test_names_that_differ_in_case_have_one_output_or_a_note(place, case_insensitive):
    found = inputs(listed(place, "path\nA.jpg\na.jpg\nB.jpg\nA.JPG\na.jpg\n"), case_insensitive=case_insensitive)
    assert [one.key for one in found] == ["A.jpg", "a.jpg", "B.jpg", "A.JPG"]
    told = [one.failed if case_insensitive else one.note for one in found]
    assert ["case" in one for one in told] == [False, True, False, True]


def test_bytes_that_are_not_utf8_name_files(place):
    name = os.fsdecode(b"caf\xe9.png")
    save(place / "data" / name, photo(20, 20))
    assert [one.key for one in inputs(listed(place, b"path\ncaf\xe9.png\n"))] == [name]
    assert run(place, place / "data" / "list.csv").done == 1


def test_one_list_stands_alone_and_has_rows(place):
    path = listed(place, "path\na.jpg\n")
    with pytest.raises(InputError, match="another input beside the list: .*deep"):
        run(place, [path, place / "data" / "deep"])
    with pytest.raises(InputError, match="has no rows"):
        run(place, listed(place, "path\n", "empty.csv"))
    with pytest.raises(InputError, match=r"first line of the list .* cannot be read"):
        run(place, listed(place, "x" * 200_000, "odd.csv"))


def test_outputs_may_lie_below_the_lists_folder_and_in_the_place_of_none_of_its_files(place):
    path = listed(place, "path\na.jpg\n")
    assert run(place, path, "data/out").done == 1
    with pytest.raises(InputError, match="overlaps the input"):
        run(place, path, "data")
    run(place, listed(place, "path\nout/a.jpg\ndeep/b.png\n", "more.csv"), "data/out")
    row = rows(place / "data" / "out")["out/a.jpg"]
    assert row["status"] == "failed" and row["reason"].startswith("lies in the output folder")


def test_a_list_that_changes_during_the_run_ends_it(place):
    path = listed(place, "path\na.jpg\n")
    of = ListFile(path, "path")
    assert len(list(of.entries())) == 1
    path.write_text("path\na.jpg\ndeep/b.png\n")
    with pytest.raises(InputError, match="was changed during the run"):
        list(of.entries())


def test_the_manifest_of_a_run_is_a_list(place):
    run(place, place / "data", "first")
    path = place / "first" / "manifest.jsonl"
    assert run(place, path, "second", path_column="key").done == 3


def test_shards_of_a_list_are_all_of_it(place):
    path = listed(place, "path\n" + "".join(f"{name}\n" for name in ("a.jpg", "deep/b.png", "deep/c.png")))
    for n in (1, 2):
        run(place, path, "shards", shard=f"{n}/2")
    assert run(place, path, "whole").done == 3 and files(place / "shards") == files(place / "whole")
    assert json.loads((place / "shards" / "settings.json").read_text())["about"]["places"]["inputs"] == [str(path)]
