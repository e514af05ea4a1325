"""What a run says at its end: the kinds of files that it skipped, and why it has rendered nothing."""

from __future__ import annotations

from collections import Counter

from jaxstyle.data.sources.base import printable
from jaxstyle.engine.events import Summary

KINDS_SHOWN = 8
"""Most kinds of skipped inputs that are named."""


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
