"""What the two programs of the bench, run.py and gpu.py, have in common."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterable
from pathlib import Path


def processor() -> str:
    """The name of the CPU."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if "model name" in line:
                return line.split(":", 1)[1].strip()
    return platform.processor()


def chosen(parser: argparse.ArgumentParser, names: Iterable[str], every: Iterable[str]) -> list[str]:
    """The names that were given, or all if none was; ends the program if one is unknown."""
    names, every = list(names), list(every)
    unknown = set(names) - set(every)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return names or every
