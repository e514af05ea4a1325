"""`python bench/quality --contents DIR --styles DIR -o OUT` compares programs; `--score OUT` measures a finished run.

A comparison runs every program on every pair at every style weight, or goes on with that. OUT gets the pictures, a
JSON line for each, sheets, and quality.json, which --results copies to where bench/report.py reads it.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import harness

from jaxstyle import huge_pages
from quality import fronts, pairs, score, sheets, sweep
from quality.programs import PROGRAMS

SIZE = 192
"""Long side in pixels without --size."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="quality", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--contents", type=Path, required=True, help="folder of photographs")
    add("--styles", type=Path, required=True, help="folder of paintings, or one")
    add("-o", "--output", type=Path, help="folder for the pictures and figures of a comparison")
    add("--score", type=Path, metavar="OUT", help="measure the results of a run of `jaxstyle render` instead")
    add("--size", type=int, help=f"long side in pixels ({SIZE}; of a scored run, its own)")
    add("--pairs", type=int, help="number of pairs (all)")
    add("--factors", type=float, nargs="+", default=[0.25, 1.0, 4.0], help="factors on the style weights (0.25 1 4)")
    add("--programs", nargs="+", default=[], metavar="NAME", help=f"of {'; '.join(PROGRAMS)} (all)")
    add("--minutes", type=float, help="begin nothing new after so many minutes; the same command goes on later")
    add("--results", type=Path, help="write the results to this file of bench/results/ too")
    asked = parser.parse_args(arguments)
    if asked.score:
        score.tell(list(score.score(asked.score, asked.contents, asked.styles, asked.size)))
        return
    if not asked.output:
        parser.error("-o OUT is missing: the folder for the pictures and figures")
    names = harness.chosen(parser, asked.programs, PROGRAMS)
    for name in [name for name in names if PROGRAMS[name].missing()]:
        print(f"{name} is left out: {PROGRAMS[name].missing()}", file=sys.stderr)
        names.remove(name)
    asked.output.mkdir(parents=True, exist_ok=True)
    size = asked.size or SIZE
    chosen = pairs.pairs(asked.contents, asked.styles, size, asked.pairs)
    whole = sweep.sweep(asked.output, chosen, names, asked.factors, asked.minutes)
    conclude(asked.output, chosen, "quality" if size == SIZE else f"quality-{size}", asked.results)
    if not whole:
        print("not finished: the same command goes on", file=sys.stderr)


def conclude(folder: Path, chosen: list[pairs.Pair], bench: str, copy: Path | None = None) -> None:
    """Writes quality.json and the sheets from the rows of a folder that are about the chosen pairs.

    Args:
        bench: the name that bench/report.py knows them by.
        copy: where quality.json is written too.
    """
    rows = [row for row in sweep.read_rows(folder) if row["pair"] in {pair.name for pair in chosen}]
    found = [{"bench": bench, **one} for one in fronts.results(rows)]
    record = {"date": datetime.date.today().isoformat(), "machine": harness.machine(), "results": found}
    for path in filter(None, (folder / "quality.json", copy)):
        harness.write(record, path)
    sheets.best_and_worst(folder, rows, chosen, folder / "best-and-worst.jpg")
    for pair in chosen:
        sheets.fronts_of(folder, rows, pair, folder / f"{pair.name}.jpg")


if __name__ == "__main__":
    huge_pages.restart()  # as the command does
    main()
