"""`jaxstyle demo` renders the photographs of this folder in every drawn style, and draws a contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.layout import SHEET
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.decode.pool import decoders_for
from jaxstyle.demo.styles import STYLES
from jaxstyle.engine.events import Progress
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.publish import THUMBNAIL
from jaxstyle.errors import ImageError, SettingsMismatch
from jaxstyle.report.sheet import style_sheet
from jaxstyle.settings import RenderSettings

PHOTOS = Path(__file__).parent / "photos"
SETTINGS = RenderSettings(size=224, evaluations=50)
"""Smaller size and fewer evaluations than the defaults, so that the demo takes under two minutes on two cores."""


def run(output: Path, progress: Progress) -> Path:
    """Renders into `output`, one folder a style, and returns the contact sheet's path.

    It changes JAX's settings of the whole process, so only a command may call it.

    Raises:
        JaxstyleError: see `render`.
    """
    photographs = sorted(PHOTOS.glob("*.jpg"))
    rows: list[tuple[Path, list[Path]]] = []
    for name, draw in STYLES.items():
        style = output / "styles" / f"{name}.png"
        write_file(style, image.encode(draw().astype(np.float32) / 255, None, "PNG", 0))
        folder = output / name
        try:
            render(photographs, style, folder, SETTINGS, progress=progress, own_process=True)
        except SettingsMismatch:  # the folder has results of an earlier version
            render(photographs, style, folder, SETTINGS, progress=progress, own_process=True, existing="overwrite")
        rows.append((style, [folder / photo.name for photo in photographs]))
    sheet = output / SHEET
    with decoders_for(SETTINGS) as decoders:

        def small(path: Path) -> np.ndarray | None:
            try:
                return decoders.read(path, THUMBNAIL, full_alpha=False).levels
            except ImageError:  # the cell stays empty
                return None

        cells = [(small(style), [small(result) for result in results]) for style, results in rows]
        style_sheet(sheet, [small(photo) for photo in photographs], cells)
    return sheet
