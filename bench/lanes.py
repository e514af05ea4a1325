"""Drives the renderer for the bench: makes batches of lanes, and compiles evaluations and ticks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import timed

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.batch import Batch
from jaxstyle.style.initial import initial, lane_inputs
from jaxstyle.style.objective import Targets
from jaxstyle.style.solvers import base
from jaxstyle.style.status import Status
from jaxstyle.style.stylizer import Stylizer

CHUNK = 10
"""Ticks of one timed call."""
PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "highest"}
"""JAX's precision of float32 products, by precision of the renderer. It does not matter to bfloat16 numbers."""


def starts(contents: Sequence[np.ndarray], style: np.ndarray) -> np.ndarray:
    """Returns the images from which the optimisation of contents starts by default, N x H x W x 3."""
    return np.stack([initial(StylizeSettings(), one, style, str(k)) for k, one in enumerate(contents)])


def batch_of(
    engine: Stylizer, contents: Sequence[np.ndarray], style: np.ndarray, budget: int = sys.maxsize,
    inits: Sequence[np.ndarray] | np.ndarray | None = None,
) -> Batch:  # fmt: skip
    """Makes a batch of lanes in one style with a budget of evaluations each [default: no limit]

    Args:
        inits: start images, N x H x W x 3 [default: those of `starts`]
    """
    inits = starts(contents, style) if inits is None else inits
    targets = engine.style_targets(style)
    inputs = [lane_inputs(c, i, *c.shape[:2]) for c, i in zip(contents, inits, strict=True)]
    return engine.stack([engine.start(one, targets, budget) for one in inputs])


def losses(batch: Batch) -> list[float]:
    """Waits for the device and returns the losses of the lanes."""
    return np.asarray(batch.lanes.result.loss, float).tolist()


def _in_products(precision: str, function: Callable) -> Callable:
    """Makes a function compute float32 products in the precision of `PRODUCTS`."""

    def traced(*arguments):
        with jax.default_matmul_precision(PRODUCTS[precision]):
            return function(*arguments)

    return traced


@cache
def _evaluation(engine: Stylizer, shared: bool, times: int, precision: str) -> Callable:
    def one(variables, image, content, inside, style):
        (loss, _), gradient = engine.evaluate(variables, Targets(content, style), inside)(image)
        return loss, gradient

    every = jax.vmap(one, in_axes=(None, 0, 0, 0, None if shared else 0))

    def loop(variables, images, *targets):
        # the tiny step keeps XLA from seeing that every round is the same
        step = lambda _, x: x - 1e-12 * every(variables, x, *targets)[1]  # noqa: E731
        return jax.lax.fori_loop(0, times, step, images)

    return jax.jit(_in_products(precision, loop if times else every))


def evaluation(engine: Stylizer, batch: Batch, times: int = 0, precision: str = "float32") -> Callable[[Any], Any]:
    """Returns a function of N images: to N losses and the gradient, or to the images after `times` evaluations.

    Args:
        batch: gives the targets; its lanes may have been donated.
        times: evaluations in one compiled loop, as in the renderer; 0 is a single evaluation without a loop.
        precision: a name in `PRODUCTS`.
    """
    compiled, targets = _evaluation(engine, batch.shared, times, precision), (batch.content, batch.inside, batch.style)
    return lambda images: compiled(engine.variables, jnp.asarray(images), *targets)


@cache
def _advance(engine: Stylizer, shared: bool, precision: str, donate: bool) -> Callable:
    solver = engine.one.solver

    def tick(variables, lane, content, inside, style):
        return base.tick(solver, engine.evaluate(variables, Targets(content, style), inside), lane, 0.0)

    every = jax.vmap(tick, in_axes=(None, 0, 0, 0, None if shared else 0))

    def advance(variables, lanes, content, inside, style, ticks):
        running = lambda done: (done[0] < ticks) & (done[1].status == Status.RUNNING).any()  # noqa: E731
        step = lambda done: (done[0] + 1, every(variables, done[1], content, inside, style))  # noqa: E731
        return jax.lax.while_loop(running, step, (jnp.int32(0), lanes))[1]

    return jax.jit(_in_products(precision, advance), donate_argnums=1 if donate else ())


@dataclass(frozen=True)
class Program:
    """The loop of `Stylizer.advance` for one device, compiled for batches of one shape.

    It is built here from the same `Stylizer.evaluate` and `solvers.base.tick`, because the renderer has no public way
    to its compiled program, to other products or to arguments that are kept; tests compare the two.

    Attributes:
        advance: (batch, ticks) -> batch; the old batch cannot be used again if its arguments were donated.
        compile_seconds: seconds of tracing and compiling.
        memory: bytes by XLA's memory analysis: argument, output, alias, temp, generated_code.
        hlo: text of the program.
    """

    advance: Callable[[Batch, int], Batch]
    compile_seconds: float
    memory: dict[str, int]
    hlo: str

    @property
    def bytes_alive(self) -> int:
        """Returns the bytes of arguments, results and temporaries while it runs; arrays written in place count once."""
        return self.memory["argument"] + self.memory["output"] - self.memory["alias"] + self.memory["temp"]


def program(engine: Stylizer, batch: Batch, precision: str = "float32", *, donate: bool = True) -> Program:
    """Compiles the program for batches of this shape.

    Args:
        batch: a batch of arrays, or of the shapes that `jax.eval_shape` returns.
    """

    def arguments(batch: Batch, ticks: int) -> tuple:
        return engine.variables, batch.lanes, batch.content, batch.inside, batch.style, jnp.int32(ticks)

    function = _advance(engine, batch.shared, precision, donate)
    seconds, compiled = timed(lambda: function.lower(*arguments(batch, CHUNK)).compile())
    told = compiled.memory_analysis()
    names = ("argument", "output", "alias", "temp", "generated_code")
    memory = {name: int(getattr(told, f"{name}_size_in_bytes", 0) or 0) for name in names}

    def advance(batch: Batch, ticks: int) -> Batch:
        lanes = compiled(*arguments(batch, ticks))
        return Batch(lanes, batch.content, batch.inside, batch.style, batch.shared)

    return Program(advance, seconds, memory, compiled.as_text() or "")


def stepper(advance: Callable[[Batch, int], Batch], batch: Batch, ticks: int, chunk: int | None = None) -> Callable:
    """Runs two ticks, which differ from later ones; returns a call that runs `ticks` more, in chunks."""
    held = [advance(batch, 2)]

    def step() -> Any:
        for _ in range(ticks // (chunk or ticks)):
            held[0] = advance(held[0], chunk or ticks)
        return held[0].lanes.point.loss

    return step
