"""Identifies a process across restarts, containers and machines, and tells whether one has ended for certain."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict


class Process(TypedDict):
    """A process as locks record it: host and pid for people, the rest to tell it from others.

    Attributes:
        host: name of the machine.
        pid: number of the process.
        boot: boot id of the kernel, "" where the system does not say.
        namespace: pid namespace of the process, or "".
        started: start time of the process in clock ticks since the boot, or "".
    """

    host: str
    pid: int
    boot: str
    namespace: str
    started: str


def own_identity() -> Process:
    """Describes this process."""
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


def is_running(record: Mapping[str, Any]) -> bool:
    """Whether the process of a record runs for certain: it is of this machine and container, and is there."""
    pid, started = record.get("pid"), record.get("started")
    return is_here(record) and type(pid) is int and pid > 0 and bool(started) and _start(pid) == started


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
