"""The cache directory of a user, for converted weights and compiled programs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from jaxstyle.errors import SettingsError
from jaxstyle.paths import given_path


def cache_directory() -> Path:
    """Returns the folder of the cache: $JAXSTYLE_CACHE, else the user's cache directory.

    Raises:
        SettingsError: there is neither; see `has_cache`.
    """
    import platformdirs

    if told := os.environ.get("JAXSTYLE_CACHE"):
        return given_path(told, "JAXSTYLE_CACHE", SettingsError)
    try:
        return Path(platformdirs.user_cache_dir("jaxstyle"))
    except RuntimeError as error:
        raise SettingsError(
            "there is no home folder, and HOME is not set", "Set JAXSTYLE_CACHE to a folder."
        ) from error


def cpu_facts() -> tuple[str, ...]:
    """Returns what tells this CPU from others: machine, processor, and on Linux its model and flags."""
    about = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # not Linux: only machine and processor are known
        pass
    return tuple(about)


def has_cache() -> bool:
    """Whether there is a cache directory. A user without a home folder has none, and renders without."""
    try:
        return bool(cache_directory())
    except SettingsError:
        return bool(os.environ.get("JAXSTYLE_CACHE"))  # a wrong one is told
