"""Draws contact sheets: the style image, photographs and their results in one PNG. It opens no picture file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxstyle.data import image
from jaxstyle.data.sinks.folders import write_file

GAP = 12
PAPER = (247, 245, 240)
LETTER = 13
"""Height of letters in pixels."""

Pixels = np.ndarray | None
"""A picture, H x W x 3 uint8, or None for an empty cell."""


def contact_sheet(path: Path, style: Pixels, pairs: Sequence[tuple[Pixels, Pixels, Pixels]], columns: int = 4) -> None:
    """Draws the style image at the top left and each photograph above its result, `columns` pairs a row; without
    a style of all, each photograph's own style above it.

    Args:
        path: the PNG to write.
        style: the style image of all results; it is reduced to their size.
        pairs: (photograph, result, its style).

    Raises:
        StorageError: the PNG cannot be written.
    """
    grid: list[list[Pixels]] = []
    for at in range(0, len(pairs), columns):
        part = pairs[at : at + columns]
        photographs, results, styles = ([one[n] for one in part] for n in range(3))
        if style is None:
            small = [_reduced(own, [result]) for own, result in zip(styles, results, strict=True)]
            grid += [small, photographs, results]
            continue
        head = _reduced(style, [one[1] for one in pairs]) if at == 0 else None
        grid += [[head, *photographs], [None, *results]]
    save(path, grid)


def style_sheet(path: Path, photographs: Sequence[Pixels], rows: Sequence[tuple[Pixels, Sequence[Pixels]]]) -> None:
    """Draws the photographs in the first row, then a row for each style image with its results in the same order.

    Args and Raises: see `contact_sheet`.
    """
    grid: list[list[Pixels]] = [[None, *photographs]]
    grid += [[_reduced(style, results), *results] for style, results in rows]
    save(path, grid)


def save(path: Path, grid: Sequence[Sequence[Pixels]]) -> None:
    """Draws a grid of pictures, each centred in its cell; columns and rows fit their largest picture.

    Raises:
        StorageError: the PNG cannot be written.
    """
    number = max(map(len, grid))
    columns = [[row[c] for row in grid if len(row) > c] for c in range(number)]
    widths = [max((cell.shape[1] for cell in column if cell is not None), default=0) for column in columns]
    heights = [max((cell.shape[0] for cell in row if cell is not None), default=0) for row in grid]
    size = (sum(heights) + GAP * (len(heights) + 1), sum(widths) + GAP * (len(widths) + 1), 3)
    sheet, y = np.full(size, PAPER, np.uint8), GAP
    for row, height in zip(grid, heights, strict=True):
        x = GAP
        for cell, width in zip(row, widths, strict=False):
            if cell is not None:
                top, left = y + (height - cell.shape[0]) // 2, x + (width - cell.shape[1]) // 2
                sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
            x += width + GAP
        y += height + GAP
    write_file(path, image.encode(image.to_float(sheet), None, "PNG", 0))


def labelled(cell: np.ndarray, text: str) -> np.ndarray:
    """Returns a picture with lines of text above it, which wrap at its width."""
    font = ImageFont.load_default(LETTER)
    lines: list[str] = []
    for line in text.splitlines():
        while line:
            fits = next(n for n in range(len(line), 0, -1) if n == 1 or font.getlength(line[:n]) <= cell.shape[1])
            lines.append(line[:fits])
            line = line[fits:]
    strip = Image.new("RGB", (cell.shape[1], round(1.3 * LETTER * len(lines)) + 4), PAPER)
    ImageDraw.Draw(strip).multiline_text((0, 0), "\n".join(lines), (40, 40, 40), font, spacing=round(0.25 * LETTER))
    return np.concatenate([np.asarray(strip), cell])


def _reduced(style: Pixels, results: Sequence[Pixels]) -> Pixels:
    """Reduces the style image to the longest side of the results."""
    longest = max((max(one.shape[:2]) for one in results if one is not None), default=0)
    if style is None or not longest:
        return style
    height, width = style.shape[:2]
    size = image.work_size(width, height, longest)
    return np.asarray(Image.fromarray(style).resize(size, Image.Resampling.LANCZOS))
