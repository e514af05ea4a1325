"""The bench's one entry point: `python bench/run.py [NAME ...]` measures ratios side by side and writes JSON.

Every figure is a ratio of two things measured in the same run, alternating, after a warm-up, the result waited for;
compilation is never inside a timing. Pictures are the demo's three photographs and three drawn styles unless
--contents and --styles name folders. The table goes to standard output, the JSON to bench/results/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import ablations
import dataset
import growth
import peers
import precision
import programs
import ratios
import solvers
import utilisation

from jaxstyle.engine.jax_setup import divide_cpu

ALL = ratios.ALL | utilisation.ALL | peers.ALL | solvers.ALL | precision.ALL | ablations.ALL | growth.ALL | dataset.ALL


def machine() -> dict:
    """What the figures were measured on."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "cpu": programs.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy", "jaxopt", "jaxstyle")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)} (all if none is given)")
    parser.add_argument("--contents", type=Path, help="folder of photographs")
    parser.add_argument("--styles", type=Path, help="folder of style pictures")
    parser.add_argument("--size", type=int, default=256, help="of the timings (256)")
    parser.add_argument("--loss-size", type=int, default=128, help="of the comparisons of losses (128)")
    parser.add_argument("--quick", action="store_true", help="few repeats and evaluations: to see that it runs")
    parser.add_argument("-o", "--output", type=Path, help="the JSON file; bench/results/DEVICE-DATE.json if left out")
    arguments = parser.parse_args()
    divide_cpu()  # as runs do; what is not meant to be divided works on the first part, over all threads
    for name in programs.chosen(parser, arguments.names, ALL):
        print(f"{name} ...", file=sys.stderr, flush=True)
        results = []
        for result in ALL[name](arguments):
            results.append({"bench": name, **result})
            goal = f"  ({result['goal']})" if result.get("goal") else ""
            value = result["value"]
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name:10} {result['what']:74} {shown}{goal}", flush=True)
        print(keep(results, arguments.output), file=sys.stderr)


def keep(results: list[dict], output: Path | None) -> Path:
    """Puts results into the JSON file, in the place of those of the same benches; what else is in it stays."""
    about = machine()
    record = {"date": datetime.date.today().isoformat(), "machine": about, "results": results}
    stem = "".join(c if c.isalnum() else "-" for c in about["device"].lower())
    path = output or Path(__file__).parent / "results" / f"{stem}-{record['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        before = json.loads(path.read_text())
        if before["machine"] == about:
            again = {result["bench"] for result in results}
            record["results"] = [r for r in before["results"] if r["bench"] not in again] + results
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
