"""`python bench/report.py` writes bench/REPORT.md and bench/plots/ from the JSON in bench/results/.

It uses the newest measurement of each bench on each machine. Files of bench/run.py have "results", files of
bench/gpu.py have "sections", those of bench/aot.py "compiled"; other files are refused.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report_aot
import report_plots

from jaxstyle.report.plot import number

BENCH = Path(__file__).parent
NOISE = 0.05
"""Largest decrease between two measurements that still meets the goal "does not fall"."""
UNMEASURED, MISSED = "unmeasured", "**missed**"
NO_GPU = f"{UNMEASURED}: no GPU has run this"
SECTIONS = {
    "Evaluation and tick": ("tick", "lane-memory", "torch", "utilisation"),
    "Quality": ("quality", "quality-256"),
    "Losses": ("scipy", "batching", "zoom"),
    "Peers": ("peers", "peers-256", "peers-512"),
    "Solvers": ("solvers",),
    "Ablations": ("ablations", "pages"),
    "Precision": ("precision",),
    "Growth": ("growth",),
    "Whole runs": ("throughput", "scale", "startup", "memory"),
}
"""Benches by section; benches without a section come last, under their own names."""
VERSIONS = ("jax", "jaxlib", "numpy", "jaxopt", "jaxstyle", "torch")
"""Packages that older files of bench/run.py name beside the machine instead of under "versions"."""
COLUMNS = {"images_an_hour": "images/h", "lpips": "LPIPS", "colours": "colours (levels)",
           "evaluations_each": "evaluations", "seconds_each": "seconds"}  # fmt: skip
"""Headings of keys of a result that are shown where a bench has them."""


@dataclass(frozen=True)
class Measured:
    """The results of one bench on one machine, or the sections of the GPU program."""

    date: str
    machine: dict[str, Any]
    results: Any

    @property
    def identity(self) -> tuple:
        """Returns a value that is equal for the same machine with the same JAX but for its last number."""
        jax = (self.machine.get("versions") or self.machine).get("jax") or ""
        return *(self.machine.get(name) for name in ("device", "cpu", "cores")), jax.rsplit(".", 1)[0]

    def about(self) -> str:
        """Writes device, processor, date and versions in a line."""
        one = self.machine
        versions = one.get("versions") or {k: v for k, v in one.items() if k in VERSIONS}
        told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        cores = f"{one['cores']} cores"
        return f"*{one['device']}; {one['cpu']}, {cores}; {self.date}; Python {one['python']}, {told}*"


@dataclass(frozen=True)
class Target:
    """A figure that the project has set itself.

    Attributes:
        words: what it is.
        goal: as in the results.
        bench, what: where it is found: the bench's name, and a regular expression for `what`.
        gpu: what finds it among the sections of the GPU program instead.
    """

    words: str
    goal: str
    bench: str = ""
    what: str = ""
    gpu: Callable[[dict], float | None] | None = None


def _values(sections: dict, name: str) -> dict:
    return sections.get(name, {}).get("values", {})


def _utilisation(sections: dict) -> float | None:
    """Returns the best share of the matrix product's rate among the sweep's bfloat16 cells at 512 pixels."""
    rows = _values(sections, "sweep").get("rows", [])
    found = [
        r["utilisation"] for r in rows if (r["precision"], r["side"]) == ("bfloat16", 512) and r.get("utilisation")
    ]
    return max(found, default=None)


def _over_torch(sections: dict) -> float | None:
    """Returns the time an image to the float32-scored loss, PyTorch's best / ours; infinite if PyTorch has none."""
    ladder, torch = (_values(sections, name) for name in ("ladder", "torch"))

    def best(rows: Iterable[dict]) -> float:
        return min((r["seconds"] for r in rows if r["part"] == 1 and r["seconds"] is not None), default=math.inf)

    ours = best(ladder.get("to_loss", []))
    theirs = [row for one in torch.get("descents", []) for row in one["to_loss"]]
    return best(theirs) / ours if theirs and math.isfinite(ours) else None


TARGETS = (
    Target("Evaluation / PyTorch's in its faster layout, 256 px, batch 4", "at most 0.90", "torch",
           r"evaluation,? in a chunk / PyTorch.*256px, batch 4$"),
    Target("Share of the matrix product's rate, 256 px, batch 4", "at least 0.75", "utilisation", r"256px.*batch 4$"),
    Target("Tick / evaluation, 256 px, batch 4", "at most 1.05", "tick", r"tick / evaluation, 256px.*batch 4$"),
    Target("Final loss / SciPy's after 200 evaluations, median of 8 pairs", "at most 1.00", "scipy",
           r"200 evaluations.*median of 8$"),
    Target("Seconds to the first tick beyond imports, second run", "under 3", "startup", r"first tick, second run"),
    Target("Final loss scored in float32, bfloat16 / float32, median of 16 pairs", "at most 1.02", "precision",
           r"final loss .*, bfloat16 / float32, median of 16"),
    Target("Share of a GPU's matrix product's rate, bfloat16, 512 px", "at least 0.45", gpu=_utilisation),
    Target("Time to the float32-scored loss on a GPU, the best PyTorch program / the renderer", "at least 10",
           gpu=_over_torch),
)  # fmt: skip


def verdict(value: Any, goal: str) -> str:
    """Tells whether a value meets a goal: "met", "**missed**", "unmeasured", or nothing if the goal is no number."""
    bound = re.search(r"(at most|under|at least|within) ([\d.]+)(%?)", goal)
    if not bound and goal != "does not fall":
        return ""
    if not isinstance(value, int | float) or math.isnan(value):
        return UNMEASURED
    if not bound:
        good = value >= 1 - NOISE
    else:
        limit = float(bound[2]) / (100 if bound[3] else 1)
        good = {"at most": value <= limit, "under": value < limit, "at least": value >= limit,
                "within": abs(value - 1) <= limit}[bound[1]]  # fmt: skip
    return "met" if good else MISSED


def load(folder: Path) -> tuple[dict[str, list[Measured]], list[Measured]]:
    """Loads the newest measurements of every machine by bench, and the newest runs of the GPU program on GPUs.

    Raises:
        ValueError: a file is of none of bench/run.py, bench/gpu.py and bench/aot.py.
    """
    benches: dict[tuple[str, tuple], Measured] = {}
    gpus: dict[tuple, Measured] = {}
    records = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    for path, record in sorted(records, key=lambda one: one[1].get("date", "")):
        if "sections" in record:
            one = Measured(record["date"], record["machine"], record["sections"])
            if record["machine"]["backend"] != "cpu":
                gpus[one.identity] = one
        elif "results" in record:
            by_name: dict[str, list[dict]] = {}
            for result in record["results"]:
                by_name.setdefault(result["bench"], []).append(result)
            for name, results in by_name.items():
                one = Measured(record["date"], record["machine"], results)
                benches[name, one.identity] = one
        elif "compiled" not in record:
            raise ValueError(f"{path.name} is no file of bench/run.py, bench/gpu.py or bench/aot.py")
    found: dict[str, list[Measured]] = {}
    for (name, _), one in benches.items():
        found.setdefault(name, []).append(one)
    return found, list(gpus.values())


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table in Markdown, and an empty one."""
    header = list(header)
    yield from ("| " + " | ".join(header) + " |", "|---" * len(header) + "|")
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def said(value: Any) -> str:
    """Formats a value for a cell."""
    if value is None:
        return UNMEASURED
    return number(value) if isinstance(value, int | float) and math.isfinite(value) else str(value)


def targets(benches: dict[str, list[Measured]], gpus: list[Measured]) -> Iterator[str]:
    """Writes the project's targets, then the other results that miss goals of their own."""
    rows = []
    for target in TARGETS:
        if target.gpu:
            found = [(target.gpu(one.results), one) for one in gpus]
        else:
            found = [(r["value"], one) for one in benches.get(target.bench, []) for r in one.results
                     if re.search(target.what, r["what"])]  # fmt: skip
        nothing = NO_GPU if target.gpu and not gpus else UNMEASURED
        rows += [(target.words, said(value), target.goal, verdict(value, target.goal), one.machine["device"], one.date)
                 for value, one in found] or [(target.words, nothing, target.goal, UNMEASURED, "", "")]  # fmt: skip
    yield from table(("target", "value", "goal", "", "device", "date"), rows)
    every = [(r, one, verdict(r["value"], r["goal"])) for group in benches.values() for one in group
             for r in one.results if verdict(1, r["goal"])]  # fmt: skip
    count = {how: sum(it == how for *_, it in every) for how in ("met", MISSED, UNMEASURED)}
    told = f"{count['met']} met, {count[MISSED]} missed, {count[UNMEASURED]} unmeasured"
    yield from (f"Of {len(every)} results with goals of their own: {told}.", "")
    if count["met"] < len(every):
        yield from table(("result", "value", "goal", "", "device", "date"),
                         [(r["what"], said(r["value"]), r["goal"], it, one.machine["device"], one.date)
                          for r, one, it in every if it != "met"])  # fmt: skip


def results(one: Measured) -> Iterator[str]:
    """Writes the table of one bench on one machine."""
    yield from (one.about(), "")
    columns = {key: title for key, title in COLUMNS.items() if any(key in r for r in one.results)}
    rows = [(r["what"], said(r["value"]), r["goal"], verdict(r["value"], r["goal"]),
             *(said(r.get(key)) for key in columns)) for r in one.results]  # fmt: skip
    yield from table(("", "value", "goal", "", *columns.values()), rows)


def write(folder: Path, output: Path) -> Path:
    """Writes OUTPUT/REPORT.md and OUTPUT/plots/ from the JSON files of a folder; returns the former."""
    benches, gpus = load(folder)
    plots = output / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for name in (*report_plots.DRAWN, "gpu"):
        for old in plots.glob(f"{name}*.png"):
            old.unlink()
    lines = [
        "# What was measured", "",
        "Written by `python bench/report.py` from the files in `bench/results/`, which `bench/run.py` and"
        " `bench/gpu.py` write. A value is a ratio of two things measured in the same run unless it has a unit;"
        f" what does not fall may fall by {NOISE:.0%}.", "", "## Targets", "", *targets(benches, gpus),
    ]  # fmt: skip
    others = [name for name in benches if not any(name in names for names in SECTIONS.values())]
    for title, names in (SECTIONS | {name: (name,) for name in others}).items():
        lines += [f"## {title}", ""]
        found = [(name, one) for name in names for one in benches.get(name, [])]
        for name, one in found:
            lines += [f"### {name}", ""] if len(found) > 1 else []
            draw = report_plots.DRAWN.get(name.split("-")[0])
            lines += illustrated(plots, name, draw(one.results)) if draw else []
            lines += results(one)
        lines += [] if found else [UNMEASURED, ""]
    lines += ["## Accelerators: compiled, not run", "", *report_aot.section(report_aot.cases(folder), table)]
    lines += ["## GPU", "", *([] if gpus else [NO_GPU, ""])]
    for one in gpus:
        lines += [one.about(), "", *illustrated(plots, "gpu", report_plots.gpu(one.results))]
        for name, section in one.results.items():
            reason = f": {section['reason']}" if section.get("reason") else ""
            lines += [f"### {name}", "", f"{section['state']} in {section['seconds']:.0f} s{reason}", ""]
            lines += ["```text", *section["lines"], "```", ""] if section["lines"] else []
    path = output / "REPORT.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    return path


def illustrated(plots: Path, name: str, draw: report_plots.Drawing | None) -> list[str]:
    """Draws to NAME.png, or NAME-2.png and so on if another machine has that; lines that show it."""
    if draw is None:
        return []
    free = next(k for k in itertools.count(1) if not (plots / _png(name, k)).exists())
    draw(plots / _png(name, free))
    return [f"![{name}](plots/{_png(name, free)})", ""]


def _png(name: str, number: int) -> str:
    return f"{name}.png" if number == 1 else f"{name}-{number}.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=BENCH / "results", help="folder of JSON files")
    parser.add_argument("-o", "--output", type=Path, default=BENCH, help="folder for REPORT.md and plots/")
    arguments = parser.parse_args()
    print(write(arguments.results, arguments.output))


if __name__ == "__main__":
    main()
