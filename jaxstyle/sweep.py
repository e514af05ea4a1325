"""`jaxstyle sweep`: one run for each combination of settings, and a labelled sheet of all results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxstyle.data.layout import SHEET, STEPS
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine import pipeline
from jaxstyle.engine.events import Progress, Summary
from jaxstyle.engine.publish import THUMBNAIL
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import ImageError
from jaxstyle.report.sheet import Pixels, labelled, save
from jaxstyle.settings import RenderSettings
from jaxstyle.variants import Variant

WIDEST = 4
"""Most columns for the values of a single flag."""


def run(
    inputs: Sequence[Path | str],
    style: Sequence[str],
    output: Path,
    cases: Sequence[tuple[Variant, RenderSettings]],
    progress: Progress,
    stop: Stop,
) -> tuple[list[Summary], Path | None]:
    """Renders every combination into a folder of its own below the output, and draws the sheet.

    Returns:
        the summaries of the runs, until one was stopped, and the sheet's path; None if it was not drawn.

    Raises:
        JaxstyleError: see `pipeline.render`.
    """
    summaries: list[Summary] = []
    for variant, settings in cases:
        if variant.values:
            progress.say(variant.label.replace("\n", ", "))
        summaries.append(
            pipeline.render(
                inputs, style, output / variant.name, settings, progress=progress, stop=stop, own_process=True
            )
        )
        if summaries[-1].stopped:
            return summaries, None
    return summaries, draw(output, cases)


def draw(output: Path, cases: Sequence[tuple[Variant, RenderSettings]]) -> Path | None:
    """Draws a grid for every picture: a column for each value of the last flag, a row for each combination of others;
    the values of a single flag fill rows of at most `WIDEST`.

    Raises:
        StorageError: the sheet cannot be written.
    """
    keys = sorted({path.relative_to(output / variant.name).as_posix()
                   for variant, _ in cases for path in _pictures(output / variant.name)})  # fmt: skip
    columns = _columns([variant for variant, _ in cases])
    grid: list[list[Pixels]] = []
    with decoders_for(cases[0][1]) as decoders:

        def cell(key: str, variant: Variant) -> Pixels:
            try:
                levels = decoders.read(output / variant.name / key, THUMBNAIL, full_alpha=False).levels
            except ImageError:  # a combination that failed leaves its place empty
                return None
            return labelled(levels, variant.label)

        for key in keys[:8]:
            cells = [cell(key, variant) for variant, _ in cases]
            grid += [cells[at : at + columns] for at in range(0, len(cells), columns)]
    if not grid:
        return None
    save(output / SHEET, grid)
    return output / SHEET


def _columns(variants: Sequence[Variant]) -> int:
    """Counts the columns of a grid."""
    flags = [*variants[0].values]
    number = len(dict.fromkeys(variant.values.get(flags[-1] if flags else "", "") for variant in variants))
    return math.ceil(number / math.ceil(number / WIDEST)) if len(flags) == 1 else number


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.name != SHEET and kinds.by_name(path.name) and path.is_file()]
    return [path for path in found if path.relative_to(folder).parts[0] != STEPS]


def told(summaries: Sequence[Summary], say: Callable[[str], None]) -> None:
    """Says what became of the runs."""
    done, failed = sum(one.done for one in summaries), sum(one.failed for one in summaries)
    where = printable(summaries[0].output.parent)
    say(f"{len(summaries)} combinations: {done} results done, {failed} failed, in {where}")
