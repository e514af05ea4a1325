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
    """Arrays that the solver writes in place.

    Attributes:
        inner: optax's state.
        gradient: the gradient at the present image, which the next tick applies.
        averages: None without averaging.
    """

    inner: Any
    gradient: Image
    averages: Averages | None


class Averages(NamedTuple):
    """The present image, which is not the lane's point under averaging, and the average of all images so far."""

    image: Image
    average: Image


@dataclass(frozen=True)
class Adam(Solver):
    """One evaluation a tick. The loss is that of the lane's image; it may rise.

    With `averaging`, the lane's image is the average of Adam's images, with weights that decay exponentially into the
    past, corrected for the start as Adam's moments are (Crowson's style-transfer-pytorch returns such an average). The
    last evaluation of every window of `WINDOW`, and of the budget, is at the average and moves nothing, so that the
    lane's loss is the average's own.
    """

    learning_rate: float = 0.02
    averaging: float = 0.0
    monotone = False

    def _engine(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, evaluate: Evaluate, start: Point, values: Any, step_scale: Any) -> Step:
        """Makes the state, the factor on every step, without an evaluation: the first tick evaluates the start."""
        del evaluate, values
        return Step(start, step_scale, None, jnp.int32(0), jnp.bool_(False), jnp.bool_(False))

    def memory(self, image: Image) -> Memory:
        """Allocates two moments and the gradient; with averaging also two images."""
        blank = jnp.zeros_like(image)
        return Memory(self._engine().init(image), blank, Averages(blank, blank) if self.averaging else None)

    def tick(
        self,
        evaluate: Evaluate,
        at: Point,
        state: Scalar,
        memory: Memory,
        first: Bool[Array, ""],
        closing: Bool[Array, ""],
    ) -> Step:
        """Applies the last gradient, then evaluates. If that is not finite, the lane diverges and keeps its image."""
        present = at.image if memory.averages is None else hold(first, at.image, memory.averages.image)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of an integer
            updates, moved = self._engine().update(memory.gradient, memory.inner)
        inner = hold(first, self._engine().init(present), moved)
        trial = present + jnp.where(first, 0, state * updates)
        if memory.averages is None:
            (loss, terms), gradient = evaluate(trial)
            memory, judged = Memory(inner, gradient, None), jnp.bool_(True)
        else:
            resting, judged = closing & ~first, closing | first
            inner, present = hold(resting, (memory.inner, present), (inner, trial))
            average = self._average(memory.averages.average, present, inner[0].count, first, resting)
            trial = hold(resting, average, present)
            (loss, terms), gradient = evaluate(trial)
            memory = Memory(inner, hold(resting, memory.gradient, gradient), Averages(present, average))
        finite = jnp.isfinite(loss) & jnp.isfinite(jnp.sum(gradient))
        return Step(
            point=hold(finite & judged, Point(trial, loss, terms), at),
            state=state,
            memory=memory,
            evaluations=jnp.int32(1),
            stalled=jnp.bool_(False),
            diverged=~finite,
        )

    def _average(self, average, present, moves, first, resting):
        """Returns the average of the images after each move; the start takes part until there is one."""
        share = (1 - self.averaging) / (1 - self.averaging ** jnp.maximum(moves, 1).astype(average.dtype))
        return hold(resting, average, hold(first, present, average + share * (present - average)))
