"""What one tick of a compiled program launches, moves through memory, copies and sends, by its text.

A tick is the body of the loop with the most convolutions. Its bytes are estimates from the shapes alone: what every
instruction reads and writes, slices and rows written in place at their own size, and nothing for what stays in a cache.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hlo import Instruction, Program, arrays, convolves, read

FREE = {"parameter", "tuple", "get-tuple-element", "constant", "bitcast", "after-all", "partition-id", "replica-id",
        "iota", "opt-barrier"}  # fmt: skip
"""Opcodes that move nothing."""
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "collective-broadcast", "reduce-scatter")
SLICES, UPDATES = {"dynamic-slice", "slice", "gather"}, {"dynamic-update-slice", "scatter"}
VIEWS = {"bitcast", "copy", "reshape", "transpose", "convert"}
"""Opcodes through which a fusion may read no more than the slice that is taken behind them."""
PARTS = (
    ("ReLU backward", r"transpose\(.*conv\d.*select_n$"),
    ("border mask", r"VGG.*conv\d.*select_n$"),
    ("kernels rounded", r"VGG.*conv\d.*convert_element_type$"),
    ("pooling", r"VGG.*/(max|eq|pad|div|mul|reduce_window|select_n|add_any|select_and_scatter\w*)$"),
    ("solver", r"^(?!.*jvp).*/"),
)
"""Parts of a tick by the operation of JAX that an instruction comes from, the first that suits; see `part`."""


class Moved(NamedTuple):
    """An instruction of a tick: how often it runs, the bytes that each run reads and writes, its part of the tick."""

    one: Instruction
    times: int
    read: int
    written: int
    part: str

    @property
    def bytes(self) -> int:
        """Returns the bytes of all runs."""
        return self.times * (self.read + self.written)


def moved(program: Program, name: str, times: int = 1, inner: bool = False) -> Iterator[Moved]:
    """Yields what a computation runs, loops inside as often as XLA knows and else once.

    Args:
        name: of the computation, such as `program.tick()`.
        inner: whether it is a loop inside the tick; those are the solver's.
    """
    known = {one.name: one for one in program.computations[name]}
    for one in known.values():
        if one.opcode in FREE or one.opcode.endswith("-done"):
            continue
        if one.body:
            yield from moved(program, one.body, times * (one.trips or 1), True)
        elif one.opcode in ("call", "conditional"):
            for called in one.called:
                yield from moved(program, called, times, inner)
        else:
            yield Moved(one, times, _read(program, one, known), _written(program, one), part(program, one, inner))


def part(program: Program, one: Instruction, inner: bool = False) -> str:
    """Returns the part of a tick that an instruction belongs to.

    It is that of its last operation: XLA fuses others before it, such as the gradient of a pooling into a ReLU's.
    """
    fused = [some for name in one.called for some in program.within(name)]
    opcodes = {some.opcode for some in (one, *fused)} - FREE - {"fusion"}
    if any(convolves(some) and "dot_general" not in some.source for some in (one, *fused)):
        return "convolutions"
    if opcodes <= {"copy", "copy-start", "transpose", "reshape"}:
        return "copies"
    if inner:
        return "solver"
    if (opcodes & {"dot", "convolution"} or "cublas" in one.target) and "jvp" in one.source:
        return "Gram matrices"
    return next((name for name, pattern in PARTS if re.search(pattern, one.source)), "other")


def _read(program: Program, one: Instruction, known: dict[str, Instruction]) -> int:
    """Returns the bytes that an instruction reads."""
    operands = [known[name] for name in dict.fromkeys(one.operands) if name in known]
    if one.opcode in SLICES:
        return one.bytes
    if one.opcode in UPDATES:
        return sum(some.bytes for some in operands[1:])
    if one.opcode != "fusion":
        return sum(some.bytes for some in operands)
    inside = program.computations.get(one.called[0], [])
    read = {int(some.operands[0]): _used(inside, some) for some in inside if some.opcode == "parameter"}
    bytes: dict[str, int] = {}
    for number, name in enumerate(one.operands):
        if name in known:
            bytes[name] = max(bytes.get(name, 0), min(read.get(number, known[name].bytes), known[name].bytes))
    return sum(bytes.values())


def _used(inside: list[Instruction], value: Instruction) -> int:
    """Returns the bytes of a value that a fusion reads: the slices if it reads nothing else of it."""
    total = 0
    for user in inside:
        if value.name not in user.operands:
            continue
        if user.opcode in SLICES and user.operands[0] == value.name:
            total += user.bytes
        elif user.opcode in UPDATES and user.operands[0] == value.name:
            total += 0  # written in place
        elif user.opcode in VIEWS and not user.root:
            total += min(_used(inside, user), value.bytes)
        else:
            return value.bytes
    return min(total, value.bytes)


def _written(program: Program, one: Instruction) -> int:
    """Returns the bytes that an instruction writes."""
    known = {some.name: some for some in program.computations.get(one.called[0], [])} if one.opcode == "fusion" else {}
    roots = [some for some in known.values() if some.root]
    if not roots:
        return one.bytes
    values = [known[name] for name in roots[0].operands] if roots[0].opcode == "tuple" else roots
    total = 0
    for value in values:
        while value.opcode == "bitcast" and value.operands[0] in known:
            value = known[value.operands[0]]
        if value.opcode in UPDATES:
            row = known.get(value.operands[1 if value.opcode == "dynamic-update-slice" else -1])
            total += min(row.bytes, value.bytes) if row else value.bytes
        else:
            total += value.bytes
    return total


def summary(text: str, *, loop: bool = True) -> dict[str, Any]:
    """Returns figures of a program as values of JSON.

    Args:
        loop: whether the figures are of a tick; otherwise of the whole program.

    Returns:
        launches: instructions that run, each of which is at least one kernel on a GPU.
        bytes, cycles: of all, and by part under `parts`.
        convolutions: those of the program by how they are computed, and `relu`: those that apply a ReLU as well.
        copies, transposes: number and bytes.
        collectives, sorts, gathers, scatters: numbers in the whole program.
    """
    program = read(text)
    rows = list(moved(program, program.tick() if loop else program.entry))
    parts: dict[str, dict[str, int]] = defaultdict(lambda: {"launches": 0, "bytes": 0, "cycles": 0})
    for row in rows:
        mine = parts[row.part]
        mine["launches"] += row.times
        mine["bytes"] += row.bytes
        mine["cycles"] += row.times * row.one.cycles
    every = [one for some in program.computations.values() for one in some]
    opcodes = Counter(one.opcode.removesuffix("-start") for one in every)
    calls = [one for one in every if "__cudnn$conv" in one.target]
    return {
        "launches": sum(row.times for row in rows),
        "bytes": sum(row.bytes for row in rows),
        "cycles": sum(row.times * row.one.cycles for row in rows),
        "parts": dict(sorted(parts.items(), key=lambda one: -one[1]["bytes"])),
        "convolutions": dict(Counter(_kind(one) for one in every if convolves(one))),
        "relu": sum(one.activation == "kRelu" for one in calls),
        "copies": _sum(row for row in rows if row.part == "copies"),
        "collectives": {name: opcodes[name] for name in COLLECTIVES if opcodes[name]},
        **{f"{name}s": opcodes[name] for name in ("sort", "gather", "scatter", "transpose")},
    }


def _sum(rows: Iterable[Moved]) -> dict[str, int]:
    rows = list(rows)
    return {"launches": sum(row.times for row in rows), "bytes": sum(row.bytes for row in rows)}


def _kind(one: Instruction) -> str:
    """Returns what a convolution is: its function in cuDNN, the number type and layout of its result."""
    result = arrays(one.type)[0]
    layout = re.search(r"dim_labels=([\w>\-]+)", one.attributes)
    name = one.target.removeprefix("__cudnn$") or one.opcode
    return f"{name} {result.number} {layout[1] if layout else ''}".strip()
