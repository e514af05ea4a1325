"""The preconditioner of L-BFGS: its variables as a matrix, the tick against NumPy in float64, and what it is for.

Its forms for GPUs and TPUs are compared with the one for CPUs, and make the same ticks.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dctn
from test_solvers import evaluate, started

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.solvers import base, fused, planes, preconditioner
from jaxstyle.style.solvers.lbfgs import Lbfgs

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ENGINE = Lbfgs(history=4, preconditioner="pyramid")
SHAPE = (9, 6, 3)
START = np.random.default_rng(4).uniform(-0.5, 0.5, SHAPE).astype(np.float32)
CURVED = np.linspace(1, 20, START.size).reshape(SHAPE).astype(np.float32)
DIAGONAL = jax.jit(preconditioner.diagonal, static_argnums=(4, 5))


def matrix(height, width):
    """B: (pixels x 3) x variables."""
    number = 3 * sum(h * w for h, w in preconditioner.sizes(height, width))
    columns = jax.jit(jax.vmap(partial(preconditioner.image, height=height, width=width)))(
        np.eye(number, dtype=np.float32)
    )
    return np.asarray(columns, np.float64).reshape(number, -1).T


@pytest.fixture(scope="module")
def b():
    assert preconditioner.sizes(9, 6) == [(9, 6), (5, 3)]
    return matrix(9, 6)


def test_the_gradient_of_the_variables_is_the_adjoint_at_odd_sizes_too(b):
    found = jax.jit(preconditioner.variables)(START)
    np.testing.assert_allclose(found, b.T @ START.ravel(), atol=1e-6)


def test_low_frequencies_are_amplified_by_a_power_law_which_evens_out_the_curvature():
    side = 16
    b = matrix(side, side)
    luminance = b.reshape(side**2, 3, -1, 3)[:, :, :, 0].sum(1) / np.sqrt(3)
    product = luminance @ luminance.T
    waves = np.kron(*[dctn(np.eye(side), axes=0, norm="ortho")] * 2)
    gains = np.sum((waves @ product) * waves, 1).reshape(side, side)
    # 1, 2 and 4 half waves a side; at higher frequencies the filters of the levels overlap more
    np.testing.assert_allclose(gains[[1, 2], 0] / gains[[2, 4], 0], 2**preconditioner.EXPONENT, rtol=0.2)
    frequency = np.maximum(np.hypot(np.arange(side)[:, None], np.arange(side)), 1).ravel()
    curvature = waves.T @ np.diag(frequency**1.5) @ waves
    both = np.linalg.eigvals(product @ curvature).real
    assert both.max() / both.min() < 0.2 * np.linalg.cond(curvature)


def narrow(x):
    """So steep that the first steps are refused."""
    return jnp.sum(CURVED * (x + 100 * x**4))


def halving(height, width):
    """The matrix that halves a picture of one channel in size twice."""
    pixels = np.eye(height * width, dtype=np.float32).reshape(height, width, -1)
    found = jax.jit(lambda x: preconditioner.half(preconditioner.half(x)))(pixels)
    return np.asarray(found, np.float64).reshape(-1, height * width)


def numpy_ticks(function, b, x, ticks, history):
    """L-BFGS in z with the initial inverse Hessian gamma D, in float64: (images, losses, accepted or not)."""
    value_and_grad = jax.jit(jax.value_and_grad(function))
    grids = (halving(9, 6), slice(0, 162)), (halving(5, 3), slice(162, 207))

    def evaluated(x):
        loss, gradient = value_and_grad(jnp.asarray(x, jnp.float64))
        return np.float64(loss), b.T @ np.float64(gradient).ravel()

    def d_of(pairs):
        """Level by level: 54 and 15 places of three colours."""
        found = []
        for grid, level in grids:
            squares = [grid @ sum(pair[k][level] ** 2 / (pair[0] @ pair[1]) for pair in pairs).reshape(-1, 3)
                       for k in (0, 1)]  # fmt: skip
            steps, changes = (one + 1e-4 * one.mean() for one in squares)
            found.append(16 * grid.T @ np.sqrt(steps / changes))
        return np.concatenate([one.ravel() for one in found])

    x, pairs, told, t = np.float64(x), [], [], 1.0
    f, g = evaluated(x)
    told.append((x, f, True))
    for _ in range(ticks - 1):
        q, alphas = g.copy(), []
        for s, y in reversed(pairs):
            alphas.append(s @ q / (s @ y))
            q -= alphas[-1] * y
        if pairs:
            (s, y), d = pairs[-1], d_of(pairs)
            q *= s @ y / (y @ (d * y)) * d
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - y @ q / (s @ y)) * s
        s = -t * q * (1 if pairs else 0.02 / np.abs(b @ q).mean())
        moved = x + (b @ s).reshape(SHAPE)
        after, gradient = evaluated(moved)
        slope, y = g @ s, gradient - g
        accepted = after <= f + 1e-4 * slope
        if accepted:
            pairs = [*pairs, (s, y)][-history:]
            x, f, g, t = moved, after, gradient, 1.0
        else:
            t *= np.clip(-slope / (2 * (after - f - slope)), 0.1, 0.5)
        told.append((x, f, accepted))
    return told


@pytest.fixture(scope="module")
def expected(b):
    with jax.enable_x64(True):
        told = numpy_ticks(narrow, b, START, 12, ENGINE.history)
    assert 1 <= sum(not accepted for *_, accepted in told) <= 6
    return told


@pytest.mark.parametrize("form", [{}, {"compact": True}, {"planes": True}], ids=["CPU", "GPU", "TPU"])
def test_the_tick_is_l_bfgs_of_the_variables_beside_any_other_lane(expected, form):
    engine = dataclasses.replace(ENGINE, **form)
    lanes = [started(engine, evaluate(narrow), jnp.asarray(start), 100) for start in (START, np.full_like(START, 3))]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    tick = jax.jit(jax.vmap(lambda lane: base.tick(engine, evaluate(narrow), lane, 0.0)))
    for n, (image, loss, _) in enumerate(expected):
        both = tick(both)
        # float32 against float64: rounding grows by about 2 a step
        np.testing.assert_allclose(both.point.loss[0], loss, rtol=2e-4, err_msg=f"tick {n}")
        np.testing.assert_allclose(both.point.image[0], image, atol=2e-3, err_msg=f"tick {n}")


def test_nothing_of_it_is_computed_without_it(monkeypatch):
    monkeypatch.setattr(preconditioner, "half", None)
    lane = started(Lbfgs(), evaluate(narrow), jnp.asarray(START), 100)
    jax.make_jaxpr(lambda lane: base.tick(Lbfgs(), evaluate(narrow), lane, 0.0))(lane)


def test_a_place_where_nothing_changes_has_a_finite_d():
    s = np.ones((2, 207), np.float32)
    s[:, :90] = 0  # as in the padding of a picture
    found = DIAGONAL(s, 4 * s, jnp.ones(2), jnp.int32(2), 9, 6)
    np.testing.assert_allclose(found, 0.25, rtol=1e-5)


def test_without_pairs_what_an_earlier_image_left_does_not_count():
    left = np.random.default_rng(0).normal(size=(2, 207)).astype(np.float32)
    np.testing.assert_array_equal(DIAGONAL(left, left, jnp.zeros(2), jnp.int32(0), 9, 6), 1)


@pytest.fixture(scope="module")
def large():
    """Pairs of variables, and what is computed of them: in the form for CPUs, and in that for GPUs without the matrix
    to small levels, which the tick above has."""
    pictures = np.random.default_rng(8).normal(size=(2, 3, *SHAPE)).astype(np.float32)
    rho, pairs = np.array([1, 0, 0.3], np.float32), np.int32(2)

    def plain(pictures):
        z = jax.vmap(jax.vmap(preconditioner.variables))(pictures)
        return z, preconditioner.image(z[0, 0], 9, 6), preconditioner.diagonal(*z, rho, pairs, 9, 6)

    def other(pictures):
        z = jax.vmap(jax.vmap(fused.variables))(pictures)
        kept = jax.vmap(partial(fused.squares, height=9, width=6))(*z)
        empty = fused.diagonal(kept, 0 * rho, 0 * pairs, 9, 6)
        return z, fused.image(z[0, 0], 9, 6), fused.diagonal(kept, rho, pairs, 9, 6), empty

    assert fused.shape_of(9, 6).large == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "SMALL", 15)
        fused.shape_of.cache_clear()
        assert fused.shape_of(9, 6).large == 2
        both = jax.jit(plain)(pictures), jax.jit(other)(pictures)
    fused.shape_of.cache_clear()
    return both


@pytest.mark.parametrize("what", range(3), ids=["variables", "image", "diagonal"])
def test_the_form_for_gpus_computes_the_same(large, what):
    plain, other = (np.asarray(one[what]) for one in large)
    np.testing.assert_allclose(other[..., : plain.shape[-1]], plain, rtol=1e-5, atol=2e-6 * np.abs(plain).max())


def test_the_form_for_gpus_fills_its_vectors_with_zeros_that_stay(large):
    (z, *_), (other, *_, diagonal, empty) = large
    number = z.shape[-1]
    assert other.shape[-1] % 1024 == 0 and number < other.shape[-1]
    assert not np.asarray(other)[..., number:].any() and (np.asarray(diagonal)[number:] == 1).all()
    np.testing.assert_array_equal(empty, 1)  # without pairs, whatever the rows hold


@pytest.mark.parametrize(("height", "width"), [(9, 6), (17, 90), (3, 3)])
def test_the_form_for_tpus_computes_the_same(height, width):
    where, rho = planes.layout(height, width), np.array([1, 0.3], np.float32)
    gradients = np.random.default_rng(8).normal(size=(2, 2, height, width, 3)).astype(np.float32)
    rows = [slice(r, r + 3 * h) for (r, _), (h, _) in zip(where.places, where.sizes, strict=True)]
    columns = [slice(c, c + w) for (_, c), (_, w) in zip(where.places, where.sizes, strict=True)]

    def in_order(z):
        """The values of z, a matrix, in the order of `preconditioner`."""
        levels = [z[..., r, c].reshape(*z.shape[:-2], 3, *size)
                  for r, c, size in zip(rows, columns, where.sizes, strict=True)]  # fmt: skip
        return np.concatenate([np.moveaxis(one, -3, -1).reshape(*z.shape[:-2], -1) for one in levels], -1)

    def computed(form, gradients):
        z = jax.vmap(jax.vmap(form.variables))(gradients)
        diagonals = [form.diagonal(*z, rho, np.int32(pairs), height, width) for pairs in (0, 2)]
        return z, form.image(z[0, 0], height, width), *diagonals

    z, image, empty, diagonal = map(np.asarray, jax.jit(partial(computed, planes))(gradients))
    usual, expected, _, of_pairs = map(np.asarray, jax.jit(partial(computed, preconditioner))(gradients))
    for one, other in ((in_order(z), usual), (image, expected), (in_order(diagonal), of_pairs)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * np.abs(other).max())
    assert (empty == 1).all()  # without pairs, whatever the rows hold
    assert z.size - in_order(z).size == np.sum(z == 0) and np.isfinite(diagonal).all()


def test_products_of_a_tpu_are_in_float32():
    """By default a TPU rounds factors to bfloat16."""
    text = str(jax.make_jaxpr(lambda x: planes.image(planes.variables(x), 9, 6))(START))
    assert text.count("dot_general") == text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == 4


def test_levels_have_places_of_their_own():
    for height, width in ((384, 512), (33, 50), (50, 33), (2, 40), (7, 7)):
        where = planes.layout(height, width)
        taken = np.zeros(where.shape, int)
        for (r, c), (h, w) in zip(where.places, where.sizes, strict=True):
            assert r + 3 * h <= where.shape[0] and c + w <= where.shape[1]
            taken[r : r + 3 * h, c : c + w] += 1
        assert where.sizes == preconditioner.sizes(height, width) and taken.max() == 1
        assert where.shape[1] == width and taken.size <= 1.6 * 3 * height * width


def test_a_preset_may_hold_it(tmp_path):
    for value, usual in (("pyramid", "classic"), ("none", "balanced")):
        (tmp_path / "mine.toml").write_text(f'preconditioner = "{value}"\nbase = "{usual}"\n')
        assert StylizeSettings(preset=str(tmp_path / "mine.toml")).preconditioner == value
        assert StylizeSettings(preset=usual).preconditioner != value
