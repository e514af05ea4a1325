"""The entry point of the bench: `python bench/run.py [NAME ...]` measures ratios side by side and writes JSON.

Most figures are ratios of two times measured alternately in the same run, after a warm-up. A timing includes the wait
for the result and never compilation. The pictures are the demo's three photographs and three drawn styles unless
--contents and --styles name folders. The table goes to standard output, the JSON to bench/results/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import ablations
import dataset
import engine
import growth
import harness
import many_styles
import peers
import precision
import solvers
import ticks

from jaxstyle import huge_pages

ALL = ticks.ALL | solvers.ALL | peers.ALL | precision.ALL | ablations.ALL | growth.ALL | many_styles.ALL | dataset.ALL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)} (all if none is given)")
    parser.add_argument("--contents", type=Path, help="folder of photographs")
    parser.add_argument("--styles", type=Path, help="folder of style pictures")
    parser.add_argument("--size", type=int, default=256, help="of the timings (256)")
    parser.add_argument("--loss-size", type=int, default=128, help="of the comparisons of losses (128)")
    parser.add_argument("--quick", action="store_true", help="few repeats and evaluations: to see that it runs")
    parser.add_argument("-o", "--output", type=Path, help="the JSON file; bench/results/DEVICE-DATE.json if left out")
    named = vars(parser.parse_args())
    names, output = harness.chosen(parser, named.pop("names"), ALL), named.pop("output")
    asked = harness.Asked(**named)
    engine.divide_cpu()
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results = []
        for found in ALL[name](asked):
            results.append({"bench": name, **found})
            goal, value = f"  ({found['goal']})" if found["goal"] else "", found["value"]
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name:10} {found['what']:74} {shown}{goal}", flush=True)
        print(keep(results, output), file=sys.stderr)


def keep(results: list[dict[str, Any]], output: Path | None) -> Path:
    """Puts results into the JSON file, in the place of those of the same benches; what else is in it stays."""
    record = {"date": datetime.date.today().isoformat(), "machine": harness.machine(), "results": results}
    stem = "".join(c if c.isalnum() else "-" for c in record["machine"]["device"].lower())
    path = output or harness.BENCH / "results" / f"{stem}-{record['date']}.json"
    if path.exists():
        before = json.loads(path.read_text())
        if before["machine"] == record["machine"]:
            again = {result["bench"] for result in results}
            record["results"] = [r for r in before["results"] if r["bench"] not in again] + results
    harness.write(record, path)
    return path


if __name__ == "__main__":
    huge_pages.restart()  # as the command does
    main()
