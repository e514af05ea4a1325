"""Profiles a compiled program: sums JAX's trace by kernel and names the operations of each kernel."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

AROUND = {"while", "call", "conditional"}
"""Opcodes whose time is that of what they call."""
KINDS = (
    ("convolution", r"\bconvolution|conv_general|fprop|dgrad|wgrad|implicit_gemm|cudnn"),
    ("matrix product", r"\bdot\b|dot_general|gemm|cublas|nvjet"),
    ("copy", r"\bcopy|memcpy|memset|\btranspose\b"),
)
"""Kinds of kernels by what their names, their operations and what is fused into those contain; else "other"."""


def profile(call: Callable[[], Any], hlo: str) -> dict:
    """Milliseconds by kernel of one call, which is waited for.

    Args:
        hlo: text of the compiled program, which says what its operations come from.

    Returns:
        `kernels`, the longest first, and `kinds`: milliseconds by kind; `milliseconds` of all.

    Raises:
        LookupError: the trace has nothing of the device in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        events = [event for path in Path(folder).rglob("*.trace.json.gz") for event in _events(path)]
    operations = _operations(hlo)
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, operation, milliseconds in _kernels(events, operations):
        spent[name, operation].append(milliseconds)
    if not spent:
        raise LookupError("the trace has no kernels in it")
    kernels = []
    kinds: dict[str, float] = defaultdict(float)
    for (name, operation), times in spent.items():
        told = operations.get(operation, Operation("", "", ""))
        kind = _kind(f"{name} {operation} {told.holds}")
        kinds[kind] += sum(times)
        kernels.append({"kernel": name, "operation": operation, "what": told.source, "kind": kind,
                        "calls": len(times), "milliseconds": sum(times)})  # fmt: skip
    kernels.sort(key=lambda one: -one["milliseconds"])
    return {"kernels": kernels, "kinds": dict(kinds), "milliseconds": sum(kinds.values())}


def inventory(hlo: str) -> dict[str, int]:
    """Counts the instructions of each kind in a compiled program; a fusion counts as one."""
    found: dict[str, int] = defaultdict(int)
    for name, told in _operations(hlo).items():
        found[_kind(f"{name} {told.holds}")] += 1
    return dict(found)


def _kind(words: str) -> str:
    return next((kind for kind, pattern in KINDS if re.search(pattern, words.lower())), "other")


def _events(path: Path) -> list[dict]:
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


class Operation(NamedTuple):
    """An instruction of a compiled program.

    Attributes:
        source: the operation of JAX that it comes from, or that its last part comes from.
        holds: opcodes of all that is fused into it, and what it calls outside the program.
    """

    opcode: str
    source: str
    holds: str


def _operations(hlo: str) -> dict[str, Operation]:
    """Returns every instruction of a compiled program by its name."""
    lines: list[tuple[str, str, str]] = []
    fused: dict[str, set[str]] = defaultdict(set)
    inside = ""
    for line in hlo.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            inside = head[1]
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = .*?[\])}] ([\w\-]+)\(", line):
            lines.append((found[1], found[2], line))
            fused[inside].add(found[2])
    operations = {}
    for name, opcode, line in lines:
        source = re.search(r'op_name="([^"]*)"', line)
        called = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", line)
        target = re.search(r'custom_call_target="([^"]*)"', line)
        holds = " ".join([opcode, target[1] if target else "", *sorted(fused[called[1]] if called else ())])
        operations[name] = Operation(opcode, source[1].split("/")[-1] if source else "", holds)
    return operations


def _kernels(events: list[dict], operations: dict[str, Operation]) -> Iterator[tuple[str, str, float]]:
    """Yields (kernel, instruction of the program, milliseconds) for every event that is a kernel.

    On a GPU those of the device's streams. On the CPU the events of its threads that are named like an instruction.
    """
    processes = {e["pid"]: e["args"].get("name", "") for e in events if e.get("name") == "process_name"}
    lines = {(e["pid"], e["tid"]): e["args"].get("name", "") for e in events if e.get("name") == "thread_name"}
    device = {pid for pid, name in processes.items() if "/device:" in name}
    for event in events:
        if event.get("ph") != "X":
            continue
        name, pid = event["name"], event["pid"]
        operation = str(event.get("args", {}).get("hlo_op", name))
        if device:
            if pid not in device or "stream" not in lines.get((pid, event["tid"]), "").lower():
                continue
        elif name not in operations or operations[name].opcode in AROUND:
            continue
        yield name, operation, event["dur"] / 1e3
