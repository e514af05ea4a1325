"""Parquet files in and out: rows give what the same pictures in a folder give; what is hostile is refused unread."""

import json
import os
import resource
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import whole_runs
from command import run as command
from pictures import encoded, painting, photo, save
from tars import archive, content
from whole_runs import files, provided, rows

from jaxstyle.data import bounds, footer, pages
from jaxstyle.data import parquet as reading
from jaxstyle.data.packing import pack, parquet_file
from jaxstyle.data.sources.parquet import ParquetSource
from jaxstyle.errors import InputError, SettingsError, StorageError

arrow = pytest.importorskip("pyarrow", reason="pyarrow (the extra parquet) is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow (the extra parquet) is not installed")

JPEGS = [encoded(photo(32, 24, n), "JPEG") for n in range(12)]
IMAGE = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
FEATURES = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Value"}}}})


def column(pictures, kind=IMAGE):
    values = [one and {"bytes": one, "path": f"{n}.jpg"} for n, one in enumerate(pictures)]
    return arrow.array(values if kind is IMAGE else pictures, kind)


def table(numbers, **more):
    """Pictures with labels of many types, as `datasets` would write it."""
    labels = {
        "label": arrow.array(numbers, arrow.int16()),
        "names": arrow.array([f"größe {n}" for n in numbers]).dictionary_encode(),
        "boxes": arrow.array([[[n, 0.5]] * (n % 3) for n in numbers], arrow.list_(arrow.list_(arrow.float32()))),
        "when": arrow.array([n * 1000 for n in numbers], arrow.timestamp("ns", "UTC")),
        "a.b": arrow.array([None if n % 2 else n for n in numbers], arrow.decimal128(9, 2)),
    }
    made = arrow.table({"image": column([JPEGS[n] for n in numbers])} | labels | more)
    return made.replace_schema_metadata({"huggingface": FEATURES, "of": "others"})


def written(path, made, **options):
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(made, path, **{"row_group_size": 5, "use_dictionary": False} | options)
    return path


@pytest.fixture
def place(place):
    written(place / "in/train-0.parquet", table([*range(7)]))
    written(place / "in/train-1.parquet", table([*range(7, 12)]), use_dictionary=True)
    return place


def inputs(place):
    return sorted((place / "in").glob("*.parquet"))


def run(place, given=None, out="out", **options):
    return whole_runs.run(place, given or inputs(place), out, **options)


def packed(place, target="new", **options):
    return pack(place / "out", place / target, source=inputs(place), **options)


def everything(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def source(*paths, **settings):
    return provided(ParquetSource, *paths, **settings)


def opened(provider):
    """What each row gives: its bytes, or why it has none."""
    found = []
    for one in provider.inputs():
        try:
            found.append(provider.open(one.locator).read())
        except OSError as error:
            found.append(str(error))
    return found


def test_the_same_pictures_in_every_kind_of_file_give_the_same_and_keep_their_labels(place):
    for n, data in enumerate(JPEGS):
        (place / "photos").mkdir(exist_ok=True)
        (place / f"photos/{n:02}.jpg").write_bytes(data)
    with h5py.File(place / "data.h5", "w") as file:
        images = file.create_dataset("image", (12,), h5py.vlen_dtype(np.uint8))
        for n, data in enumerate(JPEGS):
            images[n] = np.frombuffer(data, np.uint8)
        file["label"] = np.arange(12)
    archive(place / "data.tar", {f"{n:02}.{end}": data for n, one in enumerate(JPEGS)
                                 for end, data in (("jpg", one), ("cls", b"%d" % n))})  # fmt: skip
    given = {"folder": place / "photos", "hdf5": place / "data.h5", "tar": place / "data.tar", "parquet": None}
    made = {}
    for kind, path in given.items():
        assert run(place, path, kind).done == 12
        made[kind] = [data for _, data in sorted(files(place / kind).items())]
    assert made["folder"] == made["hdf5"] == made["tar"] == made["parquet"] and len({*made["tar"]}) == 12
    pack(place / "hdf5", place / "new.h5", source=place / "data.h5", layout="encoded")
    pack(place / "tar", place / "tars", source=place / "data.tar")
    pack(place / "parquet", place / "new", source=inputs(place))
    samples = content(place / "tars/data.tar")
    found = parquet.read_table(place / "new", columns=["image", "label"], use_threads=False).to_pylist()
    with h5py.File(place / "new.h5") as file:
        for n, data in enumerate(made["folder"]):
            assert found[n]["image"]["bytes"] == data == samples[f"{n:02}.jpg"] == file["image"][n].tobytes()
            assert found[n]["label"] == n == file["label"][n] == int(samples[f"{n:02}.cls"])


def test_keys_are_rows_and_patterns_and_columns_are_named(place):
    written(place / "two.parquet", table([3, 4], other=column([JPEGS[5], JPEGS[6]], arrow.large_binary())))
    found = [one.key for one in source(place / "in/train-*.parquet").inputs()]
    assert found[0] == "train-0/image/00000000.jpg" and found[-1] == "train-1/image/00000004.jpg" and len(found) == 12
    assert opened(source(place / "two.parquet", dataset="other")) == JPEGS[5:7]
    for name, told in [(None, "2 columns that can be images: image, other. Choose one with --dataset"),
                       ("x", "no column x. It has these that can be images: image, other"),
                       ("label", r"the column label of .* holds no images. It must be encoded pictures")]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            [*source(place / "two.parquet", dataset=name).inputs()]
    odd = written(place / "odd.parquet", arrow.table({"..": column(JPEGS[:1])}))
    with pytest.raises(InputError, match="a name that no folder can have"):
        [*source(odd).inputs()]
    with pytest.raises(InputError, match="no file matches"):
        source(place / "none-*.parquet")
    with pytest.raises(InputError, match="is no Parquet file, and another input is"):
        source(odd, place / "style.png").check(place / "out")
    with pytest.raises(SettingsError, match="no input is an HDF5 or Parquet file"):
        run(place, place / "style.png", dataset="x")


def test_rows_without_a_picture_and_rows_of_a_damaged_page_have_failed(place):
    path = place / "in/train-0.parquet"
    nothing = arrow.array([{"bytes": None, "path": "/etc/hostname"}, None, {"bytes": JPEGS[0], "path": None}], IMAGE)
    values = arrow.concat_arrays([nothing, column(JPEGS[3:7])])
    written(
        path,
        arrow.table({"image": values}),
        row_group_size=3,
        data_page_size=1,
        write_batch_size=1,
        write_statistics=False,
        write_page_checksum=True,
        compression="none",
    )
    data = path.read_bytes()
    at = data.index(JPEGS[4]) + 90
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    found = opened(source(path))
    assert found[0] == "its row has no picture, only the path /etc/hostname, which is not opened"
    assert found[1] == "its row has no picture" and (found[2], found[6]) == (JPEGS[0], JPEGS[6])
    assert all(isinstance(one, str) and "crc" in one.lower() for one in found[4:6]) and found[3] == JPEGS[3]
    summary = run(place, path)
    assert (summary.done, summary.failed) == (3, 4)
    assert "no picture, only the path" in rows(place / "out")["train-0/image/00000000.jpg"]["reason"]


def test_files_that_are_damaged_encrypted_or_refer_to_others_are_refused(place, monkeypatch):
    path = place / "in/train-0.parquet"
    whole = path.read_bytes()
    for data, told in [
        (whole[:-9], "does not begin and end as one"), (whole[:2], "does not begin"),
        (b"PAR1" + whole[-8:], "not begin"),
        (whole[:-4] + b"PARE", "encrypted"), (whole[:-1300] + bytes(1292) + whole[-8:], "be read as Parquet"),
    ]:  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(InputError, match=told):
            run(place)
    assert not (place / "out").exists()
    path.write_bytes(whole)
    monkeypatch.setattr(footer, "MOST_FOOTER", 100)
    with pytest.raises(InputError, match="has a footer of .* bytes, more than 100"):
        run(place)


def compact(*fields):
    """A struct in Thrift's compact protocol, of (number, kind, content in bytes)."""
    out, before = b"", 0
    for number, kind, data in fields:
        out += bytes([number - before << 4 | kind]) + data
        before = number
    return out + b"\0"


def number(value):
    """A signed integer that is not negative."""
    return _plain(value << 1)


def listed(kind, *values, claim=None):
    """A list, or one that claims to be longer."""
    return bytes([0xF0 | kind]) + _plain(claim or len(values)) + b"".join(values)


def _plain(value):
    """An unsigned integer."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def text(data):
    return 8, _plain(len(data)) + data


ELEMENTS = [compact((4, *text(b"r")), (5, 5, number(1))), compact((1, 5, number(6)), (4, *text(b"image")))]


def described(start=4, length=9):
    path = listed(8, _plain(5) + b"image")
    kinds = {1: (5, number(6)), 2: (9, listed(5, number(0))), 3: (9, path), 4: (5, number(0)), 5: (6, number(3)),
             6: (6, number(9)), 7: (6, number(length)), 9: (6, number(start))}  # fmt: skip
    return compact(*((n, *kinds[n]) for n in sorted(kinds)))


def hostile(path, *, schema=None, chunk=None, groups=None, more=(), rows=3):
    """A file whose footer has these parts."""
    chunk = chunk or compact((2, 6, number(4)), (3, 12, described()))
    group = compact((1, 9, listed(12, chunk)), (2, 6, number(9)), (3, 6, number(3)))
    data = compact((1, 5, number(1)), (2, 9, schema or listed(12, *ELEMENTS)), (3, 6, number(rows)),
                   (4, 9, groups or listed(12, group)), *more)  # fmt: skip
    path.write_bytes(b"PAR1" + bytes(9) + data + len(data).to_bytes(4, "little") + b"PAR1")
    return path


def group_of(*chunks, claim=None):
    return listed(12, compact((1, 9, listed(12, *chunks, claim=claim)), (2, 6, number(9)), (3, 6, number(3))))


HOSTILE = {
    "lists": (dict(schema=listed(12, *ELEMENTS, claim=2**31 - 1)), "claims more values than there are bytes"),
    "groups": (dict(groups=listed(12, claim=2**40)), "claims more values"),
    "text": (dict(more=[(6, 8, _plain(2**31 - 1) + b"x")]), "ends early"),
    "columns": (dict(groups=group_of(*[compact((2, 6, number(4)))] * 900)), "900 columns of 1"),
    "deep": (dict(schema=listed(12, *[ELEMENTS[0]] * 200, ELEMENTS[1])), "nested too deeply"),
    "rows": (dict(rows=4), "do not add up"),
    "encrypted": (dict(chunk=compact((2, 6, number(4)), (3, 12, described()), (8, 12, b"\0"))), "is encrypted"),
    "footer key": (dict(more=[(8, 12, b"\0")]), "is encrypted"),
    "elsewhere": (dict(chunk=compact((1, *text(b"/etc/hostname")), (3, 12, described()))), "columns in other files"),
    "outside": (dict(chunk=compact((3, 12, described(length=10**9)))), "outside of the file"),
    "nothing": (dict(chunk=compact((2, 6, number(4)))), "is not described"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_footer_is_refused_without_allocating_what_it_claims(tmp_path, name):
    parts, told = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=told):
        [*source(hostile(tmp_path / "x.parquet", **parts)).inputs()]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_pages_are_looked_at_before_they_are_decompressed(tmp_path, monkeypatch):
    path = written(tmp_path / "x.parquet", arrow.table({"image": column([bytes(2**20), JPEGS[0]])}), row_group_size=1)
    assert path.stat().st_size < 2**18 and opened(source(path)) == [bytes(2**20), JPEGS[0]]
    monkeypatch.setattr(pages, "MOST_PAGE", 2**20)
    found = opened(source(path))
    assert "a page has 10485" in found[0] and "more than 1048576. Write the file again" in found[0]
    assert found[1] == JPEGS[0]
    monkeypatch.setattr(pages, "MOST_PAGE", 2**29)
    monkeypatch.setattr(bounds, "OTHER_BYTES", 2**19)
    assert opened(source(path, max_pixels=9))[0].startswith("has 1048576 bytes, more than 524432. Raise --max-pixels")
    file = hostile(tmp_path / "y.parquet")
    header = compact((2, 5, number(2**31 - 1)), (3, 5, number(1)))
    file.write_bytes(file.read_bytes().replace(bytes(9), header))
    assert all("a page has 2147483647 bytes" in one for one in opened(source(file)))


def test_one_dictionary_entry_for_all_rows_is_one_picture_in_memory(tmp_path, monkeypatch):
    big = b"\xff\xd8\xff" + bytes(2**20)
    path = written(tmp_path / "x.parquet", arrow.table({"image": column([big] * 40)}), row_group_size=40,
                   use_dictionary=True, dictionary_pagesize_limit=2**30, compression="zstd")  # fmt: skip
    assert path.stat().st_size < 2**16
    usual = arrow.default_memory_pool()
    provider, pool = source(path), arrow.proxy_memory_pool(usual)
    monkeypatch.setattr(reading, "CACHE", 2**23)
    arrow.set_memory_pool(pool)
    try:
        assert provider.open("0:39").read() == big
        assert 2**22 < provider._open[0]._held <= 2**23
    finally:
        provider.close()
        arrow.set_memory_pool(usual)
    assert 2**20 < pool.max_memory() < 2**23  # all rows are 40 MiB


def test_rows_are_read_once_in_their_order_and_again_when_asked(place, monkeypatch):
    provider = source(place / "in/train-0.parquet")
    calls, check = [], reading.Rows._check
    monkeypatch.setattr(reading.Rows, "_check", lambda self, group: calls.append(group) or check(self, group))
    assert opened(provider) == JPEGS[:7]
    assert calls == [0, 0, 1]  # once to find the extension
    monkeypatch.setattr(reading, "CACHE", 1)
    provider = source(place / "in/train-0.parquet")
    assert [provider.open(f"0:{n}").read() for n in (6, 0, 3, 2)] == [JPEGS[n] for n in (6, 0, 3, 2)]


def test_a_file_that_changes_during_the_run_is_not_read(place):
    provider = source(place / "in/train-1.parquet")
    assert provider.open("0:4").read() == JPEGS[11]
    written(place / "in/train-1.parquet", table([1, 2, 3, 4, 5]))
    for call in (provider.open, provider.stamp):
        with pytest.raises(OSError, match="has changed since the run began"):
            call("0:0")


def test_files_without_pyarrow_name_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="extra 'parquet'"):
        run(place)


def test_a_table_is_the_sources_but_for_the_image(place, monkeypatch):
    run(place)
    monkeypatch.setattr(parquet_file, "GROUP", 2000)  # bytes: row groups, which do not end where blocks do
    made = packed(place)
    assert (made.images, made.missing, made.written) == (12, 0, 2)
    assert made.carried == ["label", "names", "boxes", "when", "a.b"]
    for path in made.files:
        old, new = parquet.read_table(place / "in" / path.name), parquet.read_table(path)
        said = json.loads(new.schema.metadata[b"jaxstyle"])
        assert old.drop(["image"]).to_pylist() == new.drop(["image"]).to_pylist() and old.schema.equals(new.schema)
        metadata = {name: data for name, data in new.schema.metadata.items() if name != b"jaxstyle"}
        assert metadata == old.schema.metadata
        for n, one in enumerate(new["image"].to_pylist()):
            assert one["path"] == f"{n:08}.jpg"
            assert one["bytes"] == (place / f"out/{path.stem}/image/{n:08}.jpg").read_bytes()
        assert (said["source"], said["missing"]) == (path.name, 0)
        assert said["settings"]["decides"]["settings"]["evaluations"] == 10
        found = parquet.ParquetFile(path, page_checksum_verification=True).metadata
        sizes = [found.row_group(n).num_rows for n in range(found.num_row_groups)]
        assert len(sizes) > 2 and {*sizes[:-1]} <= {2, 3}


def test_the_same_command_again_checks_and_writes_nothing(place):
    run(place)
    packed(place)
    before = everything(place / "new")
    times = {path: path.stat().st_mtime_ns for path in (place / "new").iterdir()}
    assert packed(place).written == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "new").iterdir()} == times
    path, data = place / "new/train-0.parquet", before["train-0.parquet"]
    at = data.index(b"gr\xc3\xb6\xc3\x9fe ")  # in a dictionary of labels
    path.write_bytes(data[:at] + b"G" + data[at + 1 :])
    assert packed(place).written == 1 and everything(place / "new") == before
    path.unlink()
    assert packed(place).written == 1 and everything(place / "new") == before
    written(place / "in/train-0.parquet", table([*range(6), 6], names=arrow.array(["x"] * 7)))
    assert packed(place).written == 1
    assert parquet.read_table(path)["names"].to_pylist() == ["x"] * 7


def test_missing_outputs_are_an_error_or_left_out_with_their_rows(place):
    pictures = [JPEGS[0], b"no picture", JPEGS[2], JPEGS[3]]
    written(place / "in/train-0.parquet", table([0, 1, 2, 3]).set_column(0, "image", column(pictures)))
    run(place)
    changed = [JPEGS[0], JPEGS[1], JPEGS[2], JPEGS[9]]
    written(place / "in/train-0.parquet", table([0, 1, 2, 3]).set_column(0, "image", column(changed)))
    with pytest.raises(InputError, match=r"2 inputs have no output.*0/image/00000001\.jpg, .*3\.jpg.*--allow-missing"):
        packed(place)
    assert not (place / "new").exists()
    made = packed(place, allow_missing=True, leave_out=["when"])
    assert (made.images, made.missing) == (7, 2)
    found = parquet.read_table(place / "new/train-0.parquet")
    assert found["label"].to_pylist() == [0, 2] and "when" not in found.schema.names
    assert [one["path"] for one in found["image"].to_pylist()] == ["00000000.jpg", "00000002.jpg"]


def test_images_in_several_styles_are_rows_with_their_labels(place):
    for name in ("a", "v.b~c"):
        save(place / f"styles/{name}.png", painting())
    run(place, style=place / "styles", assign="each", output_format="png")
    assert packed(place).images == 24
    found = parquet.read_table(place / "new/train-1.parquet").to_pylist()
    assert [one["label"] for one in found] == [n for n in range(7, 12) for _ in range(2)]
    assert [one["jaxstyle_style"] for one in found[:2]] == ["a.png", "v.b~c.png"]
    assert found[3]["image"]["path"] == "00000001~v.b_c.jpg.png"
    assert found[3]["image"]["bytes"] == (place / "out/train-1/image/00000001~v.b_c.jpg.png").read_bytes()
    written(place / "in/train-1.parquet", table([*range(7, 12)], jaxstyle_style=arrow.array(["x"] * 5)))
    with pytest.raises(InputError, match="has a column jaxstyle_style.*--leave-out jaxstyle_style"):
        packed(place)


def test_what_pack_refuses(place, monkeypatch):
    run(place)
    (place / "new").mkdir()
    for name in ("train-0.parquet", "train-1.parquet"):
        written(place / "new" / name, table([1]))
        with pytest.raises(InputError, match="did not pack it"):
            packed(place)
        (place / "new" / name).unlink()
    for target, told in [("in", "overlaps the input"), ("no/new", "does not exist"), ("x.h5", "a Parquet file")]:
        with pytest.raises(InputError, match=told):
            packed(place, target)
    for options, told in [({"per_file": 3}, "per-file"), ({"leave_out": ["x"]}, "no other column x")]:
        with pytest.raises(InputError, match=told):
            packed(place, **options)
    fill = parquet_file._fill
    monkeypatch.setattr(parquet_file, "_fill", lambda file, *rest: fill(file, *rest) or file.truncate(file.tell() - 1))
    with pytest.raises(StorageError, match="cannot be written .*read again"):
        packed(place)
    assert everything(place / "new") == {}
    (place / "out/train-0/image/00000003.jpg").write_bytes(JPEGS[0])
    with pytest.raises(StorageError, match="does not have the checksum"):
        packed(place)
    assert everything(place / "new") == {}


def test_content_is_on_the_disk_before_its_name(place, monkeypatch):
    run(place)
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("sync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(Path(new).name) or replace(old, new))
    packed(place)
    assert calls == ["sync", "train-0.parquet", "sync", "sync", "train-1.parquet", "sync"]


def test_the_command(place, monkeypatch, capsys):
    run(place)
    monkeypatch.chdir(place)
    assert command("pack", "out", "-o", "new", "--input", "in/train-0.parquet", "in/train-1.parquet") == 0
    out, said = capsys.readouterr()
    assert out.split() == ["new/train-0.parquet", "new/train-1.parquet"] and "12 images, 0 missing: 2 of 2" in said
    assert command("pack", "out", "-o", "new", "--input", "in/train-*.parquet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == 0
