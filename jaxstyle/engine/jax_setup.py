"""JAX's settings of a whole process, made by the commands and never by a library call: compile cache, parts of the CPU.

With the cache the second run of a command does not compile what the first one did.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock
from jax.experimental.compilation_cache import compilation_cache

from jaxstyle.planning.host import cores
from jaxstyle.settings import cache_directory

MOST_BYTES = 2**30
"""Of the folder; beyond it JAX drops the programs that were not used for longest."""


CPU_DEVICES = 2
"""Devices that a CPU of several cores is for JAX: half of the lanes each, over the threads of all cores, so that one
half works where the other waits for its slowest thread. Measured on two cores only (bench/REPORT.md)."""


def set_up() -> None:
    """Prepares JAX for a command: keeps compiled programs in the user's cache and divides the CPU."""
    keep()
    divide_cpu()


def divide_cpu() -> None:
    """Makes `CPU_DEVICES` of the CPU, unless JAX is at work already, has been told a number, or there is one core."""
    told = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if told == -1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", "") and cores() > 1:
        with suppress(RuntimeError):  # JAX is at work: the CPU is what it is
            jax.config.update("jax_num_cpu_devices", CPU_DEVICES)


def keep() -> Path | None:
    """Makes JAX keep its compiled programs in the user's cache directory from now on; returns the folder.

    None: JAX has been told another folder or to keep none (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE),
    or the folder is not safe: programs from it are run, so it must be the user's own, and nobody else's to write to.
    """
    folder = cache_directory() / "compiled" / _machine()
    told, wanted = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    if told == str(folder):
        return folder
    if told is not None or not wanted or not _safe(folder):
        return None
    _drop_torn(folder)
    keep_in(folder)
    return folder


def keep_in(folder: Path) -> dict[str, Any]:
    """Makes JAX keep all its compiled programs in a folder; returns the settings before, for `configure`."""
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
    """Changes JAX's settings of kept programs."""
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # which looks at its settings once, at the first compilation


def _machine() -> str:
    """Programs for the CPU use its instructions, which JAX's own key leaves out: homes are shared between machines."""
    about = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # not Linux: machine and processor must do
        pass
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _safe(folder: Path) -> bool:
    """Makes the folder for the user alone; whether it is so."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
            found = one.lstat()
            if not stat.S_ISDIR(found.st_mode) or (os.name != "nt" and _others(found)):
                return False
    except OSError:  # a read-only home, a full disk: the programs are compiled again
        return False
    return os.access(folder, os.W_OK)


def _drop_torn(folder: Path) -> None:
    """Removes programs that a killed process left half written.

    JAX writes a program and then, to a file beside it, the time of its last use. Where that is missing JAX would read
    the program, if at all, and fail, at every start; and could not keep any other (its search for old ones fails).
    """
    with suppress(OSError, NotImplementedError), FileLock(folder / ".lockfile", timeout=5):  # JAX's own lock
        names = set(os.listdir(folder))
        for name in names:
            if name.endswith("-cache") and name.removesuffix("cache") + "atime" not in names:
                (folder / name).unlink()


def _others(found: os.stat_result) -> bool:
    """Whether somebody else may write there."""
    return found.st_uid != os.geteuid() or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
