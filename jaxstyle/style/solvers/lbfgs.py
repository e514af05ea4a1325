"""L-BFGS for many images side by side: one evaluation a tick, after which every lane accepts or rejects its own step.

The search direction is jaxopt's (Nocedal and Wright, "Numerical Optimization", algorithm 7.4). jaxopt's line searches
loop until the slowest lane of a batch has finished, which under vmap costs some 30 evaluations an iteration. So a tick
evaluates one step of given length and then accepts or rejects it. jaxopt's `update` keeps five images for each
history pair alive under XLA, so this module writes the history in place.

With the preconditioner "pyramid" the gradient, the direction and the history are those of the variables z of
`preconditioner`, and the image moves by what a step of z stands for.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxstyle.style.solvers import compact, fused, planes, preconditioner
from jaxstyle.style.solvers.base import Evaluate, Image, Point, Scalar, Solver, Step, hold
from jaxstyle.style.solvers.verdict import Products, Values, Verdict, judge, products_of

with warnings.catch_warnings():  # jaxopt warns at import that it is unmaintained
    warnings.simplefilter("ignore")
    from jaxopt._src.lbfgs import inv_hessian_product

FIRST_STEP = 0.02
"""Mean change of a value by a steepest-descent step, in a range of 1: 5 levels of 255."""
REJECTIONS = 8
"""Rejected steps in a row after which the history is cleared; if it is empty, the lane has stalled."""


class State(NamedTuple):
    """The scalars of a lane's solver.

    Attributes:
        rho: 1 / s'y of every pair of the history; 0 for an empty row.
        gamma: s'y / y'y of the last pair, the scale of the initial inverse Hessian.
        pairs: number of valid pairs.
        written: number of pairs written since the start; the next one goes to row `written % history`.
        step: length of the next step, as a factor on the direction.
        rejections: rejected steps in a row.
        first_step: mean change of a value by a steepest-descent step.
        values: number of optimised values.
        products: s'y of every pair with every other by rows of the history; None if `Lbfgs.compact` is off.
    """

    rho: Float[Array, " m"]
    gamma: Scalar
    pairs: Int[Array, ""]
    written: Int[Array, ""]
    step: Scalar
    rejections: Int[Array, ""]
    first_step: Scalar
    values: Scalar
    products: Float[Array, "m m"] | None = None


class Memory(NamedTuple):
    """The gradient at the lane's image, and the history of m pairs: steps s and changes of the gradient y.

    Attributes:
        squares: of every pair, see `fused.Squares`; None without a preconditioner, or if `Lbfgs.compact` is off.
    """

    gradient: Values
    s: Float[Array, "m ..."]
    y: Float[Array, "m ..."]
    squares: Float[Array, "m 2 q"] | None = None


class Direction(NamedTuple):
    """A search direction, and the slope of the loss along it: negative, or 0 if the gradient is 0."""

    direction: Values
    slope: Scalar


def direction(state: State, memory: Memory, initial: Any = None) -> tuple[State, Direction]:
    """Returns the L-BFGS direction. If it is no descent direction, clears the history and returns steepest descent.

    Args:
        initial: the initial inverse Hessian, a scalar or a diagonal [default: `State.gamma`]
    """
    gradient, row = memory.gradient, state.written % state.rho.shape[0]
    initial = state.gamma if initial is None else initial
    if state.products is None:
        towards = -inv_hessian_product(gradient, memory.s, memory.y, state.rho, initial, row)
    else:
        history = compact.History(memory.s, memory.y, state.products, state.rho, row)
        product, products = compact.inv_hessian_product(gradient, history, initial)
        state, towards = state._replace(products=products), -product
    if state.products is None:
        slope, square, total = jnp.vdot(gradient, towards), jnp.vdot(gradient, gradient), jnp.sum(jnp.abs(gradient))
    else:
        slope, square, total = compact.sums(gradient * towards, gradient**2, jnp.abs(gradient))
    ascends = ~(slope < 0)
    state = hold(ascends, forget(state, total), state)
    steepest = Direction(-gradient, -square)
    return state, hold(ascends, steepest, Direction(towards, slope))


def forget(state: State, total: Scalar) -> State:
    """Clears the history: the next step is a steepest-descent step.

    Args:
        total: see `along_gradient`.
    """
    return state._replace(
        rho=jnp.zeros_like(state.rho),
        gamma=jnp.ones_like(state.gamma),
        pairs=jnp.zeros_like(state.pairs),
        rejections=jnp.zeros_like(state.rejections),
        step=along_gradient(state, total),
    )


def along_gradient(state: State, total: Scalar) -> Scalar:
    """Returns the factor on the gradient that changes a value by `first_step` on average.

    Args:
        total: sum of the gradient's absolute values.
    """
    mean = total / state.values
    return state.first_step / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)


def preconditioned(
    forms: Any, state: State, memory: Memory, height: int, width: int
) -> tuple[State, Direction, Image]:  # fmt: skip
    """Returns the direction of the variables z, and that of the image. Steepest descent is scaled so that the step
    changes a value of the image by as much on average as `along_gradient` says of a value of z.

    Args:
        forms: the module of the preconditioner's functions.
    """
    rho, pairs, last = state.rho, state.pairs, (state.written - 1) % state.rho.shape[0]
    if memory.squares is None:
        found = forms.diagonal(memory.s, memory.y, rho, pairs, height, width)
    else:
        found = forms.diagonal(memory.squares, rho, pairs, height, width)
    state, along = direction(state, memory, preconditioner.scaled(found, memory.y[last], rho[last], pairs))
    move = forms.image(along.direction, height, width)
    tiny = jnp.finfo(move.dtype).tiny
    if memory.squares is None:
        of_z, of_image = jnp.sum(jnp.abs(along.direction)), jnp.sum(jnp.abs(move))
    else:
        of_z, of_image = compact.sums(jnp.abs(along.direction), jnp.abs(move))
    ratio = of_z / jnp.maximum(of_image, tiny)
    scale = jnp.where(state.pairs > 0, 1, ratio)
    return state, Direction(scale * along.direction, scale * along.slope), scale * move


@dataclass(frozen=True)
class Lbfgs(Solver):
    """L-BFGS with one evaluation a tick and a history of curvature pairs, each two images.

    Attributes:
        history: number of pairs.
        history_dtype: number type of their images; sums over them are in float32.
        preconditioner: see `StylizeSettings`.
        compact: compute the direction with `compact` and the preconditioner with `fused`, for GPUs; the same up to
            rounding.
        planes: compute the preconditioner with `planes`, for TPUs; the same up to rounding.
    """

    history: int = 10
    history_dtype: str = "float32"
    preconditioner: str = "none"
    compact: bool = False
    planes: bool = False
    monotone = True

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Makes the state without an evaluation: the first tick evaluates the start."""
        del evaluate
        zero, one = jnp.int32(0), jnp.float32(1)
        rho = jnp.zeros(self.history, jnp.float32)
        products = jnp.zeros((self.history, self.history), jnp.float32) if self.compact else None
        state = State(rho, one, zero, zero, one, zero, FIRST_STEP * step_scale, values, products)
        return Step(start, state, None, zero, jnp.bool_(False), jnp.bool_(False))

    def memory(self, image: Image) -> Memory:
        """Allocates one image for the gradient and two for each pair; float32 is the image's own number type."""
        gradient = jnp.zeros_like(image) if self.preconditioner == "none" else self._forms.variables(0 * image)
        number = image.dtype if self.history_dtype == "float32" else jnp.bfloat16
        history = jnp.zeros((self.history, *gradient.shape), number)
        squares = fused.no_squares(self.history, *image.shape[:2]) if self._keeps_squares else None
        return Memory(gradient, history, history, squares)

    @property
    def _keeps_squares(self) -> bool:
        """Whether the preconditioner's diagonal is measured from what is kept of every pair."""
        return self.compact and self.preconditioner != "none"

    @property
    def _forms(self) -> Any:
        """Returns the module of the preconditioner's functions."""
        if self.planes:
            return planes
        return fused if self.compact else preconditioner

    def tick(
        self,
        evaluate: Evaluate,
        at: Point,
        state: State,
        memory: Memory,
        first: Bool[Array, ""],
        closing: Bool[Array, ""],
    ) -> Step:
        """Evaluates x' = x + t d, accepts or rejects x', keeps or drops its curvature pair, and chooses the next t."""
        del closing
        if self.preconditioner == "none":
            state, along = direction(state, memory)
            trial = jnp.where(first, at.image, at.image + state.step * along.direction)
            (loss, terms), gradient = evaluate(trial)
            s = trial - at.image
        else:
            state, along, move = preconditioned(self._forms, state, memory, *at.image.shape[:2])
            trial = jnp.where(first, at.image, at.image + state.step * move)
            (loss, terms), gradient = evaluate(trial)
            s, gradient = state.step * along.direction, self._forms.variables(gradient)
        y = gradient - memory.gradient
        products = products_of(memory.gradient, s, y, self.compact)
        verdict = judge(at.loss, loss, products, first)

        squares = fused.squares(s, y, *at.image.shape[:2]) if self._keeps_squares else None
        state, memory = self._remember(state, memory, verdict, products, gradient, (s, y, squares))
        rejections = jnp.where(verdict.accepted, 0, state.rejections + 1)
        exhausted = rejections >= REJECTIONS
        forgotten = exhausted & (state.pairs > 0)
        total = jnp.sum(jnp.abs(memory.gradient))
        fresh = jnp.where(state.pairs > 0, 1.0, along_gradient(state, total))
        step = jnp.where(verdict.accepted, fresh, state.step * verdict.shorter)
        state = state._replace(rejections=rejections, step=step)
        state = hold(forgotten, forget(state, total), state)
        stalled = exhausted & ~forgotten
        return Step(
            point=hold(verdict.accepted, Point(trial, loss, terms), at),
            state=state,
            memory=memory,
            evaluations=jnp.int32(1),
            stalled=stalled & verdict.finite,
            diverged=~verdict.finite & (first | stalled),
        )

    def _remember(
        self,
        state: State,
        memory: Memory,
        verdict: Verdict,
        products: Products,
        gradient: Values,
        pair: tuple[Values, Values, Any],
    ) -> tuple[State, Memory]:
        """Stores the gradient of an accepted step, and writes its pair over the oldest row of the history if kept.

        Args:
            pair: what the history holds of the step: s, y and their squares.
        """
        s, y, squares = pair
        row = state.written % self.history

        def written(history, pair):  # selects one row: selecting whole histories would move ten times as many bytes
            pair = pair.astype(history.dtype)
            if self.compact:  # nor is the old row read: a pair that is not kept goes to a row that is not there
                return history.at[jnp.where(verdict.keep, row, self.history)].set(pair, mode="drop")
            return history.at[row].set(jnp.where(verdict.keep, pair, history[row]))

        memory = Memory(
            jnp.where(verdict.accepted, gradient, memory.gradient), written(memory.s, s), written(memory.y, y),
            None if squares is None else written(memory.squares, squares),
        )  # fmt: skip
        keep, curvature = verdict.keep, products.curvature
        state = state._replace(
            rho=jnp.where(keep, state.rho.at[row].set(1 / curvature), state.rho),
            gamma=jnp.where(keep, curvature / products.square, state.gamma),
            pairs=jnp.minimum(state.pairs + keep.astype(jnp.int32), self.history),
            written=state.written + keep.astype(jnp.int32),
        )
        return state, memory
