"""`jaxstyle pack` into shards: samples as in the source but for the image; whole, checked, the same when made again."""

import hashlib
import json
import os
import pickle
import tarfile
from urllib.parse import unquote

import numpy as np
import pytest
import webdataset
import whole_runs
from command import run as command
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, painting, photo, save
from PIL import Image
from tars import archive, content, header, member, written
from whole_runs import rows

from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.packing import base, pack, tar_file
from jaxstyle.data.packing.tar_folder import sample_name
from jaxstyle.data.samples import divided, is_meta
from jaxstyle.errors import InputError, StorageError

JPEGS = [encoded(photo(32, 24, n), "JPEG") for n in range(6)]
LABEL = {n: bytes([n]) * (n * 300) for n in range(6)}  # none, and more than a block
LONG = "größe-" + "x" * 120


def shard(path, numbers):
    """An archive of samples with labels before and after the image."""
    members = {}
    for n in numbers:
        name = f"d.ir/{LONG}{n}" if n == 5 else f"{n:04}"
        members |= {f"{name}.cls": b"%d" % n, f"{name}.jpg": JPEGS[n], f"{name}.seg.png": LABEL[n]}
    return archive(path, members)


@pytest.fixture
def place(place):
    shard(place / "in/train-0.tar", range(4))
    shard(place / "in/train-1.tar", range(4, 6))
    return place


def shards(place):
    return sorted((place / "in").glob("*.tar"))


def run(place, inputs=None, out="out", **options):
    return whole_runs.run(place, inputs or shards(place), out, **options)


def packed(place, target="new", **options):
    return pack(place / "out", place / target, source=shards(place), **options)


def everything(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_samples_are_those_of_the_source_but_for_the_image(place):
    run(place)
    (place / "in/train-1.tar").touch()
    made = packed(place)
    assert (made.images, made.missing, made.written, made.members) == (6, 0, 2, 12)
    for path in made.files:
        before, after = content(place / "in" / path.name), content(path)
        assert [*before] == [*after]
        for name, data in after.items():
            if name.endswith(".jpg"):
                assert data == (place / "out" / path.stem / name).read_bytes() != before[name]
            else:
                assert data == before[name]
        with tarfile.open(path) as file:
            assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in file} == {(0, 0, 0, 0o644, "")}
        told = json.loads(tar_file.marker(path).read_text())
        number = len(before) // 3
        assert (told["samples"], told["members"], told["missing"]) == (number, 3 * number, 0)
        assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and told["source"] == path.name
        assert told["settings"]["decides"]["settings"]["evaluations"] == 10
    assert {*everything(place / "new")} == {f"train-{n}.tar{end}" for n in (0, 1) for end in ("", ".json")}


def test_webdataset_reads_them(place):
    run(place)
    packed(place)
    found = [
        *webdataset.WebDataset(str(place / "new/train-{0..1}.tar"), shardshuffle=False).decode(
            "rgb8", only=["cls", "jpg"]
        )
    ]
    assert [one["cls"] for one in found] == [*range(6)] and found[5]["__key__"] == f"d.ir/{LONG}5"
    for n, one in enumerate(found):
        assert {name for name in one if not name.startswith("__")} == {"cls", "jpg", "seg.png"}
        assert one["seg.png"] is None or one["seg.png"] == LABEL[n]
        with Image.open(place / "out" / f"train-{n // 4}" / f"{one['__key__']}.jpg") as output:
            np.testing.assert_array_equal(one["jpg"], np.asarray(output))


def test_nothing_in_a_sample_is_run(place, monkeypatch):
    payload = b"cposix\nsystem\n(S'touch canary'\ntR."
    pickle.loads(payload.replace(b"touch canary", b"true"))  # it would be
    archive(place / "in/train-0.tar", {"a.pkl": payload, "a.jpg": JPEGS[0], "a.pyd": payload})
    monkeypatch.chdir(place)
    run(place)
    packed(place)
    assert content(place / "new/train-0.tar")["a.pkl"] == payload and not (place / "canary").exists()


def test_missing_outputs_are_an_error_or_left_out_with_their_labels(place):
    good = [member(f"{n}.jpg", JPEGS[n]) + member(f"{n}.cls", b"%d" % n) for n in range(3)]
    bad = [member("x.cls", b""), member("README", b""), member("y.jpg", JPEGS[3]), header("y.cls", 0, tarfile.SYMTYPE)]
    written(place / "in/train-0.tar", *good, *bad)
    run(place)
    with pytest.raises(InputError, match=r"2 inputs have no output.*train-0/x\.cls, train-0/y\.jpg.*--allow-missing"):
        packed(place)
    assert not (place / "new").exists()
    made = packed(place, allow_missing=True)
    assert (made.images, made.missing, made.left) == (5, 2, 1)
    assert [*content(place / "new/train-0.tar")] == [f"{n}.{kind}" for n in range(3) for kind in ("jpg", "cls")]
    missing = [json.loads(tar_file.marker(path).read_text())["missing"] for path in made.files]
    assert missing == [2, 0]


def test_a_sample_that_has_changed_or_is_split_since_counts_as_missing(place):
    run(place)
    path = place / "in/train-0.tar"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(JPEGS[1], JPEGS[1][:-3] + b"abc"))
    with pytest.raises(InputError, match=r"1 inputs have no output.*: train-0/0001\.jpg"):
        packed(place)
    path.write_bytes(whole)
    with tarfile.open(path, "a") as file:
        file.addfile(tarfile.TarInfo("0002.txt"))
    with pytest.raises(InputError, match=r"1 inputs have no output.*: train-0/0002"):
        packed(place)


def test_the_same_command_again_checks_and_writes_nothing(place):
    run(place)
    packed(place)
    before = everything(place / "new")
    times = {path: path.stat().st_mtime_ns for path in (place / "new").iterdir()}
    assert packed(place).written == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "new").iterdir()} == times
    path = place / "new/train-0.tar"
    path.write_bytes(before["train-0.tar"].replace(b"0001.cls", b"0009.cls"))
    assert packed(place).written == 1 and everything(place / "new") == before
    tar_file.marker(path).unlink()  # as after a kill
    assert packed(place).written == 1 and everything(place / "new") == before
    path.unlink()
    assert packed(place).written == 1 and everything(place / "new") == before
    assert packed(place, "other").written == 2 and everything(place / "other") == before
    source = place / "in/train-0.tar"
    source.write_bytes(source.read_bytes().replace(LABEL[3], LABEL[3][:-1] + b"!"))
    assert packed(place).written == 1  # a label is another now
    assert content(path)["0003.seg.png"] == LABEL[3][:-1] + b"!"


def test_images_in_several_styles_are_samples_with_their_labels(place):
    for name in ("a", "v.b~c"):
        save(place / f"styles/{name}.png", painting())
    run(place, style=place / "styles", assign="each", output_format="png")
    assert packed(place).images == 12
    found = content(place / "new/train-0.tar")
    assert [*found][:6] == [f"0000~{style}.{kind}" for style in ("a", "v%2Eb_c") for kind in ("cls", "png", "seg.png")]
    assert found["0002~v%2Eb_c.cls"] == b"2" and found["0002~v%2Eb_c.seg.png"] == LABEL[2]
    output = place / "out/train-0/0002~v.b_c.jpg.png"
    assert found["0002~v%2Eb_c.png"] == output.read_bytes()
    keys = [one["__key__"] for one in webdataset.WebDataset(str(place / "new/train-1.tar"), shardshuffle=False)]
    assert keys == ["0004~a", "0004~v%2Eb_c", f"d.ir/{LONG}5~a", f"d.ir/{LONG}5~v%2Eb_c"]


def test_one_assigned_style_keeps_the_name(place):
    for name in ("a", "b"):
        save(place / f"styles/{name}.png", painting())
    run(place, style=place / "styles")
    assert {row["style"] for row in rows(place / "out").values()} <= {"a.png", "b.png"}
    packed(place)
    assert [*content(place / "new/train-0.tar")] == [*content(place / "in/train-0.tar")]


def test_an_output_never_takes_the_name_of_another_member(place):
    (place / "in/train-1.tar").unlink()
    archive(place / "in/train-0.tar", {"a.jpg": JPEGS[0], "a.png": b"mask"})
    run(place, member="jpg", output_format="png")
    with pytest.raises(InputError, match=r"a\.jpg\.png would have the name of another member"):
        packed(place)
    assert not (place / "new").exists()


def test_outputs_of_any_folder_become_shards(place):
    names = ["a.b/c.v1.jpg", "a.b/c.v1.png", "a.b/c%2Ev1.jpg", "c.jpg", "__x__/d.jpg"]
    for n, name in enumerate(names):
        save(place / "photos" / name, photo(32, 24, n))
    run(place, place / "photos")
    made = pack(place / "out", place / "new", per_file=2)
    assert [path.name for path in made.files] == [f"out-{n:06}.tar" for n in range(3)]
    assert made.written == 3 and pack(place / "out", place / "new", per_file=2).written == 0
    found = [*webdataset.WebDataset(str(place / "new/out-{000000..000002}.tar"), shardshuffle=False)]
    keys = [unquote(one["__key__"]) for one in found]
    assert sorted(names) == keys and found[1]["__key__"] == "a.b/c%252Ev1%2Ejpg"
    for one, key in zip(found, keys, strict=True):
        assert one[key.rpartition(".")[2]] == (place / "out" / key).read_bytes()
    with pytest.raises(InputError, match=r"out-000001\.tar is of an earlier packing into more files than 1"):
        pack(place / "out", place / "new")


@given(st.lists(st.text("ab._%~/é\udcff2E", min_size=1, max_size=9), unique=True, max_size=8))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_two_keys_become_one_sample(keys):
    keys = [key for key in keys if key.split("/")[-1] and key[0] != "/"]
    named = [sample_name(key) for key in keys]
    assert [unquote(name, errors="surrogateescape") for name in named if "\udcff" not in name] == [
        key for key in keys if "\udcff" not in key
    ]
    for key, name in zip(keys, named, strict=True):
        assert divided(f"{name}.jpg") == (name, "jpg") and not is_meta(name), key
    assert len({*named}) == len(keys)


def test_damaged_outputs_are_an_error(place):
    run(place)
    path = place / "out/train-0/0003.jpg"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"0003\.jpg does not have the checksum"):
        packed(place)
    assert everything(place / "new") == {}


def test_what_is_refused(place):
    run(place)
    (place / "new").mkdir()
    for name, told in [
        ("train-0.tar.json", "did not write it"),
        ("train-1.tar", "did not pack it, or it has no marker"),
    ]:
        (place / "new" / name).write_text("{}")
        with pytest.raises(InputError, match=told):
            packed(place)
        assert (place / "new" / name).read_text() == "{}"
        (place / "new" / name).unlink()
    (place / "new/train-0.tar").unlink()
    (place / "new/train-0.tar").symlink_to(place / "style.png")
    with pytest.raises(InputError, match="did not write it"):
        packed(place)
    for target, told in [("in", "overlaps the input"), ("out/new", "overlaps"), ("no/new", "does not exist"),
                         ("x.npz", "and no folder"), ("style.png", "no folder"), ("x.h5", "tar archive")]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            packed(place, target)
    with pytest.raises(InputError, match="per-file is given"):
        packed(place, per_file=3)
    with pytest.raises(InputError, match="the output is no HDF5 file"):
        packed(place, layout="encoded")
    with pytest.raises(InputError, match=r"style\.png is no tar archive"):
        pack(place / "out", place / "new", source=place / "style.png")
    with pytest.raises(InputError, match="has no outputs of .*y.tar"):
        pack(place / "out", place / "new", source=shard(place / "y.tar", [1]), allow_missing=True)


def test_content_is_on_the_disk_before_its_name_and_the_marker_comes_last(place, monkeypatch):
    run(place)
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: calls.append(os.readlink(f"/proc/self/fd/{handle}")) or fsync(handle)
    )
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(os.path.basename(new)) or replace(old, new))
    packed(place)
    told = ["content" if TEMPORARY in call else os.path.basename(call) for call in calls]
    assert told[:8] == ["content", "train-0.tar", "new", "content", "train-0.tar.json", "new", "content", "train-1.tar"]


def test_a_shard_that_does_not_read_as_it_was_written_is_not_kept(place, monkeypatch):
    run(place)
    monkeypatch.setattr(tar_file._Writer, "end", lambda self: None)
    with pytest.raises(StorageError, match=r"train-0\.tar cannot be written .*read again.*without an end marker"):
        packed(place)
    assert everything(place / "new") == {}


def test_a_source_that_ends_early_is_told(place):
    run(place)
    packed(place)
    path = place / "in/train-1.tar"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 11_000)
    with pytest.raises(InputError, match="1 inputs have no output"):
        packed(place)
    before = everything(place / "new")
    broken = tar_file.Member("a.cls", 0, 0, 10**6)
    with path.open("rb") as file, pytest.raises(InputError, match=r"a\.cls of the input cannot be read"):
        tar_file.write(place / "new/x.tar", [[tar_file.Piece("a.cls", broken)]], lambda _: b"", file, {})
    assert everything(place / "new") == before


def test_a_source_that_changes_while_it_is_read_leaves_no_shard(place, monkeypatch):
    run(place)
    read = base.read_output
    monkeypatch.setattr(base, "read_output", lambda *args: os.utime(place / "in/train-0.tar", ns=(1, 1)) or read(*args))
    with pytest.raises(InputError, match=r"train-0\.tar changed while it was read"):
        packed(place)
    assert everything(place / "new") == {}


def test_the_command(place, monkeypatch, capsys):
    run(place)
    monkeypatch.chdir(place)
    assert command("pack", "out", "-o", "new", "--input", "in/train-0.tar", "in/train-1.tar") == 0
    out, said = capsys.readouterr()
    assert out.split() == ["new/train-0.tar", "new/train-1.tar"] and "6 images in samples, 0 missing: 2 of 2" in said
    assert "Carried over beside them: 12 members" in said
    assert command("pack", "out", "-o", "new", "--input", "in/train-*.tar", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == 0


@pytest.mark.parametrize(
    ("name", "is_folder"), [("packed", True), ("packed-1.0", True), ("x.npz", False), ("x.TAR", False)]
)
def test_a_name_with_a_number_is_a_folders_and_one_with_an_extension_is_not(name, is_folder, tmp_path, monkeypatch):
    from jaxstyle.data import packing
    from jaxstyle.data.packing import tar

    monkeypatch.setattr(tar, "pack", lambda *_: "shards")
    if is_folder:
        assert packing.pack(tmp_path / "out", tmp_path / name) == "shards"
    else:
        with pytest.raises(InputError, match="no HDF5 file by its name, and no folder"):
            packing.pack(tmp_path / "out", tmp_path / name)
