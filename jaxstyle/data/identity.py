"""Identifies a process across restarts, containers and machines, and tells whether one has ended for certain."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def own_identity() -> dict[str, Any]:
    """Describes this process: host and pid for people; boot, namespace and started to tell it from others.

    `boot` is the boot id of the kernel, `namespace` its pid namespace, `started` the process's start time in clock
    ticks since the boot. They are "" where the system does not say.
    """
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _boot(),
        "namespace": _namespace(),
        "started": _start(pid),
    }


def is_here(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a process of this kernel and this pid namespace, whose pids mean the same."""
    here = (_boot(), _namespace())
    return "" not in here and (record.get("boot"), record.get("namespace")) == here


def is_same_kernel(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a process of this kernel, perhaps in another container."""
    return bool(_boot()) and record.get("boot") == _boot()


def has_ended(record: Mapping[str, Any]) -> bool:
    """Whether the process of a record has ended for certain. A process of another machine or container may live."""
    pid, started = record.get("pid"), record.get("started")
    if not is_here(record) or type(pid) is not int or pid <= 0 or not started:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    now = _start(pid)
    return bool(now) and now != started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start(pid: int) -> str:
    """Returns the start time of a process, "" if the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
