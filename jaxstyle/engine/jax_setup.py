"""Sets JAX's process-wide settings: compilation cache and CPU devices. Commands call it, library calls never do.

With the cache, a second run of a command does not compile the programs of the first again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jax
from filelock import FileLock
from jax.experimental.compilation_cache import compilation_cache

from jaxstyle.cache import cache_directory, cpu_facts, has_cache
from jaxstyle.errors import SettingsError
from jaxstyle.planning.host import cores
from jaxstyle.trust import CORRECT_CACHE, private_folder, tell_once

MOST_BYTES = 2**30
"""Most bytes of the cache folder; beyond it JAX deletes the least recently used programs."""


CORES_A_DEVICE, FEWEST, MOST = 4, 2, 16
"""Cores for each JAX device that a CPU is divided into, and fewest and most devices where there are several cores. Each
device has a part of the lanes and uses the threads of all cores, so that one works while another waits for its slowest
thread. Two devices are measured on two cores (bench/REPORT.md); more are unmeasured: the more threads share an
operation, the longer most of them wait for the slowest, so that more devices fill the gaps, and each has parameters of
its own in memory."""


def set_up(cpu_devices: int | Literal["auto"] = "auto") -> None:
    """Prepares JAX for a command: enables the compilation cache in the user's cache directory and divides the CPU.

    Args:
        cpu_devices: see `RenderSettings`.

    Raises:
        SettingsError: see `divide_cpu`.
    """
    enable_cache()
    divide_cpu(cpu_devices)


def cpu_devices_of(number: int) -> int:
    """Returns the devices that a CPU of this number of cores is divided into: one for every four cores, 2 to 16."""
    return 1 if number == 1 else min(max(number // CORES_A_DEVICE, FEWEST), MOST)


def divide_cpu(number: int | Literal["auto"] = "auto") -> None:
    """Divides the CPU into several devices of JAX.

    "auto" leaves JAX as it is if it is initialised or if it was told a number (JAX_NUM_CPU_DEVICES, XLA_FLAGS).

    Raises:
        SettingsError: JAX was told another number than the one given, or is initialised with another.
    """
    told = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    flagged = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    wanted = cpu_devices_of(cores()) if number == "auto" else number
    if told == -1 and not flagged and (number != "auto" or wanted > 1):
        with suppress(RuntimeError):  # JAX is initialised: the number of devices can no longer change
            jax.config.update("jax_num_cpu_devices", wanted)
            return
    if number != "auto" and jax.local_device_count("cpu") != number:
        raise SettingsError(
            f"cpu_devices is {number}, and JAX divides the CPU into {jax.local_device_count('cpu')}",
            "Give auto, or leave JAX_NUM_CPU_DEVICES and XLA_FLAGS out; a process divides the CPU once.",
        )


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
    return hashlib.sha256("\n".join(cpu_facts()).encode()).hexdigest()[:16]


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
