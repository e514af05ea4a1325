"""What is told of an output folder: rows that were written twice, cut, or damaged; files that are not as recorded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tracemalloc
from pathlib import Path

import pytest
from pictures import photo, save
from PIL import Image

from jaxstyle.data import audit, reading
from jaxstyle.data.audit import status, verify
from jaxstyle.data.lock import locked
from jaxstyle.data.manifest import Manifest
from jaxstyle.data.rows import Row
from jaxstyle.errors import InputError, StorageError

ABOUT = {"jaxstyle": "0.2", "style": "caf\\xe9.png", "weights": "lpips"}


def line(key: str, status: str = "done", **fields) -> str:
    return json.dumps({"key": key, "status": status} | fields) + "\n"


def append(output: Path, *lines: str, name: str = "manifest.jsonl") -> None:
    with (output / name).open("a") as file:
        file.write("".join(lines))


def picture(output: Path, key: str, **row) -> str:
    """Writes an output and returns its row."""
    data = save(output / key, photo(20, 16)).read_bytes()
    return line(key, output_bytes=len(data), output_sha256=hashlib.sha256(data).hexdigest(), **row)


@pytest.fixture
def output(tmp_path):
    """A folder of a finished run: two pictures, one failed input, one skipped."""
    (tmp_path / "settings.json").write_text(json.dumps({"decides": {}, "about": ABOUT}))
    append(
        tmp_path,
        picture(tmp_path, "a.png", evaluations=200, seconds=1.25),
        picture(tmp_path, "sub/b.jpg", evaluations=100, seconds=0.5),
        line("c.jpg", "failed", reason="cannot be decoded"),
        line("notes.txt", "skipped", reason="not a picture"),
    )
    return tmp_path


def snapshot(folder: Path) -> dict[Path, tuple]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_folder(output):
    before = snapshot(output)
    os.utime(output / "manifest.jsonl", (0, 1_700_000_000))
    found, verdict = status(output), verify(output)
    assert found == audit.FolderStatus(
        output, {"done": 2, "skipped": 1, "failed": 1},
        [("failed", "cannot be decoded", 1), ("skipped", "not a picture", 1)],
        evaluations=300, seconds=1.75, written=1_700_000_000.0, about=ABOUT,
    )  # fmt: skip
    assert verdict == audit.Verdict(output, checked=2) and verdict.ok
    os.utime(output / "manifest.jsonl", ns=(0, before[output / "manifest.jsonl"][0]))
    assert snapshot(output) == before


def test_rows_as_the_manifest_writes_them(tmp_path):
    data = save(tmp_path / "a.png", photo(20, 16)).read_bytes()
    ledger = Manifest(tmp_path)
    checksum = hashlib.sha256(data).hexdigest()
    ledger.append(Row("a.png", "done", output_bytes=len(data), output_sha256=checksum, evaluations=7, seconds=0.5))
    ledger.append(Row("b.png", "failed", "diverged"))
    ledger.close()
    assert verify(tmp_path).ok
    found = status(tmp_path)
    assert (found.rows, found.evaluations, found.seconds) == ({"done": 1, "skipped": 0, "failed": 1}, 7, 0.5)
    assert found.reasons == [("failed", "diverged", 1)] and found.about is None


@pytest.mark.parametrize("function", [status, verify])
def test_other_folders_are_refused(tmp_path, function):
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "photo.jpg"):
        with pytest.raises(InputError, match=f"{folder.name} is not an output folder of jaxstyle") as caught:
            function(folder)
        assert caught.value.remedy
    (tmp_path / "settings.json").write_text('{"about": {}}')  # a run that has no row yet
    assert function(tmp_path)


def test_the_last_row_of_a_key_counts_over_all_ledgers(output):
    append(output, line("c.jpg", evaluations=1, seconds=1), line("c.jpg", "failed", reason="worse"))
    append(output, line("a.png", "failed", reason="worse"), line("d.jpg", "skipped"), name="manifest-1-of-2.jsonl")
    append(output, line("d.jpg", evaluations=20, seconds=3), name="manifest-2-of-2.jsonl")
    os.utime(output / "manifest.jsonl", (0, 1_700_000_000))
    os.utime(output / "manifest-1-of-2.jsonl", (0, 1_700_000_500))
    os.utime(output / "manifest-2-of-2.jsonl", (0, 1_700_000_900))
    found = status(output)
    assert found.rows == {"done": 2, "skipped": 1, "failed": 2}
    assert (found.evaluations, found.seconds) == (120, 3.5)
    assert found.reasons == [("failed", "worse", 2), ("skipped", "not a picture", 1)]
    assert found.written == 1_700_000_900.0
    assert verify(output).problems == [
        ("a.png", "has a file although its row says failed"),
        ("d.jpg", "is missing"),
    ]


def test_the_most_common_reasons_are_told(output):
    keys = iter(range(1000))
    append(output, *(line(f"{next(keys)}", "failed", reason=f"why {n:02}") for n in range(15) for _ in range(n)))
    reasons = status(output).reasons
    assert len(reasons) == audit.REASONS
    assert reasons[0] == ("failed", "why 14", 14) and reasons[-1] == ("failed", "why 05", 5)


def test_a_torn_last_line_is_told_and_is_no_problem(output):
    whole = status(output)
    for name in ("manifest.jsonl", "manifest-2-of-3.jsonl"):
        append(output, line("e.jpg")[:-1], name=name)
        found, verdict = status(output), verify(output)
        assert found.torn and found.rows == whole.rows and not found.malformed
        assert verdict.torn and verdict.ok
        assert any("truncated" in text for text in found.lines() + verdict.lines())
        (output / "manifest.jsonl").write_bytes((output / "manifest.jsonl").read_bytes().rpartition(b"\n")[0] + b"\n")
    assert not whole.torn


@pytest.mark.parametrize(
    "damage",
    [
        b"{", b"[1]", b"7", b"null", b'"key"', b'{"status": "done"}', b'{"key": [], "status": "done"}',
        b'{"key": "x"}', b'{"key": "x", "status": "finished"}', b'{"key": "x", "status": []}', b"\xff\0",
        b"[" * 100_000, b'{"key": "x", "status": "done", "seed": ' + b"9" * 5000 + b"}",
    ],
    ids=range(13),
)  # fmt: skip
def test_damaged_lines_are_problems_and_the_others_count(output, damage):
    whole = (output / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (output / "manifest.jsonl").write_bytes(b"".join([whole[0], damage + b"\n", *whole[1:]]))
    assert status(output).malformed == 1
    assert status(output).rows == {"done": 2, "skipped": 1, "failed": 1}
    verdict = verify(output)
    assert verdict.problems == [("manifest.jsonl", "line 2 is not a row of a manifest")]
    assert not verdict.ok and verdict.checked == 2


@pytest.mark.parametrize("name", ["evaluations", "seconds"])
def test_a_row_with_an_impossible_number_is_malformed(output, name):
    odd = ['"many"', "null", "NaN", "Infinity", "1e999", "[]", "1" + "0" * 400]
    append(output, *(f'{{"key": "{n}", "status": "done", "{name}": {v}}}\n' for n, v in enumerate(odd)))
    found = status(output)
    assert (found.malformed, found.rows["done"], found.evaluations, found.seconds) == (len(odd), 2, 300, 1.75)


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-1])
    elif how == "bit":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "fifo":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("gone", "is missing"), ("cut", r"has \d+ bytes, not \d+ as recorded"),
        ("bit", "does not have the recorded checksum"), ("folder", "is not a regular file"),
        ("fifo", "is not a regular file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["a.png", "sub/b.jpg"])
def test_a_file_that_is_not_as_recorded(output, key, how, said):
    spoil(output / key, how)
    [(where, problem)] = verify(output).problems
    assert where == key and re.fullmatch(said, problem)


def test_a_recorded_file_that_does_not_decode(output):
    for key, data in (("e.png", (output / "a.png").read_bytes()[:-60]), ("f.png", b"no picture")):
        (output / key).write_bytes(data)
        append(output, line(key, output_bytes=len(data), output_sha256=hashlib.sha256(data).hexdigest()))
    problems = dict(verify(output).problems)
    assert problems["e.png"].startswith("is not a whole picture: ends within a chunk")
    assert problems["f.png"] == "is not a whole picture: the file is no picture of a known format"
    assert len(problems) == 2


def test_rows_of_version_0_1_have_no_checksum(output):
    save(output / "e.png", photo(20, 16))
    append(output, line("e.png"), line("f.png", output_bytes=0, output_sha256=""))
    assert verify(output).problems == [("f.png", "is missing")]
    (output / "e.png").write_bytes((output / "e.png").read_bytes()[:-60])
    save(output / "f.png", photo(20, 16))
    [(key, problem)] = verify(output).problems
    assert key == "e.png" and problem.startswith("is not a whole picture")


def test_a_file_of_a_row_that_is_not_done(output):
    for key in ("c.jpg", "notes.txt"):
        (output / key).write_bytes(b"")
    assert verify(output).problems == [
        ("c.jpg", "has a file although its row says failed"),
        ("notes.txt", "has a file although its row says skipped"),
    ]


def test_folders_and_the_runs_own_files_may_have_the_names_of_skipped_inputs(output):
    (output / "contact_sheet.png").write_bytes(b"")
    keys = ("sub", "manifest.jsonl", "settings.json", "contact_sheet.png", "sub/settings.json")
    append(output, *(line(key, "skipped", reason="not a picture") for key in keys))
    assert verify(output).ok
    (output / "sub" / "settings.json").write_bytes(b"")  # is not the run's
    assert verify(output).problems == [("sub/settings.json", "has a file although its row says skipped")]


def test_files_that_no_row_tells_of(output):
    own = ("contact_sheet.png", ".jaxstyle-lock", ".jaxstyle-lock-1-of-2.json", "manifest-1-of-2.jsonl")
    others = ("A.png", "sub/contact_sheet.png", "sub/deep/x", "z/manifest.jsonl", "sub/.jaxstyle-lock", ".hidden",
              ".jaxstyle-lock-folder/x")  # fmt: skip
    unfinished = (".jaxstyle-partial-1-2-3", "sub/.jaxstyle-partial-9")
    for key in (*own, *others, *unfinished):
        (output / key).parent.mkdir(parents=True, exist_ok=True)
        (output / key).write_bytes(b"")
    (output / "empty folder").mkdir()
    verdict = verify(output)
    assert sorted(verdict.orphans) == sorted(others)
    assert verdict.temporaries == list(unfinished)
    assert verdict.ok
    assert "without a row: sub/deep/x" in verdict.lines() and f"unfinished: {unfinished[1]}" in verdict.lines()


def test_keys_that_lead_out_of_the_folder_are_never_opened(output, monkeypatch):
    outside = output.parent / f"{output.name}-outside"
    outside.mkdir()
    save(outside / "x.png", photo(20, 16))
    save(outside / "deep" / "x.png", photo(20, 16))
    (output / "link.png").symlink_to(outside / "x.png")
    (output / "nothing.png").symlink_to(outside / "absent")
    (output / "folder").symlink_to(outside)
    up = f"../{outside.name}/x.png"
    written = [up, f"sub/../{up}", str(outside / "x.png"), "..", "", ".", "/"]
    linked = ["link.png", "nothing.png", "folder/x.png", "folder/deep/x.png", "folder/absent.png"]
    append(output, *(line(key) for key in written + linked), line(up + "2", "failed"))
    opened = []
    os_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: (opened.append(path), os_open(path, *a, **k))[1])
    verdict = verify(output)
    assert dict(verdict.problems) == {
        **dict.fromkeys([*written, up + "2"], "leads out of the folder: not read"),
        **dict.fromkeys(linked, "is, or lies behind, a link: not read"),
    }
    names = {"settings.json", "manifest.jsonl", "a.png", "b.jpg"}
    names |= {output.name, ".", "sub", "folder", "mountinfo"}  # folders; a link in their place is refused by the system
    assert {os.path.basename(path) or path for path in opened if isinstance(path, str | Path)} <= names
    assert verdict.orphans == ["folder"]  # and nothing in it


def test_no_link_in_the_folder_is_followed_but_one_to_the_folder_is(output):
    (output / "e.png").symlink_to("a.png")
    (output / "loop.png").symlink_to("loop.png")
    (output / "linked").symlink_to("sub")
    keys = ["e.png", "loop.png", "linked/b.jpg"]
    append(output, *map(line, keys))
    link = output.parent / f"{output.name}-link"
    link.symlink_to(output)
    for folder in (output, link):
        assert dict(verify(folder).problems) == dict.fromkeys(keys, "is, or lies behind, a link: not read")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nul\0.png", "is not a valid file name"),
        ("half\ud800.png", "is not a valid file name"),
        ("x" * 300, "cannot be read (File name too long)"),
        ("a.png/b.png", "is missing"),
    ],
)
def test_keys_that_no_file_has(output, key, said):
    append(output, line(key, reason=key))
    verdict = verify(output)
    assert verdict.problems == [(key, said)]
    "\n".join(verdict.lines()).encode()
    json.dumps(verdict.as_json(), ensure_ascii=False).encode()


def test_names_that_are_not_utf8(output):
    key, stray = os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"stray\xff")
    append(output, picture(output, key), line(stray + ".jpg", "failed", reason=f"no {stray}"))
    (output / stray).write_bytes(b"")
    verdict, found = verify(output), status(output)
    assert verdict.ok and verdict.checked == 3 and verdict.orphans == [stray]
    assert verdict.as_json()["orphans"] == [r"stray\xff"]
    assert {"status": "failed", "reason": r"no stray\xff", "inputs": 1} in found.as_json()["reasons"]
    assert r"  1 failed: no stray\xff" in found.lines()
    "\n".join(verdict.lines() + found.lines()).encode()


def test_a_folder_or_file_that_cannot_be_read_is_a_problem(output, monkeypatch):
    os_open = os.open

    def refusing(path, *args, **options):
        if path in ("sub", "a.png") and not args[0] & os.O_PATH:  # which asks for no permission
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return os_open(path, *args, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert verify(output).problems == [
        ("a.png", "cannot be read (Permission denied)"),
        ("sub", "cannot be read (Permission denied)"),
    ]


@pytest.mark.parametrize("function", [status, verify])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("a.png")])
@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest-1-of-2.jsonl"])
def test_a_ledger_that_is_not_a_regular_file_is_a_storage_error(output, function, make, name):
    (output / name).unlink(missing_ok=True)
    make(output / name)
    with pytest.raises(StorageError, match=rf"{name} cannot be read \((Is|Not) a "):
        function(output)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("a.png")])
def test_settings_that_are_not_a_regular_file_are_damaged(output, make):
    (output / "settings.json").unlink()
    make(output / "settings.json")
    assert status(output).about is None
    assert verify(output).problems == [("settings.json", "is damaged")]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"about": [1]}', b"[" * 100_000], ids=range(8)
)
def test_damaged_settings(output, content):
    (output / "settings.json").write_bytes(content)
    assert status(output).about is None
    assert "settings.json is absent or damaged" in status(output).lines()
    assert verify(output).problems == [("settings.json", "is damaged")]
    (output / "settings.json").unlink()
    assert verify(output).ok


def test_progress_is_told_after_every_file(output):
    told = []
    verify(output, told.append)
    assert told == [1, 2]


def test_who_is_at_work_is_told(output):
    with locked(output, (2, 5)) as mine:
        for found in (status(output), verify(output)):
            assert [one["pid"] for one in found.holders] == [os.getpid()]
            assert found.as_json()["holders"][0]["part"] == "2/5"
            assert found.lines()[-1] == (
                f"at work: shard 2/5 on {mine['host']}, process {os.getpid()}, since {mine['since']}"
            )
    with locked(output):
        assert status(output).lines()[-1].startswith("at work: a run on ") and not status(output).shards
    assert not status(output).holders and "at work" not in "".join(status(output).lines())


def test_what_is_told_in_json_and_in_words(output):
    os.utime(output / "manifest.jsonl", (0, 1_700_000_000))
    assert json.loads(json.dumps(status(output).as_json(), allow_nan=False)) == {
        "output": str(output), "rows": {"done": 2, "skipped": 1, "failed": 1},
        "reasons": [{"status": "failed", "reason": "cannot be decoded", "inputs": 1},
                    {"status": "skipped", "reason": "not a picture", "inputs": 1}],
        "evaluations": 300, "seconds": 1.75, "written": "2023-11-14T22:13:20+00:00", "holders": [], "about": ABOUT,
        "torn": False, "malformed": 0, "shards": [],
    }  # fmt: skip
    assert status(output).lines() == [
        f"{output}: 2 done, 1 skipped, 1 failed; last row 2023-11-14T22:13:20+00:00",
        "300 evaluations, 2 s on the device",
        "  1 failed: cannot be decoded",
        "  1 skipped: not a picture",
        *(f"{name}: {value}" for name, value in ABOUT.items()),
    ]
    (output / "a.png").unlink()
    assert json.loads(json.dumps(verify(output).as_json())) == {
        "output": str(output), "ok": False, "checked": 2, "problems": [{"key": "a.png", "problem": "is missing"}],
        "orphans": [], "temporaries": [], "torn": False, "holders": [],
    }  # fmt: skip
    assert verify(output).lines() == [f"{output}: 2 outputs checked, 1 problem", "  a.png: is missing"]


def test_long_lists_are_cut_for_people_only(output):
    append(output, *(line(f"{n}.png") for n in range(50)))
    verdict = verify(output)
    assert len(verdict.lines()) == 2 + audit.SHOWN and verdict.lines()[-1] == "  and 30 more"
    assert len(verdict.as_json()["problems"]) == 50


def test_a_shard_that_is_folded_meanwhile_is_looked_for_again(output, monkeypatch):
    append(output, line("c.jpg"), name="manifest-1-of-2.jsonl")
    ledgers = reading.ledgers
    calls = []

    def folded_after(folder):
        found = ledgers(folder)
        if not calls and len(found) == 2:
            append(output, (output / found[1]).read_text())
            (output / found[1]).unlink()
        calls.append(found)
        return found

    monkeypatch.setattr(reading, "ledgers", folded_after)
    assert status(output).rows == {"done": 3, "skipped": 1, "failed": 0}
    assert len(calls) == 2


def test_a_row_that_changes_between_the_two_readings_is_an_error(output):
    with reading.LastRows(output) as read:
        data = (output / "manifest.jsonl").read_bytes()
        (output / "manifest.jsonl").write_bytes(data.replace(b'"done"', b'"lost"', 1))
        with pytest.raises(StorageError, match=r"manifest\.jsonl changed while it was read: its status is not valid"):
            list(read)


def test_rows_that_a_run_appends_while_they_are_read_do_not_count(output):
    with reading.LastRows(output) as read:
        append(output, line("c.jpg"), line("new.jpg"))
        os.replace(output / "manifest.jsonl", output / "manifest-1-of-2.jsonl")  # as folding does
        assert [(row.key, row.status) for row in read] == [
            ("a.png", "done"), ("sub/b.jpg", "done"), ("c.jpg", "failed"), ("notes.txt", "skipped"),
        ]  # fmt: skip
        assert "c.jpg" in read and "new.jpg" not in read and "" not in read


def test_many_rows_take_little_memory(tmp_path):
    with (tmp_path / "manifest.jsonl").open("w") as file:
        for n in range(20_000):
            file.write(line(f"folder/photograph-{n:07}.jpg", input_sha256="0" * 64, evaluations=200, seconds=0.5))
    tracemalloc.start()
    found = status(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.rows["done"] == 20_000 and found.evaluations == 4_000_000
    assert peak < 100 * 20_000  # bytes; the rows themselves would take 20 times as much


def test_a_picture_that_claims_too_much_is_not_decoded(output, monkeypatch):
    monkeypatch.setattr(audit, "MAX_PIXELS", 319)
    problems = dict(verify(output).problems)
    assert problems["a.png"] == "is not a whole picture: claims 20 x 16 pixels, more than 319" and len(problems) == 2
    assert Image.open(output / "a.png").size == (20, 16)
