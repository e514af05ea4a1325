"""From a job to the arrays of its lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jaxstyle.data import image
from jaxstyle.decode.reader import Reader
from jaxstyle.decode.worker import Stat
from jaxstyle.errors import ImageError
from jaxstyle.planning import scales
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready
from jaxstyle.style.colour import luminance, match_colours, matched_luminance
from jaxstyle.style.initial import initial, lane_inputs


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
    """

    job: Job
    sha256: str
    alpha: np.ndarray | None
    notes: tuple[str, ...]
    inputs: Mapping[str, np.ndarray]
    style: Painting
    content: np.ndarray

    @property
    def evaluations(self) -> int:
        """The budget of its lane."""
        return self.job.evaluations


def prepare(job: Job, reader: Reader, ready: Ready, style: Painting) -> Prepared:
    """Decodes a picture, computes where its optimisation starts, and fills both up to the bucket.

    Raises:
        ImageError: it cannot be decoded, or has changed since the run was planned.
    """
    settings = ready.settings
    decoded = reader.read(job.locator, max(job.work), full_alpha=settings.output_size == "input")
    if decoded.stat != Stat(job.length, job.modified):
        raise ImageError("changed while the run went on")
    if decoded.header != job.header:  # a PNG may have its orientation after its pixels, where no header shows it
        job = dataclasses.replace(job, header=decoded.header, stages=scales.stages(decoded.header, settings))
    photograph = content = decoded.pixels
    match settings.colors:
        case "luminance":
            content = luminance(photograph)
            style = style.changed(partial(matched_luminance, content=photograph), decoded.sha256)
        case "matched":
            style = style.changed(partial(match_colours, style=photograph), decoded.sha256)
    notes = [f"its style: {note}" for note in style.notes] if job.style else []
    if job.previous is not None:
        init = image.resize(job.previous, *job.work)
        job = dataclasses.replace(job, previous=None)
    elif settings.starts_from_folder:
        start = reader.result(Path(settings.init), job.key, max(job.work))
        init = image.resize(start.pixels, *job.work)
        notes.append(f"started from a result with the checksum {start.sha256}")
    else:
        picture = None if ready.start is None else image.resize(ready.start, *job.work)
        init = initial(settings, content, style.picture, job.key, picture)
    width, height = job.bucket
    inputs = lane_inputs(content, init, height, width)
    return Prepared(job, decoded.sha256, decoded.alpha, (*decoded.notes, *notes), inputs, style, photograph)
