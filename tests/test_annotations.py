"""`--annotations`: boxes stay valid in the output folder; entries without an output that fits are left out."""

from __future__ import annotations

import csv
import json
import os

import pytest
import stub
from command import run as command
from pictures import painting, photo, save
from whole_runs import QUICK, Ear, rows

from jaxstyle.data.audit import verify
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, SettingsError

SIZES = {"a.jpg": (40, 30), "deep/b.png": (30, 44), "deep/c.png": (60, 20)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    stub.install(monkeypatch.setattr)
    for n, (name, size) in enumerate(SIZES.items()):
        save(tmp_path / "in" / name, photo(*size, n))
    save(tmp_path / "style.png", painting())
    return tmp_path


def coco(place, sizes=SIZES, **more):
    path = place / "instances.json"
    images = [
        {"id": 7 + n, "file_name": name, "width": width, "height": height, "license": 1}
        for n, (name, (width, height)) in enumerate(sizes.items())
    ]
    boxes = [{"id": n, "image_id": 7 + n % len(sizes), "bbox": [1, 2, 3.5, 4], "category_id": 3} for n in range(6)]
    path.write_text(
        json.dumps({"info": {"year": 2026}, "images": images, "annotations": boxes, "categories": []} | more)
    )
    return path


def run(place, path, out="out", **options):
    return render(place / "in", place / "style.png", place / out, QUICK, annotations=path, **options)


def content(path):
    return json.loads(path.read_text())


def test_a_coco_file_goes_along_as_it_is_where_all_is_done(place):
    path, ear = coco(place), Ear()
    summary = run(place, path, output_size="input", progress=ear)
    assert (summary.done, summary.unfit) == (3, 0)
    assert content(place / "out" / "annotations.json") == content(path)
    assert ear.said[-1] == "Annotations of 3 entries in annotations.json."
    verdict = verify(place / "out")
    assert verdict.ok and not verdict.orphans  # it is the run's own
    before = os.stat(place / "out" / "annotations.json")
    run(place, path, output_size="input")
    after = os.stat(place / "out" / "annotations.json")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # a finished folder is not written


def test_entries_without_an_output_are_left_out_with_their_boxes(place):
    (place / "in" / "deep" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    path, ear = coco(place, SIZES | {"absent.jpg": (10, 10)}), Ear()
    assert run(place, path, output_size="input", progress=ear).failed == 1
    kept, given = content(place / "out" / "annotations.json"), content(path)
    assert [one["file_name"] for one in kept["images"]] == ["a.jpg", "deep/c.png"]
    assert kept["annotations"] == [one for one in given["annotations"] if one["image_id"] in (7, 9)]
    assert kept["info"] == given["info"] and kept["images"][0] == given["images"][0]
    assert ear.said[-1] == "Annotations of 2 entries in annotations.json, 2 without an output left out."


def test_names_are_those_of_the_outputs(place):
    run(place, coco(place), output_size="input", output_format="png")
    names = [one["file_name"] for one in content(place / "out" / "annotations.json")["images"]]
    assert names == ["a.jpg.png", "deep/b.png", "deep/c.png"] and all((place / "out" / name).exists() for name in names)


def test_a_picture_of_another_size_than_its_boxes_are_for_is_a_failed_row(place):
    path = coco(place, SIZES | {"a.jpg": (30, 40)})
    assert run(place, path, output_size="input").failed == 1
    reason = rows(place / "out")["a.jpg"]["reason"]
    assert reason.startswith("is 40 x 30 pixels, upright, and its annotations are for 30 x 40: correct instances.json")
    assert len(content(place / "out" / "annotations.json")["images"]) == 2


def test_outputs_of_an_earlier_run_that_do_not_fit_are_told_and_exit_with_3(place, capfd):
    words = ["render", place / "in", "--style", place / "style.png", "-o", place / "out", "--size", "32",
             "--evaluations", "10", "--batch", "4", "--workers", "0", "--output-size", "input"]  # fmt: skip
    assert command(*words) == 0
    path = coco(place, SIZES | {"a.jpg": (30, 40)})
    assert command(*words, "--annotations", path) == 3
    assert "Annotations of 2 entries in annotations.json, 1 of another size left out (a.jpg)." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (coco, {}, SettingsError, "output_size is 'work', and the annotations .* Give --output-size input"),
        (lambda place: coco(place, {"x/y.jpg": (1, 1)}), {"output_size": "input"}, InputError,
         "none of the pictures .* name first, such as x/y.jpg, is below .*in. Give the folder"),
        (lambda place: coco(place, images=[]), {"output_size": "input"}, InputError, "it has no list of images"),
        (lambda place: coco(place, images=[{"id": 1, "file_name": "a", "width": 1.5, "height": 2}]),
         {"output_size": "input"}, InputError, "entry 0 of images lacks one of file_name, id, width, height"),
        (lambda place: coco(place, images=2 * [{"id": 1, "file_name": "a", "width": 1, "height": 2}]),
         {"output_size": "input"}, InputError, "is in images twice"),
        (lambda place: coco(place, annotations=[{"image_id": "7"}]), {"output_size": "input"}, InputError, "image_id"),
        (lambda place: save(place / "in.png", photo(9, 9)).rename(place / "x.json"), {"output_size": "input"},
         InputError, "cannot be used"),
        (lambda place: place / "none.json", {"output_size": "input"}, InputError, "cannot be used .No such file"),
        (lambda place: place / "none.csv", {}, InputError, "none.csv cannot be read .No such file"),
        (lambda place: place / "style.png", {}, SettingsError, "that ends in .json, .csv, .tsv, .jsonl"),
    ],
)  # fmt: skip
def test_what_would_not_fit_is_refused_before_the_run(place, make, options, error, message):
    with pytest.raises(error, match=message):
        run(place, make(place), **options)
    assert not (place / "out").exists()


def test_a_picture_with_several_outputs_has_no_coco_file(place):
    for n in range(2):
        save(place / "styles" / f"{n}.png", painting(40 + n, 40))
    with pytest.raises(SettingsError, match="describe each picture once"):
        render(place / "in", place / "styles", place / "out", QUICK, annotations=coco(place), assign="each",
               output_size="input")  # fmt: skip


def test_the_rows_of_a_list_stay_where_their_outputs_are_done(place):
    path = place / "labels.csv"
    path.write_text('file,label\na.jpg,"cat, black"\nabsent.jpg,dog\ndeep/c.png,7\na.jpg,second\n/etc/passwd,no\n')
    for n in range(2):
        save(place / "styles" / f"{n}.png", painting(40 + n, 40))
    options = {"path_column": "file", "annotations": path}
    with pytest.raises(SettingsError, match="no input is a list"):
        render(place / "in", place / "style.png", place / "out", QUICK, path_column="file")
    render(place / "in", place / "styles", place / "out", QUICK, assign="each", **options)
    with (place / "out" / "annotations.csv").open(newline="") as file:
        found = list(csv.reader(file))
    assert found == [["file", "label"], ["a~0.jpg", "cat, black"], ["a~1.jpg", "cat, black"], ["deep/c~0.png", "7"],
                     ["deep/c~1.png", "7"], ["a~0.jpg", "second"], ["a~1.jpg", "second"]]  # fmt: skip
    again = render(place / "out" / "annotations.csv", place / "style.png", place / "twice", QUICK, path_column="file")
    assert again.done == 4  # the copy is a list of the output folder


def test_shards_leave_one_copy_of_all_of_them(place):
    path = place / "labels.jsonl"
    path.write_text("".join(json.dumps({"path": name, "n": n}) + "\n" for n, name in enumerate(SIZES)))
    for n in (1, 2):
        run(place, path, shard=f"{n}/2")
    assert (place / "out" / "annotations.jsonl").read_text() == path.read_text()


def test_annotations_in_the_output_folder_are_not_replaced(place):
    (place / "out").mkdir()
    (place / "out" / "settings.json").write_text("{}")
    path = place / "out" / "annotations.csv"
    path.write_text("path\na.jpg\n")
    with pytest.raises(InputError, match="lies in the output folder"):
        run(place, path)
