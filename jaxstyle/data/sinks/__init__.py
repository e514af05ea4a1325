"""Where outputs go: a registry of sinks. `base.Sink` says what a sink must do."""

from __future__ import annotations

from collections.abc import Callable

from jaxstyle.data.sinks.base import Sink
from jaxstyle.data.sinks.folders import FolderSink

SINKS: dict[str, Callable[..., Sink]] = {"folders": FolderSink}
"""Sinks by name. Each is called with the run's output folder and its part (shard i of n; (1, 1) is the whole)."""
