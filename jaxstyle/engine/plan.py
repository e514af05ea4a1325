"""What will be rendered, and in which shape: every input becomes a job in a bucket, or a row that says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from jaxstyle.data import image
from jaxstyle.data.manifest import NAME, SETTINGS, Row
from jaxstyle.data.source import Input, discover
from jaxstyle.errors import ImageError
from jaxstyle.settings import STRIDE, RenderSettings

SHEET = "contact_sheet.png"
RESERVED = (NAME, SETTINGS, SHEET)
"""Names that a run writes into OUT for itself."""

LONG_SIDES = tuple(Fraction(n, 8) for n in (8, 6, 4, 2, 1))
"""Long sides of buckets as parts of the working size; those under 1 serve pictures that are smaller than it."""
SHORT_SIDES = tuple(Fraction(n, 48) for n in (48, 39, 36, 32, 27, 24, 16, 8))
"""Short sides as parts of the long side: square, 5:4, 4:3, 3:2, 16:9, 2:1 and beyond."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Job:
    """One picture to render.

    Attributes:
        key, path: see `data.source.Input`.
        length: of the file in bytes.
        header: of the file.
        work: size at which it is optimised.
        bucket: size of the array that holds it, filled up with its mirror image; compiled once for all its jobs.
    """

    key: str
    path: Path
    length: int
    header: image.Header
    work: Size
    bucket: Size


def work_size(width: int, height: int, size: int) -> Size:
    """The picture's size with its long side brought down to `size`; never enlarged, no side under 1 pixel."""
    long = max(width, height)
    if long <= size:
        return width, height
    return max(1, round(width * size / long)), max(1, round(height * size / long))


def bucket(work: Size, size: int) -> Size:
    """The smallest bucket of the ladder that holds a picture of this working size."""
    long, short = max(work), min(work)
    longs = (_round_up(part * size) for part in reversed(LONG_SIDES))
    long_side = next(side for side in longs if side >= long)
    shorts = (_round_up(part * long_side) for part in reversed(SHORT_SIDES))
    short_side = next(side for side in shorts if side >= short)
    return (long_side, short_side) if work[0] >= work[1] else (short_side, long_side)


def _round_up(length: Fraction) -> int:
    return max(STRIDE, -(-length // STRIDE) * STRIDE)


def plan(
    inputs: Iterable[Path | str], settings: RenderSettings, finished: Callable[[Input], bool]
) -> Iterator[Job | Row]:
    """A job or a row for every input that is not finished, in the order of `discover`. Reads headers only.

    Args:
        finished: whether an input has its row, and need not be looked at.

    Raises:
        InputError: see `discover`.
    """
    for found in discover(inputs):
        if finished(found):
            continue
        if found.failed or found.skipped:
            yield Row(found.key, "failed" if found.failed else "skipped", found.failed or found.skipped)
            continue
        planned, own = _look(found.key, found.path, settings), found.key.split("/")[0]
        if isinstance(planned, Job) and own in RESERVED:
            planned = Row(found.key, "failed", f"its output would take the place of the run's own {own}: rename it")
        yield planned


def _look(key: str, path: Path, settings: RenderSettings) -> Job | Row:
    try:
        length = path.stat().st_size
        header = image.probe(path, settings.max_pixels)
    except image.NotAPicture as error:
        # A text beside the photographs is none of our business; a file that calls itself a picture is.
        if image.claims_to_be_a_picture(path):
            return Row(key, "failed", str(error))
        return Row(key, "skipped", f"not a picture: {error}")
    except ImageError as error:
        return Row(key, "failed", str(error))
    except OSError as error:
        return Row(key, "failed", f"cannot be read ({error.strerror})")
    work = work_size(header.width, header.height, settings.size)
    return Job(key, path, length, header, work, bucket(work, settings.size))
