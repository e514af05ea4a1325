"""`jaxstyle pack`: images and labels side by side in HDF5 files, whole, checked, and the same when made again."""

import json
import os

import h5py
import numpy as np
import pytest
import whole_runs
from command import run as command
from pictures import encoded, painting, photo, save
from PIL import Image
from whole_runs import QUICK

from jaxstyle.data import hdf5
from jaxstyle.data.packing import hdf5_file, pack
from jaxstyle.data.sources.hdf5 import Hdf5Source
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import InputError, StorageError
from jaxstyle.settings import RenderSettings

PHOTOS = np.stack([photo(32, 24, n) for n in range(6)])
KIND = np.dtype([("x", "f4"), ("name", h5py.string_dtype())])


def source(path):
    """A file with images and many kinds of labels."""
    with h5py.File(path, "w") as file:
        file["train/images"] = PHOTOS
        file["train/labels"] = np.arange(6, dtype=np.int16) * 11
        file["boxes"] = np.arange(48, dtype=np.float64).reshape(6, 2, 4)
        file["names"] = np.array([f"größe {n}" for n in range(6)], object)
        file["fixed"] = np.array([b"a%d" % n for n in range(6)])
        file.create_dataset("class", data=np.arange(6) % 2, dtype=h5py.enum_dtype({"cat": 0, "dog": 1}, "u1"))
        file.create_dataset("record", data=np.array([(n, f"r{n}") for n in range(6)], KIND))
        ragged = file.create_dataset("ragged", (6,), h5py.vlen_dtype(np.int32))
        for n in range(6):
            ragged[n] = np.arange(3) + n
        file["void"] = np.zeros((6, 0))
        file["mean"] = np.zeros(3)
    return path


@pytest.fixture
def place(place):
    source(place / "data.h5")
    return place


def run(place, inputs=None, **options):
    return whole_runs.run(place, inputs or place / "data.h5", **options)


def check_labels(file, rows):
    np.testing.assert_array_equal(file["train/images"], 255 - PHOTOS[rows])
    np.testing.assert_array_equal(file["train/labels"], np.array(rows) * 11)
    np.testing.assert_array_equal(file["boxes"], np.arange(48.0).reshape(6, 2, 4)[rows])
    assert [*file["names"].asstr()] == [f"größe {n}" for n in rows]
    assert [*file["fixed"]] == [b"a%d" % n for n in rows]
    assert [tuple(one) for one in file["record"]] == [(n, b"r%d" % n) for n in rows]
    assert [one.tolist() for one in file["ragged"]] == [[n, n + 1, n + 2] for n in rows]
    assert h5py.check_enum_dtype(file["class"].dtype) == {"cat": 0, "dog": 1} and file["void"].shape == (len(rows), 0)
    assert [*file["jaxstyle/keys"].asstr()] == [f"data/train/images/{n:08}.png" for n in rows]
    assert file["jaxstyle/rows"][:].tolist() == rows and "mean" not in file


@pytest.mark.parametrize("block", [hdf5_file.BLOCK, 1])
def test_labels_go_with_their_images(place, monkeypatch, block):
    monkeypatch.setattr(hdf5_file, "BLOCK", block)
    run(place)
    made = pack(place / "out", place / "new.h5", source=place / "data.h5")
    assert (made.images, made.missing, made.written, made.arrays, made.left) == (6, 0, 1, True, ["mean"])
    with h5py.File(place / "new.h5") as file, h5py.File(place / "data.h5") as old:
        check_labels(file, [*range(6)])
        for name in ("train/labels", "boxes", "names", "fixed", "class", "record", "ragged"):
            assert file[name].dtype == old[name].dtype
        images = file["train/images"]
        assert images.chunks == (1, 24, 32, 3) and images.compression == "gzip" and images.fletcher32
        assert '"evaluations": 10' in file.attrs["settings"] and file.attrs["source"] == "data.h5"
    assert not [name for name in os.listdir(place) if name.startswith(".")]


def test_attributes_go_with_their_datasets(place):
    run(place)
    with h5py.File(place / "data.h5", "r+", libver="latest") as file:
        file.create_dataset("wide", data=np.arange(6))
    args = place / "out", place / "new.h5"
    pack(*args, source=place / "data.h5")
    when, given = os.stat(place / "data.h5"), {
        "classes": ["cat", "größe"], "unit": np.bytes_(b"px"), "scale": np.float32(0.5), "empty": h5py.Empty("i4"),
        "sha256": "of the user", "box": np.arange(6, dtype=">i2").reshape(2, 3),
    }  # fmt: skip
    with h5py.File(place / "data.h5", "r+", libver="latest") as file:
        labels = file["train/labels"]
        labels.attrs.update(given)
        labels.attrs.create("kind", 1, dtype=h5py.enum_dtype({"a": 0, "b": 1}, "u1"))
        file["wide"].attrs["many"] = np.zeros(hdf5.MOST_ATTRIBUTE)
        file["mean"].make_scale("mean")
        file["boxes"].dims[2].attach_scale(file["mean"])
    os.utime(place / "data.h5", ns=(when.st_atime_ns, when.st_mtime_ns))  # as if the attributes alone had changed
    made = pack(*args, source=place / "data.h5")
    assert made.written == 1 and made.left == [
        "mean", "boxes (attribute DIMENSION_LIST)", "wide (attribute many)",
    ]  # fmt: skip
    with h5py.File(place / "new.h5") as file, h5py.File(place / "data.h5") as old:
        check_labels(file, [*range(6)])
        new, before = file["train/labels"].attrs, old["train/labels"].attrs
        assert h5py.check_enum_dtype(new.get_id("kind").dtype) == {"a": 0, "b": 1}
        for name in given.keys() - {"sha256"}:
            one, other = new.get_id(name), before.get_id(name)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            np.testing.assert_array_equal(new[name], before[name])
        assert len(new["sha256"]) == 64 and [*file["boxes"].attrs] == ["sha256"]
    assert pack(*args, source=place / "data.h5").written == 0


def test_channels_come_first_where_they_do_in_the_input(place):
    with h5py.File(place / "data.h5", "w") as file:
        file["images"] = PHOTOS.transpose(0, 3, 1, 2)
    run(place)
    pack(place / "out", place / "new.h5", source=place / "data.h5")
    with h5py.File(place / "new.h5") as file:
        np.testing.assert_array_equal(file["images"], 255 - PHOTOS.transpose(0, 3, 1, 2))
        assert file["images"].chunks == (1, 3, 24, 32)
    assert pack(place / "out", place / "new.h5", source=place / "data.h5").written == 0
    again = Hdf5Source([place / "new.h5"], settings=RenderSettings())
    assert again.tables()[0].image_shape == (24, 32, 3)
    again.close()


def test_missing_outputs_are_an_error_or_left_out_with_their_labels(place):
    run(place)
    lines = (place / "out" / "manifest.jsonl").read_text().splitlines(True)
    kept = [line for line in lines if "00000002.png" not in line and "00000004.png" not in line]
    (place / "out" / "manifest.jsonl").write_text("".join(kept))
    with pytest.raises(InputError, match=r"2 inputs have no output.*00000002\.png, .*00000004.*--allow-missing"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")
    assert not (place / "new.h5").exists()
    made = pack(place / "out", place / "new.h5", source=place / "data.h5", allow_missing=True)
    assert (made.images, made.missing) == (4, 2)
    with h5py.File(place / "new.h5") as file:
        check_labels(file, [0, 1, 3, 5])
        assert file.attrs["missing"] == 2
    run(place)
    assert pack(place / "out", place / "new.h5", source=place / "data.h5").written == 1
    with h5py.File(place / "new.h5") as file:
        check_labels(file, [*range(6)])


def test_several_files_hold_all_images_once(place):
    for n in (2, 1):
        run(place, shard=f"{n}/2")
    made = pack(place / "out", place / "new.h5", source=place / "data.h5", per_file=4)
    assert [path.name for path in made.files] == ["new-00000.h5", "new-00001.h5"]
    for path, rows in zip(made.files, ([0, 1, 2, 3], [4, 5]), strict=True):
        with h5py.File(path) as file:
            check_labels(file, rows)
    with pytest.raises(InputError, match=r"new-00001\.h5 is of an earlier packing"):
        pack(place / "out", place / "new.h5", source=place / "data.h5", per_file=6)
    with pytest.raises(InputError, match="per-file is 0"):
        pack(place / "out", place / "new.h5", per_file=0)


def test_the_same_command_again_checks_and_writes_nothing(place):
    run(place)
    args = place / "out", place / "new.h5"
    pack(*args, source=place / "data.h5")
    before = (place / "new.h5").read_bytes()
    assert pack(*args, source=place / "data.h5").written == 0
    with h5py.File(place / "new.h5", "r+") as file:
        file["train/labels"][2] = 7
    assert pack(*args, source=place / "data.h5").written == 1  # it had been changed
    assert (place / "new.h5").read_bytes() == before
    with h5py.File(place / "data.h5", "r+") as file:
        file["train/labels"][2] = 7
    assert pack(*args, source=place / "data.h5").written == 1  # the labels are others now
    with h5py.File(place / "new.h5") as file:
        assert file["train/labels"][2] == 7


def test_a_row_that_has_changed_since_counts_as_missing(place):
    run(place)
    with h5py.File(place / "data.h5", "r+") as file:
        file["train/images"][1] = 0
    with pytest.raises(InputError, match="1 inputs have no output"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")


def test_outputs_of_several_sizes_are_kept_as_files(place):
    with h5py.File(place / "data.h5", "w") as file:
        made = file.create_dataset("pictures", (3,), h5py.vlen_dtype(np.uint8))
        for n, size in enumerate([(32, 24), (20, 30), (32, 24)]):
            made[n] = np.frombuffer(encoded(photo(*size, n), "JPEG"), np.uint8)
        file["labels"] = np.arange(3)
    run(place)
    made = pack(place / "out", place / "new.h5", source=place / "data.h5")
    assert not made.arrays
    with h5py.File(place / "new.h5") as file:
        for n in range(3):
            assert file["pictures"][n].tobytes() == (place / f"out/data/pictures/{n:08}.jpg").read_bytes()
        assert file["labels"][:].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"2 sizes \(20 x 30, 32 x 24\).*encoded"):
        pack(place / "out", place / "new.h5", source=place / "data.h5", layout="arrays")
    again = Hdf5Source([place / "new.h5"], settings=RenderSettings())
    assert [one.key for one in again.inputs()] == [f"new/pictures/{n:08}.jpg" for n in range(3)]


def test_what_rows_and_settings_may_hold(place):
    run(place)
    settings, manifest = place / "out/settings.json", place / "out/manifest.jsonl"
    settings.write_text(settings.read_text() + " " * 100_000)
    pack(place / "out", place / "new.h5", source=place / "data.h5")
    with h5py.File(place / "new.h5") as file:
        assert len(file.attrs["settings"]) > 100_000
    row = json.loads(manifest.read_text().splitlines()[0])
    digits = row | {"key": f"data/train/images/{'9' * 5000}.png"}
    save(place / "leads.png", PHOTOS[0])
    out = row | {"key": "../leads.png", "image": row["key"]}
    manifest.write_text("".join(json.dumps(one) + "\n" for one in (digits, out)))
    with pytest.raises(StorageError, match="leads out of the folder"):
        pack(place / "out", place / "new.h5", source=place / "data.h5", allow_missing=True)


def test_outputs_in_another_format_find_their_labels(place):
    run(place, output_format="jpeg", workers=0)
    assert pack(place / "out", place / "new.h5", source=place / "data.h5").images == 6
    with h5py.File(place / "new.h5") as file:
        assert file["train/labels"][:].tolist() == [11 * n for n in range(6)]
        assert file["jaxstyle/keys"].asstr()[5].endswith("00000005.png.jpg")


def test_four_channels_and_folders(place):
    alpha = np.concatenate([PHOTOS, np.full((6, 24, 32, 1), 99, np.uint8)], -1)
    with h5py.File(place / "data.h5", "w") as file:
        file["x"] = alpha
    run(place)
    pack(place / "out", place / "new.h5", source=place / "data.h5")
    with h5py.File(place / "new.h5") as file:
        assert file["x"].shape == (6, 24, 32, 4)
        with Image.open(place / "out/data/x/00000003.png") as output:
            np.testing.assert_array_equal(file["x"][3], np.asarray(output))
    made = pack(place / "out", place / "folder.h5")
    with h5py.File(place / "folder.h5") as file:
        assert file["images"].shape == (6, 24, 32, 3) and made.images == 6 and "rows" not in file["jaxstyle"]


def test_images_in_several_styles_have_their_label_several_times(place):
    save(place / "styles/a.png", painting())
    save(place / "styles/b.png", 255 - painting())
    render(place / "data.h5", place / "styles", place / "out", QUICK, assign="each")
    pack(place / "out", place / "new.h5", source=place / "data.h5")
    with h5py.File(place / "new.h5") as file:
        assert file["train/labels"][:].tolist() == [11 * (n // 2) for n in range(12)]
        assert [*file["jaxstyle/styles"].asstr()] == ["a.png", "b.png"] * 6


def test_a_file_that_does_not_read_as_it_was_written_is_not_kept(place, monkeypatch):
    run(place)
    monkeypatch.setattr(hdf5_file, "differs", lambda *_: "it is damaged")
    with pytest.raises(StorageError, match=r"new\.h5 cannot be written .*it is damaged"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")
    assert not [name for name in os.listdir(place) if "new" in name or name.startswith(".")]


def test_damaged_outputs_are_an_error(place):
    run(place)
    path = place / "out/data/train/images/00000003.png"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"00000003\.png does not have the checksum"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")
    path.unlink()
    with pytest.raises(StorageError, match=r"00000003\.png cannot be read"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")


def test_what_is_refused(place):
    run(place)
    (place / "other.h5").write_bytes(b"mine")
    (place / "link.h5").symlink_to("nowhere")
    for target, told in [("data.h5", "is the input"), ("other.h5", "did not pack"), ("link.h5", "did not pack"),
                         ("x.npz", "no HDF5 file by its name"), ("no/x.h5", "does not exist")]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            pack(place / "out", place / target, source=place / "data.h5")
    with pytest.raises(InputError, match="not an output folder"):
        pack(place, place / "new.h5")
    with pytest.raises(InputError, match="no dataset b"):
        pack(place / "out", place / "new.h5", source=place / "data.h5", leave_out=["b"])
    with pytest.raises(InputError, match="no input"):
        pack(place / "out", place / "new.h5", leave_out=["b"])
    with h5py.File(place / "two.h5", "w") as file:
        file["x"] = PHOTOS
    with pytest.raises(InputError, match="has no outputs of .*two"):
        pack(place / "out", place / "new.h5", source=place / "two.h5", allow_missing=True)
    assert (place / "other.h5").read_bytes() == b"mine"


def test_references_are_carried_nowhere(place):
    with h5py.File(place / "data.h5", "r+") as file:
        file.create_dataset("refs", (6,), h5py.ref_dtype)
    run(place)
    with pytest.raises(InputError, match="dataset refs .*references.*--leave-out refs"):
        pack(place / "out", place / "new.h5", source=place / "data.h5")
    pack(place / "out", place / "new.h5", source=place / "data.h5", leave_out=["/refs"])
    with h5py.File(place / "new.h5") as file:
        check_labels(file, [*range(6)])


def test_the_command(place, monkeypatch, capsys):
    run(place)
    monkeypatch.chdir(place)
    words = ["pack", "out", "-o", "new.h5", "--input", "data.h5", "--per-file", "3", "--leave-out", "void"]
    assert command(*words) == 0
    out, said = capsys.readouterr()
    assert out.split() == ["new-00000.h5", "new-00001.h5"] and "6 images as arrays, 0 missing: 2 of 2" in said
    assert "Carried over by row: boxes, class" in said and "Not carried over: mean, void" in said
    assert command("pack", "none", "-o", "new.h5") == 2
