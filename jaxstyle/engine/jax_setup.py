"""Sets JAX's process-wide settings: compilation cache and CPU devices. Commands call it, library calls never do.

With the cache, a second run of a command does not compile the programs of the first again.
"""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock
from jax.experimental.compilation_cache import compilation_cache

from jaxstyle.cache import cache_directory, has_cache
from jaxstyle.planning.host import cores
from jaxstyle.trust import CORRECT_CACHE, private_folder, tell_once

MOST_BYTES = 2**30
"""Most bytes of the cache folder; beyond it JAX deletes the least recently used programs."""


CPU_DEVICES = 2
"""Number of JAX devices that a CPU of several cores is divided into. Each device has half of the lanes and uses the
threads of all cores, so that one works while the other waits for its slowest thread. Measured on two cores only
(bench/REPORT.md)."""


def set_up() -> None:
    """Prepares JAX for a command: enables the compilation cache in the user's cache directory and divides the CPU."""
    enable_cache()
    divide_cpu()


def divide_cpu() -> None:
    """Divides the CPU into `CPU_DEVICES`, unless JAX is initialised, a number is configured, or there is one core."""
    told = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if told == -1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", "") and cores() > 1:
        with suppress(RuntimeError):  # JAX is initialised: the number of devices can no longer change
            jax.config.update("jax_num_cpu_devices", CPU_DEVICES)


def enable_cache() -> Path | None:
    """Enables the compilation cache in the user's cache directory; returns the folder, or None if it is not enabled.

    It is not enabled if JAX is configured with another folder or without a cache (JAX_COMPILATION_CACHE_DIR,
    JAX_ENABLE_COMPILATION_CACHE). Programs from it are run: if others could change them, the cache is not used, and a
    warning says so.
    """
    if not has_cache():
        return None
    folder = cache_directory() / "compiled" / _machine()
    told, wanted = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    if told == str(folder):
        return folder
    if told is not None or not wanted:
        return None
    if problem := private_folder(folder):
        tell_once(f"compiled programs are not cached: {problem}. {CORRECT_CACHE}")
        return None
    _drop_torn(folder)
    enable_cache_in(folder)
    return folder


def enable_cache_in(folder: Path) -> dict[str, Any]:
    """Enables the compilation cache in a folder, for all programs; returns the previous settings, for `configure`."""
    ours = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in ours}
    configure(ours)
    return before


def configure(settings: dict[str, Any]) -> None:
    """Changes JAX's settings of the compilation cache."""
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # the cache reads its settings only once, at the first compilation


def _machine() -> str:
    """Hashes the CPU's features. JAX's cache key leaves them out, and machines may share a home directory."""
    about = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # not Linux: only machine and processor are used
        pass
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _drop_torn(folder: Path) -> None:
    """Deletes incomplete programs of a killed process.

    JAX writes a program and then a file with the time of its last use. If that file is missing, JAX fails to read the
    program at every start, and cannot add other programs, because its eviction fails.
    """
    with suppress(OSError, NotImplementedError), FileLock(folder / ".lockfile", timeout=5):  # JAX's own lock
        names = set(os.listdir(folder))
        for name in names:
            if name.endswith("-cache") and name.removesuffix("cache") + "atime" not in names:
                (folder / name).unlink()
