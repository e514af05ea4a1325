"""From a job to the arrays of its lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.reader import Reader
from jaxstyle.decode.worker import Stat
from jaxstyle.engine import frames
from jaxstyle.errors import ImageError
from jaxstyle.planning import masks
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import luminance, match_colours, matched_luminance
from jaxstyle.style.initial import in_regions, initial, lane_inputs


@dataclass(frozen=True)
class Prepared:
    """A decoded job: the arrays of its lane, and what its output needs.

    Attributes:
        sha256: of the input's content, in hexadecimal.
        alpha: H x W uint8 at the output's size, or None.
        notes: what was done to the picture that its owner might not expect.
        inputs: arrays of the bucket's size, see `style.initial.lane_inputs`.
        style: its style, in the colours that the run asks for.
        content: the photograph, h x w x 3 float32 in [0, 1]; `inputs` may have it in gray.
        kept: weights of the photograph in the output, h x w float32; None if nothing is kept.
        masks_sha256: see `Row`.
        exif: EXIF for its output.
    """

    job: Job
    sha256: str
    alpha: np.ndarray | None
    notes: tuple[str, ...]
    inputs: Mapping[str, np.ndarray]
    style: Painting
    content: np.ndarray
    kept: np.ndarray | None = None
    masks_sha256: str = ""
    exif: bytes = b""

    @property
    def evaluations(self) -> int:
        """The budget of its lane."""
        return self.job.evaluations


def prepare(job: Job, reader: Reader, ready: Ready, style: Painting) -> Prepared:
    """Decodes a picture, computes where its optimisation starts, and fills both up to the bucket.

    Raises:
        ImageError: it cannot be decoded, or has changed since the run was planned; its mask cannot be used.
    """
    settings = ready.settings
    decoded = reader.read(
        job.locator, max(job.work), full_alpha=settings.output_size == "input", metadata=settings.metadata
    )
    if decoded.stat != Stat(job.length, job.modified):
        raise ImageError("changed while the run went on")
    if decoded.header != job.header:  # a PNG may have its orientation after its pixels, where no header shows it
        job = job.with_header(decoded.header, settings)
    photograph = content = decoded.pixels
    masked = _masked(job, reader, settings, style)
    match settings.colors:
        case "luminance":
            content = luminance(photograph)
            style = style.changed(partial(matched_luminance, content=photograph), decoded.sha256)
        case "matched":
            style = style.changed(partial(match_colours, style=photograph), decoded.sha256)
    notes = [f"its style: {note}" for note in style.notes] if job.style else []
    begun = frames.start(job, photograph, reader, ready)
    if begun.note:
        notes.append(begun.note)
    earlier = None
    if job.continued is not None:
        earlier = _earlier_output(job, reader, ready)
        if earlier is None:
            job = job.begun_anew(settings, "rendered anew: its earlier output was not as its row says")
    if job.previous is not None:
        init = image.resize(job.previous, *job.work)
        job = dataclasses.replace(job, previous=None)
    elif earlier is not None and job.continued is not None:
        init = image.resize(earlier, *job.work)
        notes.append(f"continued from its output after {job.continued.evaluations} evaluations")
    elif settings.starts_from_folder:
        key = kinds.output_name(job.plain or job.key, ready.start_format)
        start = reader.result(Path(settings.init), key, max(job.work))
        init = image.resize(start.pixels, *job.work)
        notes.append(f"started from a result with the checksum {start.sha256}")
    else:
        picture = None if ready.start is None else image.resize(ready.start, *job.work)
        init = initial(settings, content, style.colour_source, job.plain or job.key, picture)
    if begun.before is not None:
        result, weights = begun.before
        # Departs from the paper, which moves the whole result: what it does not show would begin as a smeared edge.
        init = np.where(weights[..., None] > 0, result, init)
    width, height = job.bucket
    inputs = lane_inputs(content, init, height, width, masked.regions, begun.before)
    notes = [*decoded.notes, *notes]
    return Prepared(
        job, decoded.sha256, decoded.alpha, tuple(notes), inputs, style, photograph, *masked[1:], exif=decoded.exif
    )


def _earlier_output(job: Job, reader: Reader, ready: Ready) -> np.ndarray | None:
    """The output of a continued job, H x W x 3 float32; None if it is not the file that its row tells of."""
    assert job.continued is not None
    try:
        found = reader.result(ready.output, job.key, max(job.work))
    except ImageError:  # it does not have the recorded checksum either
        return None
    return found.pixels if job.continued.output_sha256 in ("", found.sha256) else None


class _Masked(NamedTuple):
    """What the mask of a photograph says: its regions, see `style.initial.in_regions`, and fields of `Prepared`."""

    regions: np.ndarray | None = None
    kept: np.ndarray | None = None
    sha256: str = ""


def _masked(job: Job, reader: Reader, settings: RenderSettings, style: Painting) -> _Masked:
    """Decodes the mask of a photograph.

    Raises:
        ImageError: it cannot be used, or has a region that the style's mask lacks.
    """
    if settings.content_masks is None:
        return _Masked()
    path, shape = masks.path_of(settings.content_masks, job.image or job.key), job.work[::-1]
    mask = masks.read(path, reader.read, job.header, shape)
    sha256 = masks.checksum_of_both(mask.sha256, style.mask_sha256)
    kept = None
    if settings.kept_colour is not None:
        kept = mask.colours == np.uint64(settings.kept_colour)
    if settings.style_masks is None:
        assert kept is not None
        labels = np.where(kept, np.int8(-1), np.int8(0))
    else:
        found = masks.colours_in(mask, settings.kept_colour)
        if lacking := [colour for colour in found if colour not in style.colours]:
            raise ImageError(
                f"its mask {printable(path)} has the colours {masks.named(lacking)}, and the mask of the style has "
                f"{masks.named(style.colours)}",
                "Give both the same colours, and save masks without blended colours.",
            )
        labels = masks.labels(mask, style.colours)
    edge = None if kept is None or not kept.any() else masks.soft_edged(kept)
    return _Masked(in_regions(labels, settings.lane_regions, shape), edge, sha256)
