"""What will be rendered, and in which shape: every input becomes a job in a bucket, or a row that says why not."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from jaxstyle.data import image
from jaxstyle.data.image import Size, work_size
from jaxstyle.data.layout import is_reserved
from jaxstyle.data.rows import Row
from jaxstyle.data.source import Input, discover
from jaxstyle.data.worker import UNKNOWN, Stat
from jaxstyle.engine.decode import Decoders, Probed
from jaxstyle.settings import STRIDE, RenderSettings

GROUP = 64
"""Headers that are asked for at a time."""

LONG_SIDES = tuple(Fraction(n, 8) for n in (8, 6, 4, 2, 1))
"""Long sides of buckets as parts of the working size; those under 1 serve pictures that are smaller than it."""
SHORT_SIDES = tuple(Fraction(n, 48) for n in (48, 39, 36, 32, 27, 24, 16, 8))
"""Short sides as parts of the long side: square, 5:4, 4:3, 3:2, 16:9, 2:1 and beyond."""


@dataclass(frozen=True)
class Job:
    """One picture to render.

    Attributes:
        key, path: see `data.source.Input`.
        length, modified: of the file, in bytes and nanoseconds.
        header: of the file.
        work: size at which it is optimised.
        bucket: size of the array that holds it, filled up with its mirror image; compiled once for all its jobs.
        note: for its row.
        first_end: what was wrong with a first try; empty on the first.
    """

    key: str
    path: Path
    length: int
    modified: int
    header: image.Header
    work: Size
    bucket: Size
    note: str = ""
    first_end: str = ""

    def output_size(self, settings: RenderSettings) -> Size:
        """Of the picture that will be written."""
        return (self.header.width, self.header.height) if settings.output_size == "input" else self.work


class Finished(NamedTuple):
    """An input that an earlier run is through with."""

    key: str


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
    inputs: Iterable[Path | str],
    settings: RenderSettings,
    finished: Callable[[Input], bool],
    decoders: Decoders,
    *,
    folds: bool = False,
) -> Iterator[Job | Row | Finished]:
    """A job or a row for every input that is not finished, in the order of `discover`. Reads headers only.

    Inputs are looked at in groups that grow, so that the first jobs come at once. Those of other shards do not appear.

    Args:
        finished: whether an input has its row, and need not be looked at.
        decoders: read the headers.
        folds: see `discover`.

    Raises:
        InputError: see `discover`.
    """
    mine = (one for one in discover(inputs, folds=folds) if in_shard(one.key, settings.part()))
    size = 4
    while group := list(itertools.islice(mine, size)):
        size = min(2 * size, GROUP)
        done = [finished(one) for one in group]
        looked_at = [one.path for one, past in zip(group, done, strict=True) if not (past or one.failed or one.skipped)]
        probed = iter(decoders.probe(looked_at))
        for one, past in zip(group, done, strict=True):
            if past:
                yield Finished(one.key)
            elif one.failed or one.skipped:
                yield _row(one, "failed" if one.failed else "skipped", one.failed or one.skipped)
            else:
                yield _judge(one, next(probed), settings)


def in_shard(key: str, part: tuple[int, int]) -> bool:
    """Whether an input belongs to shard i of n: decided by its key alone, whatever else there is."""
    index, parts = part
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=b"shard").digest()
    return parts == 1 or int.from_bytes(digest, "little") % parts == index - 1


def _judge(one: Input, probed: Probed, settings: RenderSettings) -> Job | Row:
    own = one.key.split("/")[0]
    if probed.header is None:
        # A text beside the photographs is none of our business; a file that calls itself a picture is.
        foreign = not probed.picture and not image.claims_to_be_a_picture(one.path)
        reason = f"not a picture: {probed.problem}" if foreign else probed.problem
        return _row(one, "skipped" if foreign else "failed", reason, probed.stat)
    if is_reserved(one.key):
        return _row(one, "failed", f"its output would take the place of the run's own {own}: rename it", probed.stat)
    stat, header = probed.stat, probed.header
    return Job(one.key, one.path, stat.length, stat.modified, header, *shape(header, settings.size), one.note)


def shape(header: image.Header, size: int) -> tuple[Size, Size]:
    """The working size and the bucket of a picture with this header."""
    work = work_size(header.width, header.height, size)
    return work, bucket(work, size)


def _row(one: Input, status: Literal["skipped", "failed"], reason: str, stat: Stat = UNKNOWN) -> Row:
    notes = (one.note,) if one.note else ()
    return Row(one.key, status, reason, input_bytes=stat.length, input_modified=stat.modified, notes=notes)
