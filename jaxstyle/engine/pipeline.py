"""One run, from inputs to outputs: plan, decode, optimise, publish; one row in the manifest for every input."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxstyle.data import image, manifest, sink
from jaxstyle.data.manifest import Manifest, Row
from jaxstyle.data.source import printable
from jaxstyle.engine.plan import Job, Size, plan, work_size
from jaxstyle.errors import ImageError, InputError
from jaxstyle.model import weights
from jaxstyle.settings import INITS, RenderSettings

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
    if not paths:
        raise InputError("there is no input", "Give files or folders of photographs.")
    output, progress = Path(output), progress or Silent()
    painting = _style_picture(Path(style), settings)
    for path in paths:
        if not path.exists():
            raise InputError(f"the input {printable(path)} does not exist", "Give files or folders that exist.")
    network = weights.load(settings.weights)
    sink.prepare(output, paths)
    _settle(output, Path(style), settings, network)

    rows = Manifest(output, fresh=settings.existing == "overwrite")
    try:
        again = {key for key, row in rows.rows.items() if settings.retry_failed and row["status"] == "failed"}
        finished = rows.rows.keys() - again
        queues, total = _plan(paths, settings, finished, rows, progress)
        progress.begin(total, total * settings.evaluations, len(finished))
        summary = Summary(output)
        if total:
            _run(queues, painting, Path(style), settings, network, rows, progress, summary)
        summary.done, summary.skipped, summary.failed = map(rows.count, ("done", "skipped", "failed"))
        return summary
    finally:
        rows.close()


def _style_picture(path: Path, settings: RenderSettings) -> np.ndarray:
    """The style at its working size."""
    if not path.is_file():
        raise InputError(f"the style {printable(path)} is not a file", "Give the path of one style picture.")
    try:
        picture = image.read(path, settings.max_pixels)
    except ImageError as error:
        raise InputError(f"the style {printable(path)} {error.what}", "Give another picture.") from error
    size = work_size(picture.header.width, picture.header.height, settings.style_size or settings.size)
    return image.resize(picture.pixels, *size)


def _settle(output: Path, style: Path, settings: RenderSettings, network: weights.Weights) -> None:
    if settings.existing == "error" and (output / manifest.NAME).exists():
        raise InputError(f"{output} has results already", "Choose another folder, or --existing resume or overwrite.")
    decides = {
        "settings": settings.pixels(),
        "style": hashlib.sha256(style.read_bytes()).hexdigest(),
        "weights": network.digest,
    }
    if settings.init not in INITS:
        decides["init"] = hashlib.sha256(Path(settings.init).read_bytes()).hexdigest()
    about = {
        "jaxstyle": version("jaxstyle"),
        "jax": version("jax"),
        "style": printable(style),
        "weights": network.source,
    }
    manifest.settle(output, {"decides": decides, "about": about}, overwrite=settings.existing == "overwrite")


def _plan(paths, settings, finished, rows, progress) -> tuple[dict[Size, list[Job]], int]:
    """Jobs by bucket; rows of what cannot be rendered are written at once."""
    queues: dict[Size, list[Job]] = defaultdict(list)
    total = 0
    for planned in plan(paths, settings, finished):
        if isinstance(planned, Row):
            rows.append(planned)
            progress.row(planned)
        elif settings.limit is None or total < settings.limit:
            queues[planned.bucket].append(planned)
            total += 1
    return queues, total


def _run(queues, painting, style, settings, network, rows, progress, summary) -> None:
    from jaxstyle.engine import lanes  # jax is imported when everything else has been found in order
    from jaxstyle.style.stylize import stylizer as stylizer_for

    stylizer = stylizer_for(settings, network)
    compiled = stylizer.compiled
    targets = stylizer.style_targets(painting)
    start = None if settings.init in INITS else image.read(Path(settings.init), settings.max_pixels).pixels
    for size, jobs in queues.items():

        def failed(row: Row) -> None:
            rows.append(row)
            progress.row(row)
            progress.advance(settings.evaluations, float("nan"))

        ready = _prepare(jobs, settings, painting, start, failed)
        for ended in lanes.run(stylizer, targets, batch_size(settings, size), ready, progress.advance):
            row, path = _publish(ended, style, settings, summary.output)
            rows.append(row)
            progress.row(row)
            progress.advance(settings.evaluations - ended.evaluations, float("nan"))
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
            failed(_row(job, settings, status="failed", reason=str(error)))
            continue
        except OSError as error:
            failed(_row(job, settings, status="failed", reason=f"cannot be read ({error.strerror})"))
            continue
        if (picture.header.width, picture.header.height) != (job.header.width, job.header.height):
            failed(_row(job, settings, status="failed", reason="changed while the run went on"))
            continue
        content = pad_reflect(image.resize(picture.pixels, *job.work), job.bucket[1], job.bucket[0])
        other = None if start is None else pad_reflect(image.resize(start, *job.work), job.bucket[1], job.bucket[0])
        init = initial(settings, content, painting, job.key, other)
        yield Prepared(job, picture.alpha, picture.notes, content, init)


def _publish(ended, style: Path, settings: RenderSettings, output: Path) -> tuple[Row, Path]:
    """Writes a lane's picture, then says so."""
    from jaxstyle.style.solver import Status

    job, alpha = ended.task.job, ended.task.alpha
    row = _row(
        job, settings, style=printable(style.name), ended=ended.status.name.lower(), loss=ended.terms | {
        "total": sum(ended.terms.values())}, evaluations=ended.evaluations, seconds=round(ended.seconds, 4),
        notes=ended.task.notes,
    )  # fmt: skip
    path = output / job.key
    if ended.status == Status.DIVERGED or not np.isfinite(ended.image).all():
        return dataclasses.replace(row, status="failed", reason="diverged: its loss was not finite", loss={}), path
    pixels = image.to_unit(ended.image[: job.work[1], : job.work[0]])
    size = (job.header.width, job.header.height) if settings.output_size == "input" else job.work
    pixels = image.resize(pixels, *size)
    alpha = None if alpha is None else image.resize(alpha, *size)
    sink.publish(path, image.encode(pixels, alpha, job.header.format, settings.quality))
    return dataclasses.replace(row, output_size=size), path


def _row(job: Job, settings: RenderSettings, status: Any = "done", **fields: Any) -> Row:
    size = (job.header.width, job.header.height)
    return Row(
        job.key, status, seed=settings.seed, input_size=size, work_size=job.work, frames=job.header.frames, **fields
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
