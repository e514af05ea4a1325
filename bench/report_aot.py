"""The section of the bench's report on programs that bench/aot.py has compiled for accelerators."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

MARK = "**Compiled, not run.**"
BASES = {"{}": "", '{"preset":"classic"}': ", preset classic"}
"""Settings whose cases have tables by size, by part and by program, with what is said of them: the defaults, and those
that were the defaults up to 0.1."""
DESCRIPTIONS = Path(__file__).parent / "devices"
Table = Callable[[Iterable[str], Iterable[Iterable[str]]], Iterator[str]]
"""Writes a table from its header and rows, see `report.table`."""


def cases(folder: Path) -> list[dict[str, Any]]:
    """Returns the compiled cases of the JSON files of a folder."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [case for record in records for case in record.get("compiled", ())]


def section(found: list[dict[str, Any]], table: Table) -> Iterator[str]:
    """Writes the section, without its title."""
    if not found:
        yield from ("No program has been compiled.", "")
        return
    compilers = sorted({f"{case['compiler']} ({case['date']})" for case in found})
    yield from (
        "Every figure below is **compiled, not run**: `bench/aot.py` has had the programs compiled for described"
        " devices, and no such device has run one. Memory is XLA's account of one device, without what cuDNN takes;"
        " the estimate is that of `planning/memory.py`. Launches and bytes are counted in the program's text, for one"
        " tick: an evaluation of every lane and its step. The least time is these bytes at the device's bandwidth."
        " Cycles are the TPU compiler's estimate.",
        "",
        f"*{'; '.join(compilers)}*",
        "",
    )
    plain = [case for case in found if (case["program"], case["number"]) == ("advance", 1)
             and case["settings"] in BASES and "effort" not in device(case)]  # fmt: skip
    for name in dict.fromkeys(map(device, plain)):
        mine = [case for case in plain if device(case) == name]
        yield from (f"### {name}, by size and batch", "", MARK, "", *table(*by_size(mine)))
    yield from ("### A tick by part", "", f"{MARK} GB.", "", *table(*by_part(plain)))
    other = [case for case in found if case["program"] == "advance" and case["settings"] not in BASES]
    yield from ("### Settings", "", MARK, "", *table(*by_settings(other)))
    programs = [case for case in found if case["settings"] in BASES and (case["program"], case["number"]) != (
        "advance", 1)]  # fmt: skip
    yield from ("### Programs and several devices", "", f"{MARK} Bytes of a whole call, of `advance` of a tick.", "")
    yield from table(*by_program(programs))


def by_size(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of one device's ticks."""
    header = ["pixels", "batch", "precision", "memory, MiB", "estimate / memory", "launches", "GB", "least time, ms",
              "Mcycles"]  # fmt: skip
    rows = []
    for case in sorted(found, key=lambda one: (one["size"], one["precision"], one["batch"])):
        rate, told = bandwidth(case["device"]), case["memory"]
        rows.append([
            pixels(case), str(case["batch"]), case["precision"], mebibytes(told["alive"]),
            f"{told['model'] / told['alive']:.2f}", str(case["launches"]), f"{case['bytes'] / 1e9:.2f}",
            f"{1e3 * case['bytes'] / rate:.2f}" if rate else "", cycles(case),
        ])  # fmt: skip
    return header, rows


def by_part(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of the parts of ticks of 512 pixels and batch 8."""
    found = [case for case in found if (case["size"], case["batch"]) == (512, 8)]
    parts = list(dict.fromkeys(part for case in found for part in case["parts"]))
    rows = [
        [device(case), case["precision"],
         *(f"{case['parts'][part]['bytes'] / 1e9:.2f}" if part in case["parts"] else "" for part in parts)]
        for case in found
    ]  # fmt: skip
    return ["device", "precision", *parts], rows


def by_settings(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of ticks with other settings than the defaults."""
    header = ["device", "pixels", "batch", "settings", "memory, MiB", "estimate / memory", "launches", "GB",
              "Mcycles", "fused ReLUs / convolutions", "sorts", "gathers", "scatters", "collectives"]  # fmt: skip
    rows = [
        [device(case), pixels(case), str(case["batch"]), said(case["settings"]),
         mebibytes(case["memory"]["alive"]), f"{case['memory']['model'] / case['memory']['alive']:.2f}",
         str(case["launches"]), f"{case['bytes'] / 1e9:.2f}", cycles(case),
         f"{case['relu']} / {sum(case['convolutions'].values())}",
         *(str(case[name]) for name in ("sorts", "gathers", "scatters")), collectives(case)]
        for case in found
    ]  # fmt: skip
    return header, rows


def by_program(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of the other programs, and of those of several devices."""
    header = ["device", "number", "program", "pixels", "batch", "memory, MiB", "launches", "GB", "copies",
              "collectives"]  # fmt: skip
    rows = [
        [device(case), str(case["number"]), case["program"], pixels(case), str(case["batch"]),
         mebibytes(case["memory"]["alive"]), str(case["launches"]), f"{case['bytes'] / 1e9:.2f}",
         str(case["copies"]["launches"]), collectives(case)]
        for case in found
    ]  # fmt: skip
    return header, rows


def device(case: dict) -> str:
    """Writes the device of a case, its preset if that is of `BASES`, and the compiler's effort if it was told one."""
    effort = re.search(r"effort \S+", case["compiler"])
    return case["device"] + BASES.get(case["settings"], "") + (f", {effort[0]}" if effort else "")


def bandwidth(device: str) -> float | None:
    """Returns the bytes a second of a described GPU's memory; None for a TPU."""
    path = DESCRIPTIONS / f"{device}.txtpb"
    found = re.search(r"memory_bandwidth: (\d+)", path.read_text()) if path.exists() else None
    return float(found[1]) if found else None


def pixels(case: dict) -> str:
    """Writes the width and height of a case."""
    return f"{case['size']} x {case['size'] * 3 // 4}"


def mebibytes(bytes: int) -> str:
    """Writes bytes in MiB."""
    return f"{bytes / 2**20:,.0f}"


def cycles(case: dict) -> str:
    """Writes the TPU compiler's estimate in millions."""
    return f"{case['cycles'] / 1e6:.1f}" if case["cycles"] else ""


def collectives(case: dict) -> str:
    """Writes the collectives of a program."""
    return ", ".join(f"{count} {name}" for name, count in case["collectives"].items()) or "none"


def said(settings: str) -> str:
    """Writes settings as words."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(settings).items())
