"""Object stores as inputs: objects are what files in folders are, and errors, changes and hangs cost no more."""

from __future__ import annotations

import errno
import hashlib
import itertools
import threading

import pytest
import stores
import stub
from command import run as command
from pictures import encoded, painting, photo, save
from whole_runs import QUICK, files, rows

from jaxstyle.data import bounds
from jaxstyle.data import stores as ours
from jaxstyle.data.publishing import MARKER, RECORD, publish
from jaxstyle.data.sources.stores import CHANGED, LEADS_OUT, StoreSource
from jaxstyle.data.stores import Store, place_of, scrubbed
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.replay import replay
from jaxstyle.errors import InputError, SettingsError, StorageError
from jaxstyle.settings import RenderSettings

PHOTOS = "memory://bucket/photos"


@pytest.fixture
def memory(monkeypatch):
    return stores.install(monkeypatch)


@pytest.fixture
def place(tmp_path, monkeypatch, memory):
    """A folder with a style, and three pictures in a store and in a folder."""
    stub.install(monkeypatch.setattr)
    save(tmp_path / "style.png", painting())
    for n, name in enumerate(("a.png", "deep/b.png", "deep/er/c.png")):
        save(tmp_path / "photos" / name, photo(30, 24, n))
        memory.pipe_file(f"/bucket/photos/{name}", (tmp_path / "photos" / name).read_bytes())
    return tmp_path


def run(place, url=PHOTOS, out="out", **options):
    return render(url, place / "style.png", place / out, QUICK, **options)


def inputs(*urls, case_insensitive=False, **settings):
    found = StoreSource(urls, settings=RenderSettings(**settings), case_insensitive=case_insensitive)
    found.check(None)
    return list(found.inputs())


def put(memory, *names, data=b"x"):
    for name in names:
        memory.store[f"/bucket/{name}"] = memory_file(memory, name, data)


def memory_file(memory, name, data):
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(memory, f"/bucket/{name}", data)


def test_objects_are_what_files_in_a_folder_are(place):
    assert run(place, place / "photos", "folder").done == 3
    assert run(place).done == 3
    assert files(place / "out") == files(place / "folder")
    again = run(place)
    assert (again.done, again.rendered) == (3, 0)
    assert replay(place / "out", "deep/b.png").equal
    assert PHOTOS in (place / "out" / "settings.json").read_text()


def test_single_objects_and_several_prefixes_are_one_tree(place, memory):
    memory.pipe_file("/bucket/other/deep/d.png", b"d")
    found = inputs(f"{PHOTOS}/a.png", "memory://bucket/other/", f"{PHOTOS}/deep", f"{PHOTOS}/deep/b.png")
    assert [one.key for one in found] == ["a.png", "b.png", "deep/d.png", "er/c.png"]


def test_a_folder_comes_before_its_subfolders_page_by_page(memory, monkeypatch):
    monkeypatch.setattr(ours, "PAGE", 2)
    put(memory, *(f"p/{name}" for name in ("b/x", "c", "a", "b/w", "d", "e", "a-b/y")))
    found = StoreSource(["memory://bucket/p"], settings=RenderSettings())
    found.check(None)
    assert sum(1 for _ in found.prepare()) == 1 + 3 + 1 + 1  # look, 6 entries, 2 folders
    assert [one.key for one in found.inputs()] == ["a", "c", "d", "e", "a-b/y", "b/w", "b/x"]
    found.close()


def test_names_follow_the_rules_of_folders(memory):
    put(
        memory, "p/.hidden", "p/.dir/x.png", "p/a.png", "p/jaxstyle-steps/a.png/000001.png", "p/../x.png", "p/b/./x.png"
    )
    found = {one.key: one for one in inputs("memory://bucket/p")}
    assert {key: one.skipped for key, one in found.items() if one.skipped} == {
        ".hidden": "hidden file", ".dir": "hidden folder", "jaxstyle-steps": "intermediate pictures of a run",
    }  # fmt: skip
    assert {key for key, one in found.items() if one.failed == LEADS_OUT} == {"/bucket/p/..", "/bucket/p/b/."}
    assert [key for key, one in found.items() if not one.failed and not one.skipped] == ["a.png"]


@pytest.mark.parametrize("case_insensitive", [False, True])
def test_names_that_differ_in_case_have_one_output_or_a_note(memory, case_insensitive):
    put(memory, "p/A.png", "p/a.png", "p/X", "p/x/b.png")
    found = {one.key: one for one in inputs("memory://bucket/p", case_insensitive=case_insensitive)}
    told = {key: one.failed if case_insensitive else one.note for key, one in found.items()}
    assert "case" in told["a.png"] and not told["A.png"]
    assert bool(found["X"].failed) == case_insensitive and not found["x/b.png"].failed


def test_names_of_several_inputs_that_collide_fail(memory):
    put(memory, "p/a.png", "q/a.png", "p/c", "q/c/d.png")
    found = inputs("memory://bucket/p", "memory://bucket/q")
    assert [one.key for one in found] == ["a.png", "c", "c/d.png"]
    assert "two inputs" in found[0].failed and "place of a folder" in found[1].failed and not found[2].failed


def test_an_object_larger_than_any_picture_is_not_read(memory, monkeypatch):
    put(memory, "p/a.png", data=b"x" * 100)
    monkeypatch.setattr(bounds, "OTHER_BYTES", 83)
    assert "has 100 bytes, more than 99" in inputs("memory://bucket/p", max_pixels=1)[0].failed
    monkeypatch.setattr(bounds, "OTHER_BYTES", 84)
    assert not inputs("memory://bucket/p", max_pixels=1)[0].failed


def test_a_changed_object_is_rendered_again_and_a_copied_one_is_not(place, memory):
    run(place)
    memory.pipe_file("/bucket/photos/a.png", memory.cat_file("/bucket/photos/a.png"))  # another time
    memory.pipe_file("/bucket/photos/deep/b.png", encoded(photo(30, 24, 9), "PNG"))
    again = run(place)
    assert (again.done, again.rendered) == (3, 1)


def test_an_object_that_is_replaced_during_the_run_is_a_failed_row_and_rendered_by_the_next(place, memory):
    def replace(name, path):
        if name == "cat_file" and path == "/bucket/photos/a.png":
            stores.Faulty.fault = None
            memory.pipe_file(path, encoded(photo(30, 24, 9), "PNG"))

    def vanish(name, path):
        if name == "cat_file" and path == "/bucket/photos/a.png":
            memory.store.pop(path, None)

    for fault, reason in ((replace, CHANGED), (vanish, "No such object")):
        stores.Faulty.fault = staticmethod(fault)
        summary = run(place, out=fault.__name__)
        assert (summary.done, summary.failed) == (2, 1)
        assert rows(place / fault.__name__)["a.png"]["reason"] == f"cannot be read ({reason})"
        stores.Faulty.fault = None
        put(memory, "photos/a.png", data=encoded(photo(30, 24, 9), "PNG"))
        assert run(place, out=fault.__name__).done == 3


def test_errors_that_pass_and_short_answers_are_tried_again(place):
    left = [*range(3)]

    def fault(name, path):
        if name == "cat_file" and path.endswith("a.png") and left:
            raise OSError(errno.EIO, f"throttled {left.pop()}")

    stores.Faulty.fault = staticmethod(fault)
    assert run(place).done == 3 and not left
    stores.Faulty.fault, stores.Faulty.short = None, itertools.count()
    assert run(place, out="short").done == 3
    for key, row in rows(place / "short").items():
        assert row["input_sha256"] == hashlib.sha256((place / "photos" / key).read_bytes()).hexdigest()


def test_errors_that_stay_are_failed_rows_without_secrets(place):
    calls = []

    def fault(name, path):
        if name == "cat_file" and path.endswith("a.png"):
            calls.append(path)
            raise RuntimeError("GET https://user:hush@host/a.png?sig=hush failed, token=hush")

    stores.Faulty.fault = staticmethod(fault)
    summary = run(place)
    assert (summary.done, summary.failed, len(calls)) == (2, 1, ours.ATTEMPTS)
    assert "hush" not in (place / "out" / "manifest.jsonl").read_text()
    assert "error of the store, 4 times: RuntimeError: GET" in rows(place / "out")["a.png"]["reason"]
    stores.Faulty.fault = None
    assert run(place).done == 3  # the header was not read, so that the row holds no stamp


@pytest.mark.parametrize(
    "kind", [PermissionError, FileNotFoundError, NotImplementedError, type("AuthError", (Exception,), {})]
)
def test_errors_that_cannot_pass_are_not_tried_again(memory, kind):
    calls = []

    def fail():
        calls.append(1)
        raise kind("no")

    with pytest.raises(OSError):
        Store("memory").call(fail)
    assert len(calls) == 1


def test_a_store_that_refuses_or_lacks_the_prefix_is_told_before_the_run(place):
    for url in ("memory://bucket/absent", "memory://bucket/pho", "memory://absent"):
        with pytest.raises(InputError, match=rf"{url} cannot be used \(No such object\). Correct it. A prefix ends"):
            run(place, url)

    def fault(name, path):
        raise PermissionError("Access Denied, token=hush")

    stores.Faulty.fault = staticmethod(fault)
    with pytest.raises(InputError, match=r"cannot be used \(refused by the store: Access Denied, \.\.\.\). Give cred"):
        run(place)
    assert not (place / "out").exists()


@pytest.mark.parametrize("call", ["ls", "cat_file"])
def test_a_store_that_hangs_ends_the_run(place, call):
    over = threading.Event()

    def fault(name, path):
        if name == call and not over.is_set():
            over.wait(0.8)
            over.set()

    stores.Faulty.fault = staticmethod(fault)
    with pytest.raises(StorageError, match=r"(looking into the inputs|reading an input) takes longer than 0.2 s"):
        run(place, stall_timeout=0.2)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://user:hush@bucket/x", "input 1 is a URL with a user or a password"),
        ("s3://hush@bucket/x", "input 1 is a URL with a user or a password"),
        ("abfs://box:hush@account/x", "input 1 is a URL with a user or a password"),
        ("s3://bucket/x?token=hush", r"input 1 is a URL with \? or #"),
        ("https://host/x?sig=hush", "input 1 is no URL of an object store that is read: it begins with https"),
        ("zip://a::s3://hush", "input 1 is no URL of an object store"),
        ("file:///hush", "input 1 is no URL of an object store"),
        ("s3://", "names no prefix"),
        ("s3://bucket/a/../b", "names no prefix"),
        ("s3://bucket/train.tar", "is a dataset or a list by its name"),
        ("s3://bucket/train.parquet", "is a dataset or a list by its name"),
    ],
)
def test_urls_that_are_refused(place, url, said):
    with pytest.raises(InputError, match=said) as told:
        run(place, url)
    assert "hush" not in str(told.value) and not (place / "out").exists()


def test_a_url_may_have_a_container_and_an_account():
    assert place_of("ABFS://box@account.dfs.core.windows.net/a/", "x") == (
        "abfs",
        "box@account.dfs.core.windows.net/a",
        True,
    )


def test_what_urls_do_not_mix_with(place):
    with pytest.raises(InputError, match="is no URL, and another input is"):
        run(place, [PHOTOS, str(place / "photos")])
    with pytest.raises(InputError, match="lie in two stores"):
        run(place, [PHOTOS, "s3://bucket/photos"])
    with pytest.raises(SettingsError, match="member is 'png', and no input is a tar archive"):
        run(place, member="png")
    for what, arguments in {
        "the output": (PHOTOS, place / "style.png", "s3://user:hush@bucket/x"),
        "the style": (PHOTOS, "s3://user:hush@bucket/style.png", place / "out"),
        "an input": (place.__class__("s3://bucket/x"), place / "style.png", place / "out"),
    }.items():
        with pytest.raises(InputError, match=f"{what} is a URL.*Only inputs lie in object stores") as told:
            render(*arguments, QUICK)
        assert "hush" not in str(told.value)


def test_the_command_takes_urls_and_refuses_one_as_the_output(place, capsys):
    line = ("render", PHOTOS, "--style", place / "style.png", "--size", 32, "--evaluations", 10, "--workers", 0)
    assert command(*line, "-o", place / "out") == 0
    assert len(files(place / "out")) == 4  # and the contact sheet
    assert command(*line, "-o", "s3://user:hush@bucket/x") == 2
    told = capsys.readouterr().err
    assert "-o is a URL" in told and "jaxstyle publish" in told and "hush" not in told


def test_packages_that_are_absent_are_named(monkeypatch):
    import fsspec

    def absent(*_, **__):
        raise ImportError("no gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(InputError, match="gs:// needs the package gcsfs.*pip install gcsfs"):
        Store("gs")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(InputError, match="need the package fsspec.*extra 'stores'"):
        Store("gs")


def test_messages_of_stores_are_short_and_have_no_secrets():
    assert scrubbed(ValueError("a://u:hush@h/b?x=hush secret_key: hush")) == "ValueError: a://...@h/b?... ..."
    for told in ('{"access_token": "hush"}', "Authorization: Bearer hush", "AWSSecretKey=hush", "PASSWORD = hush"):
        assert "hush" not in scrubbed(ValueError(told))
    assert len(scrubbed(OSError("x" * 1000))) == ours.TOLD + 3


class S3:
    """What a store of S3 answers, two entries a page."""

    keys = ("p/", "p/a.png", "p/b.png", "p/deep/", "p/deep/c.png", "p//x")

    def call_s3(self, name, *, Bucket, Prefix, Delimiter, MaxKeys, ContinuationToken="0"):
        assert (name, Bucket, Delimiter) == ("list_objects_v2", "bucket", "/")
        below = [key for key in sorted(self.keys) if key.startswith(Prefix)]
        folders = sorted(
            {Prefix + key[len(Prefix) :].partition("/")[0] + "/" for key in below if "/" in key[len(Prefix) :]}
        )
        every = sorted([*folders, *(key for key in below if "/" not in key[len(Prefix) :])])
        begin = int(ContinuationToken)
        some = every[begin : begin + 2]
        return {
            "CommonPrefixes": [{"Prefix": one} for one in some if one in folders],
            "Contents": [{"Key": one, "Size": 3, "ETag": f'"{one}"'} for one in some if one not in folders],
            "IsTruncated": begin + 2 < len(every),
            "NextContinuationToken": str(begin + 2),
        }


def test_s3_is_listed_in_pages(memory):
    store = Store("memory")
    store.scheme, store.system = "s3", S3()  # type: ignore[assignment]
    pages = list(store.pages("bucket/p"))
    assert [[(one.name, one.folder, one.length) for one in page] for page in pages] == [
        [("", True, 0)], [("a.png", False, 3), ("b.png", False, 3)], [("deep", True, 0)],
    ]  # fmt: skip


def test_a_server_of_s3_is_read_and_published_to(place, monkeypatch):
    import s3fs
    from moto.server import ThreadedMotoServer  # which needs flask and flask-cors

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "ENDPOINT_URL": address}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        system.mkdir("bucket")
        for path in (place / "photos").rglob("*.png"):
            system.put_file(path, f"bucket/photos/{path.relative_to(place / 'photos')}")
        assert run(place, "s3://bucket/photos").done == 3
        assert run(place, "s3://bucket/photos").rendered == 0
        system.put_file(place / "photos" / "deep" / "b.png", "bucket/photos/a.png")
        assert run(place, "s3://bucket/photos").rendered == 1
        assert publish(place / "out", "s3://bucket/out").written == 5
        assert publish(place / "out", "s3://bucket/out").written == 0
        assert {path.removeprefix("bucket/out/") for path in system.find("bucket/out")} == {
            "a.png", "deep/b.png", "deep/er/c.png", "manifest.jsonl", "settings.json", MARKER, RECORD,
        }  # fmt: skip
    finally:
        server.stop()
