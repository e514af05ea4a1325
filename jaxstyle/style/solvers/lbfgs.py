"""L-BFGS for many images side by side: one evaluation a tick, every lane accepting or rejecting its own step.

The search direction is jaxopt's (Nocedal and Wright, "Numerical Optimization", algorithm 7.4). Its line searches loop
until the slowest lane of a batch is content, which under vmap costs some 30 evaluations an iteration, so the tick
takes one step of given length and judges it afterwards. Its `update` keeps five images a history pair alive under
XLA, so the history is written here, in place.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxstyle.style.solvers.base import Evaluate, Image, Point, Scalar, Solver, Step, hold

with warnings.catch_warnings():  # jaxopt says at import that it is unmaintained, which is known
    warnings.simplefilter("ignore")
    from jaxopt._src.lbfgs import inv_hessian_product

FIRST_STEP = 0.02
"""Mean move of a pixel, of a range of 1, by a step along the bare gradient: 5 levels of 255."""
ARMIJO = 1e-4
"""Share of the decrease promised by the slope that a step must bring (Nocedal and Wright, 3.6a)."""
SHRINK = (0.1, 0.5)
"""Bounds of the factor on a rejected step; between them it is the minimum of the interpolating parabola."""
REJECTIONS = 8
"""Rejected steps in a row after which the curvature is forgotten, and then, without any, the lane has stalled."""
CURVED = 1e-8
"""Least cosine of s and y at which a pair is kept."""


class State(NamedTuple):
    """A lane's own decisions.

    Attributes:
        rho: 1 / s'y of every pair of the history; 0 where there is none.
        gamma: s'y / y'y of the last pair, the scale of the initial inverse Hessian.
        pairs: valid pairs.
        written: pairs written since the start; the next one goes to row `written % history`.
        step: length of the next step, as a factor on the direction.
        rejections: rejected steps in a row.
        first_step: mean move of a pixel by a step along the bare gradient.
        values: numbers of the image that are optimised.
    """

    rho: Float[Array, " m"]
    gamma: Scalar
    pairs: Int[Array, ""]
    written: Int[Array, ""]
    step: Scalar
    rejections: Int[Array, ""]
    first_step: Scalar
    values: Scalar


class Memory(NamedTuple):
    """The gradient at the lane's image, and the history: moves s and changes of the gradient y."""

    gradient: Image
    s: Float[Array, "m H W 3"]
    y: Float[Array, "m H W 3"]


class Direction(NamedTuple):
    """A search direction, and the slope of the loss along it, which is negative unless the gradient is 0."""

    direction: Image
    slope: Scalar


def direction(state: State, memory: Memory) -> tuple[State, Direction]:
    """The L-BFGS direction. A direction that does not descend is answered by forgetting the curvature."""
    gradient, row = memory.gradient, state.written % state.rho.shape[0]
    towards = -inv_hessian_product(gradient, memory.s, memory.y, state.rho, state.gamma, row)
    slope = jnp.vdot(gradient, towards)
    ascends = ~(slope < 0)
    state = hold(ascends, forget(state, gradient), state)
    steepest = Direction(-gradient, -jnp.vdot(gradient, gradient))
    return state, hold(ascends, steepest, Direction(towards, slope))


def forget(state: State, gradient: Image) -> State:
    """The state without curvature: the next step goes along the bare gradient."""
    return state._replace(
        rho=jnp.zeros_like(state.rho),
        gamma=jnp.ones_like(state.gamma),
        pairs=jnp.zeros_like(state.pairs),
        rejections=jnp.zeros_like(state.rejections),
        step=along_gradient(state, gradient),
    )


def along_gradient(state: State, gradient: Image) -> Scalar:
    """The factor on the gradient that moves a pixel by `first_step` on average."""
    mean = jnp.sum(jnp.abs(gradient)) / state.values
    return state.first_step / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)


class Verdict(NamedTuple):
    """What became of a step.

    Attributes:
        finite: the loss and the gradient at the trial image are.
        accepted: the lane moves to the trial image.
        keep: the step's curvature pair enters the history.
        curvature: s'y.
        shorter: factor on the step for another try from the same image.
    """

    finite: Bool[Array, ""]
    accepted: Bool[Array, ""]
    keep: Bool[Array, ""]
    curvature: Scalar
    shorter: Scalar


def judge(before: Scalar, after: Scalar, slope: Scalar, s: Image, y: Image, first: Bool[Array, ""]) -> Verdict:
    """Accepts a step by Armijo's condition, and its curvature pair if the loss curves upwards along it.

    Args:
        before, after: the loss at the image and at the trial image.
        slope: gradient at the image times s.
        s, y: the step, and the change of the gradient.
        first: nothing has been evaluated before; the trial image is the start itself.
    """
    finite = jnp.isfinite(after) & jnp.isfinite(jnp.sum(y))
    accepted = finite & (first | (after <= before + ARMIJO * slope))
    curvature = jnp.vdot(s, y)
    keep = accepted & ~first & (curvature > CURVED * jnp.linalg.norm(s) * jnp.linalg.norm(y))
    parabola = -slope / (2 * (after - before - slope))
    shorter = jnp.where(finite, jnp.clip(parabola, *SHRINK), SHRINK[0])
    return Verdict(finite, accepted, keep, curvature, shorter)


@dataclass(frozen=True)
class Lbfgs(Solver):
    """The tick, with a history of so many curvature pairs, each two float32 copies of the image."""

    history: int = 10
    monotone = True

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Evaluates nothing: the first tick evaluates the start itself."""
        del evaluate
        zero, one = jnp.int32(0), jnp.float32(1)
        rho = jnp.zeros(self.history, jnp.float32)
        state = State(rho, one, zero, zero, one, zero, FIRST_STEP * step_scale, values)
        return Step(start, state, None, zero, jnp.bool_(False), jnp.bool_(False))

    def memory(self, image: Image) -> Memory:
        """One image for the gradient, two for each pair."""
        history = jnp.zeros((self.history, *image.shape), image.dtype)
        return Memory(jnp.zeros_like(image), history, history)

    def tick(self, evaluate: Evaluate, at: Point, state: State, memory: Memory, first: Bool[Array, ""]) -> Step:
        """x' = x + t d; then x' is accepted or rejected, its curvature pair kept or not, and the next t chosen."""
        state, along = direction(state, memory)
        trial = jnp.where(first, at.image, at.image + state.step * along.direction)
        (loss, terms), gradient = evaluate(trial)
        s, y = trial - at.image, gradient - memory.gradient
        verdict = judge(at.loss, loss, jnp.vdot(memory.gradient, s), s, y, first)

        state, memory = self._remember(state, memory, verdict, s, y, gradient)
        rejections = jnp.where(verdict.accepted, 0, state.rejections + 1)
        exhausted = rejections >= REJECTIONS
        forgotten = exhausted & (state.pairs > 0)
        fresh = jnp.where(state.pairs > 0, 1.0, along_gradient(state, memory.gradient))
        step = jnp.where(verdict.accepted, fresh, state.step * verdict.shorter)
        state = state._replace(rejections=rejections, step=step)
        state = hold(forgotten, forget(state, memory.gradient), state)
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
        self, state: State, memory: Memory, verdict: Verdict, s: Image, y: Image, gradient: Image
    ) -> tuple[State, Memory]:
        """The gradient of an accepted step, and its pair in the oldest row of the history if it is kept."""
        row = state.written % self.history

        def written(history, pair):  # one row: to choose between whole histories would move ten times as many bytes
            return history.at[row].set(jnp.where(verdict.keep, pair, history[row]))

        memory = Memory(
            jnp.where(verdict.accepted, gradient, memory.gradient), written(memory.s, s), written(memory.y, y)
        )
        keep, curvature = verdict.keep, verdict.curvature
        state = state._replace(
            rho=jnp.where(keep, state.rho.at[row].set(1 / curvature), state.rho),
            gamma=jnp.where(keep, curvature / jnp.vdot(y, y), state.gamma),
            pairs=jnp.minimum(state.pairs + keep.astype(jnp.int32), self.history),
            written=state.written + keep.astype(jnp.int32),
        )
        return state, memory
