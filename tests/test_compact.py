"""The compact form of L-BFGS's product, against jaxopt's two loops and against them with another initial matrix."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lbfgs import CURVED, START, crafted
from test_solvers import MINIMUM, SHAPE, evaluate, quadratic, solve, started

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.solvers import SOLVERS, base
from jaxstyle.style.solvers.compact import History, inv_hessian_product, sums
from jaxstyle.style.solvers.lbfgs import Lbfgs
from jaxstyle.style.solvers.lbfgs import inv_hessian_product as two_loops
from jaxstyle.style.solvers.verdict import products_of

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROWS = 5
CASES = [(0, 0), (1, 1), (3, 3), (5, 5), (7, 5), (12, 5), (9, 2), (11, 1)]
"""Pairs written since the start, and pairs still valid: none, some, all, with the ring turned, and after forgetting."""


def ring(written, pairs, seed):
    """A ring of random pairs, what an earlier image left in the other rows, and a gradient.

    The newest pair's column of products is not there yet.
    """
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(ROWS, *SHAPE))
    y = CURVED * s + 0.1 * rng.normal(size=s.shape)
    valid = np.isin(np.arange(ROWS), (written - 1 - np.arange(pairs)) % ROWS)
    s[~valid] *= 1e3
    products = np.einsum("ihwc,jhwc->ij", s, y)
    rho = np.where(valid, 1 / np.diagonal(products), 0)
    products[:, (written - 1) % ROWS] = 1e9
    return [np.asarray(a, np.float32) for a in (s, y, products, rho)] + [np.int32(written % ROWS)], rng.normal(
        size=SHAPE
    )


@pytest.fixture(scope="module")
def lanes():
    """The cases side by side: the histories, and gradients."""
    rings = [ring(*case, seed) for seed, case in enumerate(CASES)]
    stacked = History(*(np.stack(a) for a in zip(*(one for one, _ in rings), strict=True)))
    return stacked, np.stack([g for _, g in rings]).astype(np.float32)


@pytest.fixture(scope="module")
def both(lanes):
    """Products and histories' products of all lanes, and jaxopt's products."""

    @jax.jit
    @jax.vmap
    def run(history, gradient):
        theirs = two_loops(gradient, history.s, history.y, history.rho, 0.3, history.oldest)
        filtered, _ = inv_hessian_product(gradient, history, CURVED[::-1])
        half = history._replace(s=history.s.astype(jnp.bfloat16), y=history.y.astype(jnp.bfloat16))
        whole = half._replace(s=half.s.astype(jnp.float32), y=half.y.astype(jnp.float32))
        of_half = [inv_hessian_product(gradient, one, 0.3)[1] for one in (half, whole)]
        return *inv_hessian_product(gradient, history, 0.3), theirs, filtered, of_half

    return run(*lanes)


@pytest.mark.parametrize("lane", range(len(CASES)), ids=map(str, CASES))
def test_it_is_the_product_of_two_loops(both, lane):
    ours, theirs = np.asarray(both[0][lane]), np.asarray(both[2][lane])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_the_newest_pairs_products_are_computed(lanes, both):
    for lane, (written, pairs) in enumerate(CASES):
        newest = (written - 1) % ROWS
        s, y = lanes[0].s[lane], lanes[0].y[lane][newest]
        expected = np.array(lanes[0].products[lane])
        expected[:, newest] = (s * y).sum((1, 2, 3))
        if pairs:
            np.testing.assert_allclose(both[1][lane], expected, rtol=1e-4, atol=1e-2)


def test_sums_over_a_history_in_bfloat16_are_in_float32(both):
    ours, exact = np.asarray(both[4])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5 * np.abs(exact[exact < 1e8]).max())


def test_the_initial_matrix_stands_in_the_middle(lanes, both):
    """Against the two loops in float64 with a diagonal matrix."""
    for lane, (written, pairs) in enumerate(CASES):
        history, q, alphas = [np.float64(a[lane]) for a in lanes[0]], np.float64(lanes[1][lane]), []
        rows = [(written - 1 - k) % ROWS for k in range(pairs)]
        for row in rows:
            s, y = history[0][row], history[1][row]
            alphas.append((s * q).sum() / (s * y).sum())
            q = q - alphas[-1] * y
        q = CURVED[::-1] * q
        for row, alpha in zip(rows[::-1], alphas[::-1], strict=True):
            s, y = history[0][row], history[1][row]
            q = q + (alpha - (y * q).sum() / (s * y).sum()) * s
        np.testing.assert_allclose(both[3][lane], q, rtol=0, atol=1e-5 * np.abs(q).max())


@pytest.mark.parametrize("at_once", [False, True])
def test_the_products_of_a_step_are_their_sums(at_once):
    gradient, s, y = np.random.default_rng(3).normal(size=(3, 5, 7, 3))
    found = products_of(*np.float32([gradient, s, y]), at_once)
    expected = [(gradient * s).sum(), (s * y).sum(), (y * y).sum(), np.linalg.norm(s), np.linalg.norm(y), y.sum()]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sums_of_arrays_of_several_lengths():
    np.testing.assert_allclose(sums(jnp.ones(6144), jnp.full((7, 5), 2.0)), [6144, 70])


def test_a_pair_that_is_not_kept_is_not_written():
    _, state, memory = crafted()
    engine = Lbfgs(history=3, compact=True)
    state = state._replace(step=jnp.float32(0.01), products=jnp.zeros((3, 3)))
    at = base.Point(jnp.asarray(START), jnp.float32(1), {"it": jnp.float32(1)})
    tick = jax.jit(lambda bend: engine.tick(
        lambda x: ((jnp.float32(0.1), {"it": x.sum()}), memory.gradient + bend * (x - START)),
        at, state, memory, False, False,
    ))  # fmt: skip
    dropped, kept = tick(-1.0), tick(1.0)
    row = int(state.written) % 3
    for name in ("s", "y"):
        np.testing.assert_array_equal(getattr(dropped.memory, name), getattr(memory, name))
        after = np.asarray(getattr(kept.memory, name))
        assert (after[row] != np.asarray(getattr(memory, name))[row]).all()
        np.testing.assert_array_equal(np.delete(after, row, 0), np.delete(getattr(memory, name), row, 0))
    assert int(dropped.state.written) == int(state.written) == int(kept.state.written) - 1


def test_a_history_in_bfloat16_halves_its_memory_and_leads_to_the_same_minimum():
    """The pairs are good to three digits; the gradient, which tells the minimum, is exact."""
    engine = Lbfgs(history_dtype="bfloat16", compact=True)
    lane = solve(engine, quadratic, np.zeros(SHAPE), budget=150)
    np.testing.assert_allclose(lane.result.image, MINIMUM, atol=2e-3)
    others = []
    for other in (Lbfgs(history_dtype="bfloat16"), dataclasses.replace(engine, preconditioner="pyramid")):
        start = partial(started, other, evaluate(quadratic), budget=9)
        others.append(jax.eval_shape(lambda x: base.tick(other, evaluate(quadratic), start(x), 0.0), MINIMUM))  # noqa: B023
    for one in (lane, *others):
        assert one.memory.s.dtype == one.memory.y.dtype == jnp.bfloat16
        assert one.memory.gradient.dtype == one.point.image.dtype == jnp.float32
    held = [
        SOLVERS["lbfgs"].images(StylizeSettings(history_dtype=kind, preconditioner="none"))
        for kind in ("float32", "bfloat16")
    ]
    image = lane.point.image.nbytes
    assert held == [22, 12] and held[1] * image == image + sum(a.nbytes for a in jax.tree.leaves(lane.memory))


def test_no_image_is_carried_through_a_loop():
    """Two loops of ten steps have 40 images to read one after the other; this has none."""
    traced = str(jax.make_jaxpr(partial(inv_hessian_product, initial=1.0))(
        np.zeros(SHAPE, np.float32), History(*ring(3, 3, 0)[0])
    ))  # fmt: skip
    assert "scan" not in traced and "while" not in traced and traced.count("triangular_solve[") == 2
