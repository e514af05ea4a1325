"""What will be rendered, and in which shape: every input becomes a job in a bucket, or a row that says why not."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from jaxstyle.data import image
from jaxstyle.data.image import Size
from jaxstyle.data.layout import is_reserved
from jaxstyle.data.ledger import Ledger
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import tells_case_apart
from jaxstyle.data.sources.base import Input
from jaxstyle.data.sources.folders import discover
from jaxstyle.decode.pool import Decoders, Probed
from jaxstyle.decode.worker import UNKNOWN, Stat
from jaxstyle.planning.buckets import shape
from jaxstyle.planning.preflight import Ready, is_unchanged
from jaxstyle.settings import RenderSettings

GROUP = 64
"""Headers that are asked for at a time."""


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
        first_problem: what was wrong with a first try; empty on the first.
    """

    key: str
    path: Path
    length: int
    modified: int
    header: image.Header
    work: Size
    bucket: Size
    note: str = ""
    first_problem: str = ""

    def output_size(self, settings: RenderSettings) -> Size:
        """Of the picture that will be written."""
        return (self.header.width, self.header.height) if settings.output_size == "input" else self.work


class Unchanged(NamedTuple):
    """An input that an earlier run is through with."""

    key: str


def plan(
    inputs: Iterable[Path | str],
    settings: RenderSettings,
    finished: Callable[[Input], bool],
    decoders: Decoders,
    *,
    case_insensitive: bool = False,
) -> Iterator[Job | Row | Unchanged]:
    """A job or a row for every input that is not finished, in the order of `discover`. Reads headers only.

    Inputs are looked at in groups that grow, so that the first jobs come at once. Those of other shards do not appear.

    Args:
        finished: whether an input has its row, and need not be looked at.
        decoders: read the headers.
        case_insensitive: see `discover`.

    Raises:
        InputError: see `discover`.
    """
    mine = (one for one in discover(inputs, case_insensitive=case_insensitive) if in_shard(one.key, settings.part()))
    size = 4
    while group := list(itertools.islice(mine, size)):
        size = min(2 * size, GROUP)
        done = [finished(one) for one in group]
        looked_at = [one.path for one, past in zip(group, done, strict=True) if not (past or one.failed or one.skipped)]
        probed = iter(decoders.probe(looked_at))
        for one, past in zip(group, done, strict=True):
            if past:
                yield Unchanged(one.key)
            elif one.failed or one.skipped:
                yield _row(one, "failed" if one.failed else "skipped", one.failed or one.skipped)
            else:
                yield _judge(one, next(probed), settings)


def planned(ready: Ready, before: Ledger, decoders: Decoders) -> Iterator[Job | Row | Unchanged]:
    """The plan of a run, given the rows that earlier runs into its folder have left."""
    finished = lambda one: is_unchanged(one, before, ready.output, ready.settings)  # noqa: E731
    case_insensitive = not tells_case_apart(ready.output)
    return plan(ready.inputs, ready.settings, finished, decoders, case_insensitive=case_insensitive)


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


def _row(one: Input, status: Literal["skipped", "failed"], reason: str, stat: Stat = UNKNOWN) -> Row:
    notes = (one.note,) if one.note else ()
    return Row(one.key, status, reason, input_bytes=stat.length, input_modified=stat.modified, notes=notes)
