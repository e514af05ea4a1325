"""Adam (Kingma and Ba, arXiv 1412.6980), from optax, behind the interface of the other solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxstyle.style.solver import Evaluate, Solver, Step, no_terms


class State(NamedTuple):
    """optax's state and the gradient at the lane's image, still to be applied."""

    inner: Any
    gradient: Float[Array, "H W 3"]
    first: Bool[Array, ""]
    care: Float[Array, ""]


@dataclass(frozen=True)
class Adam(Solver):
    """One evaluation a tick; the loss always belongs to the image beside it."""

    learning_rate: float = 0.02

    def _engine(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, evaluate: Evaluate, image: Float[Array, "H W 3"], care: Any = 1.0) -> Step:
        """Evaluates nothing: the first tick evaluates the start."""
        del evaluate
        state = State(self._engine().init(image), jnp.zeros_like(image), jnp.bool_(True), jnp.float32(care))
        false = jnp.bool_(False)
        return Step(image, jnp.float32(jnp.inf), no_terms(), state, jnp.int32(0), false, false)

    def tick(self, evaluate: Evaluate, image: Float[Array, "H W 3"], state: State) -> Step:
        """Applies the last gradient, then evaluates. Not finite: the lane has diverged and keeps its image."""
        updates, moved = self._engine().update(state.gradient, state.inner)
        inner = jax.tree.map(lambda old, new: jnp.where(state.first, old, new), state.inner, moved)
        trial = image + jnp.where(state.first, 0, state.care * updates)
        (loss, terms), gradient = evaluate(trial)
        finite = jnp.isfinite(loss) & jnp.isfinite(jnp.sum(gradient))
        return Step(
            image=jnp.where(finite, trial, image),
            loss=loss,
            terms=terms,
            state=State(inner, gradient, jnp.bool_(False), state.care),
            evaluations=jnp.int32(1),
            stalled=jnp.bool_(False),
            diverged=~finite,
        )
