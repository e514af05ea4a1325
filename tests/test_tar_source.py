"""Tar archives as inputs: samples are those of WebDataset; what is hostile or damaged fails or is refused unread."""

import io
import os
import tarfile
import tracemalloc

import pytest
import webdataset
from pictures import encoded, photo
from tars import archive, checked, header, longname, member, pax, record, written
from whole_runs import files, provided, rows, run

from jaxstyle.data import samples, tar
from jaxstyle.data.sources import index, source_for
from jaxstyle.data.sources import tar as ours
from jaxstyle.data.sources.tar import NO_IMAGE, TarSource
from jaxstyle.engine.watchdog import Calls
from jaxstyle.errors import InputError, SettingsError, StorageError
from jaxstyle.settings import RenderSettings

JPEGS = [encoded(photo(32, 24, n), "JPEG") for n in range(4)]
PNG = encoded(photo(32, 24, 9), "PNG")
ALONE = "in no sample: its name has no extension"


def source(*paths, **settings):
    return provided(TarSource, *paths, **settings)


def listed(*paths, **settings):
    """{key: why it is not rendered} of the inputs."""
    found = [*source(*paths, **settings).inputs()]
    told = {one.key: one.failed or one.skipped for one in found}
    assert len(told) == len(found)
    return told


def sample(name="a", data=b"picture", label=b"7"):
    return member(f"{name}.jpg", data) + member(f"{name}.cls", label)


def test_samples_give_what_the_same_pictures_in_a_folder_give(place):
    members = {}
    for n, data in enumerate(JPEGS):
        members |= {f"{n:04}.cls": b"%d" % n, f"{n:04}.jpg": data, f"{n:04}.seg.png": PNG}
        (place / "photos/train-0").mkdir(parents=True, exist_ok=True)
        (place / f"photos/train-0/{n:04}.jpg").write_bytes(data)
    path = archive(place / "train-0.tar", members)
    assert run(place, path, "tar").done == run(place, place / "photos", "folder").done == 4
    assert files(place / "tar") == files(place / "folder") and len(files(place / "tar")) == 4
    row = rows(place / "tar")["train-0/0002.jpg"]
    assert row["input_bytes"] == len(JPEGS[2]) and row["input_modified"] == path.stat().st_mtime_ns
    assert rows(place / "folder")["train-0/0002.jpg"]["input_sha256"] == row["input_sha256"]


def test_what_webdataset_has_written_is_read(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "train-%03d.tar"), maxcount=3, verbose=0) as writer:
        for n in range(5):
            writer.write({"__key__": f"deep.er/{n:05}", "jpg": JPEGS[n % 4], "cls": n, "json": {"n": n}})
    provider = source(tmp_path / "train-*.tar")
    provider.check(tmp_path / "out")
    found = [*provider.inputs()]
    assert [one.key for one in found] == [f"train-{n // 3:03}/deep.er/{n:05}.jpg" for n in range(5)]
    for n, one in enumerate(found):
        with provider.open(one.locator) as file:
            assert file.read(10) + file.read() == JPEGS[n % 4]
    assert {one.failed or one.skipped for one in found} == {""}


def test_samples_are_those_of_webdataset(tmp_path):
    names = ["a.jpg", "a.cls", "./b.c.png", "./b.txt", "d.x/e.jpg", "d.x/e.f/g.jpg", "d.x/e.f/g.json", "README", "h",
             "__meta__/a.jpg", "k.JPG", "k.cls"]  # fmt: skip
    path = archive(tmp_path / "x.tar", {name: name.encode() for name in names})
    theirs = {}
    for one in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
        theirs[one.pop("__key__")] = {name: data for name, data in one.items() if not name.startswith("__")}
    ours = {}
    with path.open("rb") as file:
        for one in samples.samples(tar.Headers(file, path)):
            if one.extensions:
                data = [m.name.encode() for m in one.members]
                ours[one.base] = dict(zip(map(str.lower, one.extensions), data, strict=True))
    assert {name.removeprefix("./"): value for name, value in theirs.items()} == ours
    assert listed(path) == {
        "x/a.jpg": "", "x/b.c.png": NO_IMAGE, "x/d.x/e.jpg": "",
        "x/d.x/e.f/g.jpg": "", "x/README": ALONE, "x/h": ALONE,
        "x/__meta__/a.jpg": "metadata of WebDataset", "x/k.JPG": "",
    }  # fmt: skip
    assert listed(path, member="c.png")["x/b.c.png"] == ""


def test_a_key_does_not_depend_on_what_else_there_is(tmp_path):
    few = archive(tmp_path / "few/x.tar", {"b.jpg": b"1"})
    many = archive(tmp_path / "many/x.tar", {"a.jpg": b"2", "b.seg.png": b"3", "b.jpg": b"1", "b.cls": b"4"})
    assert set(listed(few)) < set(listed(many)) == {"x/a.jpg", "x/b.jpg"}


def test_of_several_images_one_is_named(place):
    path = archive(place / "x.tar", {"a.jpg": JPEGS[0], "a.png": PNG, "b.cls": b"", "c.jpg": JPEGS[1]})
    assert run(place, path, "none").failed == 1
    assert "has 2 images, a.jpg and a.png. Choose one with --member" in rows(place / "none")["x/a.jpg"]["reason"]
    summary = run(place, path, member="png")
    assert (summary.done, summary.skipped) == (1, 2)
    assert rows(place / "out")["x/c.jpg"]["reason"] == "a sample without a member .png"
    with pytest.raises(SettingsError, match="member is '.png'.* an extension"):
        RenderSettings(member=".png")
    with pytest.raises(SettingsError, match="member is 'png', and no input is a tar archive"):
        run(place, place / "style.png", "o2", member="png")


def test_an_unchanged_sample_is_not_rendered_again(place):
    path = archive(place / "x.tar", {"a.jpg": JPEGS[0], "b.jpg": JPEGS[1]})
    assert run(place, path).rendered == 2 and run(place, path).looked_at == 0
    os.utime(path, ns=(1, 1))
    assert run(place, path).looked_at == 0  # their checksums are the same
    archive(path, {"0.jpg": JPEGS[2], "a.jpg": JPEGS[0], "b.jpg": JPEGS[3]})
    assert run(place, path).rendered == 2
    parts = [run(place, path, "shards", shard=f"{n}/2").rendered for n in (1, 2)]
    assert sum(parts) == 3 and files(place / "shards") == files(place / "out")


def test_an_archive_that_changes_during_the_run_is_not_read(tmp_path):
    path = archive(tmp_path / "x.tar", {"a.jpg": b"1"})
    provider = source(path)
    (one,) = provider.inputs()
    os.utime(path, ns=(1, 1))
    for call in (provider.open, provider.stamp):
        with pytest.raises(OSError, match="archive has changed"):
            call(one.locator)
    provider.close()
    assert provider.stamp(one.locator) == (1, 1)  # listed anew


def test_reading_stops_at_the_end_of_a_member(tmp_path):
    path = archive(tmp_path / "x.tar", {"a.jpg": b"1234", "b.jpg": b"5"})
    provider = source(path)
    first = next(provider.inputs())
    with provider.open(first.locator) as file:
        assert file.read(3) == b"123" and file.read() == b"4" and file.read(1) == b""
    with path.open("rb") as raw, pytest.raises(OSError, match="cut short"):
        tar.Part(raw, path.stat().st_size - 2, 5).read()


def test_which_inputs(place):
    one = archive(place / "a/x.tar", {"a.jpg": JPEGS[0]})
    with pytest.raises(InputError, match="would give outputs of one name"):
        run(place, [one, archive(place / "b/X.tar", {"a.jpg": JPEGS[0]})])
    with pytest.raises(InputError, match=r"style\.png is no tar archive, and another input is"):
        run(place, [one, place / "style.png"])
    with pytest.raises(InputError, match="no file matches the input"):
        run(place, place / "none-*.tar")
    with pytest.raises(InputError, match="overlaps the input"):
        run(place, one, "a")
    with pytest.raises(InputError, match="there is no sample in"):
        run(place, archive(place / "empty.tar", {}))
    (place / "x.tar.gz").touch()
    with pytest.raises(InputError, match=r"compressed archive \(gz\).*decompress it first"):
        run(place, place / "x.tar.gz")
    assert not (place / "out").exists()
    two = [one, archive(place / "empty.tar", {}), archive(place / "y[1].tar", {"a.jpg": JPEGS[1]})]
    assert run(place, two).done == 2


def test_names_that_fold_to_one_where_outputs_would_too(tmp_path):
    path = archive(tmp_path / "x.tar", {"a.jpg": b"1", "b.jpg": b"", "A.jpg": b"2", "B.png": b"3"})
    assert set(listed(path).values()) == {""}
    told = {one.key: one.failed for one in source(path, case_insensitive=True).inputs()}
    assert "would replace that of x/a.jpg, whose name differs only in case" in told.pop("x/A.jpg")
    assert set(told.values()) == {""}


LINKS = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link", tarfile.CHRTYPE: "device",
         tarfile.BLKTYPE: "device", tarfile.FIFOTYPE: "pipe", b"Z": "type b'Z'"}  # fmt: skip


@pytest.mark.parametrize(("kind", "told"), LINKS.items())
def test_what_is_no_file_fails_its_sample(tmp_path, kind, told):
    path = written(tmp_path / "x.tar", sample("a"), member("b.jpg", b"1"), header("b.cls", 0, kind), sample("c"))
    found = listed(path)
    assert told in found.pop("x/b.jpg") and found == {"x/a.jpg": "", "x/c.jpg": ""}


@pytest.mark.parametrize("name", [
    "../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "a/..", "a//b.jpg", "a/./b.jpg", "a/" + "b" * 5000 + ".jpg", "..",
])  # fmt: skip
def test_names_that_no_output_can_have(tmp_path, name):
    path = written(tmp_path / "x.tar", sample("a"), longname(name.encode()), member("n", b"1"), sample("c"))
    found = listed(path)
    (key,) = [key for key in found if key.startswith("x//")]
    assert found.pop(key).startswith("its name") and found == {"x/a.jpg": "", "x/c.jpg": ""}


def test_two_members_that_could_be_taken_for_one(tmp_path):
    path = written(tmp_path / "x.tar", sample("a"), member("b.jpg", b"1"), member("b.jpg", b"2"), member("c.jpg", b""),
                   member("c.JPG", b""), member("d.jpg", b""), member("./d.jpg", b""))  # fmt: skip
    found = listed(path)
    assert found.pop("x/a.jpg") == "" and len(found) == 3
    assert all("two members ." in told for told in found.values())


def test_a_sample_in_two_places_has_failed_once(tmp_path):
    path = archive(
        tmp_path / "x.tar", {"a.jpg": b"", "b.jpg": b"", "README": b"", "a.cls": b"", "b.cls": b"", "c.jpg": b""}
    )
    assert listed(path) == {"x/a.jpg": samples.SPLIT, "x/b.jpg": samples.SPLIT, "x/c.jpg": "",
                            "x/README": "in no sample: its name has no extension"}  # fmt: skip
    names = (f"a.{n}" for n in range(samples.MOST_MEMBERS))
    many = archive(tmp_path / "y.tar", {"a.jpg": b""} | dict.fromkeys(names, b""))
    assert listed(many) == {"y/a.jpg": "has more than 1000 members"}


PLAIN, LONG = tarfile.REGTYPE, "x" * 150


@pytest.mark.parametrize(("parts", "told"), [
    ([pax((b"size", b"3")), header("b.jpg", 7), b"123", bytes(509)], {"b.jpg": ""}),
    ([pax((b"path", f"{LONG}.jpg".encode())), member("b", b"1")], {f"{LONG}.jpg": ""}),
    ([longname(f"{LONG}.jpg".encode()), member("b", b"1")], {f"{LONG}.jpg": ""}),
    ([longname(b"b.jpg"), pax((b"path", b"c.jpg")), member("d.jpg", b"1")], {"b.jpg": "has two names"}),
    ([pax((b"size", b"2048")), longname(b"b.jpg"), header("c", 16), b"1" * 2048], {"b.jpg": ""}),
    ([pax((b"GNU.sparse.major", b"1")), member("b.jpg", b"1")], {"b.jpg": "is a sparse file"}),
    ([pax((b"comment", b"x"), kind=tarfile.XGLTYPE), member("b.jpg", b"1")], {"b.jpg": ""}),
    ([header("b.jpg", 512, tarfile.GNUTYPE_SPARSE), bytes(512)], {"b.jpg": "is a sparse file"}),
    ([header("folder/", 0, tarfile.DIRTYPE), member("b.jpg", b"1")], {"b.jpg": ""}),
    ([member("b.jpg", b"1", tarfile.CONTTYPE), header("volume", 0, b"V")], {"b.jpg": ""}),
    ([pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff.jpg")), member("b", b"1")], {"\udcff.jpg": ""}),
], ids=range(11))  # fmt: skip
def test_extended_headers(tmp_path, parts, told):
    found = listed(written(tmp_path / "x.tar", sample("a"), *parts, sample("z")))
    assert found.pop("x/a.jpg") == found.pop("x/z.jpg") == ""
    assert found.keys() == {f"x/{name}" for name in told}
    assert all(reason in found[f"x/{name}"] and (reason or not found[f"x/{name}"]) for name, reason in told.items())


def sparse():
    block = bytearray(header("b.jpg", 512, tarfile.GNUTYPE_SPARSE))
    block[482] = 1
    return checked(block) + bytes(504) + b"\1" + bytes(7) + bytes(512) + bytes(512)


def test_the_map_of_a_sparse_file_is_passed_over(tmp_path):
    assert "sparse" in listed(written(tmp_path / "x.tar", sample("a"), sparse(), sample("z"))).pop("x/b.jpg")


NEGATIVE = b"\xff" * 12


@pytest.mark.parametrize(("parts", "told"), [
    ([header("b.jpg", field=NEGATIVE)], "at byte 2048 it has a member of -1 bytes"),
    ([header("b.jpg", field=b"-0000000007\0")], "a member of -7 bytes"),
    ([header("b.jpg", field=b"0000000001_0")], "a size that is no number"),
    ([pax((b"size", b"-5")), member("b.jpg", b"1")], "a size that is no number"),
    ([pax((b"size", b"5"), kind=tarfile.XGLTYPE)], "a global header with the size"),
    ([member("pax", b"9999 path=x\n", tarfile.XHDTYPE)], "records of pax that are not valid"),
    ([member("pax", b"0 path=x\n", tarfile.XHDTYPE)], "records of pax"),
    ([member("pax", b"path", tarfile.SOLARIS_XHDTYPE)], "records of pax"),
    ([header("L", 2**33, tarfile.GNUTYPE_LONGNAME)], "an extended header of 8589934592 bytes"),
    ([header("L", 2**20 + 1, tarfile.XHDTYPE)], "an extended header of 1048577 bytes"),
    ([b"garbage" * 100], "no valid header"),
    ([bytes(512), sample("b")], "end marker at byte 2048, and .* bytes are behind it"),
    ([bytes(2**20 + 512)], "end marker at byte 2048.*copying was interrupted"),
], ids=range(13))  # fmt: skip
def test_damaged_archives_are_refused_before_anything_is_rendered(place, parts, told):
    whole = archive(place / "w.tar", {"a.jpg": JPEGS[0]})
    with pytest.raises(InputError, match=told):
        run(place, [whole, written(place / "x.tar", sample("a"), *parts, sample("z"))])
    assert not (place / "out").exists()


@pytest.mark.parametrize(("data", "told"), [
    (b"", "ends after 0 bytes, before any member"), (b"hello" * 300, "no tar archive: it does not begin with a header"),
    (b"\x1f\x8b" + bytes(600), r"compressed archive \(gzip\)"), (pax((b"path", b"a"))[:700], "before any member"),
])  # fmt: skip
def test_files_that_are_no_archives(place, data, told):
    (place / "x.tar").write_bytes(data)
    with pytest.raises(InputError, match=told):
        run(place, place / "x.tar")


def test_what_is_no_file_is_no_archive(place):
    os.mkfifo(place / "p.tar")
    for name, told in [("p", "Not a regular file"), ("none", "does not exist")]:
        with pytest.raises(InputError, match=told):
            run(place, place / f"{name}.tar")


def test_of_an_archive_cut_anywhere_the_last_sample_has_failed(tmp_path):
    parts = [member(f"{name}.{kind}", bytes(700)) for name in "abc" for kind in ("jpg", "cls")]
    whole = b"".join(parts)
    for at in [513, 1000, 1536, 1700, 3072, 3073, 3584, 5000, 6144, 7680, len(whole), len(whole) + 100]:
        path = tmp_path / "x.tar"
        path.write_bytes((whole + bytes(1024))[:at])
        began = min(3, max(1, -(-(at - 511) // 3072)))  # a sample has 3072 bytes, and its header must be whole
        found = listed(path)
        assert [*found] == [f"x/{name}.jpg" for name in "abc"[:began]], at
        told = [*found.values()]
        assert "cut short" in told[-1] or "without an end marker" in told[-1], at
        assert set(told[:-1]) <= {""}
    (tmp_path / "x.tar").write_bytes(whole + bytes(512))  # half a marker tells the end too
    assert set(listed(tmp_path / "x.tar").values()) == {""}


def test_a_truncated_sample_is_a_failed_row_until_the_archive_is_whole(place):
    path = archive(place / "x.tar", {"a.jpg": JPEGS[0], "b.jpg": JPEGS[1]})
    whole = path.read_bytes()
    path.write_bytes(whole[: 1024 + len(JPEGS[0]) + 1000])
    summary = run(place, path)
    assert (summary.done, summary.failed) == (1, 1)
    assert "cut short or damaged" in rows(place / "out")["x/b.jpg"]["reason"]
    path.write_bytes(whole)
    assert run(place, path).rendered == 1 and rows(place / "out")["x/b.jpg"]["status"] == "done"


def test_a_header_that_claims_much_allocates_nothing(tmp_path):
    huge = header("b.jpg", field=b"\x80" + (10 * 2**30).to_bytes(11, "big"))
    record_of_megabytes = member("pax", record(b"comment", b"x" * 900_000), tarfile.XHDTYPE)
    path = written(tmp_path / "x.tar", sample("a"), *[record_of_megabytes] * 6, huge)
    tracemalloc.start()
    found = listed(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "claims 10737418240 bytes, and the archive has 1024 more" in found["x/b.jpg"]
    assert peak < 6 * 2**20


def test_a_member_that_is_no_picture_by_its_size_is_not_copied(tmp_path):
    path = written(tmp_path / "x.tar", header("a.jpg", 2**27), end=b"")
    with path.open("r+b") as file:
        file.truncate(512 + 2**27 + 1024)  # a hole: the member is there, and takes no room
    told = listed(path, max_pixels=2**20)["x/a.jpg"]
    assert told == f"has {2**27} bytes, more than {2**20 * 16 + 2**26}. Raise --max-pixels if it is a picture."
    assert listed(path, max_pixels=2**22) == {"x/a.jpg": ""}


def test_memory_does_not_grow_with_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "IN_MEMORY", 2**12)
    monkeypatch.setattr(index, "AT_A_TIME", 2**12)
    peaks = []
    for number in (10, 100, 600):
        path = written(tmp_path / f"{number}.tar", *(sample(f"{n:08}") for n in range(number)))
        provider = source(path)
        tracemalloc.start()
        assert sum(1 for _ in provider.inputs()) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 500 * 150  # hashes of 16 bytes, and copies while they are sorted; a kept row is 300


def test_a_full_disk_under_the_index_is_told(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    path = archive(tmp_path / "x.tar", {"a.jpg": b"1"})
    monkeypatch.setattr(index.tempfile, "SpooledTemporaryFile", lambda *_: Full())
    with pytest.raises(StorageError, match="index of the archives.*No space left.*TMPDIR"):
        next(source(path).inputs())


def test_archives_are_listed_once_in_many_calls_of_which_none_is_long(place, monkeypatch):
    calls, of = [], Calls.of
    monkeypatch.setattr(Calls, "of", lambda self, what, extra=0.0: calls.append(what) or of(self, what, extra))
    monkeypatch.setattr(ours, "STEP", 2)
    many = {f"{n}.cls": b"" for n in range(10)}
    paths = [archive(place / "x.tar", many), archive(place / "y.tar", {"a.jpg": JPEGS[0]})]
    walked, walk = [], ours.samples
    monkeypatch.setattr(ours, "samples", lambda headers: walked.append(headers.path.name) or walk(headers))
    assert run(place, paths).done == 1
    assert calls.count("looking into the inputs") == 6 and walked == ["x.tar", "y.tar"]


def test_the_source_by_its_name(tmp_path):
    path = archive(tmp_path / "x.tar", {"a.jpg": b"1"})
    assert isinstance(source_for("folders", [path], RenderSettings(), case_insensitive=False), TarSource)
    (tmp_path / "folder.tar").mkdir()
    assert not isinstance(source_for("folders", [tmp_path / "folder.tar"], RenderSettings(), case_insensitive=False),
                          TarSource)  # fmt: skip
