"""HDF5 inputs: their rows give what the same pictures in a folder give; what could lead out of the file is refused."""

import io
import os
import signal
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
import stub
from pictures import encoded, photo, png16, save
from PIL import Image
from whole_runs import QUICK, files, provided, rows, run

from jaxstyle.data import hdf5
from jaxstyle.data.pictures.png import png
from jaxstyle.data.sources import hdf5 as ours
from jaxstyle.data.sources.hdf5 import Hdf5Source
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.planning.forecast import forecast
from jaxstyle.settings import RenderSettings

PHOTOS = np.stack([photo(32, 24, n) for n in range(5)])
BYTES = h5py.vlen_dtype(np.uint8)


def written(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            if isinstance(value, list):
                made = file.create_dataset(name, (len(value),), BYTES)
                for n, data in enumerate(value):
                    made[n] = np.frombuffer(data, np.uint8)
            else:
                file.create_dataset(name, data=value)
    return path


def source(path, **settings):
    return provided(Hdf5Source, path, **settings)


def opened(path, row=0, **settings):
    with source(path, **settings).open(f"0:{row}") as file:
        return file.read()


def test_the_rows_give_what_the_same_pictures_in_a_folder_give(place):
    alpha = np.concatenate([PHOTOS, np.full((5, 24, 32, 1), 128, np.uint8)], -1)
    made = {"gray": PHOTOS[..., :1], "colour": PHOTOS, "alpha": alpha}
    path = written(place / "data.h5", **made, labels=np.arange(5))
    for name, values in made.items():
        for n, one in enumerate(values):
            save(place / name / f"data/{name}/{n:08}.png", one[..., 0] if name == "gray" else one)
        assert run(place, place / name, f"{name}-folder").done == 5
        assert run(place, path, f"{name}-hdf5", dataset=name).done == 5
        assert files(place / f"{name}-hdf5") == files(place / f"{name}-folder")
    assert rows(place / "colour-hdf5")["data/colour/00000004.png"]["input_bytes"] == PHOTOS[0].nbytes


def test_shards_are_all_rows_and_a_killed_run_goes_on(place):
    path = written(place / "data.h5", images=PHOTOS)
    assert run(place, path).done == 5
    words = ["render", path, "--style", place / "style.png", "-o", place / "killed"]
    words += [w for n in ("size", "evaluations", "workers") for w in (f"--{n}", str(getattr(QUICK, n)))]
    killed = subprocess.run(
        [sys.executable, stub.__file__, *words, "--batch", "1"],
        env=os.environ | {"STUB_CRASH": "5", "STUB_SECONDS": "0.05"},
        check=False,
    )
    assert killed.returncode == -signal.SIGSEGV
    known = (place / "killed" / "manifest.jsonl").read_bytes().count(b"\n")
    again = run(place, path, "killed", batch=1)
    assert again.done == 5 and again.rendered == 5 - known
    parts = [run(place, path, "shards", shard=f"{n}/2").rendered for n in (1, 2)]
    assert sum(parts) == 5 and 0 not in parts
    keys = [f"data/images/{n:08}.png" for n in range(5)]
    assert [*files(place / "out")] and sorted(files(place / "out")) == keys
    assert files(place / "out") == files(place / "killed") == files(place / "shards")


def test_a_copied_file_is_known_again_and_a_changed_row_is_rendered(place):
    path = written(place / "data.h5", images=PHOTOS)
    run(place, path)
    os.utime(path, ns=(1, 1))
    assert run(place, path).looked_at == 0
    with h5py.File(path, "r+") as file:
        file["images"][3] = 255 - PHOTOS[3]
    assert run(place, path).rendered == 1


def test_plans_and_runs_close_the_file(place, monkeypatch):
    tables, opened = [], ours._opened
    monkeypatch.setattr(ours, "_opened", lambda *args: tables.append(opened(*args)) or tables[-1])
    path = written(place / "data.h5", images=PHOTOS)
    made = forecast([path], place / "style.png", place / "out", QUICK, lambda _: stub.StubDevice(), measure=False)
    assert made.render == 5 and not (place / "out").exists()
    run(place, path)
    assert [bool(one.rows.file) for one in tables] == [False, False]


def test_a_closed_source_opens_its_files_again(place):
    one = source(written(place / "data.h5", images=PHOTOS))
    before = one.tables()[0]
    one.close()
    assert not before.rows.file
    assert one.open("0:1").read() == png(PHOTOS[1])


def test_a_name_that_leads_out_of_the_output_folder_is_refused(place):
    with pytest.raises(InputError, match=r"the dataset \.\./images .*no folder can have"):
        run(place, written(place / "data.h5", **{"../images": PHOTOS}))


def test_rows_have_masks_as_files_have(place):
    path = written(place / "data.h5", images=PHOTOS[:2])
    mask = np.zeros((24, 32, 3), np.uint8)
    mask[:, 16:] = 255
    save(place / "masks/data/images/00000001.png", mask)
    summary = run(place, path, content_masks=place / "masks", keep="black")
    assert (summary.done, summary.failed) == (1, 1)
    assert rows(place / "out")["data/images/00000001.png"]["masks_sha256"]


def test_encoded_pictures_are_decoded_as_files_and_broken_ones_are_failed_rows(place):
    good = encoded(PHOTOS[0], "JPEG")
    path = written(place / "data.h5", jpegs=[b"", good, good[:200], b"hello", encoded(PHOTOS[1], "PNG")])
    summary = run(place, path)
    assert (summary.done, summary.skipped, summary.failed) == (2, 0, 3)
    told = rows(place / "out")
    assert told["data/jpegs/00000004.jpg"]["notes"][0].startswith("is a PNG in spite of its name")
    with Image.open(place / "out/data/jpegs/00000001.jpg") as made:
        assert made.format == "JPEG" and made.size == (32, 24)
    assert source(path).open("0:1").read() == good
    assert next(source(written(place / "p.h5", a=[encoded(PHOTOS[0], "PNG")])).inputs()).key == "p/a/00000000.png"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays_become_the_png_of_their_levels(channels, kind):
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (5, 7, channels)).astype(kind)
    plain = values[..., 0] if channels == 1 else values
    if kind == np.uint8:
        np.testing.assert_array_equal(Image.open(io.BytesIO(png(values))), plain)
    else:
        theirs, ours = png16(plain), png(values)
        assert [np.asarray(Image.open(io.BytesIO(one))).tobytes() for one in (ours,)] == [
            np.asarray(Image.open(io.BytesIO(theirs))).tobytes()
        ]


def test_floats_and_uint16_have_16_bits(place):
    levels = np.full((1, 24, 32, 3), 40000, np.uint16)
    values = levels / np.float32(65535)
    path = written(place / "data.h5", levels=levels, values=values, big=levels.astype(">u2"))
    assert opened(path, dataset="levels") == opened(path, dataset="values") == opened(path, dataset="big")
    for name in ("levels", "values"):
        assert run(place, path, name, dataset=name).done == 1
        with Image.open(place / name / f"data/{name}/00000000.png") as made:
            assert set(np.asarray(made).ravel()) == {255 - round(40000 / 65535 * 255)}
    with pytest.raises(SettingsError, match="white_level is 200"):
        run(place, path, "c", dataset="values", white_level=200)


def test_floats_outside_the_range_are_failed_rows(place):
    values = np.full((4, 24, 32, 3), 0.5, np.float32)
    values[0, 0, 0, 0], values[1, 3, 4, 1], values[2, 0, 0, 2] = 1.01, np.nan, -0.01
    assert run(place, written(place / "data.h5", images=values)).done == 1
    told = rows(place / "out")["data/images/00000000.png"]
    assert told["status"] == "failed" and "has values from 0.5 to 1.01, and floats must be in [0, 1]" in told["reason"]


@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_channels_may_come_first(place, kind):
    values = (PHOTOS if kind == "u1" else PHOTOS / np.float32(255)).astype(kind)
    first = values.transpose(0, 3, 1, 2)
    path = written(place / "data.h5", first=first, masks=first[:, :1], last=values)
    assert opened(path, 2) == opened(path, 2, dataset="first")  # the only one with channels last is taken
    alone = written(place / "first.h5", first=first, both=first[..., :3])
    shapes = {name: source(alone, dataset=name).tables()[0].image_shape for name in ("first", "both")}
    assert shapes == {"first": (24, 32, 3), "both": (3, 24, 3)}  # where both ends could be channels, they come last
    assert source(path, dataset="masks").tables()[0].image_shape == (24, 32, 1)


def test_rows_are_read_when_they_are_needed(place, monkeypatch):
    read = []
    taken = hdf5.Rows.__getitem__
    monkeypatch.setattr(hdf5.Rows, "__getitem__", lambda self, row: read.append(row) or taken(self, row))
    assert run(place, written(place / "data.h5", images=PHOTOS), limit=2, batch=1).done == 2
    assert set(read) <= {0, 1, 2, 3} and 4 not in read  # headers are asked for in groups of four


def test_which_dataset(place):
    path = written(place / "data.h5", **{"a/x": PHOTOS, "b": PHOTOS, "labels": np.arange(5)})
    with pytest.raises(InputError, match=r"has 2 datasets.*a/x \(5 x 24 x 32 x 3, uint8\); b \(.*--dataset"):
        run(place, path)
    assert run(place, path, dataset="/a/x").done == 5
    with pytest.raises(InputError, match="no dataset c.*a/x"):
        run(place, path, "o2", dataset="c")
    with pytest.raises(InputError, match=r"labels \(5, int64\).*holds no images.*N x H x W x 3"):
        run(place, path, "o2", dataset="labels")
    none = written(place / "none.h5", first=PHOTOS.transpose(0, 2, 3, 1)[..., :2])
    with pytest.raises(InputError, match="no dataset that can be images: first"):
        run(place, none, "o2")
    with pytest.raises(SettingsError, match="dataset is 'b', and no input is an HDF5 or Parquet file"):
        run(place, place / "style.png", "o2", dataset="b")
    with pytest.raises(SettingsError, match="dataset"):
        RenderSettings(dataset="/")


def test_several_files_are_rendered_together(place):
    two = [written(place / f"{name}.h5", images=PHOTOS[:2]) for name in "ab"]
    assert run(place, two).done == 4
    with pytest.raises(InputError, match="outputs of one name"):
        run(place, [two[0], written(place / "sub.h5", images=PHOTOS).rename(place / "A.hdf5")], "o2")
    with pytest.raises(InputError, match="style.png is no HDF5 file"):
        run(place, [two[0], place / "style.png"], "o2")


@pytest.mark.parametrize(("values", "settings", "told"), [
    (PHOTOS[:0], {}, "has no rows"),
    (PHOTOS, {"max_pixels": 32 * 24 - 1}, "claims 32 x 24 pixels.*--max-pixels"),
])  # fmt: skip
def test_sizes_are_checked_first(place, values, settings, told):
    with pytest.raises(InputError, match=told):
        run(place, written(place / "data.h5", images=values), **settings)
    assert not (place / "out").exists()


def test_files_that_are_none(place):
    whole = written(place / "data.h5", images=PHOTOS)
    (place / "cut.h5").write_bytes(whole.read_bytes()[:-500])
    (place / "text.h5").write_text("hello")
    os.mkfifo(place / "pipe.h5")
    for name, told in [("cut", "cannot be read as HDF5.*truncated"), ("text", "cannot be read as HDF5"),
                       ("pipe", "not a regular file"), ("none", "does not exist")]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            run(place, place / f"{name}.h5")
    with pytest.raises(InputError, match="overlaps the input"):
        run(place, whole, ".")


def external(file):
    file["more"] = h5py.ExternalLink("other.h5", "/images")


def soft(file):
    file["more"] = h5py.SoftLink("/images")


def deep_soft(file):
    file["group/more"] = h5py.SoftLink("/images")


def virtual(file):
    layout = h5py.VirtualLayout((5, 24, 32, 3), np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "images", (5, 24, 32, 3))
    file.create_virtual_dataset("more", layout)


def stored_elsewhere(file):
    file.create_dataset("more", (4,), np.uint8, external=[("other.bin", 0, 4)])


@pytest.mark.parametrize("leads_out", [external, soft, deep_soft, virtual, stored_elsewhere])
def test_files_that_may_lead_out_of_themselves_are_refused_unread(place, monkeypatch, leads_out):
    path = written(place / "data.h5", images=PHOTOS)
    written(place / "other.h5", images=PHOTOS)
    with h5py.File(path, "r+") as file:
        leads_out(file)
    monkeypatch.setattr(hdf5.Rows, "__getitem__", None)
    with pytest.raises(InputError, match="may refer to other files.*more is"):
        run(place, path)


def scaled(file):
    file.create_dataset("images", (5, 24, 32, 3), "u1", scaleoffset=True)


def unknown_filter(file):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1, 24, 32, 3))
    made.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((5, 24, 32, 3)), made)


def strange_order(file):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1, 24, 32, 3))
    made.set_deflate(4)
    made.set_shuffle()
    h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((5, 24, 32, 3)), made)


def large_chunks(file):
    shape = (2, 24, 32, 3)
    file.create_dataset("images", shape, "u1", maxshape=(None, *shape[1:]), chunks=(10**6, 24, 32, 1))


def small_chunks(file):
    file.create_dataset("images", (1, 257, 256, 1), "u1", chunks=(1, 1, 1, 1))


def many_rows(file):
    file.create_dataset("images", (10**8 + 1, 24, 32, 3), "u1", chunks=(1, 24, 32, 3))


@pytest.mark.parametrize(("make", "told"), [
    (scaled, r"has the filter 6 \(scaleoffset\).*h5repack"), (unknown_filter, r"has the filter 32001 \(Blosc\)"),
    (strange_order, "unusual order"),
    (large_chunks, "chunks of 768000000 bytes"), (small_chunks, "more than 65536 chunks a row"),
    (many_rows, "has 100000001 rows"),
])  # fmt: skip
def test_filters_and_sizes_that_are_not_read(place, make, told):
    with h5py.File(place / "data.h5", "w") as file:
        make(file)
    with pytest.raises(InputError, match=told):
        run(place, place / "data.h5", limit=1)


def test_references_are_no_images(place):
    path = written(place / "data.h5", images=PHOTOS)
    with h5py.File(path, "r+") as file:
        file.create_dataset("refs", (5,), h5py.ref_dtype)
        file.create_dataset("named", (5,), np.dtype([("a", "i4"), ("r", h5py.ref_dtype)]))
    with h5py.File(path) as file:
        refused = {one.name: one.refused for one in hdf5.datasets(file, path)}
    assert "references" in refused["refs"] and "references" in refused["named"] and not refused["images"]
    with pytest.raises(InputError, match="holds no images"):
        run(place, path, dataset="refs")


def test_cycles_and_many_objects(place, monkeypatch):
    path = written(place / "data.h5", **{"a/images": PHOTOS})
    with h5py.File(path, "r+") as file:
        file["a/b"] = file["a"]
        file["same"] = file["a/images"]
    assert run(place, path).done == 5
    monkeypatch.setattr(hdf5, "MOST_OBJECTS", 3)
    with pytest.raises(InputError, match="more than 3 groups and datasets"):
        run(place, path, "o2")


@pytest.mark.parametrize("options", [{"compression": "gzip", "shuffle": True, "fletcher32": True},
                                     {"compression": "lzf"}])  # fmt: skip
def test_chunks_that_would_fill_the_memory_are_failed_rows(place, monkeypatch, options):
    path = place / "data.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("images", data=PHOTOS, chunks=(1, 24, 32, 3), **options)
        if "shuffle" in options:
            made.id.write_direct_chunk((2, 0, 0, 0), zlib.compress(bytes(10**7)))
    monkeypatch.setattr(hdf5, "MOST_INFLATED", 2**17)
    summary = run(place, path)
    assert (summary.done, summary.failed) == ((4, 1) if "shuffle" in options else (0, 5))
    reason = rows(place / "out")["data/images/00000002.png"]["reason"]
    assert "could fill the memory" in reason and "h5repack" in reason


def test_a_damaged_chunk_is_a_failed_row(place):
    path = place / "data.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("images", data=PHOTOS, chunks=(1, 24, 32, 3), compression="gzip")
        at = made.id.get_chunk_info_by_coord((1, 0, 0, 0)).byte_offset
    with path.open("r+b") as file:
        file.seek(at + 100)
        file.write(b"\0" * 300)
    summary = run(place, path)
    assert (summary.done, summary.failed) == (4, 1)
    assert "HDF5" in rows(place / "out")["data/images/00000001.png"]["reason"]
