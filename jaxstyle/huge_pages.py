"""Huge pages for the memory of a process: XLA allocates its buffers anew for each call of the device.

The kernel clears fresh memory page by page. With pages of 4 KiB that takes a part of a call (docs/measured.md), and
with pages of 2 MiB next to nothing. Where the kernel's setting is madvise, glibc has to ask for them. An environment
variable tells it to, which it reads when a process starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb"
"""glibc's manual, "Memory Allocation Tunables": with 1, malloc asks for huge pages by madvise."""
SINCE = (2, 35)
"""First version of glibc with it."""
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""The kernel's choices, the one in force in brackets: always, madvise (for memory that asks) or never."""


MARK = "jaxstyle_restarted"
"""Option of Python (-X) of a process that `restart` has started, since an environment variable may not survive."""


def kernel_mode() -> str:
    """Returns the kernel's choice in force; "" if the system has none."""
    try:
        return ENABLED.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return ""


def can_ask() -> bool:
    """Tells whether glibc can ask for huge pages here, and the kernel gives them to those who ask."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        known = tuple(map(int, version.split(".")[:2]))
    except (AttributeError, ValueError, OSError):  # another libc, or another system
        return False
    return name == "glibc" and known >= SINCE and kernel_mode() == "madvise"


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """Tells whether a process with these environment variables gets huge pages: 2 reserves them beforehand."""
    told = environment.get(VARIABLE, "").split(":")
    return f"{TUNABLE}=1" in told or f"{TUNABLE}=2" in told


def variables_to_add(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment variables that a new process needs to ask for huge pages.

    Empty where it cannot ask, where it does already, and where the user has set the tunable.
    """
    told = environment.get(VARIABLE, "")
    if TUNABLE in told or not can_ask():
        return {}
    return {VARIABLE: f"{told}:{TUNABLE}=1".lstrip(":")}


def restart() -> None:
    """Replaces this process by one that asks for huge pages, with the same arguments and number; else returns.

    Call it first: what the process has done so far is lost. It returns where the process is not a plain `jaxstyle`
    or `python -m jaxstyle`, because another program would be started anew with it.
    """
    more, words = variables_to_add(), sys.orig_argv[1:]
    if not more or MARK in sys._xoptions or not sys.executable or hasattr(sys, "frozen") or sys.gettrace():
        return
    program = words[: len(words) - len(sys.argv[1:])]
    own = program[-2:] == ["-m", "jaxstyle"] or (program[-1:] == sys.argv[:1] and Path(sys.argv[0]).name == "jaxstyle")
    if own and words[len(program) :] == sys.argv[1:]:
        with suppress(OSError):  # it goes on with small pages
            os.execve(sys.executable, [sys.executable, "-X", MARK, *words], os.environ | more)
