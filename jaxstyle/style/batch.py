"""A batch: lanes side by side, their targets, and functions that replace and select lanes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxstyle.style.objective import Targets
from jaxstyle.style.solvers.base import Lane, Solver
from jaxstyle.style.status import Status

by_lane, all_of_it = P("lanes"), P()
"""Sharding of arrays on several devices: divided by lane, or replicated."""


class Started(NamedTuple):
    """A new lane for one image, its targets, and the mask of the picture in its array."""

    lane: Lane
    targets: Targets
    inside: Any


@partial(jax.tree_util.register_dataclass, data_fields=["lanes", "content", "inside", "style"], meta_fields=["shared"])
@dataclass(frozen=True)
class Batch:
    """Lanes side by side, every array with a leading axis of lanes.

    Attributes:
        lanes: a `Lane`.
        content: targets from the content images.
        inside: N x H x W masks of the pictures in their arrays.
        style: targets from the style images; without the axis of lanes if `shared`.
        shared: whether all lanes have the same style.
    """

    lanes: Any
    content: Any
    inside: Any
    style: Any
    shared: bool

    @property
    def parts(self) -> tuple[Lane, dict[str, Any], Any, dict[str, Any]]:
        """Arrays of which a refill replaces one lane; the memory is left out, since a new lane does not read it."""
        return self.lanes._replace(memory=None), self.content, self.inside, {} if self.shared else self.style

    def with_parts(self, parts: tuple[Lane, dict[str, Any], Any, dict[str, Any]]) -> Batch:
        """Returns the batch with other `parts`."""
        lanes, content, inside, style = parts
        lanes = lanes._replace(memory=self.lanes.memory)
        return Batch(lanes, content, inside, self.style if self.shared else style, self.shared)


def put(parts, index, one):
    """Replaces one lane in the parts of a batch; an index out of range changes nothing."""
    return jax.tree.map(lambda a, b: a.at[index].set(b, mode="drop", wrap_negative_indices=False), parts, one)


def put_on_one_of_several(parts, index, one):
    """Like `put`, for the lanes of one device; `index` counts the lanes of all devices."""
    return put(parts, index - jax.lax.axis_index("lanes") * len(parts[0].status), one)


def picked(batch: Batch, indices, number) -> Batch:
    """Selects lanes of a batch in the order of `indices`; marks those from position `number` on as ended (padding)."""
    lanes, content, inside = jax.tree.map(lambda a: a[indices], (batch.lanes, batch.content, batch.inside))
    status = jnp.where(jnp.arange(len(indices)) < number, lanes.status, jnp.int32(Status.BUDGET))
    style = batch.style if batch.shared else jax.tree.map(lambda a: a[indices], batch.style)
    return Batch(lanes._replace(status=status), content, inside, style, batch.shared)


def filled(solver: Solver, shared: bool, one: Started, size: int) -> Batch:
    """Makes a batch of `size` copies of one lane, marked as ended, and allocates their memory.

    Args:
        shared: see `Batch`.
    """
    memory = jax.eval_shape(solver.memory, one.lane.point.image)
    lanes = one.lane._replace(
        status=jnp.int32(Status.BUDGET), memory=jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), memory)
    )
    style = one.targets.style
    lanes, content, inside, styles = jax.tree.map(
        lambda a: jnp.broadcast_to(a, (size, *a.shape)), (lanes, one.targets.content, one.inside, style)
    )
    return Batch(lanes, content, inside, style if shared else styles, shared)


def specs(shared: bool, lanes: Any) -> Batch:
    """Returns the sharding of a batch's arrays on several devices."""
    return Batch(lanes, by_lane, by_lane, all_of_it if shared else by_lane, shared)
