"""Intermediate pictures of `--save-every`: from a lane that goes on to a file beside the outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.layout import STEPS, step_key
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.prepare import Prepared
from jaxstyle.engine.publish import finished
from jaxstyle.errors import ImageError
from jaxstyle.planning.contract import Result
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready
from jaxstyle.style.status import Status


class Step(NamedTuple):
    """The image of a lane on its way.

    Attributes:
        task, result: of the lane.
        evaluations: spent on the image, in all stages.
    """

    task: Prepared
    result: Result
    evaluations: int


def is_final(task: Prepared, status: int) -> bool:
    """Whether a lane's image is no intermediate one: it is the output, or its second try begins anew."""
    return status != Status.RUNNING and task.job.last


def clears(ready: Ready) -> bool:
    """Whether this run deletes the intermediate pictures of the images that it begins: it writes or finds some."""
    return ready.settings.save_every is not None or (ready.folder is not None and ready.folder.has(STEPS))


def clear(job: Job, ready: Ready) -> None:
    """Deletes the intermediate pictures of an image that is at its beginning.

    Raises:
        ImageError, StorageError: see `Sink.clear_steps`.
    """
    if not job.stage and job.continued is None:
        ready.sink.clear_steps(job.key)


def write(step: Step, ready: Ready) -> str:
    """Writes an intermediate picture, a PNG of its stage's working size; returns why it cannot be written, or "".

    An image that is not finite is left out: its lane is about to end.

    Raises:
        StorageError: nothing can be written.
    """
    if not np.isfinite(step.result.image).all():
        return ""
    key = step_key(step.task.job.key, step.evaluations)
    pixels = finished(Ended(step.task, step.result, step.evaluations, Status.RUNNING, 0.0), ready.settings)
    try:
        ready.sink.write(key, image.encode(pixels, None, "PNG", ready.settings.quality, key))
    except ImageError as error:
        return str(error)
    ready.sink.commit([key])
    return ""
