"""What the sections of bench/gpu.py share: how much is measured, the time that is left, renderers by precision."""

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
    """How much is measured.

    Attributes:
        pair_size, lanes, styles, evaluations: of the pairs that are optimised: side in pixels, contents side by side,
            styles one after another, evaluations of each.
        cells: (precision, side, batch) of the sweep, the most wanted first.
        profiled: the cell whose kernels are told apart; also measured without the solver.
        peers: (side, batch) of evaluations by PyTorch.
        repeats: timings of a chunk, of which the median counts.
        objective: settings of the objective other than the default.
        side: of the matrices of the matrix product, and `copied` bytes; as suits the device if left out.
    """

    pair_size: int
    lanes: int
    styles: int
    evaluations: int
    cells: tuple[tuple[str, int, int], ...]
    profiled: tuple[str, int, int]
    peers: tuple[tuple[int, int], ...]
    repeats: int = 5
    objective: dict[str, Any] = field(default_factory=dict)
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
    pair_size=32, lanes=2, styles=1, evaluations=20, cells=(("float32", 32, 1), ("bfloat16", 32, 2)),
    profiled=("float32", 32, 1), peers=((32, 2),), repeats=2,
    objective={"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}, side=256, copied=2**20,
)  # fmt: skip
"""A shallow objective on tiny pictures: to see that it runs."""


class Skip(Exception):
    """Why something is not measured."""


class OutOfTime(Skip):
    """The budget is spent."""


class Lab:
    """Everything is made when it is first asked for.

    Attributes:
        precisions: of `PRODUCTS`; TF32 is of GPUs.
        rates: operations a second of a matrix product by precision, once measured.
        pairs: what the ladder leaves for the section torch: contents, style and the curves.
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
        """Squares of the demo's photographs."""
        return photographs(side, side, number)

    def style(self, number: int, side: int) -> np.ndarray:
        """One of the demo's styles."""
        return styles(side)[number]

    def fresh(self, precision: str) -> Stylizer:
        """A renderer on JAX's default device; that of TF32 is the one of float32."""
        named = "bfloat16" if precision == "bfloat16" else "float32"
        return Stylizer(StylizeSettings(precision=named, **self.scale.objective), self.network)

    def engine(self, precision: str) -> Stylizer:
        """As `fresh`, the same one when asked again."""
        if precision not in self._engines:
            self._engines[precision] = self.fresh(precision)
        return self._engines[precision]

    def flops(self, side: int) -> int:
        """Operations of one evaluation of one image."""
        return engines.flops((side, side), self.engine("float32").objective)

    def batch(self, precision: str, side: int, batch: int) -> Batch:
        """A batch of the demo's photographs in its first style."""
        return batch_of(self.engine(precision), self.contents(side, batch), self.style(0, side))

    def compiled(self, precision: str, side: int, batch: int) -> bool:
        """Whether the program of a cell is there already."""
        return (precision, (batch, side, side, 3)) in self._programs

    def program(self, precision: str, batch: Batch) -> Program:
        """The ticks for batches of this shape; compiled once, so that its seconds are those of the first time."""
        cell = precision, batch.lanes.point.image.shape
        if cell not in self._programs:
            self._programs[cell] = program(self.engine(precision), batch, precision)
        return self._programs[cell]

    def score(self, images: Any, exact: Batch) -> list[float]:
        """Losses of images in float32, against the targets of a float32 batch."""
        return np.asarray(evaluation(self.engine("float32"), exact)(images)[0], float).tolist()
