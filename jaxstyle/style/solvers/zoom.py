"""jaxopt's L-BFGS with its zoom line search, for comparison: several evaluations a tick, as jaxopt counts them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxstyle.style.solvers.base import Evaluate, Image, Point, Solver, Step, hold

with warnings.catch_warnings():  # jaxopt warns at import that it is unmaintained
    warnings.simplefilter("ignore")
    import jaxopt


@dataclass(frozen=True)
class JaxoptZoom(Solver):
    """jaxopt's solver, with a history of curvature pairs."""

    history: int = 10
    monotone = False

    def _engine(self, evaluate):
        return jaxopt.LBFGS(
            fun=evaluate, value_and_grad=True, has_aux=True, linesearch="zoom", history_size=self.history,
            implicit_diff=False, unroll=False,
        )  # fmt: skip

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Evaluates the start. The line search finds the length of the first step."""
        del values, step_scale
        state = self._engine(evaluate).init_state(start.image)
        point = Point(start.image, state.value, state.aux)
        diverged = ~jnp.isfinite(state.value)
        return Step(point, state, None, jnp.int32(1), jnp.bool_(False), diverged)

    def memory(self, image: Image) -> tuple[()]:
        """Returns (): jaxopt keeps all its arrays in the state."""
        del image
        return ()

    def tick(
        self,
        evaluate: Evaluate,
        at: Point,
        state: Any,
        memory: Any,
        first: Bool[Array, ""],
        closing: Bool[Array, ""],
    ) -> Step:
        """Runs one iteration of jaxopt; undoes a step whose loss is not finite."""
        del first, closing
        trial, new = self._engine(evaluate).update(at.image, state)
        finite = jnp.isfinite(new.value) & jnp.isfinite(new.error)
        return Step(
            point=hold(finite, Point(trial, new.value, new.aux), at),
            state=hold(finite, new, state),
            memory=memory,
            evaluations=(new.num_fun_eval - state.num_fun_eval).astype(jnp.int32),
            stalled=finite & (trial == at.image).all(),
            diverged=~finite,
        )
