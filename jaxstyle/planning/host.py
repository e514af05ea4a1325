"""CPU cores and memory that this process may use, within the limits of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_UNKNOWN = 4 * 2**30
"""Bytes of memory that are assumed if the system does not report them."""


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory(root: Path = Path("/")) -> int:
    """Returns the bytes of RAM that this process may still allocate on the machine and in its control groups.

    Args:
        root: root of the file system with `proc` and `sys`.

    Inactive page cache is not counted as used, since the kernel evicts it first. If the system does not report the
    available RAM, the result is the whole RAM; if it does not report that either, 4 GiB.
    """
    offers = [*_meminfo(root, "MemAvailable:"), *(most - taken for most, taken in _limits(root))]
    return max(0, min(offers)) if offers else _physical()


def total_memory(root: Path = Path("/")) -> int:
    """Returns the bytes of RAM of the machine, or the lowest limit of this process's control groups.

    It does not depend on what is in use at the moment, so that what is chosen by it is the same in every run.

    Args:
        root: see `host_memory`.
    """
    offers = [*_meminfo(root, "MemTotal:"), *(most for most, _ in _limits(root))]
    return min(offers) if offers else _physical()


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows lacks os.sysconf, other systems lack these names
        return _UNKNOWN


def _meminfo(root: Path, name: str) -> Iterator[int]:
    """Yields an entry of /proc/meminfo in bytes."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith(name):
            yield int(line.split()[1]) * 1024


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yields (limit, bytes in use) of each control group with a limit, from its own upwards; versions 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        # In a container the path may be the one outside of it; the process's group is then the root of the mount.
        group = Path(path.lstrip("/"))
        for one in (group, *group.parents) if group.parts else (group,):
            folder = root / mount / one
            most, taken = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdecimal() and taken.isdecimal():
                stat = (entry.split() for entry in _text(folder / "memory.stat").splitlines())
                cache = sum(int(entry[1]) for entry in stat if entry[0] == cached)
                yield int(most), max(0, int(taken) - cache)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
