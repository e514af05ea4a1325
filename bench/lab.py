"""Shared state of the sections of bench/gpu.py: amount of measurements, remaining time, renderers by precision."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import engine as engines
import jax
import numpy as np
from harness import photographs, styles
from lanes import PRODUCTS, Program, batch_of, evaluation, program

from jaxstyle.model.weights import Weights
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.batch import Batch
from jaxstyle.style.stylizer import Stylizer

CHUNK = 10
"""Ticks of one call."""


@dataclass(frozen=True)
class Scale:
    """The amount of measurements.

    Attributes:
        pair_size, lanes, styles, evaluations: side in pixels, contents side by side, styles one after another, and
            evaluations of the optimised pairs.
        cells: (precision, side, batch) of the sweep, the most important first.
        profiled: the cell that is profiled by kernel and also measured without the solver.
        peers: (side, batch) of evaluations by PyTorch.
        repeats: timings of a chunk, of which the median is used.
        objective: settings that differ from the defaults; PyTorch's programs have the objective of the preset classic.
        side: rows of the matrices of the matrix product [default: a number that suits the device]
        copied: bytes of the copied array [default: a size that suits the device]
    """

    pair_size: int
    lanes: int
    styles: int
    evaluations: int
    cells: tuple[tuple[str, int, int], ...]
    profiled: tuple[str, int, int]
    peers: tuple[tuple[int, int], ...]
    repeats: int = 5
    objective: dict[str, Any] = field(default_factory=lambda: {"preset": "classic"})
    side: int | None = None
    copied: int | None = None


ACCELERATOR = Scale(
    pair_size=256, lanes=8, styles=3, evaluations=200,
    cells=tuple(("bfloat16", side, batch) for batch in (8, 32, 1, 16, 4, 2) for side in (512, 256))
    + tuple((precision, side, 8) for side in (256, 512) for precision in ("tf32", "float32")),
    profiled=("bfloat16", 512, 8), peers=((512, 8), (256, 8), (512, 32), (256, 32), (512, 1)),
)  # fmt: skip
CPU = Scale(
    pair_size=64, lanes=4, styles=1, evaluations=60,
    cells=(("float32", 128, 1), ("float32", 128, 2), ("float32", 128, 4), ("bfloat16", 128, 2)),
    profiled=("float32", 128, 2), peers=((128, 1), (128, 4)), repeats=3,
)  # fmt: skip
QUICK = Scale(
    pair_size=32, lanes=2, styles=1, evaluations=20, cells=(("float32", 32, 2), ("bfloat16", 32, 2)),
    profiled=("float32", 32, 2), peers=((32, 2),), repeats=2,
    objective={"preset": "classic", "content_layers": ("relu1_2",), "style_layers": ("relu1_1",), "history": 2},
    side=256, copied=2**20,
)  # fmt: skip
"""A shallow objective on tiny pictures: to see that it runs."""


class Skip(Exception):
    """A measurement is skipped; the message says why."""


class OutOfTime(Skip):
    """The time limit is reached."""


class Lab:
    """Makes pictures, renderers and programs on first use.

    Attributes:
        precisions: names in `PRODUCTS`; TF32 only on GPUs.
        rates: operations a second of a matrix product by precision, once measured.
        pairs: results of the section ladder for the section torch: contents, style and the curves.
    """

    def __init__(self, scale: Scale, network: Weights, minutes: float):
        self.scale, self.network = scale, network
        self._end = time.monotonic() + 60 * minutes
        self.rates: dict[str, float] = {}
        self.pairs: dict[str, Any] = {}
        self.accelerator = jax.default_backend() != "cpu"
        self.precisions = [name for name in PRODUCTS if self.accelerator or name != "tf32"]
        self._engines: dict[str, Stylizer] = {}
        self._programs: dict[tuple, Program] = {}

    def need(self, seconds: float) -> None:
        """Raises OutOfTime if less is left."""
        left = max(0.0, self._end - time.monotonic())
        if left < seconds:
            raise OutOfTime(f"{left:.0f} s of the budget are left, it may take {seconds:.0f} s")

    def contents(self, side: int, number: int) -> list[np.ndarray]:
        """Returns squares of the demo's photographs."""
        return photographs(side, side, number)

    def style(self, number: int, side: int) -> np.ndarray:
        """Returns one of the demo's styles."""
        return styles(side)[number]

    def fresh(self, precision: str) -> Stylizer:
        """Makes a renderer on JAX's default device; TF32 uses the renderer of float32."""
        named = "bfloat16" if precision == "bfloat16" else "float32"
        return Stylizer(StylizeSettings(precision=named, **self.scale.objective), self.network)

    def engine(self, precision: str) -> Stylizer:
        """Returns the renderer of a precision; caches it."""
        if precision not in self._engines:
            self._engines[precision] = self.fresh(precision)
        return self._engines[precision]

    def flops(self, side: int) -> int:
        """Counts the operations of one evaluation of one image."""
        return engines.flops((side, side), self.engine("float32").objective)

    def batch(self, precision: str, side: int, batch: int) -> Batch:
        """Makes a batch of the demo's photographs in its first style."""
        return batch_of(self.engine(precision), self.contents(side, batch), self.style(0, side))

    def compiled(self, precision: str, side: int, batch: int) -> bool:
        """Tells whether the program of a cell has been compiled."""
        return (precision, (batch, side, side, 3)) in self._programs

    def program(self, precision: str, batch: Batch) -> Program:
        """Returns the program for batches of this shape; `compile_seconds` is that of the first call."""
        cell = precision, batch.lanes.point.image.shape
        if cell not in self._programs:
            self._programs[cell] = program(self.engine(precision), batch, precision)
        return self._programs[cell]

    def score(self, images: Any, exact: Batch) -> list[float]:
        """Computes the losses of images in float32, against the targets of a float32 batch."""
        return np.asarray(evaluation(self.engine("float32"), exact)(images)[0], float).tolist()
