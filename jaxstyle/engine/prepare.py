"""From a job to the arrays of its lane."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from jaxstyle.data import image
from jaxstyle.decode.pool import Decoders, Stat
from jaxstyle.errors import ImageError
from jaxstyle.planning.buckets import shape
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready
from jaxstyle.style.initial import initial, pad_reflect


@dataclass(frozen=True)
class Prepared:
    """A decoded job: the arrays of its lane, and what its output needs.

    Attributes:
        sha256: of the input file.
        alpha: H x W uint8 at the output's size, or None.
        content, init: arrays of the bucket's size.
    """

    job: Job
    sha256: str
    alpha: np.ndarray | None
    notes: tuple[str, ...]
    content: np.ndarray
    init: np.ndarray


def prepare(job: Job, decoders: Decoders, ready: Ready) -> Prepared:
    """Decodes a picture, fills it up to its bucket, and says where its optimisation starts.

    Raises:
        ImageError: it cannot be decoded, or is not what it was when the run was planned.
    """
    settings = ready.settings
    decoded = decoders.read(job.path, settings.size, full_alpha=settings.output_size == "input")
    if decoded.stat != Stat(job.length, job.modified):
        raise ImageError("changed while the run went on")
    if decoded.header != job.header:  # a PNG's orientation may stand behind its pixels, where no header tells it
        work, bucket = shape(decoded.header, settings.size)
        job = dataclasses.replace(job, header=decoded.header, work=work, bucket=bucket)
    width, height = job.bucket
    content = pad_reflect(decoded.pixels, height, width)
    start = None if ready.start is None else pad_reflect(image.resize(ready.start, *job.work), height, width)
    init = initial(settings, content, ready.style_image, job.key, start)
    return Prepared(job, decoded.sha256, decoded.alpha, decoded.notes, content, init)
