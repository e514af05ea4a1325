"""Our own file of weights: what is read is what was written, and nothing else."""

import dataclasses
import os
import secrets
from pathlib import Path

import h5py
import numpy as np
import pytest
from documents import format_tables

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.errors import WeightsError
from jaxstyle.model import weights_file as W


@pytest.fixture(scope="module")
def original(network, tmp_path_factory):
    """A file of ours, only to be copied."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    W.save(network, path)
    return path


@pytest.fixture
def copy(original, tmp_path):
    """A copy to be damaged; unlinked afterwards, since pytest keeps its folders and one copy is 59 MB."""
    path = tmp_path / "vgg16.h5"
    path.write_bytes(original.read_bytes())
    yield path
    path.unlink(missing_ok=True)


def equal(one, other):
    return all(np.array_equal(one[n][p], other[n][p]) for n in VGG16.layers for p in ("kernel", "bias"))


def test_a_file_reads_as_it_was_written(network, original):
    again = W.read(original)
    with h5py.File(original) as file:
        assert set(file.attrs) == format_tables.json_names(W.Header)
    assert equal(again.parameters, network.parameters)
    assert (again.digest, again.source, again.feature_scale) == (network.digest, network.source, "torchvision")
    assert W.read(str(original)).digest == network.digest


def test_the_digest_tells_arrays_and_preprocessing_apart(network):
    other = {n: dict(layer) for n, layer in network.parameters.items()}
    other["block3_conv2"]["bias"] = other["block3_conv2"]["bias"].copy()
    other["block3_conv2"]["bias"][7] += 1
    caffe = dataclasses.replace(network, feature_scale="caffe")
    renamed = dataclasses.replace(network, source="elsewhere")
    digests = [network.digest, dataclasses.replace(network, parameters=other).digest, caffe.digest]
    assert len(set(digests)) == 3 and renamed.digest == network.digest
    assert caffe.mean == W.CAFFE[0] and caffe.std == W.CAFFE[1]


def test_one_flipped_byte_is_noticed(copy):
    with h5py.File(copy, "r") as file:
        dataset = file["block4_conv2/kernel"]
        place = dataset.id.get_offset() + dataset.id.get_storage_size() // 2
    with open(copy, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(WeightsError, match="is damaged: its arrays have SHA-256"):
        W.read(copy)


@pytest.mark.parametrize("part", [0, 1e-7, 1e-4, 0.3, 0.999999])
def test_a_file_cut_short_is_refused(part, copy):
    os.truncate(copy, int(part * copy.stat().st_size))
    with pytest.raises(WeightsError, match="damaged or truncated"):
        W.read(copy)


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is no weights file"):
        W.read(tmp_path / "absent.h5")
    with pytest.raises(WeightsError, match="there is no weights file"):
        W.read(tmp_path)
    for name, content in (("text.h5", b"weights"), ("zeros.h5", bytes(4096))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as HDF5"):
            W.read(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["block1_conv1/kernel"] = np.zeros(3)
    with pytest.raises(WeightsError, match=r"jaxstyle weights convert other\.h5 DST"):
        W.read(tmp_path / "other.h5")


def replaced(path, how):
    """Does something to a file in the place of its last bias."""
    with h5py.File(path, "r+") as file:
        del file["block5_conv3/bias"]
        how(file["block5_conv3"], "bias")


def virtual(group, name):
    layout = h5py.VirtualLayout((512,), "f4")
    layout[:] = h5py.VirtualSource("good.h5", "block5_conv3/bias", (512,))
    group.create_virtual_dataset(name, layout)


HOSTILE = {
    "nothing": lambda group, name: None,
    "external link": lambda group, name: group.update({name: h5py.ExternalLink("/etc/hostname", "/")}),
    "link to a good file": lambda group, name: group.update({name: h5py.ExternalLink("good.h5", "/block5_conv3/bias")}),
    "soft link": lambda group, name: group.update({name: h5py.SoftLink("/block5_conv2/bias")}),
    "external storage": lambda group, name: group.create_dataset(name, (512,), "f4", external=[("good.h5", 0, 2048)]),
    "virtual": virtual,
    "huge": lambda group, name: group.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(1024, 1024)),
    "huge chunk": lambda group, name: group.create_dataset(name, (512,), "f4", chunks=(1 << 28,), maxshape=(None,)),
    "empty": lambda group, name: group.update({name: h5py.Empty("f4")}),
    "group": lambda group, name: group.create_group(name),
    "text": lambda group, name: group.update({name: np.full(512, b"1", "S1")}),
}
"""What may stand in the place of an array."""
REFUSED = "not stored in this file|data outside this file|unlike the arrays of every known network|is not an array"


@pytest.mark.parametrize("how", HOSTILE)
def test_an_array_that_is_not_plainly_there_is_refused(how, copy, original, monkeypatch):
    (copy.parent / "good.h5").symlink_to(original)
    monkeypatch.chdir(copy.parent)
    replaced(copy, HOSTILE[how])
    with pytest.raises(WeightsError, match=REFUSED):
        W.read(copy)


def test_a_whole_layer_behind_a_link_is_refused(copy, original):
    with h5py.File(copy, "r+") as file:
        del file["block2_conv1"]
        file["block2_conv1"] = h5py.ExternalLink(str(original), "/block2_conv1")
    with pytest.raises(WeightsError, match="not stored in this file"):
        W.read(copy)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.full(512, np.nan, "f4"), "not finite"), (np.full(512, 1e300), "not finite"), (np.ones(511, "f4"), "shape"),
     (np.ones(512, "f4"), "damaged")],
)  # fmt: skip
def test_wrong_values_and_shapes_are_refused(array, message, copy):
    replaced(copy, lambda group, name: group.create_dataset(name, data=array))
    with pytest.raises(WeightsError, match=message):
        W.read(copy)


@pytest.mark.parametrize("value", ["imagenet", "", 7])
def test_an_unknown_preprocessing_is_refused(value, copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["preprocessing"] = value
    with pytest.raises(WeightsError, match="names the preprocessing"):
        W.read(copy)


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_save_that_fails_leaves_nothing_new_and_nothing_lost(moment, network, tmp_path, monkeypatch):
    path = tmp_path / "vgg16.h5"
    path.write_bytes(b"older")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync" if moment == "writing" else "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        W.save(network, path)
    assert os.listdir(tmp_path) == ["vgg16.h5"] and path.read_bytes() == b"older"


def test_a_link_planted_under_the_temporary_name_is_not_followed(vgg19, tmp_path, monkeypatch):
    """Even if its name were known beforehand."""
    victim, path = tmp_path / "victim", tmp_path / "vgg19.h5"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(secrets, "token_hex", lambda length: "0" * 2 * length)
    planted = tmp_path / f".vgg19.h5.{'0' * 16}"
    planted.symlink_to(victim)
    with pytest.raises(FileExistsError):
        W.save(vgg19, path)
    assert victim.read_bytes() == b"precious" and planted.is_symlink() and not path.exists()


def test_the_temporary_name_cannot_be_foreseen_and_lies_in_the_same_folder(vgg19, tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: names.append(Path(old)) or replace(old, new))
    for _ in range(2):
        W.save(vgg19, tmp_path / "vgg19.h5")
    assert {name.parent for name in names} == {tmp_path} and len(set(names)) == 2
    assert all(name.name.startswith(".vgg19.h5.") and len(name.suffix) == 17 for name in names)
    (tmp_path / "vgg19.h5").unlink()


def test_a_link_in_the_place_of_the_file_is_replaced_and_the_umask_is_kept(vgg19, tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "vgg19.h5"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    before = os.umask(0o027)
    try:
        W.save(vgg19, path)
    finally:
        os.umask(before)
    assert victim.read_bytes() == b"precious" and not path.is_symlink() and W.read(path) == vgg19
    assert path.stat().st_mode & 0o777 == 0o640
    path.unlink()


# which network --------------------------------------------------------------------------------------------------------


def test_a_file_says_its_network(vgg19, original, tmp_path):
    path = tmp_path / "vgg19.h5"
    W.save(vgg19, path)
    with h5py.File(path) as file, h5py.File(original) as older:
        assert (file.attrs["format"], older.attrs["format"]) == ("jaxstyle VGG19 1", "jaxstyle VGG16 1")
    found = W.read(path)
    assert found.architecture is VGG19 and tuple(found.parameters) == VGG19.layers and found == vgg19
    assert found.parameters["block5_conv4"]["bias"][7] == 1
    path.unlink()


def test_the_arrays_of_a_vgg16_are_not_those_of_a_vgg19_and_the_digests_differ(network, vgg19):
    with pytest.raises(WeightsError, match="has no layer block3_conv4. It must be a VGG19 with all 16 convolutions"):
        W.checked(network.parameters, "a file", VGG19)
    part = {name: vgg19.parameters[name] for name in VGG16.layers}
    assert W.Weights(part, "caffe", "made up", VGG16).digest != vgg19.digest
    assert vgg19.digest.startswith("d10a270aedf3")


@pytest.mark.parametrize(
    ("text", "message"), [("jaxstyle VGG13 1", "reads VGG16, VGG19"), ("VGG16 1", "not a weights")]
)
def test_a_format_that_is_not_known_is_refused(text, message, copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["format"] = text
    with pytest.raises(WeightsError, match=message):
        W.read(copy)
