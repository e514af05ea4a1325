"""From a lane that has ended to an output and its row. An image that came out wrong is found here and not written."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Literal

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.base import Sink
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.prepare import Prepared
from jaxstyle.errors import ImageError
from jaxstyle.planning.plan import Job
from jaxstyle.settings import RenderSettings
from jaxstyle.style.status import Status

IMPROVED = 0.99
"""A STALLED lane counts as done if its loss is below this part of its start loss."""
OPTIMAL = 1e-5
"""A start loss up to this is rounding: the start is the optimum, as for a photograph that is the style picture."""
BLACK = 2
"""An image without a pixel above this of 255 is black."""
GLANCE = 32
"""Pixels a side of the sample that is looked at first."""


def problem(ended: Ended[Prepared]) -> str:
    """What is wrong with the image of a lane, so that a second try may help; "" if nothing is.

    A loss is compared with the start loss of the same stage: losses of other sizes are not comparable.
    """
    result = ended.result
    if result is None:
        return ""  # a second try has no more memory
    optimal = result.start_loss <= OPTIMAL
    if ended.status == Status.DIVERGED or not np.isfinite(result.image).all():
        return "diverged: its loss was not finite"
    if ended.status == Status.STALLED and not (optimal or result.loss < IMPROVED * result.start_loss):
        return f"stalled: no step lowered its loss from {result.start_loss:.4g}"
    if ended.evaluations > 1 and not (optimal or result.loss < result.start_loss):
        return f"came out no better: its loss went from {result.start_loss:.4g} to {result.loss:.4g}"
    return _looks_wrong(_picture(ended))


def _picture(ended: Ended[Prepared]) -> np.ndarray:
    """The image of a lane without the border that filled its bucket up."""
    assert ended.result is not None
    width, height = ended.task.job.work
    return ended.result.image[:height, :width]


def _looks_wrong(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    sample = image.to_bytes(picture[:: max(1, height // GLANCE), :: max(1, width // GLANCE)])
    if sample.max() > BLACK and (sample != sample[0, 0]).any():
        return ""
    shown = image.to_bytes(picture)
    if shown.max() <= BLACK:
        return "came out black"
    if (shown == shown[0, 0]).all() and width * height > 1:
        return f"came out as one colour, {tuple(shown[0, 0].tolist())}"
    return ""


def next_job(ended: Ended[Prepared]) -> Job | None:
    """The job that a lane's end leads to: a second try, from the first stage on, or the next stage; None if it is done.

    The image of a stage is kept without its border.
    """
    job = ended.task.job
    if ended.result is None:
        return None
    if wrong := problem(ended):
        return None if job.first_problem else job.second_try(wrong)
    if job.last:
        return None
    return job.next_stage(_picture(ended).copy(), ended.evaluations, ended.seconds)


def publish(ended: Ended[Prepared], settings: RenderSettings, sink: Sink) -> Row:
    """Writes the image of a lane and returns its row; the caller commits the output before it keeps the row.

    Evaluations and seconds are those of all stages of the last try; `start_loss` is that of the last stage, so that
    it can be compared with the loss.

    Raises:
        StorageError: the output cannot be written.
    """
    task, result = ended.task, ended.result
    job = task.job
    made: dict[str, Any] = {
        "evaluations": job.evaluations_before + ended.evaluations,
        "seconds": round(job.seconds_before + ended.seconds, 4),
    }
    if result is None:
        return row(task, "failed", reason="out of memory even alone: use a smaller --size", **made)
    made["ended"] = Status(ended.status).name.lower()
    if wrong := problem(ended):
        twice = f"{wrong} (on the second try; on the first: {job.first_problem})" if job.first_problem else wrong
        return row(task, "failed", reason=twice, **made)
    size = job.output_size(settings)
    pixels = image.resize(image.to_unit(_picture(ended)), *size)
    alpha = None if task.alpha is None else task.alpha.astype(np.float32) / 255
    try:
        data = image.encode(pixels, alpha, job.header.format, settings.quality, job.key)
    except ImageError as error:
        return row(task, "failed", reason=str(error), **made)
    try:
        sink.write(job.key, data)
    except ImageError as error:  # of this output only: its name, its place, its folder's permissions
        return row(task, "failed", reason=str(error), **made)
    again = (f"second try: the first {job.first_problem}",) if job.first_problem else ()
    return row(
        task,
        "done",
        precision=result.precision,
        loss=dict(result.terms) | {"total": sum(result.terms.values())},
        start_loss=result.start_loss,
        output_size=size,
        output_bytes=len(data),
        output_sha256=hashlib.sha256(data).hexdigest(),
        notes=(*task.notes, *again),
        **made,
    )


def row(of: Job | Prepared, status: Literal["done", "failed"], **fields: Any) -> Row:
    """A row with these fields and what is known of the input."""
    job, sha256 = (of, "") if isinstance(of, Job) else (of.job, of.sha256)
    filled = Row(
        job.key,
        status,
        input_bytes=job.length,
        input_modified=job.modified,
        input_sha256=sha256,
        input_size=(job.header.width, job.header.height),
        work_size=job.stages[-1].work,
        frames=job.header.frames,
    )
    fields.setdefault("notes", () if isinstance(of, Job) else of.notes)
    notes = (*fields.pop("notes"), *((job.note,) if job.note else ()))
    return dataclasses.replace(filled, notes=notes, **fields)
