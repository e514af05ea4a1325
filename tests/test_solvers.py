"""Solvers on functions with known minima, and the promises of the tick: one evaluation, no lane disturbs another."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fmin_l_bfgs_b

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.solvers import SOLVERS, SolverKind, base, lbfgs
from jaxstyle.style.solvers.adam import Adam
from jaxstyle.style.solvers.lbfgs import Lbfgs
from jaxstyle.style.solvers.zoom import JaxoptZoom
from jaxstyle.style.status import Status

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SHAPE = (3, 4, 3)


def evaluate(function):
    """The function as solvers want it: ((loss, terms), gradient)."""

    def with_terms(x):
        loss = function(x)
        return loss, {"it": loss}

    return jax.value_and_grad(with_terms, has_aux=True)


def started(engine, function, x, budget, **options):
    """A fresh lane with its memory."""
    return base.start(engine, function, x, ("it",), budget, **options)._replace(memory=engine.memory(x))


@lru_cache
def loop(engine, function):
    """All ticks of one lane, one program for all starts and budgets: (x, memory, budget, tolerance, ticks) -> lane."""

    @jax.jit
    def run(x, memory, budget, tolerance, ticks):
        lane = started(engine, evaluate(function), x, budget)
        lane = lane if memory is None else lane._replace(memory=memory)
        return jax.lax.fori_loop(0, ticks, lambda _, lane: base.tick(engine, evaluate(function), lane, tolerance), lane)

    return run


def solve(engine, function, start, budget, tolerance=0.0, ticks=None, memory=None):
    """All ticks of one lane; `memory` is what an earlier image has left, if any."""
    numbers = np.int32(budget), np.float32(tolerance), np.int32(ticks or budget)
    return loop(engine, function)(np.asarray(start, np.float32), memory, *numbers)


CURVATURE = np.logspace(0, 3, int(np.prod(SHAPE))).reshape(SHAPE).astype(np.float32)
MINIMUM = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)


def quadratic(x):
    return 0.5 * jnp.sum(CURVATURE * (x - MINIMUM) ** 2)


def rosenbrock(x):
    a, b = x.ravel()[:-1], x.ravel()[1:]
    return jnp.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)


@pytest.mark.parametrize(
    ("engine", "budget"), [(Lbfgs(), 150), (JaxoptZoom(), 400)], ids=["lbfgs", "jaxopt-zoom (evaluates twice a step)"]
)
def test_a_quadratic_of_condition_1000_is_solved(engine, budget):
    lane = solve(engine, quadratic, np.zeros(SHAPE), budget=budget)
    assert float(lane.result.loss) < 1e-6 * float(quadratic(jnp.zeros(SHAPE)))
    np.testing.assert_allclose(lane.result.image, MINIMUM, atol=1e-3)


def test_rosenbrock_in_36_dimensions_is_solved():
    lane = solve(Lbfgs(), rosenbrock, np.full(SHAPE, 0.5), budget=400)
    np.testing.assert_allclose(lane.result.image, np.ones(SHAPE), atol=1e-2)


def test_adam_descends_a_quadratic():
    lane = solve(Adam(learning_rate=0.05), quadratic, np.zeros(SHAPE), budget=400)
    assert float(lane.result.loss) < 1e-3 * float(quadratic(jnp.zeros(SHAPE)))
    assert float(lane.result.loss) == pytest.approx(
        float(quadratic(lane.result.image)), rel=1e-5
    )  # the loss is the image's own


def averaged(decay, learning_rate, ticks):
    """Adam's images on the quadratic, by its paper, and their average with weights that decay; both in float64."""
    x = np.zeros(SHAPE)
    first = second = np.zeros(SHAPE)
    images = []
    for moves in range(1, ticks + 1):
        gradient = CURVATURE.astype(float) * (x - MINIMUM)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        x = x - learning_rate * (first / (1 - 0.9**moves)) / (np.sqrt(second / (1 - 0.999**moves)) + 1e-8)
        images.append(x)
    weights = decay ** np.arange(ticks - 1, -1, -1.0)
    return images, np.tensordot(weights / weights.sum(), np.array(images), 1)


def test_averaging_yields_the_average_of_adams_images_and_its_own_loss():
    # of 25 evaluations the first is at the start, the tenth, the twentieth and the last are at averages
    lane = solve(Adam(learning_rate=0.05, averaging=0.8), quadratic, np.zeros(SHAPE), budget=25)
    images, average = averaged(0.8, 0.05, 25 - 4)
    np.testing.assert_allclose(lane.result.image, average, atol=1e-4)
    assert np.abs(average - images[-1]).max() > 0.01
    assert float(lane.result.loss) == pytest.approx(float(quadratic(lane.result.image)), rel=1e-6)
    assert float(lane.start_loss) == pytest.approx(float(quadratic(jnp.zeros(SHAPE))))
    assert int(lane.evaluations) == 25 and int(lane.status) == Status.BUDGET


@pytest.mark.parametrize("budget", [1, 2, 10, 11])
def test_averaging_judges_the_average_at_the_end_of_any_budget(budget):
    lane = solve(Adam(learning_rate=0.01, averaging=0.9), quadratic, np.zeros(SHAPE), budget=budget)
    moves = {1: 0, 2: 0, 10: 8, 11: 8}[budget]
    expected = averaged(0.9, 0.01, moves)[1] if moves else np.zeros(SHAPE)
    np.testing.assert_allclose(lane.result.image, expected, atol=1e-5)


def test_an_average_that_is_worse_than_the_start_is_not_the_result():
    lane = solve(Adam(learning_rate=1.0, averaging=0.9), quadratic, MINIMUM, budget=25)
    np.testing.assert_array_equal(lane.result.image, MINIMUM)
    assert float(lane.result.loss) == 0


def test_the_tick_ends_about_where_scipy_does():
    start = np.full(SHAPE, 0.5)
    flat = jax.jit(jax.value_and_grad(lambda x: rosenbrock(x.reshape(SHAPE))))
    budget = 60

    def scipy_function(x):
        loss, gradient = flat(jnp.asarray(x, jnp.float32))
        return float(loss), np.asarray(gradient, np.float64)

    _, scipys, _ = fmin_l_bfgs_b(scipy_function, start.ravel(), maxfun=budget, m=10)
    ours = float(solve(Lbfgs(), rosenbrock, start, budget).result.loss)
    before = float(rosenbrock(jnp.asarray(start)))
    assert scipys < 0.01 * before
    # both are in the long flat valley, where a factor is a few evaluations
    assert ours < 3 * scipys


@pytest.mark.parametrize("engine", [Lbfgs(), Adam(), Adam(averaging=0.9)], ids=["lbfgs", "adam", "averaging"])
def test_a_tick_is_one_evaluation(engine):
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return quadratic(x)

    lane = solve(engine, counted, np.zeros(SHAPE), budget=17)
    jax.block_until_ready(lane)
    jax.effects_barrier()
    assert len(calls) == 17
    assert int(lane.evaluations) == 17 and int(lane.status) == Status.BUDGET


def test_the_zoom_line_search_counts_its_evaluations():
    lane = solve(JaxoptZoom(), rosenbrock, np.full(SHAPE, 0.5), budget=40)
    assert int(lane.evaluations) >= 40 and int(lane.status) == Status.BUDGET


def test_an_ended_lane_stays_as_it_is():
    short = solve(Lbfgs(), quadratic, np.zeros(SHAPE), budget=10, ticks=10)
    longer = solve(Lbfgs(), quadratic, np.zeros(SHAPE), budget=10, ticks=30)
    assert int(short.status) == int(longer.status) == Status.BUDGET
    short, longer = (lane._replace(memory=None) for lane in (short, longer))  # which an ended lane never reads
    for one, other in zip(jax.tree.leaves(short), jax.tree.leaves(longer), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_never_rises_and_the_first_step_moves_the_mean_pixel_by_the_constant():
    losses, images = [], []
    lane = jax.jit(lambda x: started(Lbfgs(), evaluate(rosenbrock), x, 100))(np.full(SHAPE, 0.5, np.float32))
    step = jax.jit(lambda lane: base.tick(Lbfgs(), evaluate(rosenbrock), lane, 0.0))
    for _ in range(30):
        lane = step(lane)
        losses.append(float(lane.result.loss))
        images.append(np.asarray(lane.result.image))
    np.testing.assert_array_equal(images[0], np.full(SHAPE, 0.5, np.float32))  # the start itself is evaluated first
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert np.abs(images[1] - images[0]).mean() == pytest.approx(lbfgs.FIRST_STEP, rel=1e-4)


def test_convergence_is_told_by_the_relative_decrease():
    lane = solve(Lbfgs(), lambda x: quadratic(x) + 1, np.zeros(SHAPE), budget=1000, tolerance=1e-3)
    assert int(lane.status) == Status.CONVERGED and int(lane.evaluations) < 300


class Falling(base.Solver):
    """Its loss falls by a hundredth in every tick, and is twice as high at the end of each window where `spikes`."""

    monotone = False

    def __init__(self, scale, spikes=False):
        self.scale, self.spikes = scale, spikes

    def start(self, evaluate, start, values, step_scale):
        return base.Step(start, jnp.int32(1), None, jnp.int32(0), jnp.bool_(False), jnp.bool_(False))

    def memory(self, image):
        return ()

    def tick(self, evaluate, at, state, memory, first, closing):
        spike = self.spikes & (state % base.WINDOW == 0)
        loss = self.scale * jnp.float32(0.99) ** (state - 1) * jnp.where(spike, 2, 1)
        point = base.Point(at.image, loss, {"it": loss})
        return base.Step(point, state + 1, (), jnp.int32(1), jnp.bool_(False), jnp.bool_(False))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_tolerance_is_relative_and_over_a_window(scale):
    for tolerance, status, evaluations in ((0.08, Status.BUDGET, 40), (0.2, Status.CONVERGED, base.WINDOW)):
        lane = solve(Falling(scale), None, np.zeros(SHAPE), budget=40, tolerance=tolerance)  # 1 - 0.99^9 is 0.086
        assert (int(lane.status), int(lane.evaluations)) == (status, evaluations)


def test_the_tolerance_looks_at_the_best_loss():
    lane = solve(Falling(1.0, spikes=True), None, np.zeros(SHAPE), budget=40, tolerance=0.05)
    assert (int(lane.status), int(lane.evaluations)) == (Status.BUDGET, 40)


def test_a_tolerance_of_zero_never_ends_a_lane():
    lane = solve(Adam(learning_rate=1.0), quadratic, MINIMUM, budget=60)  # leaves the minimum: the loss rises
    assert int(lane.status) == Status.BUDGET and int(lane.evaluations) == 60


def test_a_lane_without_an_acceptable_step_has_stalled():
    uphill = jax.custom_vjp(lambda x: jnp.sum(x))
    uphill.defvjp(lambda x: (jnp.sum(x), None), lambda _, g: (jnp.full(SHAPE, -g),))  # points the wrong way
    lane = solve(Lbfgs(), uphill, np.zeros(SHAPE), budget=1000)
    assert int(lane.status) == Status.STALLED
    assert int(lane.evaluations) == 1 + lbfgs.REJECTIONS
    np.testing.assert_array_equal(lane.result.image, np.zeros(SHAPE))


@pytest.mark.parametrize("engine", [Lbfgs(), Adam(), JaxoptZoom()], ids=["lbfgs", "adam", "jaxopt-zoom"])
def test_a_nan_lane_diverges_and_leaves_its_neighbours_bit_identical(engine):
    scales = jnp.array([1.0, 2.0, 3.0, 0.5])

    @jax.jit
    def run(scales):
        def lanes(scale):
            function = evaluate(lambda x: scale * rosenbrock(x))
            lane = started(engine, function, jnp.full(SHAPE, 0.5), 15)
            return jax.lax.fori_loop(0, 15, lambda _, a: base.tick(engine, function, a, 0.0), lane)

        return jax.vmap(lanes)(scales)

    healthy, sick = run(scales), run(scales.at[1].set(jnp.nan))
    assert int(sick.status[1]) == Status.DIVERGED
    assert np.isfinite(sick.result.image[1]).all()
    for lane in (0, 2, 3):
        assert int(sick.status[lane]) != Status.DIVERGED
        np.testing.assert_array_equal(sick.result.image[lane], healthy.result.image[lane])
        np.testing.assert_array_equal(sick.result.loss[lane], healthy.result.loss[lane])


def test_trial_points_that_are_not_finite_are_refused_not_fatal():
    def walled(x):
        return jnp.where(jnp.max(jnp.abs(x)) > 1.5, jnp.nan, quadratic(x))

    lane = solve(Lbfgs(), walled, np.full(SHAPE, -1.4), budget=200)
    assert np.isfinite(float(lane.result.loss))
    assert float(lane.result.loss) < 0.1 * float(quadratic(jnp.full(SHAPE, -1.4)))


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_adam_yields_its_best_image_when_the_loss_rises(tolerance):
    lane = solve(Adam(learning_rate=1.0), quadratic, MINIMUM + 0.01, budget=11, tolerance=tolerance)
    start = float(quadratic(jnp.asarray(MINIMUM + 0.01)))
    assert float(lane.point.loss) > 10 * start  # it has left the neighbourhood of the minimum
    assert float(lane.result.loss) == float(lane.start_loss) == pytest.approx(start, rel=1e-4)
    np.testing.assert_array_equal(lane.result.image, MINIMUM + np.float32(0.01))
    assert int(lane.status) == (Status.CONVERGED if tolerance else Status.BUDGET)


@pytest.mark.parametrize("engine", [Lbfgs(history=3), Adam(), JaxoptZoom()], ids=["lbfgs", "adam", "jaxopt-zoom"])
def test_a_lane_does_not_depend_on_what_an_earlier_image_left_in_its_memory(engine):
    earlier = solve(engine, rosenbrock, np.full(SHAPE, -0.5), budget=25)
    blank = jax.tree.map(np.zeros_like, earlier.memory)
    fresh, after = (solve(engine, quadratic, np.zeros(SHAPE), 20, memory=one) for one in (blank, earlier.memory))
    for one, other in zip(
        jax.tree.leaves(fresh._replace(memory=None)), jax.tree.leaves(after._replace(memory=None)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


KINDS = [(name, {}, "cpu") for name in SOLVERS]
KINDS += [("lbfgs", {"preconditioner": "pyramid"}, kind) for kind in ("cpu", *SOLVERS["lbfgs"].images_on)]


@pytest.mark.parametrize(("name", "fields", "kind"), KINDS)
def test_a_solver_states_how_many_images_a_lane_holds(name, fields, kind):
    settings = StylizeSettings(solver=name, history=4, **fields)
    engine = SOLVERS[name].make(settings, kind)
    image = jnp.zeros((64, 128, 3))
    lane = jax.eval_shape(lambda x: started(engine, evaluate(quadratic_of_any_size), x, 5), image)
    size = sum(leaf.size for leaf in jax.tree.leaves(lane)) / image.size
    more = SOLVERS[name].images_on.get(kind, lambda settings, width: 0)(settings, 128)
    assert SOLVERS[name].images(settings) + more == pytest.approx(size, abs=0.05)  # and some scalars


def test_a_tpu_fills_the_rows_of_planes():
    settings, own = StylizeSettings(preconditioner="pyramid"), SOLVERS["lbfgs"]
    whole, filled = (own.images(settings) - 1 + own.images_on["tpu"](settings, width) for width in (256, 160))
    assert filled == pytest.approx(whole * 256 / 160)


def quadratic_of_any_size(x):
    return jnp.sum(x**2)


def test_a_solver_takes_its_own_options_from_the_settings():
    settings = StylizeSettings(history=3, learning_rate=0.5, preconditioner="pyramid")
    for kind, own in (("cpu", {}), ("gpu", {"compact": True}), ("tpu", {"planes": True})):
        assert SOLVERS["lbfgs"].make(settings, kind) == Lbfgs(history=3, preconditioner="pyramid", **own)
    assert SOLVERS["adam"].make(settings) == Adam(learning_rate=0.5)
    assert SOLVERS["jaxopt-zoom"].make(settings) == JaxoptZoom(history=3)


def test_a_solver_of_ones_own_is_one_entry_of_the_registry(monkeypatch):
    monkeypatch.setitem(SOLVERS, "adam", SolverKind("lbfgs:Lbfgs", ("history",), lambda settings: 2))
    assert SOLVERS["adam"].make(StylizeSettings(solver="adam", history=2)) == Lbfgs(history=2)
