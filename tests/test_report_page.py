"""`jaxstyle report`: the files of a page without a browser, which rows they show, and what is written again."""

import dataclasses
import hashlib
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
import reports
from command import run
from documents import format_tables
from pictures import encoded, page, photo, tiff
from reports import BROKEN, HOSTILE, asked, done, folder, index_of, manifest, shown, state

from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.rows import LONGEST_CURVE, Row
from jaxstyle.errors import ImageError, InputError
from jaxstyle.report import chunks, gallery, thumbnails
from jaxstyle.report.chunks import Cells, script
from jaxstyle.report.gallery import Gallery, default_target, write
from jaxstyle.report.rows_index import Index
from jaxstyle.report.server import POLICY
from jaxstyle.report.sources import relative
from jaxstyle.report.timeline import Timeline

PAGE = Path(gallery.__file__).parent / "page"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    reports.quickly(monkeypatch.setattr)


@pytest.fixture
def place(tmp_path):
    return folder(tmp_path)


def test_failures_come_first_and_every_row_is_there_once(place):
    written = write(asked(place))
    assert written.rows == 5 and written.page == place / "report/index.html" and written.page.is_file()
    rows = shown(place)
    assert [row["key"] for row in rows] == ["a/broken.jpg", "a/one.jpg", "a/two.png", "b/three.jpg", "notes.txt"]
    assert [row["status"] for row in rows] == [2, 0, 0, 0, 1] and rows[0]["reason"] == BROKEN
    assert [row["loss"] for row in rows] == [None, 9, 8, 7, None] and rows[1]["style_loss"] == 4.5
    assert rows[1]["more"]["loss"] == {"content": 1.8, "style": 4.5, "tv": 2.7, "total": 9}
    assert rows[1]["more"]["curve"]["content"] == [1.0, 2.0, 3.0, 1.8] and rows[1]["more"]["occupancy"] == 0.75
    index = index_of(place)
    assert index["counts"] == {"done": 3, "skipped": 1, "failed": 1}
    assert ["failed", BROKEN, 1] in index["reasons"]
    assert [(name, number) for name, _, _, number, _ in index["styles"][:2]] == [("x.png", 3), ("y.png", 1)]
    assert dict(index["folders"]) == {"a": 3, "b": 1, "": 1}
    assert index.keys() == format_tables.json_names(Index)
    assert rows[0].keys() - {"more"} == format_tables.json_names(Cells)
    assert index["settings"] == {"size": 32} and index["about"]["jaxstyle"] == "0.1.0"


def test_addresses_lead_to_the_files(place):
    write(asked(place))
    index, rows = index_of(place), shown(place)
    for row in rows[1:4]:
        assert (place / "report" / index["outputs"] / row["key"]).is_file()
        assert (place / "report" / index["bases"][row["base"] - 1] / row["key"]).is_file()
        for name in (row["thumb"], row["photo_thumb"]):
            assert (place / f"report/thumbs/{name[:2]}/{name}.jpg").is_file()
    for _, address, thumb, _, _ in index["styles"][:2]:
        assert (place / "report" / address).is_file() and (place / f"report/thumbs/{thumb[:2]}/{thumb}.jpg").is_file()


def test_what_a_browser_cannot_open_has_thumbnails_alone(place):
    data = reports.write_file(place / "out/scan.tif", tiff(page(photo(16, 12))))
    manifest(place / "out", [done("scan.tif", data), done("gone.jpg", b"x")])
    write(asked(place))
    scan, gone = shown(place)
    assert (
        scan["shown"] == 0
        and scan["thumb"]
        and (place / f"report/thumbs/{scan['thumb'][:2]}/{scan['thumb']}.jpg").is_file()
    )
    assert (gone["shown"], gone["thumb"], gone["finished"]) == (0, "", 0)


def test_rows_of_hdf5_files_have_thumbnails(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["images"] = np.stack([photo(32, 24, n) for n in range(2)])
    key = "d/images/00000001.png"
    with Gallery(asked(tmp_path := folder(tmp_path), inputs=(tmp_path / "d.h5",), styles=())) as made:
        content = made.pictures.photographs._source.open("0:1").read()
    manifest(tmp_path / "out", [done(key, b"", input_sha256=hashlib.sha256(content).hexdigest())])
    assert write(asked(tmp_path, inputs=(tmp_path / "d.h5",), styles=())).thumbnails == 1
    (row,) = shown(tmp_path)
    assert row["base"] == 0 and row["photo_thumb"]


def test_chunks_hold_some_rows_each(place, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2)
    write(asked(place))
    assert [number for number, _, _ in index_of(place)["chunks"]] == [1, 2, 2]
    assert len(shown(place)) == 5


def test_text_in_scripts_is_ascii_without_tags_and_comes_back():
    given = {"key": [*HOSTILE, BROKEN, "\u2028", "</script>"], "number": [1.5, None]}
    made = script("rows", given)
    assert made.isascii() and b"<" not in made and made.count(b"\n") == 1
    assert json.loads(made.decode()[len("Report.rows(") : -3]) == given


def test_numbers_that_json_lacks_do_not_break_a_script(place):
    reports.settings(place / "out", style_weight=float("inf"), odd=[float("nan")])
    write(asked(place))
    assert index_of(place)["settings"]["style_weight"] is None and index_of(place)["settings"]["odd"] == [None]


def test_the_page_has_a_strict_policy_and_nothing_inline():
    class Parser(HTMLParser):
        tags = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            self.tags.append((tag, dict(attributes)))

        def handle_data(self, data):
            assert not data.strip() or self.tags[-1][0] not in ("script", "style")

    parser = Parser()
    parser.feed((PAGE / "index.html").read_text())
    policy = next(
        found["content"] for tag, found in parser.tags if found.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy + "; frame-ancestors 'none'" == POLICY
    assert not any(word in policy for word in ("unsafe", "*", "data:", "http"))
    for tag, attributes in parser.tags:
        assert tag != "style" and "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "script" or attributes["src"].startswith("page/")


@pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
def test_the_files_of_the_page_read_in_one_sitting_and_load_nothing_from_elsewhere(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 320
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text


def test_a_second_report_writes_nothing(place):
    write(asked(place))
    before = state(place / "report")
    assert write(asked(place)).thumbnails == 0 and state(place / "report") == before


def test_a_new_row_changes_the_index_and_the_last_chunk_alone(place, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2)
    write(asked(place))
    before = state(place / "report")
    with (place / "out/manifest.jsonl").open("a") as file:
        file.write(json.dumps(done("b/four.jpg").as_json()) + "\n")
    write(asked(place))
    after = state(place / "report")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert "data/index.js" in changed and len(changed) == 3 and len(shown(place)) == 6  # two files of a new chunk


def test_what_the_index_no_longer_names_is_deleted_and_nothing_else(place):
    write(asked(place))
    own = {"data/note.txt", "thumbs/readme", "mine.txt"}
    for name in own:
        reports.write_file(place / "report" / name, b"")
    left = reports.write_file(place / f"report/data/{TEMPORARY}killed", b"")
    assert left == b""
    manifest(place / "out", [done("b/three.jpg", (place / "out/b/three.jpg").read_bytes())])
    write(asked(place, inputs=(), styles=()))
    there = state(place / "report").keys()
    assert own <= there and sum(name.endswith(".jpg") for name in there) == 1
    assert sum(name.startswith("data/") for name in there) == 4 and not any(TEMPORARY in name for name in there)


def test_a_folder_that_is_no_report_is_refused_and_not_touched(place):
    reports.write_file(place / "report/letter.txt", b"mine")
    with pytest.raises(InputError, match="holds files and is no report"):
        write(asked(place))
    assert [*state(place / "report")] == ["letter.txt"]


@pytest.mark.parametrize("target", ["out", "out/report", "in/report", "."])
def test_a_report_does_not_lie_among_pictures(place, target):
    before = state(place)
    with pytest.raises(InputError, match="overlaps"):
        write(dataclasses.replace(asked(place), target=place / target))
    assert state(place) == before


def test_the_folder_of_a_report_lies_beside_the_outputs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert default_target(Path("a/out")) == Path("a/out-report")
    assert default_target(Path(".")) == Path(f"{tmp_path}-report") == default_target(tmp_path / "x" / "..")


def test_an_unfinished_run_has_a_report(place):
    whole = (place / "out/manifest.jsonl").read_text()
    (place / "out/manifest.jsonl").write_text(whole + "no row\n" + whole[:30])
    (place / "out/settings.json").write_text("{")
    assert write(asked(place)).rows == 5
    index = index_of(place)
    assert index["malformed"] == 1 and index["settings"] == {} == index["about"]


def test_a_run_that_has_no_row_yet_has_an_empty_report(place):
    manifest(place / "out", [])
    assert write(asked(place)).rows == 0 and index_of(place)["chunks"] == []
    with pytest.raises(InputError, match="is not an output folder"):
        write(dataclasses.replace(asked(place), output=place / "in"))


def test_keys_that_lead_out_of_the_folder_have_no_pictures(place):
    data = reports.write_file(place / "secret.jpg", encoded(photo(8, 8), "JPEG"))
    (place / "out/link.jpg").symlink_to(place / "secret.jpg")
    (place / "out/way").symlink_to(place, target_is_directory=True)
    keys = ["../secret.jpg", f"{place}/secret.jpg", "link.jpg", "a/../../secret.jpg", "nul\0.jpg", "style://x"]
    manifest(place / "out", [done(key, data) for key in [*keys, "way/secret.jpg"]])
    assert write(asked(place, styles=())).thumbnails == 0
    assert all((row["shown"], row["thumb"], row["base"], row["finished"]) == (0, "", 0, 0) for row in shown(place))
    with Gallery(asked(place)) as made, pytest.raises(ImageError, match="cannot be read"):
        made.pictures.result(done("way/secret.jpg", data)).read()  # a link that came since
    with Gallery(asked(place)) as made, pytest.raises(ImageError, match="is not a regular file"):
        made.pictures.result(done("link.jpg", data)).read()


def test_a_broken_style_is_a_failed_row_without_pictures(place):
    manifest(place / "out", [Row("style://x.png", "failed", "is cut short")])
    write(asked(place))
    (row,) = shown(place)
    assert row["style"] == -1 and row["base"] == 0 and index_of(place)["styles"] == []


def test_thumbnails_are_bounded_and_made_once(place):
    assert write(asked(place, styles=(), thumbnails=1)).thumbnails == 2  # of a photograph and its result
    rows = [row for row in shown(place) if row["status"] == 0]
    assert [bool(row["thumb"]) for row in rows] == [True, False, False]
    assert all(row["shown"] and row["base"] for row in rows)
    assert write(asked(place, styles=(), thumbnails=2)).thumbnails == 2
    one = next((place / "report/thumbs").rglob("*.jpg"))
    one.unlink()
    assert write(asked(place, styles=(), thumbnails=2)).thumbnails == 1 and one.is_file()
    assert write(asked(place, thumbnails=0)).thumbnails == 0 and not [*(place / "report/thumbs").rglob("*.jpg")]


def test_a_thumbnail_is_small_and_of_the_picture_of_its_row(place):
    wide = encoded(photo(900, 300), "JPEG")
    reports.write_file(place / "out/a/one.jpg", wide)  # another picture than the row tells
    reports.write_file(place / "out/wide.jpg", wide)
    manifest(place / "out", [done("a/one.jpg", b"before"), done("wide.jpg", wide)])
    assert write(asked(place, inputs=(), styles=())).thumbnails == 1
    other, one = shown(place)
    from PIL import Image

    with Image.open(place / f"report/thumbs/{one['thumb'][:2]}/{one['thumb']}.jpg") as small:
        assert small.size == (thumbnails.SIZE, round(thumbnails.SIZE / 3)) and small.format == "JPEG"
    assert not (place / f"report/thumbs/{other['thumb'][:2]}/{other['thumb']}.jpg").exists()


def test_what_cannot_be_decoded_is_not_tried_twice(place):
    data = reports.write_file(place / "out/bad.jpg", b"\xff\xd8\xff nothing")
    manifest(place / "out", [done("bad.jpg", data)])
    with Gallery(asked(place, inputs=(), styles=())) as made:
        made.build()
        tried = []
        real = made.pictures._read_result
        made.pictures._read_result = lambda key: tried.append(key) or real(key)
        made.build()
        assert made.make_thumbnails() == 0 == made.make_thumbnails() and tried == ["bad.jpg"]


def test_nothing_is_decoded_once_the_end_is_asked_for(place):
    with Gallery(asked(place)) as made:
        made.build()
        assert made.make_thumbnails(ended=lambda: True) == 0


def test_addresses_are_encoded_and_always_paths(tmp_path):
    assert relative(tmp_path / "caf\udce9 #?%", tmp_path) == "./caf%E9%20%23%3F%25"
    assert relative(f"{tmp_path}/javascript:x/", tmp_path) == "./javascript%3Ax/"
    assert relative(tmp_path, tmp_path) == "./." and relative(f"{tmp_path}/", tmp_path / "a") == "../"


def test_the_timeline_has_the_rate_and_the_device_time_of_the_latest_runs():
    made = Timeline()
    for run_number in range(1, 8):
        for n in range(41):
            made.add(Row("a", "done", run=run_number, seconds=0.25), 1000.0 * run_number + n / 2)
    for n in range(23):
        made.add(Row("a", "done", run=9, seconds=1.0), 9000.0 + n)
    found = made.as_json()
    assert [one["run"] for one in found] == [4, 5, 6, 7]  # 9 has too few
    last = found[-1]
    assert last["start"] == 7000 and last["width"] * len(last["images"]) == pytest.approx(20)
    assert sum(last["images"]) * last["width"] == pytest.approx(41, rel=1e-3)
    assert last["device"] == pytest.approx([one / 4 for one in last["images"]], rel=1e-2)
    assert last["lanes"] == [None] * len(last["images"]) and made.occupancy is None  # rows of older versions


def test_the_timeline_has_the_share_of_lanes_that_were_occupied():
    """Ten seconds of four full lanes, then twelve of one lane alone; each picture takes a lane for two seconds."""
    made = Timeline()
    for n in range(20):
        made.add(Row("a", "done", run=1, seconds=0.5, lane_seconds=2.0, occupancy=1.0), 1002 + 2 * (n // 4))
    for n in range(6):
        made.add(Row("a", "done", run=1, seconds=2.0, lane_seconds=8.0, occupancy=0.25), 1012 + 2 * n)
    made.add(Row("a", "done", run=1, seconds=2.0, batch=4), 1002)  # of a version before: not known
    for occupancy, seconds in [(-3.0, 1.0), (1e299, 1e299), (0.5, 1e299)]:  # rows may hold anything
        made.add(Row("a", "done", run=1, seconds=1e299, lane_seconds=seconds, occupancy=occupancy), 1002)
    (found,) = made.as_json()
    assert found["start"] == 1002 and found["width"] == pytest.approx(20 / 3)
    assert max(found["device"]) < 2
    full, alone = 1010 - (1002 + 20 / 3), 1002 + 40 / 3 - 1010  # seconds of the second bin
    assert found["lanes"] == pytest.approx([1, (4 * full + alone) / (4 * full + 4 * alone), 0.25], abs=1e-3)
    assert made.occupancy == pytest.approx((20 * 2 + 6 * 2) / (20 * 2 + 6 * 8), abs=1e-3)


def test_a_curve_of_many_numbers_is_left_out(place):
    """Rows may come from others."""
    manifest(place / "out", [done("a/one.jpg", b"", curve={"style": (1.0,) * n}) for n in (LONGEST_CURVE + 1,)])
    write(asked(place))
    assert shown(place)[0]["more"]["curve"] == {}


def test_the_command_prints_the_page(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert run("report", "out", "--input", "in", "--style", "styles/x.png", "--style", "styles/y.png", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"page": "out-report/index.html", "rows": 5, "thumbnails": 8}
    assert run("report", "out") == 0 and capsys.readouterr().out == "out-report/index.html\n"
    assert (place / "out-report/page/main.js").read_bytes() == (PAGE / "main.js").read_bytes()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--thumbnails", "-1"], "thumbnails is -1"),
        (["--port", "70000", "--watch"], "port is 70000"),
        (["--port", "80"], "--watch is not given"),
        (["--watch", "--json"], "--json is given with --watch"),
        (["--dataset", "x"], "Add --input"),
        (["--input", "nowhere"], "nowhere"),
        (["--style", "nowhere.png"], "nowhere.png"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_written(place, capsys, flags, told):
    before = state(place)
    assert run("report", place / "out", *flags) == 2
    assert told in capsys.readouterr().err and state(place) == before


def test_the_report_of_names_that_are_not_text(tmp_path):
    folder(tmp_path, HOSTILE)
    write(asked(tmp_path))
    rows = shown(tmp_path)
    assert [row["key"] for row in rows if row["status"] == 0] == list(HOSTILE)
    assert all(
        row["shown"] and row["base"] and row["thumb"] and row["photo_thumb"] for row in rows if row["status"] == 0
    )
    assert os.fsencode(index_of(tmp_path)["outputs"]).isascii()
