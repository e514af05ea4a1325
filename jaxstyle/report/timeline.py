"""Images per second and device time over the time of a run, from the times at which its outputs were written."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

MOST_RUNS = 5
"""Runs that are shown, the latest ones."""
MOST_BINS = 60
FEWEST = 24
"""Outputs of a run that is shown."""
PER_BIN = 8
"""Outputs of a bin, on average, where they are few."""


class Timeline:
    """Collects the outputs of each run; 16 bytes each."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[array[float], array[float]]] = {}

    def add(self, run: int, written: float, seconds: float) -> None:
        """Adds an output.

        Args:
            run: number of the run.
            written: modification time of the output, in seconds since 1970.
            seconds: its share of the device's time.
        """
        times, spent = self._runs.setdefault(run, (array("d"), array("d")))
        times.append(written)
        spent.append(seconds)

    def as_json(self) -> list[dict[str, Any]]:
        """The latest runs: number, start (seconds since 1970), width of a bin in seconds, and for each bin the images
        per second and the device's seconds per second. Runs of few outputs are left out."""
        return [made for run in sorted(self._runs)[-MOST_RUNS:] if (made := _binned(run, *self._runs[run]))]


def _binned(run: int, times: array[float], spent: array[float]) -> dict[str, Any] | None:
    at, seconds = np.array(times), np.array(spent)
    start, end = at.min(), at.max()
    if len(at) < FEWEST or end - start < 1e-3:
        return None
    bins = int(min(MOST_BINS, max(2, len(at) // PER_BIN)))
    width = (end - start) / bins
    number, _ = np.histogram(at, bins, (start, end))
    device, _ = np.histogram(at, bins, (start, end), weights=seconds)
    return {
        "run": run,
        "start": round(float(start), 1),
        "width": float(f"{width:.6g}"),
        "images": [float(f"{one:.4g}") for one in number / width],
        "device": [float(f"{one:.4g}") for one in device / width],
    }
