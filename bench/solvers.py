"""Solvers to an equal loss, counted in evaluations of the batch and in seconds; four photographs side by side.

A library's line search runs under `vmap` until the slowest lane is content, so an iteration costs the batch as many
evaluations as its slowest lane, as the library counts them: seconds tell what it really cost.
"""

from __future__ import annotations

import itertools
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ratios import batch_of, pictures

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import stylizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt

LANES, SIZE, EVALUATIONS, GOALS = 4, 128, 160, (30, 60, 120)
"""Images, their long side, evaluations a solver may spend, and the tick's evaluations whose loss is the goal."""

Curve = list[tuple[int, float, float]]
"""Evaluations of the batch, seconds, sum of the best losses so far."""


def _own(contents, style, most: int, settings: StylizeSettings) -> Curve:
    """A solver of the package."""
    engine = stylizer(settings)
    warm, targets = batch_of(engine, contents, style)
    jax.block_until_ready(engine.advance(warm, targets, 1))
    state, targets = batch_of(engine, contents, style)
    curve, seconds, best = [], 0.0, np.full(len(contents), np.inf)
    for count in range(1, most + 1):
        began = time.perf_counter()
        state = engine.advance(state, targets, 1)
        losses = np.asarray(state[0].loss, float)
        seconds += time.perf_counter() - began
        best = np.minimum(best, losses)
        curve.append((count, seconds, float(best.sum())))
    return curve


def _library(contents, style, most: int, make) -> Curve:
    """A library's solver: `make(function)` gives (start, step); step returns image, state, loss, its evaluations."""
    engine = stylizer(StylizeSettings())
    batch, targets = batch_of(engine, contents, style)
    images, content = jnp.array(batch[0].image), batch[1]

    def of(variables, targets, one):
        evaluate = engine.evaluate(variables, targets, one)
        return make(lambda x: (lambda found: (found[0][0], found[1]))(evaluate(x)))

    arguments = (engine.variables, targets)
    start = jax.jit(lambda v, t, c, x: jax.vmap(lambda c, x: of(v, t, c)[0](x))(c, x))
    step = jax.jit(lambda v, t, c, x, s: jax.vmap(lambda c, x, s: of(v, t, c)[1](x, s))(c, x, s))
    state = start(*arguments, content, images)
    jax.block_until_ready(step(*arguments, content, images, state))
    curve, seconds, spent, best = [], 0.0, 1, np.full(len(contents), np.inf)
    while spent < most:
        began = time.perf_counter()
        images, state, losses, evaluations = step(*arguments, content, images, state)
        losses = np.asarray(losses, float)
        seconds += time.perf_counter() - began
        spent += int(np.asarray(evaluations).max())
        best = np.fmin(best, losses)
        curve.append((spent, seconds, float(best.sum())))
    return curve


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


def solvers(arguments):
    """Evaluations and seconds of each solver to the tick's loss after some evaluations / those of the tick."""
    most, goals = (12, (5,)) if arguments.quick else (EVALUATIONS, GOALS)
    contents, styles = pictures(arguments, SIZE)
    four = list(itertools.islice(itertools.cycle([*contents, *(c[:, ::-1] for c in contents)]), LANES))
    style = styles[0]
    curves = {
        "the tick": _own(four, style, most, StylizeSettings()),
        "jaxopt, zoom": _library(four, style, most, _jaxopt("zoom")),
        "jaxopt, backtracking": _library(four, style, most, _jaxopt("backtracking")),
        "optax.lbfgs": _library(four, style, most, _optax),
        "Adam, 0.02": _own(four, style, most, StylizeSettings(solver="adam")),
        "Adam, 0.05": _own(four, style, most, StylizeSettings(solver="adam", learning_rate=0.05)),
    }
    for goal in goals:
        own = curves["the tick"][goal - 1]
        for name, curve in curves.items():
            if name == "the tick":
                continue
            reached = next((point for point in curve if point[2] <= own[2]), None)
            told = {"evaluations": reached and reached[0], "seconds": reached and reached[1]}
            for at, unit in ((0, "evaluations"), (1, "seconds")):
                value = reached[at] / own[at] if reached else f"not within {most} evaluations"
                yield {"what": f"{unit} to the tick's loss after {goal}, {name} / the tick, {SIZE}px, batch {LANES}",
                       "value": value, "goal": "", **told}  # fmt: skip
    thin = {name: curve[:: max(1, len(curve) // 60)] for name, curve in curves.items()}
    yield {"what": "curves: evaluations, seconds, sum of losses", "value": len(curves), "goal": "", "curves": thin}


ALL = {"solvers": solvers}
"""Measurements by name."""
