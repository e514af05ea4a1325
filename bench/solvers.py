"""Compares solvers at an equal loss, by evaluations and by seconds: SciPy's, jaxopt's, optax's and the package's own.

Under `vmap` a library's line search runs until the slowest lane has finished, so that an iteration costs the batch as
many evaluations as its slowest lane, by the library's count. Seconds are the actual cost.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import Asked, Results, result, timed
from lanes import batch_of, losses
from ways import Scipy

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.objective import Targets
from jaxstyle.style.stylizer import stylizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt

LANES, SIZE, EVALUATIONS, GOALS = 4, 128, 160, (30, 60, 120)
"""Images, their long side, evaluations a solver may spend, and the tick's evaluations whose loss is the goal."""


class Place(NamedTuple):
    """A point of a curve: evaluations of the batch and seconds so far, and the sum of its images' best losses."""

    evaluations: int
    seconds: float
    loss: float


Curve = list[Place]


def curve_of(step: Callable[[], tuple[Any, Any]], most: int, steps: int = sys.maxsize) -> Curve:
    """Calls a step until `most` evaluations are spent or `steps` steps are made.

    Args:
        step: returns the evaluations of the batch so far, and the losses of its images.
    """
    curve: Curve = [Place(0, 0.0, np.inf)]
    best: Any = np.inf
    while curve[-1].evaluations < most and len(curve) <= steps:
        seconds, (evaluations, found) = timed(step)
        best = np.fmin(best, np.asarray(found, float))
        curve.append(Place(int(np.max(evaluations)), curve[-1].seconds + seconds, float(best.sum())))
    return curve[1:]


def reached(curve: Curve, loss: float) -> Place | None:
    """Finds the first place at which a curve is at that loss or below it."""
    return next((place for place in curve if place.loss <= loss), None)


def _own(contents, style, settings: StylizeSettings, most: int = sys.maxsize, steps: int = sys.maxsize) -> Curve:
    """Steps a solver of the package, a tick a step."""
    engine = stylizer(settings)
    jax.block_until_ready(engine.advance(batch_of(engine, contents, style), 1).lanes)  # compiles
    held = [jax.block_until_ready(batch_of(engine, contents, style))]

    def step():
        held[0] = engine.advance(held[0], 1)
        return held[0].lanes.evaluations, np.asarray(held[0].lanes.point.loss)

    return curve_of(step, most, steps)


def _library(contents, style, most: int, make) -> Curve:
    """Steps a library's solver, an iteration a step.

    Args:
        make: takes a function x -> (loss, gradient); returns start(x) -> state and
            step(x, state) -> (x, state, loss, evaluations of this step).
    """
    engine = stylizer(StylizeSettings())
    batch = batch_of(engine, contents, style)

    def solver(variables, content, inside, style):
        evaluate = engine.evaluate(variables, Targets(content, style), inside)
        return make(lambda x: (lambda found: (found[0][0], found[1]))(evaluate(x)))

    lanes = (None, 0, 0, None)
    start = jax.jit(jax.vmap(lambda v, c, i, s, x: solver(v, c, i, s)[0](x), in_axes=(*lanes, 0)))
    iterate = jax.jit(jax.vmap(lambda v, c, i, s, x, state: solver(v, c, i, s)[1](x, state), in_axes=(*lanes, 0, 0)))
    targets = engine.variables, batch.content, batch.inside, batch.style
    x = jnp.array(batch.lanes.point.image)
    held = [x, start(*targets, x), 1]
    jax.block_until_ready(iterate(*targets, *held[:2]))  # compiles

    def step():
        held[0], held[1], found, evaluations = iterate(*targets, *held[:2])
        held[2] += int(np.asarray(evaluations).max())
        return held[2], np.asarray(found)

    return curve_of(step, most)


def _jaxopt(linesearch):
    def make(function):
        solver = jaxopt.LBFGS(fun=function, value_and_grad=True, linesearch=linesearch, history_size=10,
                              implicit_diff=False, unroll=False)  # fmt: skip

        def step(x, state):
            image, new = solver.update(x, state)
            return image, new, new.value, new.num_fun_eval - state.num_fun_eval

        return solver.init_state, step

    return make


def _optax(function):
    solver = optax.lbfgs(memory_size=10)
    value = lambda x: function(x)[0]  # noqa: E731
    both = jax.custom_vjp(value)  # the line search differentiates it: with the gradient that comes with the value
    both.defvjp(function, lambda gradient, dy: (dy * gradient,))
    stored = optax.value_and_grad_from_state(both)

    def step(x, state):
        loss, gradient = stored(x, state=state)
        updates, state = solver.update(gradient, state, x, value=loss, grad=gradient, value_fn=both)
        steps = optax.tree_utils.tree_get(state, "num_linesearch_steps")
        return x + updates, state, optax.tree_utils.tree_get(state, "value"), steps

    return solver.init, step


def solvers(asked: Asked) -> Results:
    """Evaluations and seconds of each solver to the tick's loss after some evaluations / those of the tick."""
    most, goals = asked.pick((12, (5,)), (EVALUATIONS, GOALS))
    four, style = asked.photographs(SIZE, LANES), asked.style(SIZE)
    own = _own(four, style, StylizeSettings(), most)
    curves = {
        "jaxopt, zoom": _library(four, style, most, _jaxopt("zoom")),
        "jaxopt, backtracking": _library(four, style, most, _jaxopt("backtracking")),
        "optax.lbfgs": _library(four, style, most, _optax),
        "Adam, 0.02": _own(four, style, StylizeSettings(solver="adam"), most),
        "Adam, 0.05": _own(four, style, StylizeSettings(solver="adam", learning_rate=0.05), most),
    }
    for goal in goals:
        ours = own[goal - 1]
        for name, curve in curves.items():
            place = reached(curve, ours.loss)
            told = {unit: place and getattr(place, unit) for unit in ("evaluations", "seconds")}
            for unit, spent in told.items():
                value = spent / getattr(ours, unit) if place else f"not within {most} evaluations"
                what = f"{unit} to the tick's loss after {goal}, {name} / the tick, {SIZE}px, batch {LANES}"
                yield result(what, value, **told)
    every = {"the tick": own, **curves}
    thin = {name: curve[:: max(1, len(curve) // 60)] for name, curve in every.items()}
    yield result("curves: evaluations, seconds, sum of losses", len(every), curves=thin)


def zoom(asked: Asked) -> Results:
    """Measures the time and the ticks in which four images in a batch reach the loss of jaxopt's zoom line search."""
    four, style = asked.photographs(asked.loss_size, 4), asked.style(asked.loss_size)
    iterations = asked.pick((1,), (1, 5, 12, 40))
    theirs = _own(four, style, StylizeSettings(solver="jaxopt-zoom"), steps=iterations[-1])
    ours = _own(four, style, StylizeSettings(), asked.pick(30, 160))
    for number in iterations:
        goal = theirs[number - 1]
        place = reached(ours, goal.loss)
        yield result(
            f"time to jaxopt-zoom's loss after {number} iterations, zoom / tick, batch 4",
            goal.seconds / place.seconds if place else "not reached", "expected at least 10",
            ticks=place and place.evaluations, curves={"jaxopt-zoom": theirs, "lbfgs": ours} if number == 1 else None,
        )  # fmt: skip


def scipy(asked: Asked) -> Results:
    """Compares the final loss of the tick with SciPy's L-BFGS-B of as many evaluations and pairs of history."""
    number, budgets = asked.pick((2, (10,)), (8, (60, 200)))
    size = asked.loss_size
    engine = stylizer(StylizeSettings())
    found: dict[int, list[tuple[float, float]]] = {budget: [] for budget in budgets}
    for content, style in [(c, s) for s in asked.all_styles(size) for c in asked.photographs(size)][:number]:
        way, batch, spent = Scipy(engine, [content], style), batch_of(engine, [content], style), 0
        for budget in budgets:
            for _ in range(budget - spent):
                way.evaluate()
            batch, spent = engine.advance(batch, budget - spent), budget
            found[budget].append((losses(batch)[0], min(one for (one,) in way.losses)))
    for budget, pairs in found.items():
        quotients = [ours / theirs for ours, theirs in pairs]
        what = f"final loss, tick / SciPy, {budget} evaluations, {size}px, median of {number}"
        yield result(what, statistics.median(quotients), "at most 1.02", pairs=pairs, ratios=quotients)


ALL = {"scipy": scipy, "solvers": solvers, "zoom": zoom}
"""Measurements by name."""
