"""Registry of sources, which provide inputs. `base.Source` defines the protocol."""

from __future__ import annotations

from collections.abc import Callable

from jaxstyle.data.sources.base import Source
from jaxstyle.data.sources.folders import FolderSource

SOURCES: dict[str, Callable[..., Source]] = {"folders": FolderSource}
"""Sources by name. Each is called with the inputs of the command and `case_insensitive`, see `FolderSource`."""
