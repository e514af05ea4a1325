"""Draws the plots of bench/REPORT.md from the raw figures of the results."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Callable
from pathlib import Path

from jaxstyle.report.plot import Bars, Panel, Point, bars, plot

Drawing = Callable[[Path], None]
"""Writes a PNG."""
EVALUATIONS = 200
"""Evaluations of an image, for the images an hour of the GPU's sweep."""


def _solvers(results: list[dict]) -> Drawing | None:
    curves = next((r["curves"] for r in results if "curves" in r), {})

    def against(x: int) -> dict[str, list[Point]]:
        return {name: [(point[x], point[2]) for point in points] for name, points in curves.items()}

    panels = [
        Panel("Loss against evaluations", "evaluations of the batch", "sum of losses", against(0), log_y=True),
        Panel("Loss against time", "seconds", "sum of losses", against(1), log_y=True),
    ]
    return (lambda path: plot(path, panels)) if curves else None


def _growth(results: list[dict]) -> Drawing | None:
    axes: dict[str, dict[str, list[Point]]] = {}
    for r in results:
        if "axis" in r:
            axis, _, name = r["axis"].partition(", ")
            axes.setdefault(axis, {}).setdefault(name or "measured", []).append((r["x"], 1e3 * r["seconds"]))
    panels = [
        Panel(f"An image by {axis}", axis, "ms", series, log_x=True, log_y=axis == "size")
        for axis, series in axes.items()
    ]
    return (lambda path: plot(path, panels)) if panels else None


def _peers(results: list[dict]) -> Drawing | None:
    found: dict[str, dict[str, float]] = {}
    for r in results:
        if r.get("images_an_hour"):
            about = re.search(r"after (\d+) evaluations, (.+) / the renderer, (\d+px)", r["what"])
            title, name = (f"{about[3]}, to SciPy's loss after {about[1]}", about[2]) if about else ("", r["what"])
            found.setdefault(title, {})[name] = r["images_an_hour"]
    panels = [Bars(title, "images/h", values) for title, values in found.items()]
    return (lambda path: bars(path, panels)) if panels else None


def _quality(results: list[dict]) -> Drawing | None:
    fronts: dict[str, list[dict]] = {}
    for r in results:
        if "lpips" in r:
            fronts.setdefault(textwrap.fill(r["program"], 26), []).append(r)  # the legend has two columns
    panels = [
        Panel(title, "LPIPS from the photograph", label, {
            program: [(r["lpips"], r[name]) for r in front] for program, front in fronts.items()
        })
        for name, title, label in (("style", "Style against content, mean of the pairs", "style distance"),
                                   ("colours", "Colours against content, mean of the pairs", "levels"))
    ]  # fmt: skip
    return (lambda path: plot(path, panels)) if fronts else None


DRAWN: dict[str, Callable[[list[dict]], Drawing | None]] = {
    "peers": _peers, "solvers": _solvers, "growth": _growth, "quality": _quality,
}  # fmt: skip
"""By a bench's name up to a hyphen: results to what draws them, if there is something to draw."""


def gpu(sections: dict) -> Drawing | None:
    """Plots the loss against time by precision and by PyTorch, and images an hour by batch, from gpu.py's sections."""
    values = {name: section.get("values", {}) for name, section in sections.items()}
    panels, ladder = [], values.get("ladder", {})
    if ladder:
        series = {}
        for precision, pairs in ladder["losses"].items():
            step = ladder["seconds_chunk"][precision] / ladder["lanes"]
            series[precision] = [(k * step, loss) for k, loss in enumerate(_medians(pairs), 1)]
        for one in values.get("torch", {}).get("descents", []):
            name = f"PyTorch, {one['precision']}{', compiled' if one['compiled'] else ''}"
            times = [seconds / len(one["losses"]) for seconds in one["seconds"]]
            series[name] = list(zip(times, _medians(one["losses"]), strict=True))
        panels.append(Panel("Loss scored in float32, median", "seconds an image", "loss", series, log_y=True))
    cells: dict[str, list[Point]] = {}
    for r in values.get("sweep", {}).get("rows", []):
        if "seconds_tick" in r:
            hour = 3600 * r["batch"] / (EVALUATIONS * r["seconds_tick"])
            cells.setdefault(f"{r['precision']} {r['side']}", []).append((r["batch"], hour))
    if cells:
        series = {name: sorted(points) for name, points in cells.items()}
        title = f"Images an hour, {EVALUATIONS} evaluations each"
        panels.append(Panel(title, "batch", "images/h", series, log_x=True, log_y=True))
    return (lambda path: plot(path, panels)) if panels else None


def _medians(pairs: list[list[float | None]]) -> list[float]:
    """Returns the medians over pairs of losses at the same time; null is a loss that was not finite."""
    return [statistics.median(float("inf") if v is None else v for v in losses) for losses in zip(*pairs, strict=True)]
