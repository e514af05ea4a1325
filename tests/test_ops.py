"""The operations with gradients of their own, against what JAX derives from plain formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstyle.model import ops

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPES = [(8, 6), (7, 5), (3, 4), (1, 1)]


@pytest.fixture(scope="module", autouse=True)
def exact_float32():
    """On a GPU float32 products may be TF32, good to three digits: not here."""
    with jax.default_matmul_precision("highest"):
        yield


def close(ours, theirs, tolerance=1e-5):
    """Float32 sums of a few hundred terms in another order differ by a few units in the seventh digit."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    scale = max(float(np.abs(theirs).max()), 1e-6)
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance)


def normal(seed, *shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def layer(i=5, o=4, dtype=np.float32):
    kernel = normal(1, 3, 3, i, o, dtype=dtype)
    return kernel, ops.flip(kernel), normal(2, o, dtype=dtype)


def plain_conv_relu(x, kernel, bias, replicate):
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge" if replicate else "constant")
    out = lax.conv_general_dilated(padded[None], kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.maximum(out[0] + bias, 0)


def plain_max_pool(x):
    h, w, c = (x.shape[0] // 2, x.shape[1] // 2, x.shape[2])
    return x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, c).max(axis=(1, 3))


def plain_gram(features):
    return features.T @ features


def pulled_back(function, x, seed=9):
    """The gradient of <function(x), noise>: one that treats every output differently."""
    out = jax.eval_shape(function, x)
    noise = normal(seed, *out.shape, dtype=out.dtype)
    return jax.jit(jax.grad(lambda x: (function(x) * noise).sum()))(x)


def same(ours, theirs, x, tolerance=1e-5):
    """The values of two functions agree, and the gradients of <value, noise>; a program each."""
    out = jax.eval_shape(theirs, x)
    noise = normal(9, *out.shape, dtype=out.dtype)

    def found(function):
        return jax.jit(lambda x: (function(x), jax.grad(lambda x: (function(x) * noise).sum())(x)))(x)

    for own, their in zip(found(ours), found(theirs), strict=True):
        close(own, their, tolerance)


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("size", SHAPES)
def test_conv_relu_and_its_input_gradient_are_those_of_plain_jax(size, replicate):
    x, (kernel, flipped, bias) = normal(0, *size, 5), layer()
    ours = partial(ops.conv_relu, kernel=kernel, flipped=flipped, bias=bias, replicate=replicate)
    same(ours, partial(plain_conv_relu, kernel=kernel, bias=bias, replicate=replicate), x)


@pytest.mark.parametrize("replicate", [False, True])
def test_conv_relu_under_vmap_and_jit(replicate):
    x, (kernel, flipped, bias) = normal(0, 3, 7, 6, 5), layer()

    @jax.jit
    def ours(x, kernel, flipped, bias):
        return jax.vmap(lambda x: ops.conv_relu(x, kernel, flipped, bias, replicate=replicate))(x)

    theirs = jax.jit(jax.vmap(lambda x: plain_conv_relu(x, kernel, bias, replicate)))
    same(lambda x: ours(x, kernel, flipped, bias), theirs, x)


def test_conv_relu_gives_the_parameters_no_gradient():
    x, (kernel, flipped, bias) = normal(0, 6, 6, 5), layer()
    loss = lambda *a: ops.conv_relu(x, *a).sum()  # noqa: E731
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(kernel, flipped, bias)
    assert not any(jnp.any(g) for g in gradients)


def test_the_gradient_uses_the_flipped_kernel_it_is_given():
    """Inside a loop nothing may be flipped: the backward pass must take the kernel that came in."""
    x, (kernel, flipped, bias) = normal(0, 6, 6, 5), layer()
    gradient = jax.jit(jax.grad(lambda x, flipped: ops.conv_relu(x, kernel, flipped, bias).sum()))
    close(gradient(x, 2 * flipped), 2 * gradient(x, flipped))
    assert "rev" not in str(jax.make_jaxpr(jax.grad(lambda x: ops.conv_relu(x, kernel, flipped, bias).sum()))(x))


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3), (9, 2)])
def test_max_pool_and_its_gradient_are_those_of_jnp_max(size):
    same(ops.max_pool, plain_max_pool, normal(0, *size, 3), 0)


def test_max_pool_shares_a_gradient_equally_among_ties():
    x = jnp.asarray([[1, 1, 2, 0], [0, 1, 0, 2], [3, 3, 0, 0], [3, 3, 5, 0]], jnp.float32)[..., None]
    weighted = lambda x: (ops.max_pool(x)[..., 0] * jnp.asarray([[12.0, 24.0], [36.0, 48.0]])).sum()  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(weighted))(x))
    expected = [[4, 4, 12, 0], [0, 4, 0, 12], [9, 9, 0, 0], [9, 9, 48, 0]]
    np.testing.assert_array_equal(gradient[..., 0], expected)


def test_max_pool_of_many_ties_agrees_with_jnp_max_under_vmap_and_jit():
    x = jnp.round(normal(0, 4, 9, 11, 3))  # whole numbers: most windows hold their maximum more than once
    ours, theirs = jax.jit(jax.vmap(ops.max_pool)), jax.vmap(plain_max_pool)
    ties = sum(quadrant == ours(x)[0] for quadrant in ops.quadrants(x[0]))
    assert int(ties.max()) > 1
    close(pulled_back(ours, x), pulled_back(theirs, x), 1e-6)  # thirds may be rounded once more


@pytest.mark.parametrize("pool", [ops.max_pool, ops.average_pool, ops.l2_pool])
def test_an_odd_last_row_and_column_is_left_out_and_gets_no_gradient(pool):
    x = normal(0, 7, 9, 2)
    changed = x.at[-1].set(100.0).at[:, -1].set(100.0)
    made = jax.jit(pool)(x)
    np.testing.assert_array_equal(made, jax.jit(pool)(changed))
    assert made.shape == (3, 4, 2)
    gradient = np.asarray(pulled_back(pool, changed))
    assert gradient.shape == x.shape and not gradient[-1].any() and not gradient[:, -1].any()
    assert gradient[:-1, :-1].any(axis=2).reshape(3, 2, 4, 2).any(axis=(1, 3)).all()


def test_average_pool_is_the_mean_of_four():
    x = np.asarray(normal(0, 6, 5, 2))
    expected = (x[0::2, 0:4:2] + x[1::2, 0:4:2] + x[0::2, 1:4:2] + x[1::2, 1:4:2]) / 4
    close(ops.average_pool(x), expected, 1e-6)
    close(jax.jit(ops.average_pool)(x), expected, 1e-6)


def test_l2_pool_is_the_root_of_the_sum_of_four_squares_and_windows_of_zeros_have_no_gradient():
    x = np.abs(normal(0, 6, 5, 2))
    x[:2, :2] = 0
    expected = (x[0::2, 0:4:2] ** 2 + x[1::2, 0:4:2] ** 2 + x[0::2, 1:4:2] ** 2 + x[1::2, 1:4:2] ** 2) ** 0.5
    close(jax.jit(ops.l2_pool)(x), expected, 1e-6)
    gradient = np.asarray(jax.jit(jax.grad(lambda x: ops.l2_pool(x).sum()))(x))
    assert not gradient[:2, :2].any()
    close(gradient[2:6, :4], (x[2:6, :4] / np.repeat(np.repeat(expected[1:], 2, 0), 2, 1)), 1e-6)


@pytest.mark.parametrize("shape", [(35, 4), (3, 8), (1, 1)])
def test_gram_sum_and_its_gradient_are_those_of_plain_jax(shape):
    x = normal(0, *shape)
    same(ops.gram_sum, plain_gram, x)  # of a dG that is not symmetric
    same(jax.jit(jax.vmap(ops.gram_sum)), jax.vmap(plain_gram), normal(3, 2, *shape))


def test_bfloat16_maps_stay_bfloat16_and_the_gram_matrix_is_float32():
    x, (kernel, flipped, bias) = normal(0, 8, 7, 5, dtype=jnp.bfloat16), layer(dtype=jnp.bfloat16)

    def maps(x):
        return ops.max_pool(ops.conv_relu(x, kernel, flipped, bias, replicate=True))

    def gram(x):
        return ops.gram_sum(maps(x).reshape(-1, 4))

    for pooled in (maps, ops.average_pool, ops.l2_pool):
        assert jax.eval_shape(pooled, x).dtype == jnp.bfloat16
    assert jax.eval_shape(gram, x).dtype == jnp.float32
    gradient = jax.jit(jax.grad(lambda x: gram(x).sum()))(x)
    assert gradient.dtype == jnp.bfloat16 and np.asarray(gradient).any()
    # The sum itself is kept in float32: 4096 ones in bfloat16 alone would stop at 256.
    assert float(ops.gram_sum(jnp.ones((4099, 1), jnp.bfloat16))[0, 0]) == 4099


def test_gradients_agree_with_float64_finite_differences():
    """The whole chain. Central differences at 1e-6 are good to about 1e-9 of values near 1e3; 1e-6 leaves room."""
    with jax.enable_x64(True):
        kernel, flipped, bias = layer(2, 3, np.float64)
        x = normal(0, 5, 5, 2, dtype=np.float64)

        def loss(x):
            maps = ops.max_pool(ops.conv_relu(x, kernel, flipped, bias, replicate=True))
            again = ops.conv_relu(maps, *layer(3, 3, np.float64))
            return (ops.gram_sum(again.reshape(-1, 3)) * normal(4, 3, 3, dtype=np.float64)).sum()

        gradient = np.asarray(jax.grad(jax.jit(loss))(x))
        assert gradient.dtype == np.float64
        step = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
        values = jax.jit(jax.vmap(loss))(jnp.concatenate([x + step, x - step]))
        differences = (np.asarray(values[: x.size]) - np.asarray(values[x.size :])) / 2e-6
        np.testing.assert_allclose(gradient.ravel(), differences, rtol=0, atol=1e-6 * np.abs(gradient).max())


def rectangle(size, picture):
    """True in the picture at the top left of an array."""
    inside = np.zeros(size, bool)
    inside[: picture[0], : picture[1]] = True
    return jnp.asarray(inside)


PICTURES = [((8, 6), (5, 4)), ((8, 8), (8, 3)), ((6, 8), (1, 1)), ((6, 6), (6, 6))]


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(("size", "picture"), PICTURES)
def test_a_convolution_sees_the_picture_alone(size, picture, replicate):
    """Values and gradient inside are those of the picture without its border; outside they are 0."""
    x, (kernel, flipped, bias) = normal(0, *size, 5), layer()
    inside, (h, w) = rectangle(size, picture), picture

    def ours(x):
        x = ops.repeat_edge(x, inside) if replicate else jnp.where(inside[..., None], x, 0)
        return ops.conv_relu(x, kernel, flipped, bias, inside, replicate=replicate)

    alone = partial(plain_conv_relu, kernel=kernel, bias=bias, replicate=replicate)
    noise = normal(9, h, w, 4)

    @jax.jit
    def both(x):
        return ours(x), jax.grad(lambda x: (ours(x)[:h, :w] * noise).sum())(x)

    @jax.jit
    def both_alone(x):
        return alone(x), jax.grad(lambda x: (alone(x) * noise).sum())(x)

    outside = ~np.asarray(inside)
    for found, expected in zip(both(x), both_alone(np.asarray(x)[:h, :w]), strict=True):
        found = np.asarray(found)
        close(found[:h, :w], expected)
        assert not found[outside].any()


@pytest.mark.parametrize(("size", "picture"), PICTURES)
def test_pooling_keeps_an_odd_last_row_and_column_of_the_picture(size, picture):
    x, inside, (h, w) = np.abs(normal(0, *size, 2)), rectangle(size, picture), picture
    x = np.where(np.asarray(inside)[..., None], x, 0)
    rows, columns = range(0, h, 2), range(0, w, 2)

    def four_times_the_mean_square(x, axis):
        return np.sqrt(4 * np.mean(np.square(x), axis=axis))

    pools = [(ops.max_pool, np.max), (partial(ops.average_pool, inside=inside), np.mean)]
    for pool, of in [*pools, (partial(ops.l2_pool, inside=inside), four_times_the_mean_square)]:
        a = np.asarray(x)
        expected = [[of(a[i : min(i + 2, h), j : min(j + 2, w)], axis=(0, 1)) for j in columns] for i in rows]
        np.testing.assert_allclose(np.asarray(jax.jit(pool)(x))[: len(rows), : len(columns)], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        ops.pool_inside(inside), rectangle((size[0] // 2, size[1] // 2), (len(rows), len(columns)))
    )


def test_the_mask_of_the_relu_does_not_keep_the_map_before_it_alive():
    """From `y > 0` XLA derives a comparison with the map before the ReLU, which then cannot be fused."""
    x, (kernel, flipped, bias) = normal(0, 6, 6, 5), layer()
    text = str(jax.make_jaxpr(jax.grad(lambda x: ops.conv_relu(x, kernel, flipped, bias).sum()))(x))
    assert " ne " in text and " gt " not in text
