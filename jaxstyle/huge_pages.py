"""Huge pages for the memory of a process: XLA allocates its buffers anew for each call of the device.

The kernel clears fresh memory page by page. With pages of 4 KiB that takes a tenth of a call at 512 pixels, and a fifth
with products in bfloat16 (docs/measured.md). Pages of 2 MiB take next to nothing. On most Linux systems glibc has to
ask the kernel for them; an environment variable tells it to, which it reads when a process starts.
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


def mode() -> str:
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
    return name == "glibc" and known >= SINCE and mode() == "madvise"


def asks(environment: Mapping[str, str]) -> bool:
    """Tells whether a process with these environment variables asks for huge pages."""
    return f"{TUNABLE}=1" in environment.get(VARIABLE, "").split(":")


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment variables that a new process needs to ask for huge pages.

    Empty where it cannot ask, where it does already, and where the variable has a value of the user's for this.
    """
    told = environment.get(VARIABLE, "")
    if TUNABLE in told or not can_ask():
        return {}
    return {VARIABLE: f"{told}:{TUNABLE}=1".lstrip(":")}


def restart() -> None:
    """Replaces this process by one that asks for huge pages, with the same arguments and number; else returns.

    It is for the first line of a program: what the process has done so far is lost.
    """
    more = variables()
    if more and sys.executable and not hasattr(sys, "frozen"):
        with suppress(OSError):  # it goes on with small pages
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)
