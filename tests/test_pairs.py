"""What a TPU computes in another way, on the CPU: the same values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import painting, photo
from test_fused import traced
from test_ops import close, normal, rectangle
from test_tiles import FLATTER

from jaxstyle.architecture import Architecture
from jaxstyle.model import vgg
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylizer import stylizer
from jaxstyle.style.terms import gram

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL = Architecture("small", (2, 1), (3, 4))
SIZE = (7, 8)
PICTURES = [(7, 8), (5, 7), (6, 3), (1, 6), (1, 1)]


@pytest.fixture(scope="module")
def variables():
    """Of whole numbers, so that windows of a pooling hold ties."""
    kernels = {name: jnp.round(normal(n, *shape)) for n, (name, shape) in enumerate(SMALL.kernel_shapes.items())}
    layers = {name: {"kernel": one, "bias": jnp.round(normal(7, one.shape[3]))} for name, one in kernels.items()}
    return vgg.variables(layers, (0, 0, 0), (1, 1, 1))


def seen(variables, pooling, padding, packed):
    """Returns a function of an image and its mask: what terms may read of all layers, and a gradient by all of it."""
    network = vgg.VGG(SMALL, SMALL.layers, pooling, 2.0, padding, pairs=packed)

    def read(image, inside):
        maps = {name: one.times(0.5) for name, one in network.apply(variables, image, inside).items()}
        sums = {name: gram.sums(one, features=True)[:3] for name, one in maps.items()}
        return jax.tree.leaves(({name: (one.features, one.inside * 1.0) for name, one in maps.items()}, sums))

    def total(image, inside):
        found = read(image, inside)
        return sum((one * normal(n, *one.shape)).sum() for n, one in enumerate(found)), found

    def both(image, inside):
        (_, found), gradient = jax.value_and_grad(total, has_aux=True)(image, inside)
        return [*found, gradient]

    return jax.vmap(both)


@pytest.mark.parametrize(("pooling", "padding"), [("max", "replicate"), ("average", "zero")])
def test_a_network_has_the_same_maps_sums_and_gradients(variables, pooling, padding):
    """Of pictures of odd sides too, of maps that a term reads whole, and where pooling drops the last row."""
    inside = jnp.stack([rectangle(SIZE, picture) for picture in PICTURES])
    images = jnp.round(normal(3, len(PICTURES), *SIZE, 3))
    of = [seen(variables, pooling, padding, packed) for packed in (True, False)]
    ours, theirs = jax.jit(lambda *arrays: [one(*arrays) for one in of])(images, inside)
    assert len(ours) == len(theirs) == 16 and np.abs(theirs[-1]).max() > 0
    for our, their in zip(ours, theirs, strict=True):
        for lane in range(len(PICTURES)):
            close(our[lane], their[lane], 1e-5)


def test_a_map_of_odd_width_is_not_packed(variables):
    image = normal(4, 5, 7, 3)
    ours, theirs = (vgg.VGG(SMALL, SMALL.layers[:1], pairs=own).apply(variables, image) for own in (True, False))
    assert ours["block1_conv1"].packed is None
    np.testing.assert_array_equal(ours["block1_conv1"].features, theirs["block1_conv1"].features)


def test_sums_do_not_read_the_unpacked_maps():
    """Of which XLA then has none."""
    one = FeatureMap(jnp.full((2, 4, 3), jnp.nan), jnp.ones((2, 4), bool), jnp.ones((2, 2, 6)))
    found = gram.sums(one, features=True)
    np.testing.assert_array_equal(found.products, np.full((3, 3), 8))
    np.testing.assert_array_equal(found.features, np.full(3, 8))


@pytest.mark.parametrize(
    ("platform", "lanes", "there"), [("tpu", 2, True), ("tpu", 1, False), ("cuda", 2, False), (None, 2, False)]
)
def test_a_tpu_gets_no_convolution_of_half_the_channels(network, platform, lanes, there):
    """Others have those of 64 channels at every pixel, and so does a batch of one."""
    shapes = re.findall(r"\[([\d,]+)\] = conv_general_dilated\[", str(traced(network, platform, lanes)))
    assert len(shapes) == 8  # forward and back
    maps = [f"{lanes},32,16,128", f"{lanes},32,32,64"]
    assert [shapes.count(shape) for shape in maps] == ([3, 0] if there else [0, 3])


@pytest.mark.parametrize(("lanes", "history"), [(2, "float32"), (1, "bfloat16")])
def test_a_tpus_program_makes_the_ticks_of_a_cpu(network, lanes, history):
    """In the default's variables; a batch of one without pairs."""
    settings, found = StylizeSettings(**FLATTER, history_dtype=history), []
    for platform in ("tpu", "cpu"):
        engine = stylizer(settings, network, platform=platform)
        style = engine.style_targets(painting(32, 32).astype(np.float32) / 255)
        pictures = [photo(32, 32, seed).astype(np.float32) / 255 for seed in range(lanes)]
        batch = engine.stack([engine.start(lane_inputs(one, one, 32, 32), style) for one in pictures])
        found.append(engine.advance(batch, 4).lanes)
    ours, theirs = found
    assert ours.memory.s.ndim == theirs.memory.s.ndim + 1  # a matrix of planes, and a vector
    np.testing.assert_allclose(ours.point.loss, theirs.point.loss, rtol=1e-4)
    np.testing.assert_allclose(ours.point.image, theirs.point.image, atol=2e-3)
    assert (np.asarray(theirs.point.loss) < 0.9 * np.asarray(theirs.start_loss)).all()
