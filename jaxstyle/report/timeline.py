"""Images per second, device time and occupied lanes over the time of a run, from the times at which its outputs were
written."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from jaxstyle.data.rows import LONGEST_TIME, Row

MOST_RUNS = 5
"""Runs that are shown, the latest ones."""
MOST_BINS = 60
FEWEST = 24
"""Outputs of a run that is shown."""
PER_BIN = 8
"""Outputs of a bin, on average, where they are few."""


class Timeline:
    """Collects the outputs of each run; 32 bytes each."""

    def __init__(self) -> None:
        self._runs: dict[int, array[float]] = {}
        self._busy = self._offered = 0.0

    def add(self, row: Row, written: float) -> None:
        """Adds an output.

        Args:
            written: its modification time, in seconds since 1970.
        """
        busy, offered = row.lane_time
        seconds = row.seconds if 0 <= row.seconds <= LONGEST_TIME else 0.0  # rows may hold anything
        self._runs.setdefault(row.run, array("d")).extend((written, seconds, busy, offered))
        self._busy += busy
        self._offered += offered

    @property
    def occupancy(self) -> float | None:
        """The share of the lanes that were occupied, over all outputs; None where no row tells."""
        return float(f"{self._busy / self._offered:.4g}") if self._offered else None

    def as_json(self) -> list[dict[str, Any]]:
        """The latest runs: number, start (seconds since 1970), width of a bin in seconds, and for each bin the images
        per second, the device's seconds per second, and the share of the lanes that were occupied, null where no row
        tells. Runs of few outputs are left out."""
        return [made for run in sorted(self._runs)[-MOST_RUNS:] if (made := _binned(run, self._runs[run]))]


def _binned(run: int, collected: array[float]) -> dict[str, Any] | None:
    at, seconds, busy, offered = np.array(collected).reshape(-1, 4).T
    start, end = at.min(), at.max()
    if len(at) < FEWEST or end - start < 1e-3:
        return None
    bins = int(min(MOST_BINS, max(2, len(at) // PER_BIN)))
    width = (end - start) / bins
    number, _ = np.histogram(at, bins, (start, end))
    device, _ = np.histogram(at, bins, (start, end), weights=seconds)
    edges = np.linspace(start, end, bins + 1)
    worked, lanes = (_spread(at, busy, weights, edges) for weights in (busy, offered))
    return {
        "run": run,
        "start": round(float(start), 1),
        "width": float(f"{width:.6g}"),
        "images": [float(f"{one:.4g}") for one in number / width],
        "device": [float(f"{one:.4g}") for one in device / width],
        "lanes": [
            float(f"{min(1.0, one / of):.4g}") if of > 1e-9 else None for one, of in zip(worked, lanes, strict=True)
        ],
    }


def _spread(ends: np.ndarray, lengths: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums weights by bins, each spread evenly over the time that ends at `ends` and is `lengths` long."""
    lengths = np.maximum(lengths, 1e-6)
    before = [float(weights @ np.clip(1 - (ends - edge) / lengths, 0, 1)) for edge in edges]
    return np.diff(before)
