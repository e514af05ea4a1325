"""What a run tells: its threads to the main one, that one to a `Progress`, and at the end a `Summary`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxstyle.data.rows import Row


class Progress(Protocol):
    """Somebody who wants to know how a run goes on. Called by the thread that called `render`."""

    def begin(self, evaluations: int) -> None:
        """The run starts; evaluations of an image, unless it ends early."""

    def inputs(self, number: int) -> None:
        """How many inputs there are in all, once they are counted."""

    def finished(self, number: int) -> None:
        """So many more inputs that an earlier run was through with."""

    def advance(self, evaluations: int, loss: float) -> None:
        """Evaluations spent on images since the last call, and the mean loss of those being worked on."""

    def row(self, row: Row) -> None:
        """An input has its row, and it is on the disk."""

    def say(self, text: str) -> None:
        """Something that a person should read."""


class Silent:
    """Nobody."""

    def begin(self, evaluations: int) -> None: ...
    def inputs(self, number: int) -> None: ...
    def finished(self, number: int) -> None: ...
    def advance(self, evaluations: int, loss: float) -> None: ...
    def row(self, row: Row) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        output: the folder.
        done, skipped, failed: inputs by status, over all runs into the folder.
        rendered: images rendered by this run.
        looked_at: inputs that have a row of this run.
        stopped: why it ended with inputs left, or "".
        programs: programs compiled for batches of a shape.
        occupancy: ticks of lanes that had an image to work on, of all ticks of lanes; 0 where there were none.
        seconds, device_seconds: of this run after its preparations, and of those in the device's calls.
        examples: (input, output) of the first results of this run.
    """

    output: Path
    done: int = 0
    skipped: int = 0
    failed: int = 0
    rendered: int = 0
    looked_at: int = 0
    stopped: str = ""
    programs: int = 0
    occupancy: float = 0.0
    seconds: float = 0.0
    device_seconds: float = 0.0
    examples: list[tuple[Path, Path]] = field(default_factory=list)


class Result(NamedTuple):
    """A row, and of a job its input and its output's folder, to be synced before the row counts."""

    row: Row
    path: Path | None = None
    folder: Path | None = None


class Tell(NamedTuple):
    """A call of `Progress`, for the main thread to make."""

    name: str
    arguments: tuple[Any, ...]


class Broken(NamedTuple):
    """A thread has ended by an error that is nobody's row."""

    error: BaseException
