"""From a lane that has ended to a file and its row; what came out wrong is found here and is never called done."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.prepare import Prepared
from jaxstyle.errors import ImageError
from jaxstyle.planning.plan import Job
from jaxstyle.settings import RenderSettings
from jaxstyle.style.status import Status

IMPROVED = 0.99
"""A lane that found no further step is well if its loss came below this part of the loss at its start."""
BLACK = 2
"""No pixel above this of 255: a black picture."""


def problem(ended: Ended[Prepared]) -> str:
    """What is wrong with a lane's end: a second try may help. Empty if nothing is."""
    result = ended.result
    if result is None:
        return ""  # no second try has more memory
    loss = sum(result.terms.values())
    if ended.status == Status.DIVERGED or not np.isfinite(result.image).all():
        return "diverged: its loss was not finite"
    if ended.status == Status.STALLED and not loss < IMPROVED * result.start_loss:
        return f"stalled: no step lowered its loss from {result.start_loss:.4g}"
    width, height = ended.task.job.work
    shown = image.to_bytes(result.image[: height : max(1, height // 32), : width : max(1, width // 32)])
    if shown.max() > BLACK and (shown != shown[0, 0]).any():
        return ""  # a glance is enough
    shown = image.to_bytes(result.image[:height, :width])
    if shown.max() <= BLACK:
        return "came out black"
    if (shown == shown[0, 0]).all() and width * height > 1:
        return f"came out as one colour, {tuple(shown[0, 0].tolist())}"
    return ""


def publish(ended: Ended[Prepared], settings: RenderSettings, output: Path, part: str) -> Row:
    """Writes a lane's picture and says so in its row; the caller syncs the picture's folder before the row is kept.

    Args:
        part: see `write_file`.

    Raises:
        StorageError: the output cannot be written.
    """
    task, result = ended.task, ended.result
    job = task.job
    made: dict[str, Any] = {"evaluations": ended.evaluations, "seconds": round(ended.seconds, 4)}
    wrong = problem(ended)
    if result is None:
        return row(task, "failed", reason="out of memory even alone: use a smaller --size", **made)
    if wrong:
        twice = f"{wrong} (on the second try; on the first: {job.first_problem})" if job.first_problem else wrong
        return row(task, "failed", reason=twice, ended=Status(ended.status).name.lower(), **made)
    pixels = image.to_unit(result.image[: job.work[1], : job.work[0]])
    size = job.output_size(settings)
    pixels = image.resize(pixels, *size)
    alpha = None if task.alpha is None else task.alpha.astype(np.float32) / 255
    try:
        data = image.encode(pixels, alpha, job.header.format, settings.quality)
    except ImageError as error:
        return row(task, "failed", reason=str(error), **made)
    write_file(output / job.key, data, part=part, sync=False)
    again = (f"second try: the first {job.first_problem}",) if job.first_problem else ()
    return row(
        task,
        "done",
        ended=Status(ended.status).name.lower(),
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
    """A row with what is pending of the input."""
    job, sha256 = (of, "") if isinstance(of, Job) else (of.job, of.sha256)
    filled = Row(
        job.key,
        status,
        input_bytes=job.length,
        input_modified=job.modified,
        input_sha256=sha256,
        input_size=(job.header.width, job.header.height),
        work_size=job.work,
        frames=job.header.frames,
    )
    fields.setdefault("notes", () if isinstance(of, Job) else of.notes)
    notes = (*fields.pop("notes"), *((job.note,) if job.note else ()))
    return dataclasses.replace(filled, notes=notes, **fields)
