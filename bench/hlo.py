"""Reads the text of a program that XLA has optimised: instructions, with what XLA's backends say of each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

SIZES = {"pred": 1, "bf16": 2, "token": 0, **{f"{kind}{bits}": bits // 8 for kind in "suf" for bits in (8, 16, 32, 64)}}
"""Bytes of a number by type."""


class Array(NamedTuple):
    """One array of a type: its number type, its dimensions, and its layout as the text has it."""

    number: str
    shape: tuple[int, ...]
    layout: str

    @property
    def bytes(self) -> int:
        """Returns its bytes in main memory: with the padding of a TPU's tiles, 0 in a TPU's fast memory."""
        if re.search(r"S\([1-9]", self.layout):
            return 0
        shape = list(self.shape)
        if tiled := re.match(r"\{([\d,]+):T\(([\d,]+)\)", self.layout):
            order, tile = ([int(n) for n in tiled[k].split(",")] for k in (1, 2))
            for side, axis in zip(reversed(tile), order, strict=False):
                shape[axis] = -(-shape[axis] // side) * side
        return SIZES.get(self.number, 1) * math.prod(shape)


def arrays(text: str) -> list[Array]:
    """Returns the arrays of a type, such as `(f32[8,3]{1,0}, s32[])`."""
    found = re.findall(r"\b(pred|token|bf16|[suf]\d+\w*)\[([\d,]*)\](\{[^}]*\})?", text)
    return [Array(number, tuple(int(n) for n in shape.split(",") if n), layout) for number, shape, layout in found]


@dataclass(frozen=True)
class Instruction:
    """An instruction of a program.

    Attributes:
        type: of its result, as the text has it.
        operands: names of the instructions that it reads, or the number of a parameter.
        attributes: the text behind the operands.
        root: whether it is the result of its computation.
    """

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def bytes(self) -> int:
        """Returns the bytes of its result."""
        return sum(one.bytes for one in arrays(self.type))

    @property
    def source(self) -> str:
        """Returns the operation of JAX that it comes from, with all that surrounds it; empty if none is named."""
        return self._find(r'op_name="([^"]*)"') or ""

    @property
    def target(self) -> str:
        """Returns the library function that a custom call calls; empty for others."""
        return self._find(r'custom_call_target="([^"]*)"') or ""

    @property
    def called(self) -> list[str]:
        """Returns the names of the computations that it runs."""
        several = self._find(r"branch_computations=\{([^}]*)\}") or ""
        one = re.findall(r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)",
                         self.attributes)  # fmt: skip
        return [*one, *(name.strip().lstrip("%") for name in several.split(",") if name.strip())]

    @property
    def body(self) -> str | None:
        """Returns the name of the computation that a loop repeats; None for others."""
        return self._find(r"\bbody=%?([\w.\-]+)")

    @property
    def trips(self) -> int | None:
        """Returns how often a loop runs, if XLA knows."""
        number = self._find(r'"known_trip_count":\{"n":"(\d+)"')
        return int(number) if number else None

    @property
    def cycles(self) -> int:
        """Returns the TPU compiler's estimate of its cycles, 0 if it makes none."""
        return int(self._find(r'"estimated_cycles":"(\d+)"') or 0)

    @property
    def activation(self) -> str:
        """Returns the activation that cuDNN applies in the same kernel, such as kRelu; empty for other calls."""
        return self._find(r'"activation_mode":"(\w+)"') or ""

    def _find(self, pattern: str) -> str | None:
        found = re.search(pattern, self.attributes)
        return found[1] if found else None


@dataclass
class Program:
    """A program: the instructions of its computations by name, and the name of the first one."""

    computations: dict[str, list[Instruction]] = field(default_factory=dict)
    entry: str = ""

    def within(self, name: str) -> Iterator[Instruction]:
        """Yields the instructions of a computation and of all that it calls, each computation once."""
        seen, waiting = set(), [name]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                for one in self.computations.get(name, ()):
                    yield one
                    waiting += one.called

    def tick(self) -> str:
        """Returns the name of the body of the loop with the most convolutions; the entry if there is no loop."""
        loops = [one for some in self.computations.values() for one in some if one.body]
        counts = [(sum(map(convolves, self.within(one.body or ""))), one.body or "") for one in loops]
        return max(counts, key=lambda one: one[0], default=(0, self.entry))[1]


def read(text: str) -> Program:
    """Reads the text of a program, as `compiled.as_text()` returns it.

    Raises:
        ValueError: there is no entry computation in it.
    """
    program, name = Program(), ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            name = head[2]
            program.computations[name] = []
            program.entry = name if head[1] else program.entry
        elif name and (found := re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)):
            kind, rest = _type(line[found.end() :])
            if call := re.match(r"([\w\-]+)\(", rest):
                end = _close(rest, call.end() - 1)
                inside = rest[call.end() : end]
                operands = (inside,) if call[1] == "parameter" else tuple(re.findall(r"%([\w.\-]+)", inside))
                one = Instruction(found[2], kind, call[1], operands, rest[end + 1 :], bool(found[1]))
                program.computations[name].append(one)
    if not program.entry:
        raise ValueError("this is no text of a compiled program: it has no ENTRY")
    return program


def _type(text: str) -> tuple[str, str]:
    """Splits the type at the start of a text from the rest."""
    end = _close(text, 0) + 1 if text.startswith("(") else len(text.split(" ", 1)[0])
    return text[:end], text[end:].lstrip()


def _close(text: str, start: int) -> int:
    """Returns the place of the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    return len(text)


def convolves(one: Instruction) -> bool:
    """Tells whether an instruction is a convolution: XLA's own, or a call of cuDNN."""
    return one.opcode == "convolution" or "__cudnn$conv" in one.target
