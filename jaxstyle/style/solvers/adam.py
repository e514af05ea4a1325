"""Adam (Kingma and Ba, arXiv 1412.6980): optax's implementation with the interface of `base.Solver`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxstyle.style.solvers.base import Evaluate, Image, Point, Scalar, Solver, Step, hold


class Memory(NamedTuple):
    """optax's state, and the gradient at the lane's image, which the next tick applies."""

    inner: Any
    gradient: Image


@dataclass(frozen=True)
class Adam(Solver):
    """One evaluation a tick. The loss is that of the lane's image; it may rise."""

    learning_rate: float = 0.02
    monotone = False

    def _engine(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Makes the state, the factor on every step, without an evaluation: the first tick evaluates the start."""
        del evaluate, values
        return Step(start, step_scale, None, jnp.int32(0), jnp.bool_(False), jnp.bool_(False))

    def memory(self, image: Image) -> Memory:
        """Allocates two moments and the gradient."""
        return Memory(self._engine().init(image), jnp.zeros_like(image))

    def tick(self, evaluate: Evaluate, at: Point, state: Scalar, memory: Memory, first: Bool[Array, ""]) -> Step:
        """Applies the last gradient, then evaluates. If that is not finite, the lane diverges and keeps its image."""
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of an integer
            updates, moved = self._engine().update(memory.gradient, memory.inner)
        inner = hold(first, self._engine().init(at.image), moved)
        trial = at.image + jnp.where(first, 0, state * updates)
        (loss, terms), gradient = evaluate(trial)
        finite = jnp.isfinite(loss) & jnp.isfinite(jnp.sum(gradient))
        return Step(
            point=hold(finite, Point(trial, loss, terms), at),
            state=state,
            memory=Memory(inner, gradient),
            evaluations=jnp.int32(1),
            stalled=jnp.bool_(False),
            diverged=~finite,
        )
