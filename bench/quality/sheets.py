"""Labelled sheets of a sweep: the best and the worst pair by each distance, and every program's pictures of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from quality.fronts import DISTANCES, programs_of
from quality.pairs import Pair, read
from quality.programs import OURS
from quality.sweep import picture_path

GAP, LINE, PAPER, INK = 10, 15, (247, 245, 240), (30, 30, 30)

Cell = tuple[np.ndarray | None, str]
"""A picture, H x W x 3 uint8, or None, and the lines of text below it."""


def extremes(rows: list[dict[str, Any]], program: str = OURS) -> list[tuple[str, str]]:
    """Returns (title, pair) of the pairs with the least and the largest of each distance, at the program's own weight.

    Pairs are compared by the program's distance, so that the sheet shows where it does well and where it does not.
    """
    own = [row for row in rows if row["program"] == program and row["factor"] == 1]
    found = []
    for name, title in DISTANCES.items():
        for word, choose in (("least", min), ("largest", max)):
            if own:
                found.append((f"{word} {title} of {program}", choose(own, key=lambda row: row[name])["pair"]))
    return found


def best_and_worst(folder: Path, rows: list[dict[str, Any]], pairs: Sequence[Pair], path: Path) -> None:
    """Draws a row for each pair in `extremes`: what it is best at, photograph, painting, programs at their own weights.

    Args:
        pairs: all pairs that have rows.
    """
    by_name, titles = {pair.name: pair for pair in pairs}, dict[str, list[str]]()
    for title, pair in extremes(rows):
        titles.setdefault(pair, []).append(title)
    draw(path, [[(None, "\n".join(some)), *_row(folder, rows, by_name[pair], 1)] for pair, some in titles.items()])


def fronts_of(folder: Path, rows: list[dict[str, Any]], pair: Pair, path: Path) -> None:
    """Draws a row for each factor on the style weight: photograph, painting, and the programs that have it."""
    factors = sorted({row["factor"] for row in rows if row["pair"] == pair.name})
    draw(path, [[(None, f"style weight\nx {factor:g}"), *_row(folder, rows, pair, factor)] for factor in factors])


def _row(folder: Path, rows: list[dict[str, Any]], pair: Pair, factor: float) -> list[Cell]:
    cells: list[Cell] = [(pair.content.pixels, pair.content.name), (pair.style.pixels, pair.style.name)]
    found = {row["program"]: row for row in rows if (row["pair"], row["factor"]) == (pair.name, factor)}
    for program in programs_of(rows):
        row = found.get(program)
        if row is None:
            cells.append((None, ""))
            continue
        words = f"LPIPS {row['lpips']:.2f}  style {row['style']:.2f}  colours {row['colours']:.0f}"
        work = f"{row['evaluations']} evaluations, {row['seconds']:.0f} s"
        pixels = read(picture_path(folder, program, factor, pair.name)).pixels
        cells.append((pixels, f"{program.replace(', ', chr(10))}\n{words}\n{work}"))
    return cells


def draw(path: Path, grid: Sequence[Sequence[Cell]], most: int = 256) -> None:
    """Draws pictures with text below them as one picture file; pictures with a long side above `most` are reduced."""
    font = ImageFont.load_default(12)
    columns = max(map(len, grid), default=0)
    shown = [[(_reduced(pixels, most), text) for pixels, text in row] for row in grid]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def width(cell: tuple[Image.Image | None, str]) -> int:
        lines = [measure.textlength(line, font=font) for line in cell[1].split("\n")]
        return max(round(max(lines)), cell[0].width if cell[0] else 0)

    widths = [max((width(row[c]) for row in shown if len(row) > c), default=0) for c in range(columns)]
    pictures = [max((cell[0].height for cell in row if cell[0]), default=0) for row in shown]
    lines = [max((cell[1].count("\n") + 1 for cell in row), default=0) for row in shown]
    height = sum(pictures) + sum(LINE * number + 2 * GAP for number in lines) + GAP
    sheet = Image.new("RGB", (sum(widths) + GAP * (columns + 1), height), PAPER)
    pen, y = ImageDraw.Draw(sheet), GAP
    for row, tall, number in zip(shown, pictures, lines, strict=True):
        x = GAP
        for (picture, text), wide in zip(row, widths, strict=False):
            if picture:
                sheet.paste(picture, (x, y))
            pen.multiline_text((x, y + (tall + 4 if picture else 0)), text, INK, font=font, spacing=2)
            x += wide + GAP
        y += tall + LINE * number + 2 * GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)


def _reduced(pixels: np.ndarray | None, most: int) -> Image.Image | None:
    if pixels is None:
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    return picture
