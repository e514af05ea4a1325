"""Where inputs come from: a registry of sources. `base.Source` says what a source must do."""

from __future__ import annotations

from collections.abc import Callable

from jaxstyle.data.sources.base import Source
from jaxstyle.data.sources.folders import FolderSource

SOURCES: dict[str, Callable[..., Source]] = {"folders": FolderSource}
"""Sources by name. Each is called with the inputs that were asked for and `case_insensitive`, see `FolderSource`."""
