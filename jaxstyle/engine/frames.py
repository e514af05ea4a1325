"""The start of a frame: the result of the frame before, moved along with the picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.reader import Reader
from jaxstyle.engine.flow import moved, opencv, warp
from jaxstyle.errors import ImageError
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready

UNWARPED = (
    "OpenCV is not installed: each frame starts from the result of the one before as it is, and what moves is not kept "
    "steady. To move it along: pip install 'jaxstyle[frames]'"
)


class Start(NamedTuple):
    """How a frame begins.

    Attributes:
        before: the warped result of the frame before, h x w x 3 float32 in [0, 1], and its weights, h x w; None where
            there is none to start from.
        note: for the row.
    """

    before: tuple[np.ndarray, np.ndarray] | None = None
    note: str = ""


def start(job: Job, photograph: np.ndarray, reader: Reader, ready: Ready) -> Start:
    """Reads the frame before and its output, and moves the output along.

    The output is read from its file, in 8 bits, so that a resumed run does what an undisturbed one does.

    Args:
        photograph: the frame, h x w x 3 float32 of the job's working size.
    """
    if job.before is None:
        return Start()
    name, size = printable(job.before.key), max(job.work)
    try:
        past = reader.read(job.before.locator, size, full_alpha=False).pixels
        made = reader.result(ready.output, job.before.key, size).pixels
    except ImageError as error:
        return Start(note=f"begun afresh: the frame before, {name}, {error}")
    if past.shape != photograph.shape:
        return Start(note=f"begun afresh: the frame before, {name}, has another shape")
    flow, weights = moved(past, photograph)
    result = np.asarray(warp(image.resize(made, *job.work), flow), np.float32)
    return Start((result, weights), f"started from the result of {name}{'' if opencv() else ', not moved along'}")
