"""Weights of Keras, torch and safetensors, written by those libraries, and files that only pretend to be."""

import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import state_dict, tensor, zipped

from jaxstyle.errors import WeightsError
from jaxstyle.model import weights as W
from jaxstyle.model.convert import TORCH_INDICES, convert, read_foreign
from jaxstyle.settings import LAYERS

STRIDED = Path(__file__).parent / "data" / "torch_strided.pth"


@pytest.fixture(scope="module")
def arrays():
    """Kernels (3 x 3 x in x out) that keep the maps' size through the depth, and biases that matter."""
    rng = np.random.default_rng(5)
    result = {}
    for name, shape in W.SHAPES.items():
        kernel = rng.normal(0, (2 / (9 * shape[2])) ** 0.5, shape)
        result[name] = {"kernel": kernel.astype("f4"), "bias": rng.normal(0, 0.1, shape[3]).astype("f4")}
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For the large files of this module, which are gone when it is done (pytest keeps its folders)."""
    path = tmp_path_factory.mktemp("convert")
    yield path
    for file in path.iterdir():
        file.unlink()


def torch_names(arrays):
    """The same arrays as torch names and lays them out: out x in x 3 x 3."""
    state = {}
    for index, layer in zip(TORCH_INDICES, arrays.values(), strict=True):
        state[f"features.{index}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{index}.bias"] = layer["bias"]
    return state


def same(weights, arrays):
    return all(np.array_equal(weights.parameters[n][p], arrays[n][p]) for n in LAYERS for p in ("kernel", "bias"))


@pytest.fixture(scope="module")
def keras_model(arrays, folder, tmp_path_factory):
    """Keras's own VGG16 with our random arrays, saved by Keras in the three ways it has, and with its dense layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = pytest.importorskip("keras", reason="Keras writes the files that this test reads")
        from keras.src.legacy.saving import legacy_h5_format

        model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 48, 3))
        with_top = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=2)
    with_top.set_weights(
        [layer[part] for layer in arrays.values() for part in ("kernel", "bias")] + with_top.get_weights()[26:]
    )
    with_top.save_weights(folder / "top.weights.h5")
    model.set_weights([layer[part] for layer in arrays.values() for part in ("kernel", "bias")])
    model.save_weights(folder / "new.weights.h5")
    model.save(folder / "whole_model.h5")
    with h5py.File(folder / "legacy.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return keras, model


@pytest.mark.parametrize("name", ["new.weights.h5", "legacy.h5", "whole_model.h5", "top.weights.h5"])
def test_a_keras_file_gives_the_arrays_with_the_first_kernel_turned_to_rgb(name, keras_model, folder, arrays):
    found = read_foreign(folder / name)
    assert found.feature_scale == "caffe" and name in found.source
    first = {"kernel": arrays["block1_conv1"]["kernel"][:, :, ::-1], "bias": arrays["block1_conv1"]["bias"]}
    assert same(found, {**arrays, "block1_conv1": first})
    assert same(read_foreign(folder / name, "torchvision"), arrays)


def test_feature_maps_are_those_of_keras(keras_model, folder):
    """Float32 sums 13 layers deep in another order, of an input scaled and shifted differently: 1e-6 or so apart."""
    import jax
    import jax.numpy as jnp

    from jaxstyle.model.vgg16 import VGG16, variables

    keras, model = keras_model
    pixels = np.random.default_rng(2).uniform(0, 255, (32, 48, 3)).astype(np.float32)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in LAYERS])
    with jax.default_matmul_precision("highest"):  # on a GPU float32 may be TF32
        theirs = outputs.predict_on_batch(keras.applications.vgg16.preprocess_input(pixels[None].copy()))
        found = read_foreign(folder / "legacy.h5")
        ours = VGG16(LAYERS).apply(variables(found.parameters, found.mean, found.std), jnp.asarray(pixels / 255))
    for name, expected in zip(LAYERS, theirs, strict=True):
        expected = np.asarray(expected)[0]
        assert expected.max() > 1 and ours[name].shape == expected.shape
        assert np.abs(np.asarray(ours[name]) - expected).max() <= 1e-4 * expected.max(), name


@pytest.fixture
def tiny_keras(tmp_path):
    """A legacy file of Keras's layout whose arrays take no room: written in chunks of which none is stored."""
    path = tmp_path / "tiny.h5"
    with h5py.File(path, "w") as file:
        for name, shape in W.SHAPES.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            for part, extent in zip("Wb", (shape, shape[3:]), strict=True):
                group.create_dataset(f"{name}_{part}_1:0", extent, "f4", chunks=True)
    return path


def test_the_oldest_keras_layout_is_read(tiny_keras):
    assert read_foreign(tiny_keras).feature_scale == "caffe"


def test_a_vgg19_is_not_taken_for_a_vgg16(tiny_keras):
    """Its layers include all of VGG16's under the same names and of the same shapes."""
    with h5py.File(tiny_keras, "r+") as file:
        file.copy("block3_conv3", "block3_conv4")
    with pytest.raises(WeightsError, match="VGG19"):
        read_foreign(tiny_keras)
    with h5py.File(tiny_keras, "r+") as file:
        for name in list(file):
            file.move(name, f"layers/{name}")
    with pytest.raises(WeightsError, match="VGG19"):
        read_foreign(tiny_keras)


@pytest.mark.parametrize("place", ["block3_conv1", "block3_conv1/block3_conv1_W_1:0", "layers", "model_weights"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("elsewhere.h5", "/"), h5py.SoftLink("/block3_conv2")])
def test_a_keras_file_with_links_is_refused(place, link, tiny_keras, monkeypatch):
    (tiny_keras.parent / "elsewhere.h5").write_bytes(tiny_keras.read_bytes())
    monkeypatch.chdir(tiny_keras.parent)
    with h5py.File(tiny_keras, "r+") as file:
        if place in file:
            del file[place]
        file[place] = link
    with pytest.raises(WeightsError, match="not stored in this file"):
        read_foreign(tiny_keras)


def test_other_hdf5_files_are_refused(tiny_keras):
    with h5py.File(tiny_keras, "r+") as file:
        del file["block5_conv3/block5_conv3_b_1:0"]
        file["block5_conv3/block5_conv3_b_1:0"] = np.zeros(511, "f4")
    with pytest.raises(WeightsError, match=r"block5_conv3/bias has shape \(511,\)"):
        read_foreign(tiny_keras)
    with h5py.File(tiny_keras, "r+") as file:
        del file["block5_conv3"]
    with pytest.raises(WeightsError, match="has no layer block5_conv3"):
        read_foreign(tiny_keras)


def strided_arrays():
    """What tests/goldens/make_torch_fixture.py put into its file."""
    row = ((np.arange(2600) * 37 % 101 - 50) / 256).astype(np.float32)
    steps, result = (4, 7, 1, 3), {}  # of height, width, in, out
    for place, (name, shape) in enumerate(W.SHAPES.items()):
        at = place + sum(np.arange(n).reshape([-1 if i == j else 1 for j in range(4)]) * step
                         for i, (n, step) in enumerate(zip(shape, steps, strict=True)))  # fmt: skip
        result[name] = {"kernel": row[at], "bias": row[100 * place : 100 * place + shape[3]]}
    return result


def test_a_file_of_torch_with_shared_and_strided_storages(tmp_path):
    """Views of float32 and float64 storages with overlapping strides and offsets, and a Parameter among them."""
    found = convert(STRIDED, tmp_path / "ours.h5")
    assert found.feature_scale == "torchvision" and same(found, strided_arrays())
    (tmp_path / "ours.h5").unlink()


def test_the_preprocessing_of_a_torch_file_can_be_caffes(tmp_path):
    found, expected = read_foreign(STRIDED, "caffe"), strided_arrays()
    expected["block1_conv1"]["kernel"] = expected["block1_conv1"]["kernel"][:, :, ::-1]
    assert found.feature_scale == "caffe" and found.mean == W.CAFFE[0] and same(found, expected)
    with pytest.raises(WeightsError, match="auto, torchvision or caffe"):
        convert(STRIDED, tmp_path / "ours.h5", "imagenet")
    assert not os.listdir(tmp_path)


def test_random_weights_written_by_torch(arrays, folder):
    torch = pytest.importorskip("torch", reason="torch writes the file that this test reads")
    state = {name: torch.from_numpy(array.copy()) for name, array in torch_names(arrays).items()}
    state["features.0.weight"] = state["features.0.weight"].half()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, folder / "torch.pth")
    found = read_foreign(folder / "torch.pth")
    half = {**arrays["block1_conv1"], "kernel": arrays["block1_conv1"]["kernel"].astype("f2").astype("f4")}
    assert same(found, {**arrays, "block1_conv1": half})


def test_a_safetensors_file_and_the_file_written_from_it(arrays, folder):
    numpy_safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors writes what this test reads")
    source, ours, again = folder / "vgg.safetensors", folder / "ours.h5", folder / "again.h5"
    numpy_safetensors.save_file({**torch_names(arrays), "classifier.0.bias": np.ones(4, "f4")}, source)
    converted = convert(source, ours)
    assert same(converted, arrays) and converted.feature_scale == "torchvision"
    read = W.read(ours)
    assert same(read, arrays) and (read.digest, read.source) == (converted.digest, converted.source)
    assert convert(ours, again).digest == read.digest == W.read(again).digest  # ours is taken as well
    data = source.read_bytes()
    for length in (9, 200, len(data) - 1):
        (folder / "cut.safetensors").write_bytes(data[:length])
        with pytest.raises(WeightsError, match="damaged, cut short"):
            read_foreign(folder / "cut.safetensors")


def test_a_zip_of_zeros_is_read_and_names_that_lead_out_of_it_are_never_written(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    outside = {"../outside": b"x", str(tmp_path / "absolute"): b"x"}
    found = read_foreign(zipped(Path("vgg.pth"), state_dict(), outside))
    assert not any(found.parameters[name]["kernel"].any() for name in LAYERS)
    assert os.listdir(tmp_path) == ["in"] and os.listdir() == ["vgg.pth"]


@pytest.mark.parametrize(
    "call",
    [b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"c__builtin__\neval\n", b"ctorch\nload\n",
     b"ctorch.storage\n_load_from_bytes\n", b"cnumpy\nload\n", b"ccollections\nnamedtuple\n", b"ctorch\nLongStorage\n",
     b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n"],
)  # fmt: skip
def test_a_pickle_that_asks_for_anything_else_is_refused(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = zipped(tmp_path / "evil.pth", state_dict(more=call + b"(Vtouch canary\ntR"))
    with pytest.raises(WeightsError, match="the file asks for"):
        read_foreign(path)
    assert os.listdir(tmp_path) == ["evil.pth"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features_0_bias": tensor((64,), (1,), 2537)}, "reaches past its 2600 numbers"),
        ({"features_0_bias": tensor((64,), (42,))}, "reaches past"),
        ({"features_0_bias": tensor((64,), (-1,), 100)}, "stride"),
        ({"features_0_bias": tensor((64,), (0,), -1)}, "offset -1"),
        ({"features_0_bias": tensor((64,), (0, 0))}, "stride"),
        ({"features_0_bias": tensor((1 << 40, 1 << 40))}, "shape"),
        ({"features_0_bias": tensor((63,))}, r"bias has shape \(63,\)"),
        ({"features_0_bias": tensor((64,), kind=b"DoubleStorage", offset=1300)}, "reaches past its 1300"),
        ({"features_0_bias": tensor((64,), key=b"1")}, "KeyError"),
        ({"features_0_bias": tensor((64,), key=b"../0")}, "the file has a reference"),
        ({"features_0_bias": tensor((64,), key=b"/etc/hostname")}, "the file has a reference"),
        ({"features_0_bias": b"N"}, "no features.0.weight"),
        ({"features_28_weight": b""}, "no features.28.weight"),
        ({"features_28_weight": tensor((512, 512, 9))}, "shape"),
        ({"features_28_weight": tensor((512, 256, 3, 3))}, "VGG19"),
        ({"features_17_weight": b"", "features_17_bias": b"", "features_16_weight": tensor((256, 256, 3, 3))},
         "no features.17.weight"),  # a VGG19
    ],
)  # fmt: skip
def test_tensors_that_are_not_a_vgg16_are_refused(changed, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_foreign(zipped(tmp_path / "bad.pth", state_dict(**changed)))


def test_compressed_doubled_and_foreign_zips_are_refused(tmp_path):
    path = tmp_path / "bad.pth"
    with pytest.raises(WeightsError, match="compressed"):
        read_foreign(zipped(path, state_dict(), compression=zipfile.ZIP_DEFLATED))
    for members in ({"other/data.pkl": b"N."}, {"archive/byteorder": b"big"}):
        with pytest.raises(WeightsError, match="damaged, cut short, or of another kind"):
            read_foreign(zipped(path, state_dict(), members))
    for pickled in (b"N.", b"", b"(d.", b"]."):
        with pytest.raises(WeightsError, match=r"damaged, cut short|no features\.0\.weight"):
            read_foreign(zipped(path, pickled))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "not torch")
    with pytest.raises(WeightsError, match="damaged, cut short, or of another kind"):
        read_foreign(path)


@pytest.mark.parametrize("length", [0, 3, 4, 100, 0.3, 0.7, 0.98, -1])
def test_a_torch_file_cut_short_is_refused(length, tmp_path):
    data = STRIDED.read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    with pytest.raises(WeightsError, match=r"damaged, cut short|is neither HDF5"):
        read_foreign(path)


def test_a_changed_byte_of_a_torch_file_is_noticed_by_the_zips_own_checksums(tmp_path):
    data = bytearray(STRIDED.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="CRC"):
        read_foreign(tmp_path / "bad.pth")


def test_what_is_no_weights_file_at_all(tmp_path):
    for name, content in (("text.pth", b"hello, world"), ("old.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="neither HDF5, nor a zip of torch"):
            read_foreign(tmp_path / name)
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match="cannot be read"):
            convert(path, tmp_path / "ours.h5")
    assert not (tmp_path / "ours.h5").exists()
