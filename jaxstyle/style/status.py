"""How a lane stands, without jax."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """How a lane stands."""

    RUNNING = 0
    BUDGET = 1
    """All evaluations spent: the normal end."""
    CONVERGED = 2
    """The loss fell by less than the tolerance over a window."""
    STALLED = 3
    """No acceptable step; the image is the best one found."""
    DIVERGED = 4
    """The loss was not finite; the image is the last one at which it was, or the start."""
