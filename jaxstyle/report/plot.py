"""Plots measurements as PNG with matplotlib (extra `plots`): lines over two axes, horizontal bars."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxstyle.data.sinks.folders import write_file
from jaxstyle.errors import JaxstyleError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0060a0", "#cc5400", "#008662", "#a84482", "#c48e00", "#4696cd", "#5a5a5a")
"""Colours of series, in order; they differ in lightness too. From the eighth series on they repeat with another marker.
"""
MARKERS = "osD"
MARKED = 40
"""Most points of a series that is drawn with markers."""
WIDTH, HEIGHT, BAR = 7.2, 4.8, 0.34
"""Width and height of a panel of lines, and height of a bar with its gap, in inches."""
DPI = 100
FEW = 8
"""Most distinct values on a logarithmic x axis, such as batch sizes, that are used as its ticks."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """Lines over two axes.

    Attributes:
        series: points (x, y) by name, in the order of the legend. Points that are not finite, or not above 0 on a
            logarithmic axis, are left out.
        log_x, log_y: whether an axis is logarithmic. A linear y axis begins at 0 unless a value is negative.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[Point]]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from 0, each with its value at its end.

    Attributes:
        values: values of at least 0 by name, from top to bottom; NaN is written "not measured".
    """

    title: str
    x_label: str
    values: Mapping[str, float]


class NoMatplotlib(JaxstyleError):
    """matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__("a plot needs matplotlib", "Install it: pip install 'jaxstyle[plots]'.")


def plot(path: Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Writes panels of lines as one PNG, `columns` of them in a row.

    Raises:
        NoMatplotlib: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    with _default_style():
        _publish(path, lines_figure(panels, columns))


def bars(path: Path, panels: Sequence[Bars]) -> None:
    """Writes panels of bars as one PNG, one below the other.

    Raises:
        NoMatplotlib, StorageError: as for `plot`.
    """
    with _default_style():
        _publish(path, bars_figure(panels))


def number(value: float) -> str:
    """Formats a number with three digits; without exponent from 0.0001 to 100 million."""
    size = abs(value)
    if size >= 1e8 or 0 < size < 1e-4:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@contextmanager
def _default_style() -> Iterator[None]:
    """Sets matplotlib's own defaults inside the block, whatever the user's configuration says."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise NoMatplotlib from error
    with style.context("default"):
        yield


def _publish(path: Path, figure: Figure) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # it would name matplotlib's version
    write_file(path, buffer.getvalue())


def lines_figure(panels: Sequence[Panel], columns: int) -> Figure:
    """Draws panels of lines."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    for k, panel in enumerate(panels):
        _lines(figure.add_subplot(rows, columns, k + 1), panel)
    return figure


def bars_figure(panels: Sequence[Bars]) -> Figure:
    """Draws panels of bars."""
    from matplotlib.figure import Figure

    heights = [BAR * max(1, len(panel.values)) + 1 for panel in panels] or [1]
    figure = Figure(figsize=(1.25 * WIDTH, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    for k, panel in enumerate(panels):
        _bars(figure.add_subplot(grid[k, 0]), panel)
    return figure


def _lines(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter

    series = {name: _drawable(points, panel) for name, points in panel.series.items()}
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    axes.set_title(panel.title, loc="left")
    points = [point for drawn in series.values() for point in drawn]
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    for k, (name, drawn) in enumerate(series.items()):
        marker = MARKERS[k // len(COLOURS) % len(MARKERS)] if len(drawn) <= MARKED else ""
        axes.plot(
            [x for x, _ in drawn], [y for _, y in drawn], label=name, color=COLOURS[k % len(COLOURS)], marker=marker
        )
    if panel.log_x:
        _logarithmic(axes, "x", sorted({x for x, _ in points}))
    if panel.log_y:
        _logarithmic(axes, "y", sorted({y for _, y in points}))
    elif min(y for _, y in points) >= 0:
        axes.set_ylim(0, 1.08 * max(y for _, y in points) or 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.grid(axis="y", alpha=0.4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, frameon=False)


def _logarithmic(axes: Axes, name: Literal["x", "y"], values: Sequence[float]) -> None:
    """Makes an axis logarithmic. The ticks of x are the values if they are few; other ticks are round numbers."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    decades = math.log10(values[-1] / values[0])
    own = name == "x" and 2 <= len(values) <= FEW
    axis.set_major_locator(FixedLocator(values) if own else LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axis.set_minor_locator(NullLocator())


def _bars(axes: Axes, panel: Bars) -> None:
    places = range(len(panel.values))
    lengths = [value if math.isfinite(value) else 0 for value in panel.values.values()]
    axes.barh(places, lengths, color=COLOURS[0])
    for place, value, length in zip(places, panel.values.values(), lengths, strict=True):
        said = number(value) if math.isfinite(value) else "not measured"
        axes.annotate(said, (length, place), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, labels=list(panel.values))
    axes.invert_yaxis()  # from top to bottom
    axes.set_xlim(0, 1.1 * max(lengths, default=0) or 1)
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.title, loc="left")
    axes.grid(axis="x", alpha=0.4)


def _drawable(points: Sequence[Point], panel: Panel) -> list[Point]:
    """Drops the points that the panel's axes cannot show."""

    def good(value: float, log: bool) -> bool:
        return math.isfinite(value) and (value > 0 or not log)

    return [(float(x), float(y)) for x, y in points if good(x, panel.log_x) and good(y, panel.log_y)]
