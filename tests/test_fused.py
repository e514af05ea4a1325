"""What a GPU computes in another way, on the CPU: the same values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_ops import close, layer, normal, rectangle
from test_tiles import FLAT

from jaxstyle.architecture import VGG16
from jaxstyle.model import fused, ops, vgg
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.precision import is_gpu
from jaxstyle.style.stylizer import stylizer

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SIZE = (8, 10)
PICTURES = [(8, 10), (5, 7), (8, 3), (2, 10), (1, 1)]


def chain(layers, x, inside, own):
    """Four convolutions with max pooling between, of `fused` if `own`, else of `ops`: the maps that are read.

    The first map is read by the next convolution only, the second by a term too, the third by a pooling only.
    """
    one, two, three, four = layers
    half = ops.pool_inside(inside)
    if own:
        a = fused.conv_relu(x, *one, inside, replicate=True)
        b, read = fused.conv_relu_read(a, *two, inside, replicate=False, goes_on=True)
        c = fused.conv_relu_max_pool(b, *three, inside, replicate=False)
        return read, fused.conv_relu_read(c, *four, half, replicate=False, goes_on=False)[1]
    a = ops.conv_relu(x, *one, inside, replicate=True)
    b = ops.conv_relu(a, *two, inside)
    return b, ops.conv_relu(ops.max_pool(ops.conv_relu(b, *three, inside)), *four, half)


@pytest.fixture(scope="module")
def chains():
    """Maps and gradients of both, the pictures side by side; whole numbers, so that windows hold ties."""
    layers = [layer(*channels) for channels in ((5, 4), (4, 4), (4, 4), (4, 6))]
    inside = jnp.stack([rectangle(SIZE, picture) for picture in PICTURES])
    images = jnp.round(normal(0, len(PICTURES), *SIZE, 5))
    noises = normal(8, *SIZE, 4), normal(9, SIZE[0] // 2, SIZE[1] // 2, 6)

    def of(own):
        def run(image, inside):
            def total(image):
                x = ops.repeat_edge(image, inside)
                maps = chain(layers, x, inside, own)
                return sum((m * n).sum() for m, n in zip(maps, noises, strict=True)), maps

            (_, maps), gradient = jax.value_and_grad(total, has_aux=True)(image)
            return *maps, gradient

        return jax.vmap(run)

    return jax.jit(lambda *arrays: (of(True)(*arrays), of(False)(*arrays)))(images, inside)


@pytest.mark.parametrize("which", range(3), ids=["map before", "map after", "gradient"])
def test_maps_and_gradients_are_those_of_the_plain_operations(chains, which):
    ours, theirs = chains[0][which], chains[1][which]
    assert np.abs(theirs).max() > 0
    for lane in range(len(PICTURES)):
        close(ours[lane], theirs[lane], 1e-6)


def test_pooling_shares_a_gradient_among_ties_and_gives_none_to_zeros():
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    one = kernel, ops.flip(kernel), jnp.zeros(1)
    x = jnp.asarray([[1, 1, 2, 0], [0, 1, 0, 2], [0, -1, 0, 0], [0, 0, 5, 0]], jnp.float32)[..., None]
    inside = rectangle((4, 4), (4, 4))
    weighted = lambda x: (  # noqa: E731
        fused.conv_relu_max_pool(x, *one, inside, replicate=False)[..., 0] * jnp.asarray([[12.0, 24.0], [36.0, 48.0]])
    ).sum()
    expected = [[4, 4, 12, 0], [0, 4, 0, 12], [0, 0, 0, 0], [0, 0, 48, 0]]
    np.testing.assert_array_equal(jax.jit(jax.grad(weighted))(x)[..., 0], expected)


@pytest.mark.parametrize(
    ("layers", "pooling"),
    [(("relu2_1",), "max"), (("relu1_1", "relu1_2", "relu2_1"), "average")],
    ids=["max", "average"],
)
def test_a_network_has_the_same_maps(network, layers, pooling):
    """With each kind of pooling, and with a map that is read before its pooling too."""
    variables, inside = vgg.variables_of(network), rectangle((16, 16), (11, 7))
    image = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
    found = [
        jax.jit(vgg.VGG(VGG16, layers, pooling, 2.0, "zero", fused=own).apply)(variables, image, inside)
        for own in (True, False)
    ]
    assert list(found[0]) == list(found[1])
    for ours, theirs in zip(*(maps.values() for maps in found), strict=True):
        close(ours.features, theirs.features, 1e-5)
        np.testing.assert_array_equal(ours.inside, theirs.inside)


def traced(network, platform, lanes=2, **fields):
    """The chunk of ticks before it is compiled."""
    own, blank = stylizer(StylizeSettings(**FLAT, **fields), network, platform=platform), np.zeros((32, 32, 3))
    start = lambda: own.fill(own.start(lane_inputs(blank, blank, 32, 32), own.no_targets()), lanes)  # noqa: E731
    batch = jax.eval_shape(start)
    return jax.make_jaxpr(own._advance_all)(own.variables, batch.lanes, batch, np.int32(1), np.float32(0))


def test_gpus_get_their_own_program_and_others_do_not(network):
    assert is_gpu("gpu") and is_gpu("rocm") and not is_gpu("tpu")
    for platform, there in (("cuda", True), (None, False)):
        program = traced(network, platform)
        text = str(program)
        outside = [one.primitive.name for one in program.eqns].count("reduce_sum")
        assert outside == (4 if there else 0)  # the energies of the targets of two layers, before the loop
        for name in ("triangular_solve", "optimization_barrier", "population_count"):
            assert (name in text) == there, (platform, name)


def test_the_kernels_are_rounded_once_a_call(network):
    """XLA leaves the rounding inside the loop, where it would cost two launches a layer and tick."""
    (loop,) = [
        one for one in traced(network, "cuda", precision="bfloat16").eqns if one.primitive.name == "while"
    ]  # fmt: skip
    kernels = [v.aval for v in loop.invars if v.aval.ndim == 4 and v.aval.shape[:2] == (3, 3)]
    rounded = [str(one.dtype) == "bfloat16" for one in kernels]
    assert sum(rounded) == len(rounded) == 8  # of four layers, each as it is and flipped
