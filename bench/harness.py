"""Shared tools of the bench: pictures, the timer, processes, results and records."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageOps

import jaxstyle.demo.styles
from jaxstyle import huge_pages

BENCH = Path(__file__).parent
PHOTOS = Path(jaxstyle.demo.styles.__file__).parent / "photos"
PACKAGES = ("jax", "jaxlib", "numpy", "jaxopt", "jaxstyle", "flax", "optax", "torch", "triton", "nvidia-cudnn-cu12",
            "nvidia-cudnn-cu13", "jax-cuda12-plugin", "jax-cuda13-plugin")  # fmt: skip
ENVIRONMENT = ("XLA_FLAGS", "JAX_PLATFORMS", huge_pages.VARIABLE)
"""Environment variables that records keep."""

# Pictures.


def photographs(width: int, height: int, number: int | None = None, folder: Path | None = None) -> list[np.ndarray]:
    """Photographs cropped to height x width x 3, floats in [0, 1].

    Args:
        number: how many; after the last one they come again, shifted to the right.
        folder: of JPEG and PNG files; the demo's if left out.
    """
    paths = sorted((folder or PHOTOS).glob("*.[jp][pn]*g"))
    found = []
    for k in range(len(paths) if number is None else number):
        again, index = divmod(k, len(paths))
        whole = np.roll(np.asarray(Image.open(paths[index]).convert("RGB")), 101 * again, 1)
        found.append(_floats(ImageOps.fit(Image.fromarray(whole), (width, height), Image.Resampling.LANCZOS)))
    return found


def styles(size: int, folder: Path | None = None) -> list[np.ndarray]:
    """Returns style pictures with a long side of at most `size`, floats in [0, 1]; without a folder, the demo's."""
    if folder:
        whole = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.[jp][pn]*g"))]
    else:
        whole = [Image.fromarray(drawn) for drawn in _drawn()]
    for picture in whole:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    return [_floats(picture) for picture in whole]


@cache
def _drawn() -> list[np.ndarray]:
    """Draws the demo's styles once a process: it takes seconds."""
    return [draw() for draw in jaxstyle.demo.styles.STYLES.values()]


def _floats(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float32) / 255


def save(pixels: np.ndarray, path: Path) -> None:
    """Writes floats in [0, 1] to a picture file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(path, quality=95)


@dataclass(frozen=True)
class Asked:
    """Options of bench/run.py.

    Attributes:
        contents, styles: folders of pictures, or None for the demo's.
        size, loss_size: long side in pixels of timings, and of comparisons of losses.
        quick: measure only enough to show that the bench runs.
    """

    contents: Path | None = None
    styles: Path | None = None
    size: int = 256
    loss_size: int = 128
    quick: bool = False

    def pick(self, quick: Any, full: Any) -> Any:
        """Returns `quick` or `full`, by the option."""
        return quick if self.quick else full

    def photographs(self, size: int, number: int | None = None, *, square: bool = False) -> list[np.ndarray]:
        """Photographs of this long side, 4:3 unless `square`; see `harness.photographs`."""
        return photographs(size, size if square else size * 3 // 4, number, self.contents)

    def style(self, size: int) -> np.ndarray:
        """Returns the first style picture."""
        return self.all_styles(size)[0]

    def all_styles(self, size: int) -> list[np.ndarray]:
        """Returns every style picture; see `harness.styles`."""
        return styles(size, self.styles)


# The timer.


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Times a call including the wait for its result; returns the seconds and the result."""
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - began, result


def alternate(calls: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, list[float]]:
    """Times calls in turn, after one untimed call of each, which compiles; returns the seconds."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(timed(call)[0])
    return times


def medians(calls: Mapping[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Returns the median seconds of each call; see `alternate`."""
    return {name: statistics.median(times) for name, times in alternate(calls, repeats).items()}


def in_process(module: str, function: str, *arguments: Any, **environment: str) -> Any:
    """Calls a function of a module of the bench in a process of its own; arguments are text, the result goes by JSON.

    Raises:
        subprocess.CalledProcessError: it failed; its standard error is that of this process.
    """
    code = (
        "import importlib, json, sys; sys.path.insert(0, sys.argv[1]);"
        "print(json.dumps(getattr(importlib.import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])))"
    )
    command = [sys.executable, "-c", code, BENCH, module, function, *arguments]
    run = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True,
                         env=os.environ | environment)  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


# Results and records.

Results = Iterator[dict[str, Any]]
"""What a measurement yields; see `result`."""


def result(what: str, value: Any, goal: str = "", **raw: Any) -> dict[str, Any]:
    """Makes a result: what was measured, a ratio or a number with its unit in `what`, its goal, and raw figures."""
    return {"what": what, "value": value, "goal": goal, **raw}


def machine() -> dict[str, Any]:
    """Describes the machine: device, memory in bytes, processor, cores of this process, versions."""
    one, versions = jax.devices()[0], {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "device": one.device_kind, "backend": jax.default_backend(), "platform_version": one.client.platform_version,
        "memory": (one.memory_stats() or {}).get("bytes_limit"), "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "versions": versions,
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }  # fmt: skip


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if "model name" in line:
                return line.split(":", 1)[1].strip()
    return platform.processor()


def finite(value: Any) -> Any:
    """Replaces infinities and NaN, which JSON lacks, by null."""
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(record: dict[str, Any], path: Path) -> None:
    """Writes a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(finite(record), indent=1) + "\n")


def chosen(parser: argparse.ArgumentParser, names: Iterable[str], every: Iterable[str]) -> list[str]:
    """Returns the given names, or all if none is given; ends the program if one is unknown."""
    names, every = list(names), list(every)
    if unknown := set(names) - set(every):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return names or every
