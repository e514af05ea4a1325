"""Makes results for bench/report.py of a sweep's rows: fronts of style distance against LPIPS, ratios at equal LPIPS.

A program's front is the line through its points at several style weights. Two programs are compared where their fronts
have the same LPIPS, since any program comes closer to the painting by giving up more of the photograph.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from harness import result

from quality.programs import OURS, PROGRAMS

DISTANCES = {"lpips": "LPIPS", "style": "style distance", "colours": "distance of colours in levels"}
"""Titles of the distances of a row."""


def mean(rows: Iterable[dict[str, Any]], name: str) -> float:
    """Returns the mean of a figure over rows."""
    return statistics.fmean(row[name] for row in rows)


def programs_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Lists the programs that have rows, in the order of `PROGRAMS`; others last."""
    present = dict.fromkeys(row["program"] for row in rows)
    return [name for name in PROGRAMS if name in present] + [name for name in present if name not in PROGRAMS]


def points(rows: list[dict[str, Any]], program: str) -> dict[float, list[dict[str, Any]]]:
    """Returns a program's rows by factor, smallest factor first; factors that lack pairs of the others are left out."""
    found: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
        if row["program"] == program:
            found.setdefault(row["factor"], []).append(row)
    most = max(map(len, found.values()), default=0)
    return {factor: found[factor] for factor in sorted(found) if len(found[factor]) == most}


def at_equal(front: Iterable[tuple[float, float]], lpips: float) -> float | None:
    """Interpolates the style distance of a front, points (LPIPS, style distance), at an LPIPS; None outside of it."""
    order = sorted(front)
    if not order or not order[0][0] <= lpips <= order[-1][0]:
        return None
    return float(np.interp(lpips, [x for x, _ in order], [y for _, y in order]))


def ratios(rows: list[dict[str, Any]], program: str, against: str = OURS) -> dict[str, float]:
    """Returns the style distance of a program / that of another one at the other's LPIPS and own weight, by pair.

    Pairs are left out whose LPIPS lies outside the program's front.
    """
    found = {}
    for ours in rows:
        if ours["program"] == against and ours["factor"] == 1:
            front = [(r["lpips"], r["style"]) for r in rows
                     if r["program"] == program and r["pair"] == ours["pair"]]  # fmt: skip
            theirs = at_equal(front, ours["lpips"])
            if theirs is not None:
                found[ours["pair"]] = theirs / ours["style"]
    return found


def results(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields every program's comparisons with ours, at the LPIPS that either has at its own weight, then the figures of
    every program at every factor."""
    programs = programs_of(rows)
    number = len({row["pair"] for row in rows})
    for program in programs:
        if program == OURS or (program in PROGRAMS and not PROGRAMS[program].sweeps):
            continue
        there = {pair: 1 / ratio for pair, ratio in ratios(rows, OURS, program).items()}
        for at, by_pair in ((OURS, ratios(rows, program)), (program, there)):
            yield result(
                f"style distance at the LPIPS of {at}, {program} / {OURS}, median of {len(by_pair)} of {number} pairs",
                statistics.median(by_pair.values()) if by_pair else "no pair at equal LPIPS", "at least 1.00",
                by_pair=by_pair,
            )  # fmt: skip
    for program in programs:
        for factor, some in points(rows, program).items():
            weight = f", style weight x {factor:g}" if len(points(rows, program)) > 1 or factor != 1 else ""
            yield result(
                f"style distance, {program}{weight}, mean of {len(some)} pairs", mean(some, "style"),
                program=program, factor=factor, options=some[0]["options"],
                lpips=mean(some, "lpips"), style=mean(some, "style"), colours=mean(some, "colours"),
                evaluations_each=statistics.median(row["evaluations"] for row in some),
                seconds_each=statistics.median(row["seconds"] for row in some),
                sizes=[list(size) for size in sorted({tuple(row["size"]) for row in some})],
                pairs=[{name: row[name] for name in ("pair", "lpips", "style", "style_layers", "colours", "seconds")}
                       for row in some],
            )  # fmt: skip
