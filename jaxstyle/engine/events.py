"""What a run reports: its threads to the main thread, the main thread to a `Progress`, and at the end a `Summary`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxstyle.data.rows import Row
from jaxstyle.planning.plan import Job


class Progress(Protocol):
    """A listener to a run. Its methods are called by the thread that called `render`."""

    def begin(self, evaluations: int) -> None:
        """The run starts; `evaluations` is the budget of an image, all its stages together."""

    def inputs(self, number: int) -> None:
        """The number of inputs of this run, once they are counted."""

    def finished(self, number: int) -> None:
        """This many more inputs were finished by an earlier run."""

    def advance(self, evaluations: int, loss: float) -> None:
        """Evaluations spent on images since the last call, and the mean loss of the running lanes.

        The number is negative, and the loss NaN, where images begin again: what was spent on them no longer counts.
        """

    def row(self, row: Row) -> None:
        """An input has its row, and the row is on the disk."""

    def say(self, text: str) -> None:
        """A message for people."""


class ShardState(NamedTuple):
    """A shard of a run on a cluster, at one moment.

    Attributes:
        shard: its number, from 1.
        state: "waiting" for a machine, "at work", "finished", "given up", or "left" where the run stops.
        done, failed, rows: rows that it told in this run.
        lanes: evaluations spent on images without a row, in images.
        inputs: number of its inputs, those of earlier runs among them; None until they are counted.
        before: inputs that earlier runs finished.
        seconds: time at work, of all its attempts.
    """

    shard: int
    state: str
    done: int
    failed: int
    rows: int
    lanes: float
    inputs: int | None
    before: int
    seconds: float


class ClusterProgress(Progress, Protocol):
    """A listener to a run of several shards."""

    def shards(self, states: Sequence[ShardState]) -> None:
        """All shards in the order of their numbers, about once a second."""


class Silent:
    """A listener that ignores all of it."""

    def begin(self, evaluations: int) -> None: ...
    def inputs(self, number: int) -> None: ...
    def finished(self, number: int) -> None: ...
    def advance(self, evaluations: int, loss: float) -> None: ...
    def row(self, row: Row) -> None: ...
    def say(self, text: str) -> None: ...
    def shards(self, states: Sequence[ShardState]) -> None: ...


class Example(NamedTuple):
    """Small copies of a picture, of its result and of its style, H x W x 3 uint8 of at most `publish.THUMBNAIL` pixels
    a side."""

    content: np.ndarray
    result: np.ndarray
    style: np.ndarray


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        output: the folder.
        done, skipped, failed: inputs by status, over all runs into the folder.
        skipped_kinds: inputs that this run skipped, by kind: an extension, or what they are.
        rendered: images rendered by this run.
        looked_at: inputs that have a row of this run.
        unfit: outputs that are done and that the annotations do not fit, since they are for another size.
        stopped: why it ended with inputs left, or "".
        programs: programs compiled for batches of a shape.
        occupancy: ticks of lanes that had an image to work on, of all ticks of lanes; 0 where there were none.
        seconds: of this run after its preparations.
        device_seconds: of these in the device's calls.
        style_image: of all images, at its working size, h x w x 3 in [0, 1]; None where they have different ones.
        examples: the first results of this run, for a contact sheet.
    """

    output: Path
    done: int = 0
    skipped: int = 0
    skipped_kinds: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    rendered: int = 0
    looked_at: int = 0
    unfit: int = 0
    stopped: str = ""
    programs: int = 0
    occupancy: float = 0.0
    seconds: float = 0.0
    device_seconds: float = 0.0
    style_image: np.ndarray | None = None
    examples: list[Example] = field(default_factory=list)


class Settled(NamedTuple):
    """A row for the manifest; `job` is the job that it ends, None for an input that never was one.

    The first results of a run bring an `example`.
    """

    row: Row
    job: Job | None = None
    example: Example | None = None


class Tell(NamedTuple):
    """A call of `Progress`, for the main thread to make."""

    name: str
    arguments: tuple[Any, ...]


class Broken(NamedTuple):
    """A thread has failed with an error that is not tied to one image; the run ends."""

    error: BaseException
