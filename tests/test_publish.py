"""`jaxstyle publish`: the marker is there only while all objects are, whatever ends a publication."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager

import pytest
import stores
import stub
from command import run as command
from documents import format_tables
from pictures import painting, photo, save
from whole_runs import QUICK

from jaxstyle.data import stores as ours
from jaxstyle.data.publishing import publish
from jaxstyle.data.publishing.commit import MARKER, Marker
from jaxstyle.data.publishing.record import RECORD, RecordHead, RecordLine
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, StorageError

json_names = format_tables.json_names
URL, OWN = "memory://bucket/out", {MARKER, RECORD}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with four outputs."""
    place = tmp_path_factory.mktemp("publish")
    save(place / "style.png", painting())
    for n, name in enumerate(("a.png", "b.png", "deep/c.png", "deep/d.png")):
        save(place / "photos" / name, photo(30, 24, n))
    with pytest.MonkeyPatch.context() as patch:
        stub.install(patch.setattr)
        render(place / "photos", place / "style.png", place / "out", QUICK)
    return place / "out"


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it."""
    for path in (*finished.rglob("*.png"), finished / "manifest.jsonl", finished / "settings.json"):
        copy = tmp_path / "out" / path.relative_to(finished)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "out"


@pytest.fixture
def memory(monkeypatch):
    return stores.install(monkeypatch)


def there(memory):
    """The objects below the URL."""
    return {path.removeprefix("/bucket/out/"): file.getvalue() for path, file in memory.store.items()}


def marked(memory):
    """The marker, which must be true of the objects."""
    objects = there(memory)
    marker = json.loads(objects[MARKER])
    assert marker.keys() == json_names(Marker) and marker["format"] == 1
    head, *lines = map(json.loads, objects[RECORD].splitlines())
    assert head.keys() == json_names(RecordHead) and head["format"] == 1
    assert {name for line in lines for name in line} == json_names(RecordLine)
    assert marker["manifest_sha256"] == hashlib.sha256(objects["manifest.jsonl"]).hexdigest()
    done = [row for row in map(json.loads, objects["manifest.jsonl"].splitlines()) if row["status"] == "done"]
    assert marker["objects"] == len(done)
    assert marker["bytes"] == sum(len(objects[row["key"]]) for row in done)
    for row in done:
        assert hashlib.sha256(objects[row["key"]]).hexdigest() == row["output_sha256"]
    return marker


def changed(out, key="a.png"):
    """Gives an output another content, with its row."""
    save(out / key, photo(30, 24, 50))
    data, lines = (out / key).read_bytes(), (out / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if row["key"] == key:
            row |= {"output_sha256": hashlib.sha256(data).hexdigest(), "output_bytes": len(data)}
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_outputs_manifest_and_settings_are_copied_and_again_nothing_is(out, memory):
    made = publish(out, URL)
    assert (made.objects, made.written, made.missing, made.left_over) == (4, 6, 0, 0)
    assert marked(memory)["objects"] == 4
    objects = there(memory)
    assert set(objects) == {
        "a.png",
        "b.png",
        "deep/c.png",
        "deep/d.png",
        "manifest.jsonl",
        "settings.json",
        MARKER,
        RECORD,
    }
    for name in objects.keys() - OWN:
        assert objects[name] == (out / name).read_bytes()
    calls = []
    stores.Faulty.fault = staticmethod(lambda name, path: calls.append((name, path)))
    assert publish(out, URL).written == 0
    assert {name for name, _ in calls} == {"info", "ls", "cat_file"}
    assert {path.rpartition("/")[2] for name, path in calls if name == "cat_file"} == {RECORD, MARKER}


def test_only_what_differs_is_written_and_the_old_marker_is_gone_before(out, memory):
    publish(out, URL)
    changed(out)
    calls = []
    stores.Faulty.fault = staticmethod(lambda name, path: calls.append((name, path.removeprefix("/bucket/out/"))))
    assert publish(out, URL).written == 2
    writes = [(name, path) for name, path in calls if name in ("rm_file", "pipe_file", "put_file")]
    assert writes[:2] == [("rm_file", MARKER), ("put_file", RECORD)]
    assert writes[4:] == [("put_file", RECORD), ("pipe_file", MARKER)]
    assert {path for _, path in writes[2:4]} == {"a.png", "manifest.jsonl"}
    marked(memory)
    memory.rm_file("/bucket/out/deep/c.png")
    assert publish(out, URL).written == 1
    marked(memory)


class Killed(BaseException):
    """The process ends here."""


def test_a_publication_that_is_killed_anywhere_leaves_no_marker_that_lies(out, memory):
    publish(out, URL)
    before, number = dict(memory.store), 0
    changed(out)
    while True:
        memory.store.clear()
        memory.store.update(before)
        number, left = number + 1, [number + 1]

        def kill(name, path, left=left):
            if name in ("rm_file", "pipe_file", "put_file"):
                left[0] -= 1
                if left[0] == 0:
                    raise Killed

        stores.Faulty.fault = staticmethod(kill)
        try:
            publish(out, URL)
        except Killed:
            stores.Faulty.fault = None
            if MARKER in there(memory):
                assert number == 1 and json.loads(there(memory)[MARKER])
            publish(out, URL)
        marked(memory)
        if left[0] > 0:
            break
    assert number == 7  # all of the marker, two records, two objects, the marker


def test_objects_of_others_are_never_replaced(out, memory, tmp_path):
    memory.pipe_file("/bucket/out/deep/c.png", b"of another")
    memory.pipe_file("/bucket/out/README", b"of another")
    with pytest.raises(InputError, match=r"no publication of this folder wrote: deep/c.png\. Give another prefix"):
        publish(out, URL)
    assert set(there(memory)) == {"deep/c.png", "README"}
    memory.rm_file("/bucket/out/deep/c.png")
    publish(out, URL)
    before = there(memory)
    assert before["README"] == b"of another"
    memory.pipe_file("/bucket/out/a.png", b"changed by another")
    with pytest.raises(InputError, match=r"wrote: a.png\."):
        publish(out, URL)
    assert MARKER in there(memory)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("manifest.jsonl", "settings.json"):
        (other / name).write_bytes((out / name).read_bytes())
    with pytest.raises(InputError, match=f"has a {RECORD} or {MARKER} that no publication of this folder wrote"):
        publish(other, URL)


@pytest.mark.parametrize("name", [MARKER, RECORD])
def test_a_marker_or_record_of_others_is_no_place_to_publish(out, memory, name):
    memory.pipe_file(f"/bucket/out/{name}", b"{}")
    with pytest.raises(InputError, match="Give another prefix"):
        publish(out, URL)
    assert there(memory) == {name: b"{}"}


def test_an_object_that_is_not_what_was_written_ends_it_without_a_marker(out, memory, monkeypatch):
    for damage in (lambda data: data[:-1], lambda data: data[:-1] + b"x"):
        whole = stores.MemoryFileSystem.pipe_file

        def damaged(self, path, value, damage=damage, whole=whole, **_):
            whole(self, path, damage(value) if path.endswith("b.png") else value)

        monkeypatch.setattr(stores.MemoryFileSystem, "pipe_file", damaged)
        with pytest.raises(StorageError, match="b.png is not in the store what was written.*same command again"):
            publish(out, URL)
        monkeypatch.setattr(stores.MemoryFileSystem, "pipe_file", whole)
        assert MARKER not in there(memory)
        memory.store.clear()


def test_an_object_with_its_md5_as_its_tag_is_not_read_again(out, memory, monkeypatch):
    look = ours.Store.look

    def tagged(self, path):
        found = look(self, path)
        data = memory.store[found.path].getvalue()
        return found._replace(stamp=ours.stamp_of_md5(hashlib.md5(data).hexdigest()))

    monkeypatch.setattr(ours.Store, "look", tagged)
    read = []
    stores.Faulty.fault = staticmethod(lambda name, path: read.append(path) if name == "cat_file" else None)
    publish(out, URL)
    assert [path.rpartition("/")[2] for path in read] == ["manifest.jsonl"]  # which is written from a file


def test_errors_of_the_store_are_tried_again_and_then_end_it(out, memory):
    left = [1]

    def fault(name, path):
        if name == "pipe_file" and path.endswith("b.png") and left[0]:
            left[0] -= 1
            raise OSError(5, "throttled")

    stores.Faulty.fault = staticmethod(fault)
    publish(out, URL)
    changed(out, "b.png")
    left[0] = 10**6
    with pytest.raises(StorageError, match="cannot be copied to memory://bucket/out .*throttled.*same command again"):
        publish(out, URL)
    assert MARKER not in there(memory)
    stores.Faulty.fault = None
    assert publish(out, URL).written >= 1
    marked(memory)


def test_an_unfinished_folder_needs_leave(out, memory, monkeypatch):
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    rows[1] |= {"status": "failed", "reason": "damaged"}
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="1 inputs have failed .*--allow-missing"):
        publish(out, URL)
    made = publish(out, URL, allow_missing=True)
    assert (made.objects, made.missing) == (3, 1) and marked(memory)["missing"] == 1
    monkeypatch.setattr("jaxstyle.data.lock.holders", lambda folder: [{}])
    with pytest.raises(InputError, match="1 runs are at work"):
        publish(out, URL)


def test_an_output_without_a_row_any_more_stays_and_is_told_of(out, memory):
    publish(out, URL)
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text("".join(lines[1:]))
    for _ in range(2):
        made = publish(out, URL)
        assert (made.objects, made.left_over) == (3, 1) and "1 objects of earlier" in made.told()[1]
    (out / "manifest.jsonl").write_text("".join(lines))
    assert publish(out, URL).left_over == 0
    marked(memory)


@pytest.mark.parametrize("name", [MARKER, RECORD])
def test_what_a_newer_version_has_published_is_refused(out, memory, name):
    publish(out, URL)
    place = f"/bucket/out/{name}"
    memory.pipe_file(place, memory.cat_file(place).replace(b'"format": 1', b'"format": 2', 1))
    changed(out)
    before = there(memory)
    with pytest.raises(
        InputError, match="that no publication of this folder wrote. .* use a newer jaxstyle if one wrote it"
    ):
        publish(out, URL)
    assert there(memory) == before


def test_a_damaged_output_is_not_published(out, memory):
    (out / "a.png").write_bytes(b"x")
    with pytest.raises(StorageError, match="does not have the checksum of its row"):
        publish(out, URL)
    assert MARKER not in there(memory)


def test_every_call_of_the_store_is_watched(out, memory):
    here, calls = threading.local(), set()

    @contextmanager
    def watch(what):
        here.what = what
        yield
        here.what = ""

    def fault(name, path):
        assert getattr(here, "what", "")
        calls.add(name)

    stores.Faulty.fault = staticmethod(fault)
    publish(out, URL, watch=watch)
    changed(out)
    publish(out, URL, watch=watch)
    assert calls == set(stores.CALLS)


def test_the_command_and_what_it_refuses(out, memory, capsys):
    assert command("publish", out, URL) == 0
    told = capsys.readouterr()
    assert told.out == f"{URL}/{MARKER}\n" and "4 outputs, 0 missing: 6 objects written" in told.err
    assert command("publish", out, URL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == 0
    assert command("publish", out, "s3://user:hush@bucket/x") == 2
    assert command("publish", out / "deep", URL) == 2
    assert command("publish", out, URL, "--stall-timeout", 0) == 2
    settings = json.loads((out / "settings.json").read_text())
    settings["about"]["places"]["inputs"] = ["memory://bucket/photos"]
    (out / "settings.json").write_text(json.dumps(settings))
    assert command("publish", out, "memory://bucket/photos/out") == 2
    told = capsys.readouterr().err
    assert "hush" not in told and "lies among the inputs in memory://bucket/photos" in told
