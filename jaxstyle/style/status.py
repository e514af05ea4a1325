"""Status of a lane. This module does not import jax, so that planning, engine and report can use it."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """Status of a lane: running, or why it ended."""

    RUNNING = 0
    BUDGET = 1
    """The evaluations of the budget are spent: the normal end."""
    CONVERGED = 2
    """The loss fell by less than the tolerance over a window."""
    STALLED = 3
    """The solver found no acceptable step; the image is the best one found."""
    DIVERGED = 4
    """The loss was not finite; the image is the last one with a finite loss, or the start."""
