"""What every solver has in common: the lane, how it ends, and the interface behind which the solvers stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxstyle.style.objective import Terms
from jaxstyle.style.status import Status

WINDOW = 10
"""Evaluations over which the relative decrease of the loss is compared with the tolerance."""

Evaluate = Callable[[Float[Array, "H W 3"]], tuple[tuple[Float[Array, ""], Any], Float[Array, "H W 3"]]]
"""image -> ((loss, terms), gradient), as `jax.value_and_grad(..., has_aux=True)` gives it."""


class Step(NamedTuple):
    """What one tick of a solver did to one lane."""

    image: Float[Array, "H W 3"]
    loss: Float[Array, ""]
    terms: Any
    state: Any
    evaluations: Int[Array, ""]
    stalled: Bool[Array, ""]
    diverged: Bool[Array, ""]


class Solver(Protocol):
    """Minimises a function of one image, a tick at a time."""

    def start(self, evaluate: Evaluate, image: Float[Array, "H W 3"], care: Any) -> Step:
        """State before the first tick; a loss of +inf where nothing has been evaluated yet.

        Args:
            care: factor on the first step, or on every step of a solver without others; 1 is usual.
        """

    def tick(self, evaluate: Evaluate, image: Float[Array, "H W 3"], state: Any) -> Step:
        """One step."""

    def hold(self, running: Bool[Array, ""], new: Any, old: Any) -> Any:
        """The new state of a lane that is running, the old one of a lane that has ended."""
        return hold(running, new, old)


class Lane(NamedTuple):
    """One place of the batch: its image, what is known of it, and its solver's state.

    `start_loss` is +inf until something was evaluated; `budget` is the most evaluations for this image.
    """

    image: Float[Array, "H W 3"]
    loss: Float[Array, ""]
    terms: Any
    evaluations: Int[Array, ""]
    status: Int[Array, ""]
    start_loss: Float[Array, ""]
    window_loss: Float[Array, ""]
    budget: Int[Array, ""]
    state: Any


def hold(running: Bool[Array, ""], new: Any, old: Any) -> Any:
    """The new values if running, else the old ones."""
    return jax.tree.map(lambda a, b: jnp.where(running, a, b), new, old)


def no_terms() -> Terms:
    """Terms before anything was evaluated."""
    return Terms(jnp.float32(jnp.inf), jnp.float32(jnp.inf), jnp.float32(jnp.inf))


def start(solver: Solver, evaluate: Evaluate, image: Float[Array, "H W 3"], budget: Any, care: Any = 1.0) -> Lane:
    """A fresh lane.

    Args:
        budget: `evaluations` of the settings, as a number or a traced scalar.
        care: see `Solver.start`.
    """
    step = solver.start(evaluate, image, jnp.float32(care))
    status = jnp.where(step.diverged, Status.DIVERGED, Status.RUNNING)
    budget = jnp.asarray(budget, jnp.int32)
    return Lane(step.image, step.loss, step.terms, step.evaluations, status, step.loss, step.loss, budget, step.state)


def tick(solver: Solver, evaluate: Evaluate, lane: Lane, tolerance: Any) -> Lane:
    """One tick of one lane; of a lane that has ended everything that may be looked at stays exactly as it is.

    Args:
        tolerance: of the settings, as a number or a traced scalar.
    """
    step = solver.tick(evaluate, lane.image, lane.state)
    evaluations = lane.evaluations + step.evaluations
    window = evaluations // WINDOW > lane.evaluations // WINDOW
    slow = window & (tolerance > 0) & (lane.window_loss - step.loss < tolerance * lane.window_loss)
    status = jnp.select(
        [step.diverged, step.stalled, slow, evaluations >= lane.budget],
        [Status.DIVERGED, Status.STALLED, Status.CONVERGED, Status.BUDGET],
        Status.RUNNING,
    )
    window_loss = jnp.where(window | jnp.isinf(lane.window_loss), step.loss, lane.window_loss)
    start_loss = jnp.where(jnp.isinf(lane.start_loss), step.loss, lane.start_loss)
    after = Lane(
        step.image, step.loss, step.terms, evaluations, status, start_loss, window_loss, lane.budget, step.state
    )
    running = lane.status == Status.RUNNING
    held = hold(running, after._replace(state=None), lane._replace(state=None))
    return held._replace(state=solver.hold(running, step.state, lane.state))
