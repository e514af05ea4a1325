"""Where the time of a compiled program goes: JAX's trace, summed by kernel, with what each kernel does."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

AROUND = {"while", "call", "conditional"}
"""Opcodes whose time is that of what they call."""
KINDS = (
    ("convolution", r"conv|fprop|dgrad|wgrad|implicit_gemm|cudnn|ynn"),
    ("matrix product", r"dot|gemm|cublas|nvjet|matmul"),
    ("copy", r"copy|memcpy|memset|transpose"),
)
"""Kinds of kernels by what their names, or the operations that they come from, contain; else "other"."""


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
    kernels = [
        {"kernel": name, "operation": operation, "what": operations.get(operation, ("", ""))[1],
         "calls": len(times), "milliseconds": sum(times)}
        for (name, operation), times in spent.items()
    ]  # fmt: skip
    kinds: dict[str, float] = defaultdict(float)
    for one in kernels:
        words = f"{one['kernel']} {one['operation']} {one['what']}".lower()
        one["kind"] = next((kind for kind, pattern in KINDS if re.search(pattern, words)), "other")
        kinds[one["kind"]] += one["milliseconds"]
    kernels.sort(key=lambda one: -one["milliseconds"])
    return {"kernels": kernels, "kinds": dict(kinds), "milliseconds": sum(kinds.values())}


def _events(path: Path) -> list[dict]:
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def _operations(hlo: str) -> dict[str, tuple[str, str]]:
    """Opcode of every instruction, and the operation of JAX that it comes from."""
    found = {}
    for line in hlo.splitlines():
        if match := re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = .*?[\])}] ([\w\-]+)\(", line):
            source = re.search(r'op_name="([^"]*)"', line)
            found[match[1]] = match[2], source[1].split("/")[-1] if source else ""
    return found


def _kernels(events: list[dict], operations: dict[str, tuple[str, str]]):
    """(kernel, instruction of the program, milliseconds) of every event that is one.

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
        elif operations.get(name, ("while",))[0] in AROUND:
            continue
        yield name, operation, event["dur"] / 1e3
