"""Lanes, the rules by which they end, and the interface of solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxstyle.style.status import Status

WINDOW = 10
"""Evaluations over which the relative decrease of the loss is compared with the tolerance."""

UNKNOWN = float(jnp.finfo(jnp.float32).max)
"""Value of a loss before the first evaluation. It is finite, so that `jax_debug_infs` can be used."""

Image = Float[Array, "H W 3"]
Scalar = Float[Array, ""]

Evaluate = Callable[[Image], tuple[tuple[Scalar, dict[str, Scalar]], Image]]
"""image -> ((loss, terms), gradient), as `jax.value_and_grad(..., has_aux=True)` returns it."""


class Point(NamedTuple):
    """An image, its loss and its terms, weights applied."""

    image: Image
    loss: Scalar
    terms: dict[str, Scalar]


class Step(NamedTuple):
    """The result of one tick of a solver on one lane.

    Attributes:
        point: the lane's new point.
        state: the solver's state, which is frozen when the lane has ended.
        memory: arrays that the solver writes in place. They are not frozen: an ended lane never reads them, nor
            does a new one.
        evaluations: number of evaluations of loss and gradient in this tick.
        stalled: whether the solver found no acceptable step.
        diverged: whether the loss was not finite.
    """

    point: Point
    state: Any
    memory: Any
    evaluations: Int[Array, ""]
    stalled: Bool[Array, ""]
    diverged: Bool[Array, ""]


class Solver(Protocol):
    """Minimises a function of one image, one tick at a time.

    Attributes:
        monotone: whether the loss never rises between ticks, so that the lane's point is its best one.
    """

    monotone: ClassVar[bool]

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Makes the state before the first tick, with a memory of None.

        Args:
            start: the start image; its loss is UNKNOWN.
            values: number of optimised values: 3 times the picture's pixels.
            step_scale: factor on the first step, or on every step if the solver does not adapt its steps; usually 1.
        """

    def memory(self, image: Image) -> Any:
        """Allocates the memory for images of this shape. A tick must work with any finite contents that an
        earlier image left."""

    def tick(
        self, evaluate: Evaluate, at: Point, state: Any, memory: Any, first: Bool[Array, ""], closing: Bool[Array, ""]
    ) -> Step:
        """Makes one step.

        Args:
            first: whether this is the lane's first tick.
            closing: whether the next evaluation is the last one of a window, at which the tolerance looks, or of the
                budget.
        """


class Lane(NamedTuple):
    """One place of the batch: the state of one image's optimisation.

    Attributes:
        point: the present point.
        best: the best point so far, or None if the solver is monotone.
        start_loss: loss at the start; UNKNOWN before the first evaluation.
        window_loss: loss at the start of the present window of `WINDOW` evaluations.
        budget: most evaluations for this image.
        state, memory: see `Step`.
    """

    point: Point
    best: Point | None
    evaluations: Int[Array, ""]
    status: Int[Array, ""]
    start_loss: Scalar
    window_loss: Scalar
    budget: Int[Array, ""]
    state: Any
    memory: Any

    @property
    def result(self) -> Point:
        """The point to return for this lane: the best one."""
        return self.point if self.best is None else self.best


def hold(running: Bool[Array, ""], new: Any, old: Any) -> Any:
    """Returns the new values if running, else the old ones."""
    return jax.tree.map(lambda a, b: jnp.where(running, a, b), new, old)


def better(one: Point, other: Point) -> Point:
    """Returns the point with the lower loss, or `other` if the losses are equal."""
    return hold(one.loss < other.loss, one, other)


def start(
    solver: Solver,
    evaluate: Evaluate,
    image: Image,
    names: tuple[str, ...],
    budget: Any,
    values: Any = None,
    step_scale: Any = 1.0,
) -> Lane:
    """Makes a new lane, without a memory.

    Args:
        names: names of the terms.
        budget: most evaluations, as a number or a traced scalar.
        values: see `Solver.start` [default: all values of the image]
        step_scale: see `Solver.start`.
    """
    unknown = Point(image, jnp.float32(UNKNOWN), {name: jnp.float32(UNKNOWN) for name in names})
    values = jnp.float32(image.size if values is None else values)
    step = solver.start(evaluate, unknown, values, jnp.float32(step_scale))
    status = jnp.where(step.diverged, jnp.int32(Status.DIVERGED), jnp.int32(Status.RUNNING))
    return Lane(
        point=step.point,
        best=None if solver.monotone else step.point,
        evaluations=step.evaluations,
        status=status,
        start_loss=step.point.loss,
        window_loss=step.point.loss,
        budget=jnp.asarray(budget, jnp.int32),
        state=step.state,
        memory=None,
    )


def tick(solver: Solver, evaluate: Evaluate, lane: Lane, tolerance: Any) -> Lane:
    """Runs one tick of one lane. An ended lane stays unchanged, except for its memory.

    Args:
        tolerance: `StylizeSettings.tolerance`, as a number or a traced scalar.
    """
    first = lane.evaluations == 0
    following = lane.evaluations + 1
    closing = (following % WINDOW == 0) | (following >= lane.budget)
    step = solver.tick(evaluate, lane.point, lane.state, lane.memory, first, closing)
    best = None if lane.best is None else better(step.point, lane.best)
    loss = step.point.loss if best is None else best.loss
    evaluations = lane.evaluations + step.evaluations
    window = evaluations // WINDOW > lane.evaluations // WINDOW
    slow = window & (tolerance > 0) & (lane.window_loss - loss < tolerance * lane.window_loss)
    status = jnp.select(
        [step.diverged, step.stalled, slow, evaluations >= lane.budget],
        [jnp.int32(s) for s in (Status.DIVERGED, Status.STALLED, Status.CONVERGED, Status.BUDGET)],
        jnp.int32(Status.RUNNING),
    )
    after = Lane(
        point=step.point,
        best=best,
        evaluations=evaluations,
        status=status,
        start_loss=jnp.where(first, step.point.loss, lane.start_loss),
        window_loss=jnp.where(window | first, loss, lane.window_loss),
        budget=lane.budget,
        state=step.state,
        memory=None,
    )
    running = lane.status == Status.RUNNING
    return hold(running, after, lane._replace(memory=None))._replace(memory=step.memory)
