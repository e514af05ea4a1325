"""Weights of Keras, torch and safetensors, written by those libraries, and files that only pretend to be."""

import h5py
import numpy as np
import pytest

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.errors import WeightsError
from jaxstyle.model import weights_file as W
from jaxstyle.model.convert import convert, read_foreign

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOTH = pytest.mark.parametrize("network", [VGG16, VGG19], ids=["vgg16", "vgg19"])


@pytest.fixture(scope="module", params=[VGG16, VGG19], ids=["vgg16", "vgg19"])
def network(request):
    """Each of the networks."""
    return request.param


@pytest.fixture(scope="module")
def arrays(network):
    """Kernels (3 x 3 x in x out) that keep the maps' size through the depth, and biases that matter."""
    rng = np.random.default_rng(5)
    result = {}
    for name, shape in network.kernel_shapes.items():
        kernel = rng.normal(0, (2 / (9 * shape[2])) ** 0.5, shape)
        result[name] = {"kernel": kernel.astype("f4"), "bias": rng.normal(0, 0.1, shape[3]).astype("f4")}
    return result


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """For the large files of one network, which are gone when its tests are done (pytest keeps its folders)."""
    path = tmp_path_factory.mktemp("convert")
    yield path
    for file in path.iterdir():
        file.unlink()


def torch_names(network, arrays):
    """The same arrays as torch names and lays them out: out x in x 3 x 3."""
    state = {}
    for index, layer in zip(network.torch_indices, arrays.values(), strict=True):
        state[f"features.{index}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{index}.bias"] = layer["bias"]
    return state


def same(weights, arrays):
    """Whether weights are of the network that the arrays are of, with these arrays."""
    assert tuple(weights.parameters) == weights.architecture.layers == tuple(arrays)
    return all(np.array_equal(weights.parameters[n][p], arrays[n][p]) for n in arrays for p in ("kernel", "bias"))


@pytest.fixture(scope="module")
def keras_model(network, arrays, folder, tmp_path_factory):
    """Keras's own network with our random arrays, saved by Keras in its three ways, and with its dense layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = pytest.importorskip("keras", reason="Keras writes the files that this test reads")
        from keras.src.legacy.saving import legacy_h5_format

        make = getattr(keras.applications, network.title)
        model = make(include_top=False, weights=None, input_shape=(32, 48, 3))
        with_top = make(weights=None, input_shape=(32, 32, 3), classes=2)
    convolutions = [layer[part] for layer in arrays.values() for part in ("kernel", "bias")]
    with_top.set_weights(convolutions + with_top.get_weights()[len(convolutions) :])
    with_top.save_weights(folder / "top.weights.h5")
    model.set_weights(convolutions)
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


def test_feature_maps_are_those_of_keras(network, keras_model, folder):
    """Float32 sums up to 16 layers deep in another order, of an input scaled differently: 1e-6 or so apart."""
    import jax
    import jax.numpy as jnp

    from jaxstyle.model.vgg import VGG, variables_of

    keras, model = keras_model
    pixels = np.random.default_rng(2).uniform(0, 255, (32, 48, 3)).astype(np.float32)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in network.layers])
    with jax.default_matmul_precision("highest"):  # on a GPU float32 may be TF32
        theirs = outputs.predict_on_batch(keras.applications.vgg16.preprocess_input(pixels[None].copy()))
        found = read_foreign(folder / "legacy.h5")
        ours = VGG(network, network.layers).apply(variables_of(found), jnp.asarray(pixels / 255))
    for name, expected in zip(network.layers, theirs, strict=True):
        expected = np.asarray(expected)[0]
        assert expected.max() > 1 and ours[name].features.shape == expected.shape
        assert np.abs(np.asarray(ours[name].features) - expected).max() <= 1e-4 * expected.max(), name


def tiny_keras(path, network):
    """A legacy file of Keras's layout whose arrays take no room: written in chunks of which none is stored."""
    with h5py.File(path, "w") as file:
        for name, shape in network.kernel_shapes.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            for part, extent in zip("Wb", (shape, shape[3:]), strict=True):
                group.create_dataset(f"{name}_{part}_1:0", extent, "f4", chunks=True)
    return path


def counting_keras(path, network):
    """A Keras 3 file of such arrays whose layers are conv2d, conv2d_1, ..."""
    with h5py.File(path, "w") as file:
        for index, shape in enumerate(network.kernel_shapes.values()):
            name = f"layers/conv2d_{index}" if index else "layers/conv2d"
            for part, extent in enumerate((shape, shape[3:])):
                file.create_dataset(f"{name}/vars/{part}", extent, "f4", chunks=True)
    return path


@pytest.fixture
def tiny(tmp_path):
    """`tiny_keras` of a VGG16."""
    return tiny_keras(tmp_path / "tiny.h5", VGG16)


@BOTH
@pytest.mark.parametrize("written", [tiny_keras, counting_keras])
def test_the_oldest_and_the_counting_layouts_of_keras_say_their_network(written, network, tmp_path):
    found = read_foreign(written(tmp_path / "weights.h5", network))
    assert found.feature_scale == "caffe" and found.architecture is network
    assert tuple(found.parameters) == network.layers


@pytest.mark.parametrize(
    ("gone", "new", "message"),
    [
        (None, "block3_conv4", "has the layer block3_conv4, unlike VGG16"),  # VGG19 has two more as well
        (None, "block1_conv3", "has the layer block1_conv3, unlike VGG16"),
        ("block1_conv1", None, "has no layer block1_conv1, unlike VGG16"),
        ("block5_conv3", "block3_conv4", "has no layer block5_conv3, unlike VGG16"),
        (None, "batch_normalization", "has batch normalisation .batch_normalization"),
        (None, "block1_bn", "has batch normalisation .block1_bn"),
    ],
)
def test_named_layers_that_are_of_no_network_are_refused(gone, new, message, tiny):
    with h5py.File(tiny, "r+") as file:
        if gone:
            del file[gone]
        if new:
            file.create_group(new)
    with pytest.raises(WeightsError, match=message):
        read_foreign(tiny)


@pytest.mark.parametrize(
    ("gone", "new", "message"),
    [
        (None, "conv2d_13", "has the layer conv2d_13, unlike VGG16"),
        ("conv2d_5", None, "has no layer conv2d_5, unlike VGG16"),
        ("conv2d_12", "conv2d_20", "has no layer conv2d_12, unlike VGG16"),
        (None, "batch_normalization_3", "has batch normalisation .batch_normalization_3"),
    ],
)
def test_counting_layers_that_are_of_no_network_are_refused(gone, new, message, tmp_path):
    path = counting_keras(tmp_path / "weights.h5", VGG16)
    with h5py.File(path, "r+") as file:
        if gone:
            del file["layers"][gone]
        if new:
            file["layers"].create_group(new)
    with pytest.raises(WeightsError, match=message):
        read_foreign(path)


@pytest.mark.parametrize("place", ["block3_conv1", "block3_conv1/block3_conv1_W_1:0", "layers", "model_weights"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("elsewhere.h5", "/"), h5py.SoftLink("/block3_conv2")])
def test_a_keras_file_with_links_is_refused(place, link, tiny, monkeypatch):
    (tiny.parent / "elsewhere.h5").write_bytes(tiny.read_bytes())
    monkeypatch.chdir(tiny.parent)
    with h5py.File(tiny, "r+") as file:
        if place in file:
            del file[place]
        file[place] = link
    with pytest.raises(WeightsError, match="not stored in this file"):
        read_foreign(tiny)


def test_other_hdf5_files_are_refused(tiny):
    with h5py.File(tiny, "r+") as file:
        del file["block5_conv3/block5_conv3_b_1:0"]
        file["block5_conv3/block5_conv3_b_1:0"] = np.zeros(511, "f4")
    with pytest.raises(WeightsError, match=r"block5_conv3/bias has shape \(511,\)"):
        read_foreign(tiny)
    with h5py.File(tiny, "r+") as file:
        del file["block5_conv3"]
    with pytest.raises(WeightsError, match="has no layer block5_conv3"):
        read_foreign(tiny)


def test_random_weights_written_by_torch(network, arrays, folder):
    torch = pytest.importorskip("torch", reason="torch writes the file that this test reads")
    state = {name: torch.from_numpy(array.copy()) for name, array in torch_names(network, arrays).items()}
    state["features.0.weight"] = state["features.0.weight"].half()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, folder / "torch.pth")
    found = read_foreign(folder / "torch.pth")
    half = {**arrays["block1_conv1"], "kernel": arrays["block1_conv1"]["kernel"].astype("f2").astype("f4")}
    assert same(found, {**arrays, "block1_conv1": half})


def test_a_safetensors_file_and_the_file_written_from_it(network, arrays, folder):
    numpy_safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors writes what this test reads")
    source, ours, again = folder / "vgg.safetensors", folder / "ours.h5", folder / "again.h5"
    numpy_safetensors.save_file({**torch_names(network, arrays), "classifier.0.bias": np.ones(4, "f4")}, source)
    converted = convert(source, ours)
    assert same(converted, arrays) and converted.feature_scale == "torchvision"
    read = W.read(ours)
    assert same(read, arrays) and (read.digest, read.source) == (converted.digest, converted.source)
    assert convert(ours, again).digest == read.digest == W.read(again).digest  # ours is taken as well
    data = source.read_bytes()
    for length in (9, 200, len(data) - 1):
        (folder / "cut.safetensors").write_bytes(data[:length])
        with pytest.raises(WeightsError, match="damaged, truncated"):
            read_foreign(folder / "cut.safetensors")


def test_what_is_no_weights_file_at_all(tmp_path):
    for name, content in (("text.pth", b"hello, world"), ("pickle.pth", b"\x80\x02}q\x00.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="neither HDF5, nor a file of torch.save"):
            read_foreign(tmp_path / name)
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match="cannot be read"):
            convert(path, tmp_path / "ours.h5")
    assert not (tmp_path / "ours.h5").exists()
