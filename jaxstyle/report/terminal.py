"""What a terminal shows, with rich: the bar, the shards and the last results of a run, and the shards of a folder.

Keys, reasons and hosts may come from strangers: they are escaped, are never read as markup, and are cut to the width.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from jaxstyle.data.audit import FolderStatus
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import printable
from jaxstyle.engine.events import ShardState
from jaxstyle.printing import show
from jaxstyle.report.progress import Counts, duration, seconds_left

RESULTS = 5
"""Last results that are shown."""
FEWEST_SHARDS = 3
"""Least rows of the table of shards, however low the terminal is."""
WIDE = 80
"""Columns from which a result has all its figures."""
FIGURES = 36
"""Columns of a result's figures there."""
NARROW, NARROW_RATES = 72, 52
"""Columns below which a status lacks processes, and a run's shards their rates."""
COLOURS = {
    "done": "green", "finished": "green", "at work": "bold", "failed": "bold red", "given up": "bold red",
    "killed": "bold red", "unknown": "yellow",
}  # fmt: skip
MOST_IMPORTANT = ("given up", "at work", "waiting", "left", "finished")
"""States of shards, those first that are shown where there is room for some."""
CUT = "..."


def ending_of(text: str, width: int) -> str:
    """Cuts the beginning off a text that takes more columns; the end of a path says most."""
    if cell_len(text) <= width:
        return text
    kept, room = "", width - len(CUT)
    for letter in reversed(text):
        room -= cell_len(letter)
        if room < 0:
            break
        kept = letter + kept
    return CUT + kept if width > len(CUT) else CUT[: max(width, 0)]


def beginning_of(text: str, width: int) -> str:
    """Cuts the end off a text that takes more columns."""
    return ending_of(text[::-1], width)[::-1]


class Screen(Counts):
    """Shows a run on a terminal: messages above; below them a bar, the shards of a run on a cluster, and results.

    Attributes:
        live: a context in which it is shown; it is gone after the end.
        results: the last rows of images, done or failed.
        states: the shards.
    """

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self.results: tuple[Row, ...] = ()
        self.states: Sequence[ShardState] = ()
        self._console = Console(file=stream)
        self.live = Live(console=self._console, get_renderable=lambda: self, transient=True)

    def begin(self, evaluations: int) -> None:
        super().begin(evaluations)
        self.results, self.states = (), ()

    def row(self, row: Row) -> None:
        super().row(row)
        if row.status != "skipped":
            self.results = (*self.results, row)[-RESULTS:]

    def shards(self, states: Sequence[ShardState]) -> None:
        self.states = states

    def tell_failed(self, row: Row) -> None:
        text = Text("failed", style=COLOURS["failed"]).append(
            f": {printable(row.key)}: {printable(row.reason)}", style="not bold default"
        )
        self._console.print(text, soft_wrap=False)

    def say(self, text: str) -> None:
        shown = "\n".join(map(printable, text.split("\n")))
        self._console.print(shown, markup=False, highlight=False, emoji=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, left = options.max_width, options.max_height
        state = self.state()
        bar = ProgressBar(None if self.number is None else 1.0, self.part())
        if width >= len(state) + 24:
            line = Table.grid(expand=True, padding=(0, 1))
            line.add_column(ratio=1)
            line.add_column(no_wrap=True)
            line.add_row(bar, Text(state))
            yield line
            left -= 1
        else:
            yield bar
            yield Segment.line()
            lines = Text(state).wrap(console, width)
            yield from lines
            left -= 1 + len(lines)
        if self.states:
            rows = max(FEWEST_SHARDS, left - 3 - min(len(self.results), RESULTS))
            yield shard_table(self.states, width, rows)
            left -= min(len(self.states), rows) + 2
        shown = self.results[-max(0, left - 1) :] if left > 1 else ()
        place = max((cell_len(printable(row.key)) for row in shown), default=0)
        yield from (_result(row, width, place) for row in shown)


def _result(row: Row, width: int, place: int) -> Text:
    """One result in one line.

    Args:
        place: columns that the longest key of all results takes.
    """
    figures = ""
    if row.status == "failed":
        figures = printable(row.reason)
    elif "total" in row.loss:
        figures = f"loss {row.loss['total']:.4g}"
        if width >= WIDE:
            figures += f", {row.evaluations} evaluations, {row.seconds:.3g} s"
    room = FIGURES if width >= WIDE else max(12, width // 3)
    line = Text(f"{row.status:<7}", style=COLOURS.get(row.status, ""), no_wrap=True, overflow="crop")
    place = max(1, min(place, width - 7 - room - 2))
    key = ending_of(printable(row.key), place)
    line.append(key + " " * (place - cell_len(key)) + "  " + beginning_of(figures, room), style="not bold default")
    return line


def shard_table(states: Sequence[ShardState], width: int, rows: int) -> Table:
    """The shards of a run as a table of at most so many rows, and a line for those that have no room.

    Args:
        width: of the terminal, in columns. A narrow one has no rates.
    """
    narrow = width < NARROW_RATES
    table = _table(("done", "failed") if narrow else ("done", "failed", "inputs", "images/s"), "time left")
    chosen = sorted(states, key=lambda one: (MOST_IMPORTANT.index(one.state), one.shard))[:rows]
    for one in sorted(chosen, key=lambda one: one.shard):
        failed = Text(str(one.failed), style=COLOURS["failed"] if one.failed else "")
        figures: list[RenderableType] = [str(one.done), failed]
        if not narrow:
            mine = one.done + one.lanes
            inputs = "" if one.inputs is None else str(one.inputs - one.before)
            figures += [inputs, f"{mine / one.seconds:.3g}" if mine and one.seconds else ""]
        table.add_row(f"{one.shard}/{len(states)}", *figures, _left(one))
    if others := Counter(one.state for one in states) - Counter(one.state for one in chosen):
        table.caption = "and " + ", ".join(f"{number} {state}" for state, number in others.items())
        table.caption_justify = "left"
    return table


def _left(one: ShardState) -> Text:
    """The time left of a shard that is at work, else its state."""
    mine = one.rows + one.lanes
    if one.state == "at work" and one.inputs is not None and mine and one.seconds:
        return Text(duration(seconds_left(one.seconds, mine, one.inputs - one.before)))
    return Text(one.state, style=COLOURS.get(one.state, ""))


def show_status(found: FolderStatus, as_json: bool, now: float | None = None) -> None:
    """Prints the status of a folder on standard output: on a terminal its shards are a table.

    Args:
        now: seconds since 1970 [default: the clock's]
    """
    if as_json or not sys.stdout.isatty():
        show(found, as_json)
        return
    console = Console(file=sys.stdout)
    for line in found.lines(shards=False):
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)  # a path is copied whole
    if found.shards:
        console.print(status_table(found, time.time() if now is None else now, console.width))


def status_table(found: FolderStatus, now: float, width: int) -> Table:
    """The shards of a folder: what they counted, their last sign of life, and whether they run.

    Args:
        width: of the terminal, in columns. A narrow one has neither skipped inputs nor processes.
    """
    narrow = width < NARROW
    names = ("done", "failed") if narrow else ("done", "skipped", "failed", "last sign")
    lines = []
    for one in found.shards:
        age = "" if one.seen is None else f"{duration(max(0.0, now - one.seen))} ago"
        counts = ["", "", ""] if one.coordinates else [str(one.done), str(one.skipped), str(one.failed)]
        process = f", {printable(one.pid)} on {printable(one.host)}" if one.host else ""
        more = f", {age.removesuffix(' ago')}" * bool(age) if narrow else process
        lines.append((one, [one.name, *(counts[::2] if narrow else [*counts, age])], more))
    table = _table(names, "process")
    room = width - sum(
        2 + max(map(len, column)) for column in zip(("shard", *names), *(line[1] for line in lines), strict=True)
    )
    for one, cells, more in lines:
        state = Text(one.state, style=COLOURS.get(one.state, ""))
        styled = [Text(cell) for cell in cells]
        if one.failed:
            styled[-1 if narrow else -2].stylize(COLOURS["failed"])
        state.append(beginning_of(more, max(0, room - len(one.state))), style="not bold default")
        table.add_row(*styled, state)
    return table


def _table(names: Sequence[str], last: str) -> Table:
    """A table of shards: their numbers, figures of these names, and a last column."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("shard", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(last, no_wrap=True)
    return table
