"""One run, from inputs to outputs: plan, decode, optimise, publish; one row in the manifest for every input."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from jaxstyle.data import image, manifest, sink
from jaxstyle.data.manifest import Manifest, Row
from jaxstyle.data.source import Input, printable
from jaxstyle.engine import preflight
from jaxstyle.engine.plan import Job, Size, plan, work_size
from jaxstyle.errors import ImageError
from jaxstyle.model import weights
from jaxstyle.settings import INITS, RenderSettings

if TYPE_CHECKING:
    from jaxstyle.engine.lanes import Ended

EXAMPLES = 8
"""Results that a run remembers for its contact sheet."""


class Progress(Protocol):
    """Somebody who wants to know how a run goes on."""

    def begin(self, images: int, evaluations: int, finished: int) -> None:
        """The plan stands: images to render, their evaluations in all, inputs finished earlier."""

    def advance(self, evaluations: int, loss: float) -> None:
        """Evaluations spent since the last call, and the mean loss of the images being worked on."""

    def row(self, row: Row) -> None:
        """An input has its row."""


class Silent:
    """Nobody."""

    def begin(self, images: int, evaluations: int, finished: int) -> None: ...
    def advance(self, evaluations: int, loss: float) -> None: ...
    def row(self, row: Row) -> None: ...


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        output: the folder.
        done, skipped, failed: inputs by status, over all runs into the folder.
        rendered: images rendered by this run.
        programs: programs compiled for batches of a shape.
        examples: (input, output) of the first results of this run.
    """

    output: Path
    done: int = 0
    skipped: int = 0
    failed: int = 0
    rendered: int = 0
    programs: int = 0
    examples: list[tuple[Path, Path]] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """A decoded job: the arrays of its lane, and what its output needs."""

    job: Job
    alpha: np.ndarray | None
    notes: tuple[str, ...]
    content: np.ndarray
    init: np.ndarray


def render(
    inputs: Path | str | Iterable[Path | str],
    style: Path | str,
    output: Path | str,
    settings: RenderSettings | None = None,
    *,
    progress: Progress | None = None,
    **overrides: Any,
) -> Summary:
    """Renders files and folders of photographs in one style, several at a time.

    Every input gets one row in OUTPUT/manifest.jsonl; a picture that cannot be read is a row, not an error. Called
    again, it renders what is missing.

    Args:
        inputs: a file or folder, or several; folders are searched recursively, and mirrored in the output.
        style: the style picture's file.
        output: folder for the results; made if absent.
        settings: defaults of `RenderSettings` where left out. Sizes are in pixels.
        progress: told how it goes on.
        **overrides: single fields of `settings`.

    Raises:
        InputError: no such input, an unreadable style, two inputs for one output, an output among the inputs.
        SettingsError, SettingsMismatch: an impossible setting; the output folder has results of other settings.
        WeightsError: the network's weights cannot be had.
        StorageError: the output cannot be written.
    """
    settings = dataclasses.replace(settings or RenderSettings(), **overrides)
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(p) for p in inputs]
    output, style, progress = Path(output), Path(style), progress or Silent()
    overwrite = settings.existing == "overwrite"

    # Everything that can be wrong is looked at before the first byte is written.
    preflight.check_folders(paths, style, output, settings)
    painting = preflight.own_picture(style, "style", settings)
    painting = image.resize(
        painting, *work_size(painting.shape[1], painting.shape[0], settings.style_size or settings.size)
    )
    start = None if settings.init in INITS else preflight.own_picture(Path(settings.init), "init picture", settings)
    network = weights.load(settings.weights)
    run = preflight.describe(style, settings, network)
    if not overwrite:
        manifest.compare(output, run)
    common: dict[str, Any] = {"style": printable(style.name), "seed": settings.seed}
    before = {} if overwrite else manifest.read(output)
    jobs, others = _plan(paths, settings, lambda one: preflight.finished(one, before, output, settings))

    sink.prepare(output, paths)
    rows = Manifest(output, fresh=overwrite)
    try:
        manifest.settle(output, run, overwrite=overwrite)

        def tell(*new: Row) -> None:
            new = tuple(dataclasses.replace(row, **common) for row in new)
            rows.append(*new)
            for row in new:
                progress.row(row)

        tell(*others)
        progress.begin(len(jobs), len(jobs) * settings.evaluations, len(rows.rows) - len(others))
        summary = Summary(output)
        if jobs:
            _run(jobs, painting, start, settings, network, tell, progress, summary)
        summary.done, summary.skipped, summary.failed = map(rows.count, ("done", "skipped", "failed"))
        return summary
    finally:
        rows.close()


def _plan(paths, settings: RenderSettings, finished: Callable[[Input], bool]) -> tuple[list[Job], list[Row]]:
    jobs: list[Job] = []
    rows: list[Row] = []
    for planned in plan(paths, settings, finished):
        if isinstance(planned, Row):
            rows.append(planned)
        else:
            jobs.append(planned)
            if len(jobs) == settings.limit:
                break
    return jobs, rows


def _run(jobs, painting, start, settings, network, tell, progress, summary) -> None:
    from jaxstyle.engine import lanes  # jax is imported when everything else has been found in order
    from jaxstyle.style.stylize import stylizer as stylizer_for

    stylizer = stylizer_for(settings, network)
    compiled = stylizer.compiled
    targets = stylizer.style_targets(painting)
    queues: dict[Size, list[Job]] = defaultdict(list)
    for job in jobs:
        queues[job.bucket].append(job)

    def failed(row: Row) -> None:
        tell(row)
        progress.advance(settings.evaluations, math.nan)

    for size, queue in queues.items():
        ready = _prepare(queue, settings, painting, start, failed)
        for ended in lanes.run(stylizer, settings, targets, batch_size(settings, size), ready, progress.advance):
            row, path = _publish(ended, settings, summary.output)
            tell(row)
            progress.advance(settings.evaluations - ended.evaluations, math.nan)
            summary.rendered += row.status == "done"
            if row.status == "done" and len(summary.examples) < EXAMPLES:
                summary.examples.append((ended.task.job.path, path))
    summary.programs = stylizer.compiled - compiled


def _prepare(
    jobs: list[Job], settings: RenderSettings, painting: np.ndarray, start: np.ndarray | None, failed
) -> Iterator[Prepared]:
    """Decodes jobs as lanes ask for them."""
    from jaxstyle.style.initial import initial
    from jaxstyle.style.stylize import pad_reflect

    for job in jobs:
        try:
            picture = image.read(job.path, settings.max_pixels)
        except ImageError as error:
            failed(_row(job, "failed", reason=str(error)))
            continue
        except OSError as error:
            failed(_row(job, "failed", reason=f"cannot be read ({error.strerror})"))
            continue
        if (picture.header.width, picture.header.height) != (job.header.width, job.header.height):
            failed(_row(job, "failed", reason="changed while the run went on"))
            continue
        content = pad_reflect(image.resize(picture.pixels, *job.work), job.bucket[1], job.bucket[0])
        other = None if start is None else pad_reflect(image.resize(start, *job.work), job.bucket[1], job.bucket[0])
        init = initial(settings, content, painting, job.key, other)
        yield Prepared(job, picture.alpha, picture.notes, content, init)


def _publish(ended: Ended[Prepared], settings: RenderSettings, output: Path) -> tuple[Row, Path]:
    """Writes a lane's picture, then says so."""
    from jaxstyle.style.solver import Status

    job, alpha = ended.task.job, ended.task.alpha
    row = _row(
        job,
        "done",
        ended=ended.status.name.lower(),
        loss=ended.terms | {"total": sum(ended.terms.values())},
        evaluations=ended.evaluations,
        seconds=round(ended.seconds, 4),
        notes=ended.task.notes,
    )
    path = output / job.key
    if ended.status == Status.DIVERGED or not np.isfinite(ended.image).all():
        return dataclasses.replace(row, status="failed", reason="diverged: its loss was not finite", loss={}), path
    pixels = image.to_unit(ended.image[: job.work[1], : job.work[0]])
    size = (job.header.width, job.header.height) if settings.output_size == "input" else job.work
    pixels = image.resize(pixels, *size)
    alpha = None if alpha is None else image.resize(alpha, *size)
    try:
        data = image.encode(pixels, alpha, job.header.format, settings.quality)
    except ImageError as error:
        return dataclasses.replace(row, status="failed", reason=str(error)), path
    sink.publish(path, data)
    return dataclasses.replace(row, output_size=size), path


def _row(job: Job, status: Literal["done", "failed"], **fields: Any) -> Row:
    size = (job.header.width, job.header.height)
    return Row(
        job.key, status, input_bytes=job.length, input_size=size, work_size=job.work, frames=job.header.frames, **fields
    )


def batch_size(settings: RenderSettings, bucket: Size) -> int:
    """Images side by side: as asked, or what suits the device."""
    if settings.batch != "auto":
        return int(settings.batch)
    import jax

    if jax.default_backend() == "cpu":
        return CPU_BATCH
    return max(1, min(64, 16 * 512**2 // (bucket[0] * bucket[1])))


CPU_BATCH = 2
"""bench/results: an image-evaluation takes as long in a batch of 1 to 8 on two cores; larger ones only take memory."""
