"""Counts the evaluations in which L-BFGS with a preconditioner reaches the loss of L-BFGS without one.

    python bench/fewer.py --contents FOLDER --styles FOLDER -o FILE.jsonl --minutes 4
    python bench/fewer.py -o FILE.jsonl --table

Every photograph, cropped to 4:3, is optimised in a style without a preconditioner for 200 evaluations, then with it
until the loss is as low. FILE.jsonl gets a line for each curve, and a further call goes on with the pairs that are
missing. The table gives evaluations / those without, at three of them, by preset, size and start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import harness
from lanes import batch_of

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import initial
from jaxstyle.style.stylizer import stylizer

GOALS = (60, 120, 200)
"""Evaluations without a preconditioner whose losses are the goals."""
MOST = 1.25
"""Evaluations with the preconditioner at most, as a multiple of the last goal."""
FIELDS = ("preset", "size", "start")


def curve(settings: StylizeSettings, content: np.ndarray, style: np.ndarray, name: str, most: int, goal: float) -> list:
    """Returns the loss after each evaluation, up to the first at which it is the goal or less."""
    engine = stylizer(settings)
    inits = np.stack([initial(settings, content, style, name)])
    batch, found = batch_of(engine, [content], style, inits=inits), []
    while len(found) < most and (not found or found[-1] > goal):
        batch = engine.advance(batch, 1)
        found.append(float(batch.lanes.result.loss[0]))
    return found


def reached(with_it: list[float], without: list[float], goal: int) -> float | None:
    """Returns evaluations with the preconditioner to the loss without one after `goal` evaluations / `goal`.

    It is infinite where the curve with it ends above that loss, and None if the one without is too short.
    """
    if len(without) < goal:
        return None
    first = next((number for number, loss in enumerate(with_it, 1) if loss <= without[goal - 1]), None)
    return first / goal if first else np.inf


def records(path: Path) -> list[dict[str, Any]]:
    """Reads the curves so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(record: dict[str, Any], *more: str) -> tuple:
    return tuple(record[name] for name in (*FIELDS, "photograph", "style", *more))


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields a record for each curve that is missing."""
    end = time.monotonic() + 60 * args.minutes
    known = {key(one, "preconditioner"): one["losses"] for one in records(args.output)}
    contents = harness.photographs(args.size, args.size * 3 // 4, None, args.contents)
    styles = harness.styles(args.size, args.styles)
    pairs = sorted(
        product(range(len(contents)), range(len(styles))), key=lambda pair: (pair[1] - pair[0]) % len(styles)
    )
    slowest = 0.0
    for photograph, style in pairs[: args.pairs]:  # the first ones have every photograph once
        own = {"preset": args.preset, "size": args.size, "start": args.init, "photograph": photograph, "style": style}
        goal, most = 0.0, GOALS[-1]
        for name in ("none", args.preconditioner):
            record = own | {"preconditioner": name}
            if key(record, "preconditioner") not in known:
                if time.monotonic() + slowest > end:
                    return
                began = time.monotonic()
                settings = StylizeSettings(preset=args.preset, init=args.init, preconditioner=name)
                found = curve(settings, contents[photograph], styles[style], str(photograph), most, goal)
                slowest = max(slowest, time.monotonic() - began)
                known[key(record, "preconditioner")] = found
                yield record | {"losses": [float(f"{loss:.7g}") for loss in found]}
            goal, most = known[key(record, "preconditioner")][-1], round(MOST * GOALS[-1])


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the lines of the table, in Markdown."""
    without = {key(one): one["losses"] for one in found if one["preconditioner"] == "none"}
    yield "| preset, size, start | preconditioner | pairs | evaluations without | median | quartiles | worst |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    measured = [one for one in found if one["preconditioner"] != "none" and key(one) in without]
    for *group, name in sorted({(*key(one)[:3], one["preconditioner"]) for one in measured}):
        own = [one for one in measured if [*key(one)[:3], one["preconditioner"]] == [*group, name]]
        for goal in GOALS:
            every = [reached(one["losses"], without[key(one)], goal) for one in own]
            ratios = sorted(ratio for ratio in every if ratio is not None)
            if ratios:
                low, high = np.quantile(ratios, (0.25, 0.75), method="nearest")
                yield (
                    f"| {group[0]}, {group[1]} px, {group[2]} | {name} | {len(ratios)} | {goal} "
                    f"| {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} | {ratios[-1]:.2f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contents", type=Path, help="folder of photographs (the demo's)")
    parser.add_argument("--styles", type=Path, help="folder of style pictures (the demo's)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file of curves")
    parser.add_argument("--preconditioner", default="pyramid", help="the one to compare (pyramid)")
    parser.add_argument("--size", type=int, default=128, help="long side in pixels (128)")
    parser.add_argument("--preset", default="classic")
    parser.add_argument("--init", default="matched")
    parser.add_argument("--pairs", type=int, help="most pairs (every photograph in every style)")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no curve that may end later than this")
    parser.add_argument("--table", action="store_true", help="measure nothing, only print the table")
    args = parser.parse_args()
    for record in () if args.table else measure(args):
        with args.output.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print({name: record[name] for name in record if name != "losses"}, len(record["losses"]), file=sys.stderr)
    print("\n".join(table(records(args.output))))


if __name__ == "__main__":
    main()
