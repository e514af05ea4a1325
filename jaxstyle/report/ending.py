"""What a run says at its end where it has rendered nothing."""

from __future__ import annotations

from jaxstyle.engine.events import Summary


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
