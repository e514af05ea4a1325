"""Registry of sinks, which store outputs. `base.Sink` defines the protocol."""

from __future__ import annotations

from collections.abc import Callable

from jaxstyle.data.sinks.base import Sink
from jaxstyle.data.sinks.folders import FolderSink

SINKS: dict[str, Callable[..., Sink]] = {"folders": FolderSink}
"""Sinks by name. Each is called with the output folder and the run's part: shard i of n, (1, 1) for all inputs."""
