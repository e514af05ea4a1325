"""L-BFGS for many images side by side: one evaluation a tick, every lane accepting or rejecting its own step.

jaxopt's L-BFGS (Nocedal and Wright, "Numerical Optimization", algorithm 7.4) is the engine. Its line searches loop
until the slowest lane of a batch is content, which under vmap costs some 30 evaluations an iteration, so the tick
takes one step of given length and judges it afterwards. This is the only file that imports jaxopt.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxstyle.style.solver import Evaluate, Solver, Step, no_terms

with warnings.catch_warnings():  # it says at import that nobody maintains it: known, and the reason for this file
    warnings.simplefilter("ignore")
    import jaxopt

FIRST_STEP = 0.02
"""Mean move of a pixel, of a range of 1, by a step along the bare gradient: 5 levels of 255."""
ARMIJO = 1e-4
"""Share of the decrease promised by the slope that a step must bring (Nocedal and Wright, 3.6a)."""
SHRINK = (0.1, 0.5)
"""Bounds of the factor on a rejected step; between them it is the minimum of the interpolating parabola."""
REJECTIONS = 8
"""Rejected steps in a row after which the curvature is forgotten, and then, without any, the lane has stalled."""


class State(NamedTuple):
    """jaxopt's state and the lane's own decisions."""

    inner: Any
    first_step: Float[Array, ""]
    step: Float[Array, ""]
    pairs: Int[Array, ""]
    rejections: Int[Array, ""]


@dataclass(frozen=True)
class Lbfgs(Solver):
    """The tick. `history` curvature pairs, each two float32 copies of the image."""

    history: int = 10

    def _engine(self, evaluate, step):
        return jaxopt.LBFGS(
            fun=evaluate, value_and_grad=True, has_aux=True, stepsize=lambda _: step, history_size=self.history,
            jit=False, implicit_diff=False, unroll=False,
        )  # fmt: skip

    def start(self, evaluate: Evaluate, image: Float[Array, "H W 3"], care: Any = 1.0) -> Step:
        """Evaluates nothing: a zero gradient makes the first tick evaluate the start itself."""
        del evaluate
        blank = (jnp.float32(jnp.inf), no_terms()), jnp.zeros_like(image)
        inner = self._engine(lambda _: blank, 1.0).init_state(image)
        state = State(inner, jnp.float32(FIRST_STEP * care), jnp.float32(1), jnp.int32(0), jnp.int32(0))
        return Step(image, inner.value, inner.aux, state, jnp.int32(0), jnp.bool_(False), jnp.bool_(False))

    def tick(self, evaluate: Evaluate, image: Float[Array, "H W 3"], state: State) -> Step:
        """x' = x + t d; then x' is accepted or refused, its curvature pair kept or not, and the next t chosen."""
        old = state.inner
        trial, new = self._engine(evaluate, state.step).update(image, old)
        s, y = trial - image, new.grad - old.grad
        slope, curvature = jnp.vdot(old.grad, s), jnp.vdot(s, y)

        first = jnp.isinf(old.value)
        finite = jnp.isfinite(new.value) & jnp.isfinite(new.error)
        accepted = finite & (first | (new.value <= old.value + ARMIJO * slope))
        keep = accepted & (curvature > 1e-8 * jnp.linalg.norm(s) * jnp.linalg.norm(y))

        row = old.iter_num % self.history

        def written(history, pair):  # one row: to choose between whole histories would move ten times as many bytes
            return history.at[row].set(jnp.where(keep, pair, history[row]))

        pairs = state.pairs + keep
        rejections = jnp.where(accepted, 0, state.rejections + 1)
        exhausted = rejections >= REJECTIONS
        forget = exhausted & (pairs > 0)

        inner = old._replace(
            iter_num=old.iter_num + keep,
            value=jnp.where(accepted, new.value, old.value),
            grad=jnp.where(accepted, new.grad, old.grad),
            aux=jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new.aux, old.aux),
            s_history=written(old.s_history, s),
            y_history=written(old.y_history, y),
            rho_history=jnp.where(forget, 0, jnp.where(keep, new.rho_history, old.rho_history)),
            gamma=jnp.where(forget, 1, jnp.where(keep, new.gamma, old.gamma)),
        )
        pairs = jnp.where(forget, 0, pairs)
        scaled = state.first_step / jnp.maximum(jnp.mean(jnp.abs(inner.grad)), jnp.finfo(jnp.float32).tiny)
        parabola = -slope / (2 * (new.value - old.value - slope))
        shorter = state.step * jnp.where(finite, jnp.clip(parabola, *SHRINK), SHRINK[0])
        fresh = jnp.where(pairs > 0, 1.0, scaled)
        after = State(
            inner,
            first_step=state.first_step,
            step=jnp.where(accepted | forget, fresh, shorter),
            pairs=pairs,
            rejections=jnp.where(forget, 0, rejections),
        )
        stalled = exhausted & ~forget
        return Step(
            image=jnp.where(accepted, trial, image),
            loss=inner.value,
            terms=inner.aux,
            state=after,
            evaluations=jnp.int32(1),
            stalled=stalled & finite,
            diverged=~finite & (first | stalled),
        )

    def hold(self, running: Bool[Array, ""], new: State, old: State) -> State:
        """See `Solver.hold`; the histories come as they are, since a lane that has ended never asks its own again."""
        own = old.inner._replace(s_history=new.inner.s_history, y_history=new.inner.y_history)
        return super().hold(running, new, old._replace(inner=own))


@dataclass(frozen=True)
class JaxoptZoom(Solver):
    """jaxopt's L-BFGS with its own zoom line search, for comparison: several evaluations a tick, as it counts them."""

    history: int = 10

    def _engine(self, evaluate):
        return jaxopt.LBFGS(
            fun=evaluate, value_and_grad=True, has_aux=True, linesearch="zoom", history_size=self.history,
            implicit_diff=False, unroll=False,
        )  # fmt: skip

    def start(self, evaluate: Evaluate, image: Float[Array, "H W 3"], care: Any = 1.0) -> Step:
        """Evaluates the start; its line search needs no care."""
        del care
        state = self._engine(evaluate).init_state(image)
        diverged = ~jnp.isfinite(state.value)
        return Step(image, state.value, state.aux, state, jnp.int32(1), jnp.bool_(False), diverged)

    def tick(self, evaluate: Evaluate, image: Float[Array, "H W 3"], state: Any) -> Step:
        """One iteration of the library; a step that is not finite is undone."""
        trial, new = self._engine(evaluate).update(image, state)
        finite = jnp.isfinite(new.value) & jnp.isfinite(new.error)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        return Step(
            image=jnp.where(finite, trial, image),
            loss=kept.value,
            terms=kept.aux,
            state=kept,
            evaluations=(new.num_fun_eval - state.num_fun_eval).astype(jnp.int32),
            stalled=finite & (trial == image).all(),
            diverged=~finite,
        )
