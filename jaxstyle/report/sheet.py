"""Contact sheets: the style, photographs, and what became of them, side by side in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.image import work_size
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.errors import ImageError
from jaxstyle.settings import RenderSettings

CELL = 320
"""Longest side of a picture on the sheet, in pixels."""
GAP = 12
PAPER = (247, 245, 240)


def contact_sheet(path: Path, style: Path, pairs: Sequence[tuple[Path, Path]], columns: int = 4) -> None:
    """The style at the top left, then each photograph above its result, `columns` pairs a row.

    Args:
        path: the PNG to write.
        pairs: (photograph, result) files. One that can no longer be read leaves its place empty.
    """
    results = [_thumbnail(result) for _, result in pairs]
    photographs = [_beside(photograph, result) for (photograph, _), result in zip(pairs, results, strict=True)]
    grid: list[list[Image.Image | None]] = []
    for at in range(0, len(pairs), columns):
        head = _thumbnail(style, _longest(results)) if at == 0 else None
        grid += [[head, *photographs[at : at + columns]], [None, *results[at : at + columns]]]
    save(path, grid)


def style_sheet(path: Path, photographs: Sequence[Path], rows: Sequence[tuple[Path, Sequence[Path]]]) -> None:
    """Photographs along the top; below, each style picture followed by its results in the same order."""
    results = [[_thumbnail(result) for result in row] for _, row in rows]
    grid: list[list[Image.Image | None]] = [[None, *map(_beside, photographs, results[0])]]
    grid += [[_thumbnail(style, _longest(row)), *row] for (style, _), row in zip(rows, results, strict=True)]
    save(path, grid)


def save(path: Path, grid: Sequence[Sequence[Image.Image | None]]) -> None:
    """Draws a grid of pictures, each centred in its cell; columns and rows are as large as their largest picture."""
    width = max(map(len, grid))
    columns = [max((cell.width for row in grid for cell in row[c : c + 1] if cell), default=0) for c in range(width)]
    heights = [max((cell.height for cell in row if cell), default=0) for row in grid]
    size = (sum(columns) + GAP * (len(columns) + 1), sum(heights) + GAP * (len(heights) + 1))
    sheet, y = Image.new("RGB", size, PAPER), GAP
    for row, height in zip(grid, heights, strict=True):
        x = GAP
        for cell, column in zip(row, columns, strict=False):
            if cell:
                sheet.paste(cell, (x + (column - cell.width) // 2, y + (height - cell.height) // 2))
            x += column + GAP
        y += height + GAP
    write_file(path, image.encode(np.asarray(sheet, np.float32) / 255, None, "PNG", 0))


def _thumbnail(path: Path, longest: int = CELL) -> Image.Image | None:
    """A picture, reduced if it is longer than that; None if it cannot be read."""
    try:
        picture = image.read(path, RenderSettings.max_pixels)
    except (ImageError, OSError):
        return None
    size = work_size(picture.header.width, picture.header.height, longest)
    return Image.fromarray(image.to_bytes(image.resize(picture.pixels, *size)))


def _beside(photograph: Path, result: Image.Image | None) -> Image.Image | None:
    """A photograph at its result's size."""
    small = _thumbnail(photograph)
    return small.resize(result.size, Image.Resampling.LANCZOS) if small and result else small


def _longest(pictures: Sequence[Image.Image | None]) -> int:
    return max((max(picture.size) for picture in pictures if picture), default=CELL)
