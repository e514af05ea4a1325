"""The preconditioner of L-BFGS: T as a matrix, the step against NumPy in float64, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dctn
from test_solvers import evaluate, started

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.solvers import base, preconditioner
from jaxstyle.style.solvers.lbfgs import Lbfgs

ENGINE = Lbfgs(history=4, preconditioner="pyramid")
SHAPE = (9, 6, 3)
PIXELS = np.eye(54, dtype=np.float32).reshape(9, 6, 54)
"""Every picture of one pixel, side by side as channels."""
START = np.random.default_rng(4).uniform(-0.5, 0.5, SHAPE).astype(np.float32)
DIAGONAL = jax.jit(preconditioner.diagonal)
CURVED = np.linspace(1, 20, START.size).reshape(SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def matrices():
    """For one channel: T, 54 x 54, and the halving of D's grid, 6 x 54."""
    found = jax.jit(lambda x: (preconditioner.smooth(x), preconditioner.half(preconditioner.half(x))))(PIXELS)
    return [np.asarray(one, np.float64).reshape(-1, 54) for one in found]


def test_t_is_self_adjoint_and_positive_definite_at_odd_sizes_too(matrices):
    matrix, _ = matrices
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > 0.5


def test_low_frequencies_are_amplified_by_a_power_law_which_evens_out_the_curvature():
    side = 16
    pixels = np.eye(side**2, dtype=np.float32).reshape(side, side, -1)
    matrix = np.asarray(jax.jit(preconditioner.smooth)(pixels), np.float64).reshape(side**2, -1)
    waves = np.kron(*[dctn(np.eye(side), axes=0, norm="ortho")] * 2)
    gains = np.sum((waves @ matrix) * waves, 1).reshape(side, side)
    # 1, 2 and 4 half waves a side; at higher frequencies the filters of the levels overlap more
    np.testing.assert_allclose(gains[[1, 2], 0] / gains[[2, 4], 0], 2**preconditioner.EXPONENT, rtol=0.1)
    frequency = np.maximum(np.hypot(np.arange(side)[:, None], np.arange(side)), 1).ravel()
    curvature = waves.T @ np.diag(frequency**1.5) @ waves
    assert np.linalg.cond(matrix @ curvature @ matrix) < 0.2 * np.linalg.cond(curvature)


def narrow(x):
    """So steep that the first steps are refused."""
    return jnp.sum(CURVED * (x + 100 * x**4))


def numpy_ticks(function, matrices, x, ticks, history):
    """L-BFGS in pixels with the initial inverse Hessian gamma T D T, in float64: (images, losses, accepted or not)."""
    matrix, halving = matrices
    value_and_grad = jax.jit(jax.value_and_grad(function))
    evaluated = lambda x: [np.float64(a) for a in value_and_grad(jnp.asarray(x, jnp.float64))]  # noqa: E731
    opponent = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    pixels = lambda z: (matrix @ z.reshape(54, 3)).reshape(SHAPE) @ opponent  # noqa: E731
    variables = lambda g: (matrix @ (g @ opponent.T).reshape(54, 3)).reshape(SHAPE)  # noqa: E731
    steps_of = lambda s: np.linalg.solve(matrix, (s @ opponent.T).reshape(54, 3)).reshape(SHAPE)  # noqa: E731
    x, pairs, told = np.float64(x), [], []
    f, g = evaluated(x)
    told.append((x, f, True))
    t = 1.0
    for _ in range(ticks - 1):
        q, alphas, d = g.copy(), [], np.ones(SHAPE)
        for s, y in reversed(pairs):
            alphas.append((s * q).sum() / (s * y).sum())
            q -= alphas[-1] * y
        if pairs:
            found = []
            for every in ([steps_of(s) for s, _ in pairs], [variables(y) for _, y in pairs]):
                weighted = sum(one**2 / (s * y).sum() for one, (s, y) in zip(every, pairs, strict=True))
                found.append(halving @ weighted.reshape(54, 3))
            steps, changes = (squares + 1e-4 * squares.mean() for squares in found)
            d = (16 * halving.T @ np.sqrt(steps / changes)).reshape(SHAPE)
        q = pixels(d * variables(q))
        if pairs:
            s, y = pairs[-1]
            q *= (s * y).sum() / (y * pixels(d * variables(y))).sum()
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - (y * q).sum() / (s * y).sum()) * s
        s = -t * q * (1 if pairs else 0.02 / np.abs(q).mean())
        after, gradient = evaluated(x + s)
        slope, y = (g * s).sum(), gradient - g
        accepted = after <= f + 1e-4 * slope
        if accepted:
            pairs = [*pairs, (s, y)][-history:]
            x, f, g, t = x + s, after, gradient, 1.0
        else:
            t *= np.clip(-slope / (2 * (after - f - slope)), 0.1, 0.5)
        told.append((x, f, accepted))
    return told


def test_the_tick_is_l_bfgs_with_gamma_t_d_t_beside_any_other_lane(matrices):
    with jax.enable_x64(True):
        expected = numpy_ticks(narrow, matrices, START, 12, ENGINE.history)
    assert 1 <= sum(not accepted for *_, accepted in expected) <= 6
    lanes = [started(ENGINE, evaluate(narrow), jnp.asarray(start), 100) for start in (START, np.full_like(START, 3))]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    tick = jax.jit(jax.vmap(lambda lane: base.tick(ENGINE, evaluate(narrow), lane, 0.0)))
    for n, (image, loss, _) in enumerate(expected):
        both = tick(both)
        # float32 against float64: rounding grows by about 2 a step
        np.testing.assert_allclose(both.point.loss[0], loss, rtol=2e-4, err_msg=f"tick {n}")
        np.testing.assert_allclose(both.point.image[0], image, atol=2e-3, err_msg=f"tick {n}")


def test_nothing_of_it_is_computed_without_it(monkeypatch):
    monkeypatch.setattr(preconditioner, "smooth", None)
    lane = started(Lbfgs(), evaluate(narrow), jnp.asarray(START), 100)
    jax.make_jaxpr(lambda lane: base.tick(Lbfgs(), evaluate(narrow), lane, 0.0))(lane)


def test_a_place_where_nothing_changes_has_a_finite_d():
    s = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    s[:, :, 8:] = 0  # the padding of a picture
    found = np.asarray(DIAGONAL(s, 4 * s, jnp.ones(2), jnp.int32(2)))
    np.testing.assert_allclose(found, 0.25, rtol=1e-5)


def test_without_pairs_what_an_earlier_image_left_does_not_count():
    left = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_array_equal(DIAGONAL(left, left, jnp.zeros(2), jnp.int32(0)), 1)


def test_a_preset_may_hold_it(tmp_path):
    (tmp_path / "mine.toml").write_text('preconditioner = "pyramid"\n')
    assert StylizeSettings(preset=str(tmp_path / "mine.toml")).preconditioner == "pyramid"
    assert StylizeSettings().preconditioner == "none"
