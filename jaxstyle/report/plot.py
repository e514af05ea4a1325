"""Plots of measurements, drawn with Pillow: lines over axes with ticks, horizontal bars, several panels in one PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxstyle.data import image
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.report.sheet import PAPER

INK, FAINT, GRID = (40, 38, 34), (110, 106, 98), (222, 218, 208)
COLOURS = ((0, 96, 160), (204, 84, 0), (0, 134, 98), (168, 68, 130), (196, 142, 0), (70, 150, 205), (90, 90, 90))
"""Of series, in order; they differ in lightness too. From the eighth on they come again with another marker."""
WIDTH, HEIGHT = 720, 480
"""Of a panel of lines, in pixels."""
BAR = 34
"""Height of a bar with its gap."""
TITLE, TEXT = 21, 16
"""Heights of letters in pixels."""
MARGIN = 18
MARKED = 40
"""Most points of a series that are marked one by one."""
_FINE = 3
"""Everything is drawn so many times larger and reduced, which smooths lines."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """Lines over two axes.

    Attributes:
        series: points (x, y) by name, in the order of the legend. Points that are not finite, or not above 0 on a
            logarithmic axis, are left out.
        log_x, log_y: logarithmic axes. A linear y axis begins at 0 unless there are values below.
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
        values: at least 0, by name, from top to bottom; NaN is written "not measured".
    """

    title: str
    x_label: str
    values: Mapping[str, float]


def plot(path: Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Writes panels of lines as one PNG, so many side by side.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    sheet = _Sheet(WIDTH * min(columns, max(1, len(panels))), HEIGHT * max(1, len(rows)))
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            _lines(sheet, panel, c * WIDTH, r * HEIGHT)
    sheet.save(path)


def bars(path: Path, panels: Sequence[Bars]) -> None:
    """Writes panels of bars as one PNG, one below the other.

    Raises:
        StorageError: the file cannot be written.
    """
    heights = [BAR * max(1, len(panel.values)) + TITLE + 3 * TEXT + 3 * MARGIN for panel in panels]
    width = round(1.25 * WIDTH)
    sheet, y = _Sheet(width, max(1, sum(heights))), 0
    for panel, height in zip(panels, heights, strict=True):
        _bars(sheet, panel, y, height, width)
        y += height
    sheet.save(path)


def number(value: float) -> str:
    """A number as short as it reads well: three digits, no exponent between a ten-thousandth and a hundred million."""
    size = abs(value)
    if size >= 1e8 or 0 < size < 1e-4:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class _Sheet:
    """A drawing whose coordinates are pixels of the PNG that it becomes."""

    def __init__(self, width: int, height: int):
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Iterable[Point], colour: tuple[int, int, int], width: float = 1.0) -> None:
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(scaled, colour, max(1, round(width * _FINE)), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        self._draw.rectangle([v * _FINE for v in (left, top, right, bottom)], colour)

    def marker(self, x: float, y: float, colour: tuple[int, int, int], kind: int) -> None:
        """A disc, a square or a diamond with a rim of paper, so that markers on one another stay apart."""
        for radius, filled in ((5.6, PAPER), (4.2, colour)):
            around = [(x - radius) * _FINE, (y - radius) * _FINE, (x + radius) * _FINE, (y + radius) * _FINE]
            if kind % 3 == 0:
                self._draw.ellipse(around, filled)
            elif kind % 3 == 1:
                self._draw.rectangle(around, filled)
            else:
                r = 1.2 * radius
                corners = ((x - r, y), (x, y - r), (x + r, y), (x, y + r))
                self._draw.polygon([(a * _FINE, b * _FINE) for a, b in corners], filled)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "lm",
        size: int = TEXT,
        colour: tuple[int, int, int] = INK,
    ) -> None:
        """Anchors are Pillow's: l, m, r across; t, m, b down."""
        self._draw.text((x * _FINE, y * _FINE), words, colour, _font(size * _FINE), anchor=anchor)

    def upright(self, x: float, y: float, words: str, colour: tuple[int, int, int] = FAINT) -> None:
        """Words that read upwards, centred at a place."""
        wide = math.ceil(text_width(words)) * _FINE
        mask = Image.new("L", (wide + 2 * _FINE, 2 * TEXT * _FINE))
        ImageDraw.Draw(mask).text((mask.width / 2, mask.height / 2), words, 255, _font(TEXT * _FINE), anchor="mm")
        mask = mask.transpose(Image.Transpose.ROTATE_90)
        self._image.paste(colour, (round(x * _FINE - mask.width / 2), round(y * _FINE - mask.height / 2)), mask)

    def save(self, path: Path) -> None:
        small = self._image.reduce(_FINE)
        write_file(path, image.encode(np.asarray(small, np.float32) / 255, None, "PNG", 0))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def text_width(words: str, size: int = TEXT) -> float:
    """In pixels."""
    return _font(size * _FINE).getlength(words) / _FINE


@dataclass(frozen=True)
class _Axis:
    """Values to pixels."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        scale = math.log10 if self.log else float
        part = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.begin + part * (self.end - self.begin)


def _axis(values: Sequence[float], log: bool, begin: float, end: float, *, from_zero: bool, own: bool) -> _Axis:
    """An axis for values, at least one.

    Args:
        own: put ticks at the values themselves where they are few and the axis is logarithmic.
    """
    low, high = min(values), max(values)
    if log:
        distinct = sorted(set(values))
        if own and 2 <= len(distinct) <= 8 and min(b / a for a, b in pairwise(distinct)) > 1.3:
            pad = (high / low) ** 0.04
            return _Axis(low / pad, high * pad, tuple(distinct), True, begin, end)
        if high / low < 1.05:
            low, high = low / 1.5, high * 1.5
        ticks = log_ticks(low, high)
        return _Axis(min(low / 1.05, ticks[0]), max(high * 1.05, ticks[-1]), ticks, True, begin, end)
    if from_zero and low >= 0:
        low = 0.0
    if high == low:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(k * step for k in range(first, last + 1))
    if not from_zero:  # along x the data fills the axis
        pad = 0.03 * (high - low)
        return _Axis(low - pad, high + pad, tuple(t for t in ticks if low <= t <= high), False, begin, end)
    return _Axis(ticks[0], ticks[-1], ticks, False, begin, end)


def _step(span: float) -> float:
    """A round distance between ticks, four to eight of them in the span."""
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Round numbers around a range: 1, 2, 5 in every decade, or powers of ten where that would be too many."""
    for mantissas in ((1, 2, 5), (1,)):
        decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        every = [float(f"{m}e{d}") for d in decades for m in mantissas]
        first = max(k for k, tick in enumerate(every) if tick <= low * (1 + 1e-9))
        last = min(k for k, tick in enumerate(every) if tick >= high * (1 - 1e-9))
        if last - first <= 8:
            break
    stride = max(1, math.ceil((last - first) / 8))
    return (*every[first:last:stride], every[last])


def _lines(sheet: _Sheet, panel: Panel, x0: int, y0: int) -> None:
    sheet.text(x0 + MARGIN, y0 + MARGIN + TITLE / 2, panel.title, size=TITLE)
    good = {name: _drawable(points, panel) for name, points in panel.series.items()}
    drawn = _legend(sheet, list(good), x0 + MARGIN, y0 + MARGIN + 1.7 * TITLE + TEXT / 2, x0 + WIDTH - MARGIN)
    top, bottom = drawn + 1.9 * TEXT, y0 + HEIGHT - MARGIN - 2.7 * TEXT
    points = [point for series in good.values() for point in series]
    if not points:
        sheet.text(x0 + WIDTH / 2, (top + bottom) / 2, "not measured", anchor="mm", colour=FAINT)
        return
    y = _axis([b for _, b in points], panel.log_y, bottom, top, from_zero=True, own=False)
    left = x0 + MARGIN + 1.6 * TEXT + max(text_width(number(tick)) for tick in y.ticks) + 10
    right = x0 + WIDTH - 2 * MARGIN
    x = _axis([a for a, _ in points], panel.log_x, left, right, from_zero=False, own=True)
    for tick in y.ticks:
        sheet.line([(left, y(tick)), (right, y(tick))], GRID)
        sheet.text(left - 8, y(tick), number(tick), anchor="rm", colour=FAINT)
    for tick in x.ticks:
        sheet.line([(x(tick), bottom), (x(tick), bottom + 5)], FAINT)
        sheet.text(x(tick), bottom + 9, number(tick), anchor="mt", colour=FAINT)
    sheet.line([(left, bottom), (right, bottom)], FAINT, 1.2)
    sheet.text((left + right) / 2, bottom + 9 + 1.4 * TEXT, panel.x_label, anchor="mt", colour=FAINT)
    sheet.upright(x0 + MARGIN + TEXT / 2, (top + bottom) / 2, panel.y_label)
    placed = [[(x(a), y(b)) for a, b in series] for series in good.values()]
    for k, series in enumerate(placed):
        if len(series) > 1:
            sheet.line(series, COLOURS[k % len(COLOURS)], 2.2)
    for k, series in enumerate(placed):
        if len(series) <= MARKED:
            for a, b in series:
                sheet.marker(a, b, COLOURS[k % len(COLOURS)], k // len(COLOURS))


def _drawable(points: Sequence[Point], panel: Panel) -> list[Point]:
    good: Callable[[float, bool], bool] = lambda v, log: math.isfinite(v) and (v > 0 or not log)  # noqa: E731
    return [(float(a), float(b)) for a, b in points if good(a, panel.log_x) and good(b, panel.log_y)]


def _legend(sheet: _Sheet, names: Sequence[str], left: float, y: float, right: float) -> float:
    """Names with their lines, as many in a row as fit; returns where the last row's middle is."""
    x = left
    for k, name in enumerate(names):
        wide = 34 + text_width(name) + 22
        if x + wide > right and x > left:
            x, y = left, y + 1.5 * TEXT
        sheet.line([(x, y), (x + 26, y)], COLOURS[k % len(COLOURS)], 2.6)
        sheet.marker(x + 13, y, COLOURS[k % len(COLOURS)], k // len(COLOURS))
        sheet.text(x + 34, y, name)
        x += wide
    return y


def _bars(sheet: _Sheet, panel: Bars, top: int, height: int, width: int) -> None:
    sheet.text(MARGIN, top + MARGIN + TITLE / 2, panel.title, size=TITLE)
    first, bottom = top + MARGIN + 2.0 * TITLE, top + height - MARGIN - 2.7 * TEXT
    finite = [value for value in panel.values.values() if math.isfinite(value)]
    left = MARGIN + max((text_width(name) for name in panel.values), default=0) + 12
    right = width - MARGIN - max((text_width(number(value)) for value in finite), default=0) - 14
    x = _axis([0.0, *finite], False, left, right, from_zero=True, own=False)
    for tick in x.ticks:
        sheet.line([(x(tick), first), (x(tick), bottom)], GRID)
        sheet.text(x(tick), bottom + 6, number(tick), anchor="mt", colour=FAINT)
    sheet.text((left + right) / 2, bottom + 6 + 1.4 * TEXT, panel.x_label, anchor="mt", colour=FAINT)
    for k, (name, value) in enumerate(panel.values.items()):
        middle = first + (k + 0.5) * BAR
        sheet.text(left - 10, middle, name, anchor="rm")
        if math.isfinite(value):
            sheet.box(left, middle - 0.36 * BAR, x(value), middle + 0.36 * BAR, COLOURS[0])
            sheet.text(x(value) + 8, middle, number(value))
        else:
            sheet.text(left + 8, middle, "not measured", colour=FAINT)
    sheet.line([(left, first), (left, bottom)], FAINT, 1.2)
