"""Draws contact sheets: the style image, photographs and their results in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.errors import ImageError

CELL = 320
"""Longest side of a picture on the sheet, in pixels."""
GAP = 12
PAPER = (247, 245, 240)


def contact_sheet(
    path: Path, style: Path, pairs: Sequence[tuple[Path, Path]], max_pixels: int, columns: int = 4
) -> None:
    """Draws the style image at the top left and each photograph above its result, `columns` pairs a row.

    Args:
        path: the PNG to write.
        style: path of the style image.
        pairs: (photograph, result) files. The cell of a file that cannot be read stays empty.
        max_pixels: see `RenderSettings`; larger pictures are not read.

    Raises:
        StorageError: the PNG cannot be written.
    """
    results = [_thumbnail(result, max_pixels) for _, result in pairs]
    photographs = [_beside(each, result, max_pixels) for (each, _), result in zip(pairs, results, strict=True)]
    grid: list[list[Image.Image | None]] = []
    for at in range(0, len(pairs), columns):
        head = _thumbnail(style, max_pixels, _longest(results)) if at == 0 else None
        grid += [[head, *photographs[at : at + columns]], [None, *results[at : at + columns]]]
    save(path, grid)


def style_sheet(
    path: Path, photographs: Sequence[Path], rows: Sequence[tuple[Path, Sequence[Path]]], max_pixels: int
) -> None:
    """Draws the photographs in the first row, then a row for each style image with its results in the same order.

    Args and Raises: see `contact_sheet`.
    """
    results = [[_thumbnail(result, max_pixels) for result in row] for _, row in rows]
    top = [_beside(each, result, max_pixels) for each, result in zip(photographs, results[0], strict=True)]
    grid: list[list[Image.Image | None]] = [[None, *top]]
    grid += [
        [_thumbnail(style, max_pixels, _longest(row)), *row] for (style, _), row in zip(rows, results, strict=True)
    ]
    save(path, grid)


def save(path: Path, grid: Sequence[Sequence[Image.Image | None]]) -> None:
    """Draws a grid of pictures, each centred in its cell; columns and rows fit their largest picture.

    Raises:
        StorageError: the PNG cannot be written.
    """
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


def _thumbnail(path: Path, max_pixels: int, longest: int = CELL) -> Image.Image | None:
    """Reads a picture and reduces its long side to `longest` pixels; None if it cannot be read."""
    try:
        return Image.fromarray(image.to_bytes(image.read(path, max_pixels, longest).pixels))
    except (ImageError, OSError):
        return None


def _beside(photograph: Path, result: Image.Image | None, max_pixels: int) -> Image.Image | None:
    """Reads a photograph at the size of its result."""
    small = _thumbnail(photograph, max_pixels)
    return small.resize(result.size, Image.Resampling.LANCZOS) if small and result else small


def _longest(pictures: Sequence[Image.Image | None]) -> int:
    return max((max(picture.size) for picture in pictures if picture), default=CELL)
