"""From a file of `--style` to a style: decodes a picture and its mask at their working size, or reads saved targets."""

from __future__ import annotations

from pathlib import Path

from jaxstyle.data import image
from jaxstyle.data.sources.base import printable
from jaxstyle.data.styles import StyleFile
from jaxstyle.data.targets_file import is_targets
from jaxstyle.decode.pool import Decoders
from jaxstyle.errors import ImageError
from jaxstyle.planning import masks, saved_targets
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.settings import RenderSettings


def decoded(file: StyleFile, settings: RenderSettings, decoders: Decoders) -> Painting:
    """Decodes a style at its working size, or reads its targets.

    Raises:
        ImageError: it cannot be read.
    """
    if is_targets(file.path):
        saved = saved_targets.read(file.path)
        part = Part(saved.picture, 1.0, saved.sha256, saved=saved)
        return Painting(file.key, [part], saved.length, saved.modified, (), saved.sha256)
    size, crop = settings.painted_size, settings.style_crop
    if crop:
        header = decoders.probe([file.path])[0].header
        if header is not None:
            size = -(-size * max(header.width, header.height) // min(header.width, header.height))
    found = decoders.read(file.path, size, full_alpha=False)
    part = Part(image.middle(found.levels) if crop else found.levels, 1.0, found.sha256)
    colours: tuple[int, ...] = ()
    if settings.style_masks is not None:
        path = masks.path_of(settings.style_masks, file.key)
        mask = masks.read(path, decoders.read, found.header, found.levels.shape)
        if crop:
            mask = mask._replace(colours=image.middle(mask.colours))
        colours = _regions(mask, path, settings)
        part = part._replace(labels=masks.labels(mask, colours), mask_sha256=mask.sha256)
    return Painting(
        file.key, [part], found.stat.length, found.stat.modified, found.notes, found.sha256, colours=colours
    )


def _regions(mask: masks.Mask, path: Path, settings: RenderSettings) -> tuple[int, ...]:
    """The colours of a style's mask.

    Raises:
        ImageError: there are none, or more than `regions`.
    """
    colours = masks.colours_in(mask, settings.kept_colour)
    most = settings.regions
    if not 1 <= len(colours) <= most:
        raise ImageError(
            f"its mask {printable(path)} has {len(colours)} regions: {masks.named(colours)}",
            f"It must be 1 to {most}: save masks without blended colours, or give a larger --regions.",
        )
    return colours
