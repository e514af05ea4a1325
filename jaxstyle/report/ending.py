"""What a run says at its end: counts, rate, the kinds of files that it skipped, and why it has rendered nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from jaxstyle.data.sources.base import printable
from jaxstyle.engine.events import ClusterProgress, Silent, Summary
from jaxstyle.printing import echo

KINDS_SHOWN = 8
"""Most kinds of skipped inputs that are named."""


class Listener(ClusterProgress, Protocol):
    """Listens to a run, and tells how it ended."""

    def end(self, summary: Summary, sheet: Path | None, shard: str | None) -> None:
        """The run has ended.

        Args:
            sheet: its contact sheet, if one was drawn.
            shard: the part of the inputs that it was given, as in "2/8".
        """


class Quiet(Silent):
    """Tells nothing."""

    def end(self, summary: Summary, sheet: Path | None, shard: str | None) -> None: ...


def tell(summary: Summary, sheet: Path | None, shard: str | None) -> None:
    """Prints the end of a run for people; see `Listener.end`."""
    for line in lines(summary, sheet, shard):
        echo(line)


def lines(summary: Summary, sheet: Path | None, shard: str | None) -> Iterator[str]:
    """Yields the lines that `tell` prints."""
    yield f"{summary.done} done, {summary.skipped} skipped, {summary.failed} failed: {summary.output}/manifest.jsonl"
    if summary.skipped_kinds:
        yield f"Skipped: {by_kind(summary.skipped_kinds)}"
    if not summary.rendered and not summary.stopped:
        yield why_nothing(summary, shard)
    if summary.rendered:
        rate = f"{summary.rendered / summary.seconds:.3g} images/s"
        busy = f"device busy {summary.device_seconds / summary.seconds:.0%}, lanes {summary.occupancy:.0%}"
        yield f"{summary.rendered} rendered in {summary.seconds:.0f} s: {rate}, {busy}"
    if sheet is not None:
        yield f"Contact sheet: {sheet}"
    if summary.stopped:
        yield f"Stopped ({summary.stopped}) with inputs left: run the same command again to finish them."


def by_kind(kinds: Counter[str]) -> str:
    """Lists the most common kinds with their numbers."""
    most = kinds.most_common(KINDS_SHOWN)
    others = kinds.total() - sum(number for _, number in most)
    shown = [f"{number} {printable(kind)}" for kind, number in most]
    return ", ".join([*shown, f"{others} others"] if others else shown)


def why_nothing(summary: Summary, shard: str | None) -> str:
    """Says why a run that went through all its inputs has rendered none of them."""
    inputs = summary.done + summary.skipped + summary.failed
    if not inputs:
        return f"Nothing to do: no input belongs to shard {shard}."
    if not summary.looked_at:
        again = f" {summary.failed} of them failed: --retry-failed renders those again." if summary.failed else ""
        return f"Nothing to do: all inputs were finished before.{again}"
    if summary.looked_at < inputs:
        return "Nothing was rendered: every new input was skipped or has failed. The manifest has the reasons."
    skipped = (
        "was skipped" if not summary.failed else "has failed" if not summary.skipped else "was skipped or has failed"
    )
    return f"Nothing was rendered: each of {inputs} inputs {skipped}. The manifest has the reasons."
