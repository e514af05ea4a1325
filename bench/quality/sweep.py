"""Runs programs on pairs at several style weights, measures the pictures, and keeps one JSON line for each.

A run that was stopped goes on where it was: a line is not computed again while the program's options, the picture's
size and its files' contents are the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quality.distances import Distances
from quality.pairs import Pair, bytes_of, write
from quality.programs import PROGRAMS

ROWS = "rows.jsonl"
KEY = ("program", "factor", "pair", "options", "pictures")
"""Names of a row that say what it is about; the others are what was found."""


def picture_path(folder: Path, program: str, factor: float, pair: str) -> Path:
    """Returns where a program's picture lies."""
    words = "".join(c if c.isalnum() else "-" for c in program)
    return folder / "pictures" / words / f"{factor:g}" / f"{pair}.png"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Reads the rows of a folder; of rows about the same thing the last one counts. A line cut short is left out."""
    path, found = folder / ROWS, {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # the run was killed while it wrote
            continue
        found[row["program"], row["factor"], row["pair"]] = row
    return list(found.values())


def wanted(programs: Iterable[str], factors: Iterable[float], pairs: Iterable[Pair]) -> Iterator[tuple[Pair, dict]]:
    """Yields what there is to do: first every pair with the programs' own style weights, then the other weights."""
    programs, pairs = list(programs), list(pairs)
    for factor in sorted(factors, key=lambda factor: factor != 1):
        for pair in pairs:
            for name in programs:
                program = PROGRAMS[name]
                if program.sweeps or factor == 1:
                    yield pair, {
                        "program": name, "factor": factor, "pair": pair.name, "options": dict(program.options),
                        "pictures": _digest(pair),
                    }  # fmt: skip


def sweep(
    folder: Path, pairs: list[Pair], programs: Iterable[str], factors: Iterable[float], minutes: float | None = None
) -> bool:
    """Runs what is missing in a folder.

    Args:
        minutes: begin no program after so many minutes.

    Returns:
        whether nothing is missing any more.
    """
    distances, began = None, time.monotonic()
    done = {_key(row) for row in read_rows(folder)}
    for pair, about in wanted(programs, factors, pairs):
        if _key(about) in done:
            continue
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            return False
        distances = distances or Distances()
        made = PROGRAMS[about["program"]].make(pair, about["factor"], **about["options"])
        pixels = bytes_of(made.image)
        write(pixels, picture_path(folder, about["program"], about["factor"], pair.name))
        row = about | {
            "content": pair.content.name, "style_image": pair.style.name,
            "size": [pixels.shape[1], pixels.shape[0]], "evaluations": made.evaluations,
            "seconds": round(made.seconds, 3), "setup_seconds": round(made.setup_seconds, 3),
            **distances.measure(pixels / 255, pair.content.floats, pair.style.floats),
        }  # fmt: skip
        with (folder / ROWS).open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['program']}, x{row['factor']:g}, {pair.name}: LPIPS {row['lpips']:.3f}, style {row['style']:.3f},"
              f" colours {row['colours']:.1f}, {row['seconds']:.1f} s", file=sys.stderr, flush=True)  # fmt: skip
    return True


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row[name] for name in KEY], sort_keys=True)


def _digest(pair: Pair) -> str:
    """Returns a checksum of the pixels of both pictures at their working sizes."""
    parts = (str(one.pixels.shape).encode() + one.pixels.tobytes() for one in (pair.content, pair.style))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
