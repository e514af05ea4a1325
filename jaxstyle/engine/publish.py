"""From a lane that has ended to an output and its row. An image that came out wrong (`judge`) is not written."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Literal

import numpy as np

from jaxstyle.data import image
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.engine.events import Example
from jaxstyle.engine.judge import judgement, picture_of, problem, remark
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.prepare import Prepared
from jaxstyle.errors import ImageError
from jaxstyle.planning.plan import Job
from jaxstyle.planning.preflight import Ready
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import with_colours_of
from jaxstyle.style.status import Status

THUMBNAIL = 256
"""Longest side in pixels of the small copies for a contact sheet."""


def next_job(ended: Ended[Prepared], ready: Ready) -> Job | None:
    """The job that a lane's end leads to: a second try, from the first stage on, or the next stage; None if it is done.

    The image of a stage is kept without its border.
    """
    job = ended.task.job
    if ended.result is None:
        return None
    if wrong := problem(ended, ready.settings):
        return None if job.first_problem else job.second_try(wrong)
    if job.last:
        return None
    job = dataclasses.replace(job, note="; ".join(filter(None, (job.note, *ended.notes))))
    return job.next_stage(picture_of(ended).copy(), ended.evaluations, ended.seconds, ended.course)


NOT_CONTINUED = "not continued: "
"""Beginning of the note of an output that was to be continued and stays as it was."""


def publish(ended: Ended[Prepared], ready: Ready) -> Row:
    """Writes the image of a lane and returns its row; the caller commits the output before it keeps the row.

    An output that was to be continued is replaced only by a better one.

    Raises:
        StorageError: the output cannot be written.
    """
    made, continued = _publish(ended, ready), ended.task.job.continued
    if continued is None or made.status == "done":
        return made
    return kept(continued, made.reason, final=bool(problem(ended, ready.settings)))


def failed(job: Job, reason: str, **fields: Any) -> Row:
    """The row of a job that cannot be optimised; the output of one that was to be continued stays."""
    return row(job, "failed", reason=reason, **fields) if job.continued is None else kept(job.continued, reason)


def is_new(made: Row) -> bool:
    """Whether a row tells of an output that was just written."""
    return made.status == "done" and not any(note.startswith(NOT_CONTINUED) for note in made.notes)


def kept(continued: Row, reason: str, *, final: bool = False) -> Row:
    """The row of an output that was to be continued and stays as it was.

    Args:
        final: optimising it further did not help, so that it is not tried again.
    """
    notes = [note for note in continued.notes if not note.startswith(NOT_CONTINUED)]
    ended = "stalled" if final else continued.ended
    return dataclasses.replace(continued, ended=ended, notes=(*notes, NOT_CONTINUED + reason))


def _publish(ended: Ended[Prepared], ready: Ready) -> Row:
    """Writes the image of a lane and returns its row.

    Evaluations and seconds are those of all stages of the last try; `start_loss` is that of the last stage, so that
    it can be compared with the loss.

    Raises:
        StorageError: the output cannot be written.
    """
    task, result, settings = ended.task, ended.result, ready.settings
    job = task.job
    made: dict[str, Any] = {
        "evaluations": job.evaluations_before + ended.evaluations,
        "seconds": round(job.seconds_before + ended.seconds, 4),
        "batch": ended.sizes[0] if ended.sizes else 0,
    }
    made |= job.course.then(ended.course, job.evaluations_before).fields()
    if result is None:
        return row(task, "failed", reason="out of memory even alone: use a smaller --size or --tile", **made)
    found = judgement(ended)
    made |= {"ended": Status(ended.status).name.lower(), "judgement": found}
    if wrong := problem(ended, settings, found):
        twice = f"{wrong} (on the second try; on the first: {job.first_problem})" if job.first_problem else wrong
        return row(task, "failed", reason=twice, **made)
    size = job.output_size(settings)
    pixels = image.resize(finished(ended, settings), *size)
    alpha = None if task.alpha is None else task.alpha.astype(np.float32) / 255
    try:
        format = kinds.WRITTEN.get(settings.output_format, job.header.format)
        data = image.encode(
            pixels,
            alpha,
            format,
            settings.quality,
            job.key,
            bits=settings.bits,
            tagged=settings.color_profile == "srgb",
            exif=task.exif,
        )
    except ImageError as error:
        return row(task, "failed", reason=str(error), **made)
    try:
        ready.sink.write(job.key, data)
    except ImageError as error:  # of this output only: its name, its place, its folder's permissions
        return row(task, "failed", reason=str(error), **made)
    again = [f"second try: the first {job.first_problem}"] if job.first_problem else []
    again += filter(None, [remark(ended, settings)])
    return row(
        task,
        "done",
        precision=result.precision,
        loss=dict(result.terms) | {"total": sum(result.terms.values())},
        start_loss=result.start_loss,
        output_size=size,
        output_bytes=len(data),
        output_sha256=hashlib.sha256(data).hexdigest(),
        notes=(*task.notes, *ended.notes, *again),
        **made,
    )


def finished(ended: Ended[Prepared], settings: RenderSettings) -> np.ndarray:
    """The image of a lane with the colours and the strength that were asked for, H x W x 3 in [0, 1]; where the mask
    says so, the photograph."""
    pixels, content = image.to_unit(picture_of(ended)), ended.task.content
    if settings.colors in ("content", "luminance"):
        pixels = with_colours_of(pixels, content)
    pixels = pixels if settings.strength == 1 else content + (pixels - content) * np.float32(settings.strength)
    kept = ended.task.kept
    return pixels if kept is None else content + (pixels - content) * (1 - kept[..., None])


def example(ended: Ended[Prepared], settings: RenderSettings) -> Example:
    """Makes small copies of a picture, its result and its style."""
    width, height = ended.task.job.work
    size = image.work_size(width, height, THUMBNAIL)
    pair = (ended.task.content, finished(ended, settings))
    style = ended.task.style.picture
    small = image.resize(style, *image.work_size(style.shape[1], style.shape[0], THUMBNAIL))
    content, result = (image.to_bytes(image.resize(one, *size)) for one in pair)
    return Example(content, result, image.to_bytes(small))


def row(of: Job | Prepared, status: Literal["done", "failed"], **fields: Any) -> Row:
    """A row with these fields and what is known of the input."""
    job, sha256 = (of, "") if isinstance(of, Job) else (of.job, of.sha256)
    filled = Row(
        job.key,
        status,
        image=job.image,
        style=job.style,
        input_bytes=job.length,
        input_modified=job.modified,
        input_sha256=sha256,
        input_size=(job.header.width, job.header.height),
        work_size=job.stages[-1].work,
        frames=job.header.frames,
    )
    if isinstance(of, Prepared) and of.job.style:
        style = of.style
        fields |= {
            "style_sha256": style.file_sha256 or style.sha256,
            "style_bytes": style.length,
            "style_modified": style.modified,
        }
    if isinstance(of, Prepared):
        fields |= {"masks_sha256": of.masks_sha256}
    fields.setdefault("notes", () if isinstance(of, Job) else of.notes)
    notes = (*fields.pop("notes"), *((job.note,) if job.note else ()))
    return dataclasses.replace(filled, notes=notes, **fields)
