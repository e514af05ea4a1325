"""The network against torch's on the real weights, and what it computes of what it is asked for."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstyle.architecture import VGG16, VGG19
from jaxstyle.errors import SettingsError, WeightsError
from jaxstyle.model import ops
from jaxstyle.model.vgg import VGG, variables, variables_of
from jaxstyle.model.weights_file import Weights
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import Stylizer

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TORCH_NAMES = tuple(name.replace("block", "relu").replace("_conv", "_") for name in VGG16.layers)
vgg16 = partial(VGG, VGG16)


@pytest.fixture(scope="module", autouse=True)
def exact_float32():
    """On a GPU float32 products may be TF32, good to three digits: not here."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def goldens():
    with np.load(Path(__file__).parent / "goldens" / "vgg16.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def vgg(network):
    return variables(network.parameters, network.mean, network.std)


@pytest.fixture(scope="module")
def small():
    """Random variables that cost nothing, cut to the first two blocks where the layers asked for allow it."""
    rng = np.random.default_rng(0)
    shapes = {"block1_conv1": (3, 64), "block1_conv2": (64, 64), "block2_conv1": (64, 128)}
    parameters = {
        name: {"kernel": rng.normal(0, (2 / 9 / i) ** 0.5, (3, 3, i, o)), "bias": rng.normal(0, 0.1, o)}
        for name, (i, o) in shapes.items()
    }
    return variables(parameters, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(1).uniform(size=(16, 24, 3)), jnp.float32)


def features(maps):
    """The arrays of feature maps, by layer."""
    return {name: one.features for name, one in maps.items()}


@pytest.fixture(scope="module")
def maps(vgg, goldens):
    """All 13 feature maps of the goldens' picture."""
    image = jnp.asarray(goldens["image"], jnp.float32) / 255
    return features(jax.jit(vgg16(VGG16.layers).apply)(vgg, image))


@pytest.mark.parametrize("name", VGG16.layers)
def test_feature_maps_agree_with_torch(name, maps, goldens):
    """Torch's are float64; float32 sums of up to 4608 products, 13 deep, differ by 1e-6 or so of the largest value."""
    ours = np.asarray(maps[name], np.float64)
    mean, norm, largest = goldens[f"{name}/summary"]
    expected = goldens[f"{name}/values"]
    assert ours.shape[-1] == VGG16.channels(name) and np.count_nonzero(expected) > 20
    assert np.abs(ours.ravel()[goldens[f"{name}/positions"]] - expected).max() <= 1e-4 * largest
    assert abs(ours.mean() - mean) <= 1e-4 * mean
    assert abs(np.linalg.norm(ours) - norm) <= 1e-4 * norm
    assert abs(ours.max() - largest) <= 1e-4 * largest


def test_the_gradient_for_the_image_agrees_with_one_step_along_it(vgg, goldens):
    """A directional difference of float32 losses: good to a few in a thousand, where a wrong gradient is far off."""
    image = jnp.asarray(goldens["image"][:32, :32], jnp.float32) / 255
    network = vgg16(("relu3_1",), padding="replicate")

    @jax.jit
    def loss(image):
        return jnp.square(network.apply(vgg, image)["block3_conv1"].features / 100).sum()

    gradient = jax.grad(loss)(image)
    step = 1e-3 * gradient / jnp.linalg.norm(gradient)
    difference = float(loss(image + step) - loss(image - step))
    np.testing.assert_allclose(difference, 2e-3 * float(jnp.linalg.norm(gradient)), rtol=0.01)


def convolutions(network, image, of=None):
    """Number of convolutions in the traced network; tracing computes nothing."""
    of = of or (lambda run: run)
    whole = VGG(network.architecture, network.architecture.layers)
    shapes = jax.eval_shape(lambda: whole.init(jax.random.key(0), image))
    jaxpr = jax.make_jaxpr(lambda v, x: of(lambda x: network.apply(v, x))(x))(shapes, image)
    return str(jaxpr).count("conv_general_dilated[")


@pytest.mark.parametrize(
    ("layers", "depth"),
    [(("relu1_1",), 1), (("relu4_2", "relu1_1"), 9), (("block5_conv1",), 11), (TORCH_NAMES, 13)],
)
def test_nothing_deeper_than_the_deepest_layer_is_computed(layers, depth, image):
    assert convolutions(vgg16(layers), image) == depth

    def gradient(run):
        return jax.grad(lambda x: sum(m.features.sum() for m in run(x).values()))

    assert convolutions(vgg16(layers), image, gradient) == 2 * depth


def test_vgg19_has_its_own_depth(image):
    assert convolutions(VGG(VGG19, ("relu3_4",)), image) == 8
    assert convolutions(VGG(VGG19, ("relu5_1",)), image) == 13
    assert convolutions(VGG(VGG19, VGG19.layers), image) == 16


def test_both_kinds_of_names_mean_the_same_map(small, image):
    asked = features(vgg16(("relu2_1", "block1_conv1", "block2_conv1")).apply(small, image))
    assert list(asked) == ["block1_conv1", "block2_conv1"]
    again = features(vgg16(("block2_conv1", "relu1_1")).apply(small, image))
    assert list(again) == ["block1_conv1", "block2_conv1"]
    assert asked["block1_conv1"].shape == (16, 24, 64) and asked["block2_conv1"].shape == (8, 12, 128)
    for name in asked:
        np.testing.assert_array_equal(asked[name], again[name])


@pytest.mark.parametrize("name", ["relu3_4", "block6_conv1", "conv1_1", "relu", "", "pool1", "relu1_1 ", "RELU1_1"])
def test_a_wrong_name_is_refused(name, small, image):
    with pytest.raises(SettingsError, match="relu4_2") as caught:
        vgg16(("relu1_1", name)).apply(small, image)
    assert repr(name) in str(caught.value)


def test_replicate_padding_changes_the_border_alone(small, image):
    layers = ("relu1_1",)
    zero = vgg16(layers).apply(small, image)["block1_conv1"].features
    replicate = vgg16(layers, padding="replicate").apply(small, image)["block1_conv1"].features
    same = np.asarray(zero == replicate).all(axis=2)
    assert same[1:-1, 1:-1].all()
    assert not same[0].any() and not same[-1].any() and not same[:, 0].any() and not same[:, -1].any()


def test_replicate_padding_leaves_a_flat_picture_flat_after_the_first_convolution(small):
    flat = jnp.broadcast_to(jnp.asarray([0.9, 0.2, 0.6]), (8, 8, 3))
    maps = features(vgg16(("relu1_1", "relu1_2"), padding="replicate").apply(small, flat))
    spread = np.ptp(np.asarray(maps["block1_conv1"]), axis=(0, 1))
    assert spread.max() < 1e-5  # the same sums; float32 may order them differently at the border
    deeper = np.ptp(np.asarray(maps["block1_conv2"]), axis=(0, 1))
    assert deeper.max() > 0.01  # only the first convolution is padded so; the others as trained


@pytest.mark.parametrize(
    ("pooling", "pool"), [("max", ops.max_pool), ("average", ops.average_pool), ("l2", ops.l2_pool)]
)
def test_pooling_lies_between_the_blocks(pooling, pool, small, image):
    maps = features(vgg16(("relu1_2", "relu2_1"), pooling=pooling).apply(small, image))
    layer, flipped = small["params"]["block2_conv1"], small["backward"]["block2_conv1"]["kernel"]
    expected = ops.conv_relu(pool(maps["block1_conv2"]), layer["kernel"], flipped, layer["bias"])
    np.testing.assert_allclose(maps["block2_conv1"], expected, rtol=0, atol=1e-5)  # the same sums of order 1
    other = features(vgg16(("relu2_1",), pooling="average" if pooling == "max" else "max").apply(small, image))
    assert np.abs(other["block2_conv1"] - expected).max() > 0.01


def test_the_gain_of_pooling_multiplies_what_the_next_block_sees(small, image):
    maps = features(vgg16(("relu1_2", "relu2_1"), pooling="average", pooling_gain=2.0).apply(small, image))
    layer, flipped = small["params"]["block2_conv1"], small["backward"]["block2_conv1"]["kernel"]
    expected = ops.conv_relu(2 * ops.average_pool(maps["block1_conv2"]), layer["kernel"], flipped, layer["bias"])
    np.testing.assert_allclose(maps["block2_conv1"], expected, rtol=0, atol=2e-5)  # the same sums of order 1


def test_the_input_is_normalised_by_the_variables(small, image):
    mean, std = small["preprocessing"]["mean"], small["preprocessing"]["std"]
    layer, flipped = small["params"]["block1_conv1"], small["backward"]["block1_conv1"]["kernel"]
    expected = ops.conv_relu((image - mean) / std, layer["kernel"], flipped, layer["bias"])
    ours = vgg16(("relu1_1",)).apply(small, image)["block1_conv1"].features
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)  # the same sums of order 1


def test_bfloat16_maps_are_near_and_the_parameters_stay_as_they_are(small, image):
    exact = vgg16(("relu2_1",)).apply(small, image)["block2_conv1"].features
    rough = vgg16(("relu2_1",), dtype=jnp.bfloat16).apply(small, image)["block2_conv1"].features
    assert rough.dtype == jnp.bfloat16 and exact.dtype == jnp.float32
    error = np.abs(np.asarray(rough, np.float32) - np.asarray(exact)).max() / np.asarray(exact).max()
    assert 1e-5 < error < 0.03  # three roundings to 8 bits
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(small))


def test_the_parameters_are_arguments_not_constants(small, image):
    """Kernels closed over become constants of the program, and XLA's CPU backend runs it three times slower."""
    network = vgg16(("relu2_1",))

    def loss(v, x):
        return network.apply(v, x)["block2_conv1"].features.sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss, argnums=1))(small, image)
    assert sum(np.size(c) for c in jaxpr.consts) <= 16
    closed = jax.make_jaxpr(lambda x: loss(small, x))(image)
    assert sum(np.size(c) for c in closed.consts) > 64 * 64 * 9  # so the count above can fail


def test_variables_hold_the_flipped_kernels(small):
    for name, layer in small["params"].items():
        kernel = np.asarray(layer["kernel"])
        flipped = np.asarray(small["backward"][name]["kernel"])
        np.testing.assert_array_equal(flipped, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def test_variables_reach_the_device_by_an_explicit_transfer(network):
    with jax.transfer_guard("disallow"):
        leaves = jax.tree.leaves(variables(network.parameters, network.mean, network.std))
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in leaves)


def test_equal_weights_share_their_variables(network):
    variables_of.cache_clear()
    first = variables_of(network)
    assert variables_of(dataclasses.replace(network, source="elsewhere")) is first
    kernel = network.parameters["block4_conv1"]["kernel"]
    np.testing.assert_array_equal(first["params"]["block4_conv1"]["kernel"], kernel)
    np.testing.assert_allclose(first["preprocessing"]["mean"], network.mean, rtol=1e-6)
    other = variables_of(dataclasses.replace(network, feature_scale="caffe"))
    assert other is not first and not np.allclose(other["preprocessing"]["mean"], network.mean, rtol=1e-6)
    assert variables_of(network) is first
    assert variables_of.cache_info().maxsize == 2
    variables_of.cache_clear()


@pytest.fixture(scope="module")
def vgg19_at_random():
    """Weights of a VGG19 that keep the maps' size through the depth."""
    rng, parameters = np.random.default_rng(3), {}
    for name, shape in VGG19.kernel_shapes.items():
        kernel = rng.standard_normal(shape, np.float32) * (2 / (9 * shape[2])) ** 0.5
        parameters[name] = {"kernel": kernel, "bias": np.full(shape[3], 0.1, np.float32)}
    return Weights(parameters, "torchvision", "random", VGG19)


def test_an_objective_compares_the_maps_of_its_own_network(vgg19_at_random, image):
    style_layers = ("relu3_4", "relu4_1")
    settings = StylizeSettings(preset="classic", network="vgg19", style_layers=style_layers)
    engine = Stylizer(settings, vgg19_at_random)
    targets = engine.style_targets(np.tile(image, (2, 2, 1)))
    maps = VGG(VGG19, style_layers, padding="replicate").apply(
        variables_of(vgg19_at_random), jnp.tile(image, (2, 2, 1))
    )
    for name, found in features(maps).items():
        flat = np.asarray(found, np.float64).reshape(-1, found.shape[-1])
        expected = flat.T @ flat / len(flat)
        np.testing.assert_allclose(targets["style"][name], expected, rtol=0, atol=1e-4 * expected.max())


def test_weights_of_another_network_never_reach_an_objective(network, vgg19_at_random):
    """VGG16's layers are in VGG19 under the same names and of the same shapes: it would compute something."""
    for settings, others in ((StylizeSettings(), vgg19_at_random), (StylizeSettings(network="vgg19"), network)):
        with pytest.raises(WeightsError, match="the network is"):
            Stylizer(settings, others)
