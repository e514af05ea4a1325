"""The tick, step by step: against L-BFGS written in NumPy in float64, against jaxopt's own, and its decisions."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
import pytest
from test_solvers import SHAPE, evaluate, quadratic, rosenbrock, started

from jaxstyle.style.solvers import base, lbfgs, verdict
from jaxstyle.style.solvers.lbfgs import Lbfgs
from jaxstyle.style.status import Status

pytestmark = pytest.mark.usefixtures("quickly_compiled")

START = np.random.default_rng(4).uniform(-0.5, 0.5, SHAPE).astype(np.float32)
CURVED = np.linspace(1, 20, START.size).reshape(SHAPE).astype(np.float32)


def bowl(x):
    """Convex, not quadratic: no step is rejected."""
    return jnp.sum(CURVED * (x**2 + 0.1 * x**4))


def waves(x):
    """With places where the curvature along a step is negative."""
    x = x + 1
    return jnp.sum(1 - jnp.cos(3 * x)) + 0.05 * jnp.sum(CURVED * x**2)


def numpy_ticks(function, x, ticks, history, step_scale=1.0):
    """L-BFGS with one evaluation a tick, in float64: (images, losses, accepted or not) after every tick."""
    value_and_grad = jax.jit(jax.value_and_grad(function))
    evaluated = lambda x: [np.float64(a) for a in value_and_grad(jnp.asarray(x, jnp.float64))]  # noqa: E731
    along_gradient = lambda g: 0.02 * step_scale / np.abs(g).mean()  # noqa: E731
    x, pairs, rejected, told = np.float64(x), [], 0, []
    f, g = evaluated(x)
    t = along_gradient(g)
    told.append((x, f, True))
    for _ in range(ticks - 1):
        q, alphas = g.copy(), []
        for s, y in reversed(pairs):
            alphas.append((s * q).sum() / (s * y).sum())
            q -= alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q *= (s * y).sum() / (y * y).sum()
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - (y * q).sum() / (s * y).sum()) * s
        s = -t * q
        after, gradient = evaluated(x + s)
        slope, y = (g * s).sum(), gradient - g
        accepted = after <= f + 1e-4 * slope
        if accepted:
            if (s * y).sum() > 1e-8 * np.linalg.norm(s) * np.linalg.norm(y):
                pairs = [*pairs, (s, y)][-history:]
            x, f, g, rejected = x + s, after, gradient, 0
            t = 1.0 if pairs else along_gradient(g)
        else:
            t *= np.clip(-slope / (2 * (after - f - slope)), 0.1, 0.5)
            rejected += 1
            if rejected == 8 and pairs:
                pairs, rejected, t = [], 0, along_gradient(g)
        told.append((x, f, accepted))
    return told


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("function", "step_scale", "ticks", "rejections", "history", "compact"),
    [
        (bowl, 1.0, 18, 0, 10, False),
        (bowl, 1.0, 18, 0, 1, False),
        (bowl, 60.0, 18, 1, 10, False),
        (rosenbrock, 1.0, 14, 0, 3, False),
        (rosenbrock, 300.0, 14, 2, 3, False),
        (rosenbrock, 300.0, 14, 2, 3, True),
        (waves, 1.0, 14, 0, 3, False),
        (waves, 1.0, 14, 0, 3, True),
        (waves, 1.0, 14, 0, 10, False),
    ],
)
def test_the_tick_is_l_bfgs_step_by_step(double, function, step_scale, ticks, rejections, history, compact):
    expected = numpy_ticks(function, START, ticks, history, step_scale)
    assert sum(not accepted for _, _, accepted in expected) >= rejections
    with jax.enable_x64(False):
        engine = Lbfgs(history=history, compact=compact)
        first = jax.jit(lambda x, scale: started(engine, evaluate(function), x, 100, step_scale=scale))
        lane, tick = first(START, step_scale), jax.jit(lambda lane: base.tick(engine, evaluate(function), lane, 0.0))
        for n, (image, loss, _) in enumerate(expected):
            lane = tick(lane)
            # float32 against float64: rounding grows by about 2 a step
            np.testing.assert_allclose(lane.point.loss, loss, rtol=2e-4, atol=1e-5, err_msg=f"tick {n}")
            np.testing.assert_allclose(lane.point.image, image, atol=2e-3, err_msg=f"tick {n}")


def test_the_waves_have_a_pair_that_is_refused():
    """So that the comparison above has some. Kept, such a pair makes the next direction ascend, which forgets it."""
    engine = Lbfgs()
    lane = started(engine, evaluate(waves), jnp.asarray(START), 100)
    tick = jax.jit(lambda lane: base.tick(engine, evaluate(waves), lane, 0.0))
    accepted = 0
    for _ in range(14):
        before, lane = lane.point.loss, tick(lane)
        accepted += int(lane.point.loss < before)
    assert int(lane.state.written) < accepted - 1


def test_the_images_are_those_of_jaxopt(double):
    """jaxopt's `update` with the same lengths of steps, all of which are accepted."""
    engine, lengths, images = Lbfgs(history=3), [], []
    x = jnp.asarray(START, jnp.float32)
    with jax.enable_x64(False):
        tick = jax.jit(lambda lane: base.tick(engine, evaluate(bowl), lane, 0.0))
        lane = tick(started(engine, evaluate(bowl), x, 100))
        for _ in range(9):
            lengths.append(lane.state.step)
            lane = tick(lane)
            images.append(lane.point.image)
        lengths = jnp.stack(lengths)
        theirs = jaxopt.LBFGS(bowl, stepsize=lambda n: lengths[n], history_size=3, implicit_diff=False)
        state, update = theirs.init_state(x), jax.jit(theirs.update)
        for n, image in enumerate(images):
            x, state = update(x, state)
            np.testing.assert_allclose(image, x, atol=1e-4, err_msg=f"step {n}")


def crafted(**fields):
    """A state in the middle of a run, with a history, and its memory."""
    engine, rng = Lbfgs(history=3), np.random.default_rng(0)
    s = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    y = CURVED * s
    state = engine.start(None, base.Point(START, 0.0, {}), jnp.float32(START.size), jnp.float32(1)).state
    state = state._replace(
        rho=jnp.asarray(1 / (s * y).sum((1, 2, 3))), gamma=jnp.float32(0.1), pairs=jnp.int32(3), written=jnp.int32(4),
        **fields,
    )  # fmt: skip
    gradient = jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
    return engine, state, lbfgs.Memory(gradient, jnp.asarray(s), jnp.asarray(y))


def test_a_direction_that_ascends_is_answered_by_forgetting_the_curvature():
    _, state, memory = crafted(rejections=jnp.int32(2))
    after, along = lbfgs.direction(state, memory)
    assert float(along.slope) < 0 and int(after.pairs) == 3  # this one descends
    wrong = state._replace(rho=-100 * state.rho, gamma=jnp.float32(-1))  # no matrix that is positive
    after, along = lbfgs.direction(wrong, memory)
    np.testing.assert_array_equal(along.direction, -memory.gradient)
    assert float(along.slope) == -float(jnp.vdot(memory.gradient, memory.gradient))
    assert int(after.pairs) == int(after.rejections) == 0 and float(after.gamma) == 1 and not after.rho.any()
    expected = lbfgs.FIRST_STEP / np.abs(np.asarray(memory.gradient)).mean()
    assert float(after.step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pairs", [3, 0])
def test_after_eight_rejections_the_curvature_is_forgotten_and_without_any_the_lane_has_stalled(pairs):
    engine, state, memory = crafted(rejections=jnp.int32(lbfgs.REJECTIONS - 1), step=jnp.float32(0.01))
    state = state._replace(pairs=jnp.int32(pairs))
    at = base.Point(jnp.asarray(START), jnp.float32(1), {"it": jnp.float32(1)})
    worse = lambda x: ((jnp.float32(9), {"it": jnp.float32(9)}), memory.gradient)  # noqa: E731
    step = jax.jit(partial(engine.tick, worse))(at, state, memory, False, False)
    assert bool(step.stalled) == (pairs == 0) and not bool(step.diverged)
    if pairs:
        assert int(step.state.pairs) == int(step.state.rejections) == 0 and not step.state.rho.any()
        assert float(step.state.step) == pytest.approx(
            float(lbfgs.along_gradient(state, jnp.abs(memory.gradient).sum())), rel=1e-6
        )
    np.testing.assert_array_equal(step.point.image, START)
    assert float(step.point.loss) == float(step.point.terms["it"]) == 1


def judged(after, y=None):
    """The verdict about a step from a loss of 1 and a slope of -1."""
    s = jnp.full(SHAPE, 0.1)
    products = verdict.products_of(-s / jnp.vdot(s, s), s, s if y is None else y, at_once=False)
    return verdict.judge(jnp.float32(1), jnp.float32(after), products, jnp.bool_(False))


def test_a_step_that_falls_less_than_armijo_asks_is_rejected():
    for after, accepted in ((1 - 2e-4, True), (1 - 0.5e-4, False)):
        found = judged(after)
        assert bool(found.accepted) == accepted and bool(found.keep) == accepted


@pytest.mark.parametrize("bend", [-1.0, 0.0])
def test_a_pair_without_positive_curvature_is_not_kept_though_its_step_is(bend):
    engine, state, memory = crafted(step=jnp.float32(0.01))
    at = base.Point(jnp.asarray(START), jnp.float32(1), {"it": jnp.float32(1)})
    lower = lambda x: ((jnp.float32(0.1), {"it": x.sum()}), memory.gradient + bend * (x - START))  # noqa: E731
    step = jax.jit(partial(engine.tick, lower))(at, state, memory, False, False)
    assert float(step.point.loss) == np.float32(0.1) and (step.state.pairs, step.state.written) == (
        state.pairs, state.written,
    )  # fmt: skip
    for name in ("s", "y"):
        np.testing.assert_array_equal(getattr(step.memory, name), getattr(memory, name))
    np.testing.assert_array_equal(step.state.rho, state.rho)


def test_a_gradient_that_is_not_finite_is_refused():
    for wrong in (np.nan, np.inf):
        found = judged(0.5, jnp.full(SHAPE, 0.1).at[0, 0, 0].set(wrong))
        assert not bool(found.finite) and not bool(found.accepted) and not bool(found.keep)


@pytest.mark.parametrize(("after", "factor"), [(1.5, 1 / 3), (3.0, 1 / 6), (60.0, 0.1), (1.0, 0.5), (np.nan, 0.1)])
def test_a_rejected_step_is_shortened_to_the_minimum_of_the_parabola(after, factor):
    """Through the loss 1 and the slope -1 at the image and the loss at the trial image, between 0.1 and 0.5."""
    found = judged(after)
    assert not bool(found.accepted)
    assert float(found.shorter) == pytest.approx(factor, rel=1e-5)


def test_the_first_step_is_a_mean_over_the_pixels_that_are_optimised():
    """A border of zero gradient must not make the step longer."""

    def half(x):
        return quadratic(jnp.where(jnp.arange(SHAPE[1])[None, :, None] < 2, x, 0))

    lane = started(Lbfgs(), jax.jit(evaluate(half)), jnp.asarray(START), 9, values=START.size // 2)
    tick = jax.jit(lambda lane: base.tick(Lbfgs(), evaluate(half), lane, 0.0))
    second = tick(tick(lane))
    moved = np.abs(np.asarray(second.point.image) - START)
    assert moved[:, :2].mean() == pytest.approx(lbfgs.FIRST_STEP, rel=1e-4) and not moved[:, 2:].any()


def test_a_lane_at_its_minimum_stays_there():
    lane = started(Lbfgs(), evaluate(bowl), jnp.zeros(SHAPE), 5)
    tick = jax.jit(lambda lane: base.tick(Lbfgs(), evaluate(bowl), lane, 0.0))
    for _ in range(5):
        lane = tick(lane)
    assert int(lane.status) == Status.BUDGET and not np.asarray(lane.point.image).any()
