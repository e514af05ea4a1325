"""What the sections of bench/gpu.py share: how much is measured, pictures, renderers by precision, programs."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

import jaxstyle.demo.styles
import jaxstyle.style.stylizer as stylizers
from jaxstyle.model.weights import Weights
from jaxstyle.planning import cost
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import initial
from jaxstyle.style.stylizer import Stylizer

PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "highest"}
"""Precisions of the renderer, by what products of float32 are made in; bfloat16 ones are what they are."""


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


@dataclass(frozen=True)
class Program:
    """A chunk of ticks, compiled for one size and batch.

    Attributes:
        call: state and style targets to the state after it; the old one is used up.
        memory: bytes by XLA's account: arguments, results, temporaries.
    """

    call: Callable[[Any, Any], Any]
    compile_seconds: float
    memory: dict[str, int]
    hlo: str


class Lab:
    """Everything is made when it is first asked for.

    Attributes:
        precisions: of `PRODUCTS`; TF32 is of GPUs.
        rates: operations a second of a matrix product by precision, once measured.
        pairs: what the ladder leaves for the sections after it.
        profiled: the program of the cell whose kernels are told apart, once the sweep has it.
    """

    def __init__(self, scale: Scale, network: Weights, minutes: float):
        self.scale, self.network = scale, network
        self._end = time.monotonic() + 60 * minutes
        self.rates: dict[str, float] = {}
        self.pairs: dict[str, Any] = {}
        self.accelerator = jax.default_backend() != "cpu"
        self.precisions = [name for name in PRODUCTS if self.accelerator or name != "tf32"]
        self._engines: dict[str, Stylizer] = {}
        self._compile_seconds: dict[tuple, float] = {}
        self.profiled: Program | None = None

    def left(self) -> float:
        """Seconds of the budget."""
        return self._end - time.monotonic()

    def need(self, seconds: float) -> None:
        """Raises OutOfTime if less is left."""
        if self.left() < seconds:
            raise OutOfTime(f"{max(0, self.left()):.0f} s of the budget are left, it may take {seconds:.0f} s")

    # Pictures.

    @cached_property
    def styles(self) -> list[np.ndarray]:
        """The demo's drawn styles, h x w x 3 in [0, 1]."""
        drawn = itertools.islice(jaxstyle.demo.styles.STYLES.values(), self.scale.styles)
        return [draw().astype(np.float32) / 255 for draw in drawn]

    def style(self, number: int, side: int) -> np.ndarray:
        """A style of this side in pixels."""
        return _fitted(self.styles[number % len(self.styles)], side)

    @cached_property
    def _photos(self) -> list[Image.Image]:
        folder = Path(jaxstyle.demo.styles.__file__).parent / "photos"
        return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]

    def contents(self, side: int, number: int) -> np.ndarray:
        """Squares of the demo's photographs, number x side x side x 3; mirrored and moved on when they come again."""
        found = []
        for k in range(number):
            photo = np.asarray(self._photos[k % len(self._photos)], np.float32) / 255
            again = k // len(self._photos)
            found.append(_fitted(np.roll(photo, 101 * again, 1)[:, :: -1 if again % 2 else 1], side))
        return np.stack(found)

    # The renderer.

    def fresh(self, precision: str) -> Stylizer:
        """A renderer on JAX's default device, whose products of float32 are made as `PRODUCTS` says."""
        settings = StylizeSettings(precision="bfloat16" if precision == "bfloat16" else "float32",
                                   **self.scale.objective)  # fmt: skip
        with patch.object(stylizers, "_exact", lambda function: products(precision, function)):
            return Stylizer(settings, self.network)

    def engine(self, precision: str) -> Stylizer:
        """As `fresh`, the same one when asked again."""
        if precision not in self._engines:
            self._engines[precision] = self.fresh(precision)
        return self._engines[precision]

    def flops(self, side: int) -> int:
        """Of one evaluation of one image."""
        return cost.evaluation_flops((side, side), self.engine("float32").objective)

    def batch(self, precision: str, side: int, batch: int) -> tuple[Any, Any]:
        """A batch of the demo's photographs in its first style, and the style's targets."""
        return batch_of(self.engine(precision), self.contents(side, batch), self.style(0, side))

    def compile(self, precision: str, state: Any, targets: Any) -> Program:
        """A chunk of `CHUNK` ticks for batches of this shape."""
        engine, began = self.engine(precision), time.perf_counter()
        compiled = engine._advance.lower(engine.variables, *state, targets, CHUNK, 0.0).compile()
        # JAX has a shape that comes again at hand: the first time counts
        cell = precision, state[0].image.shape
        seconds = self._compile_seconds.setdefault(cell, time.perf_counter() - began)
        told = compiled.memory_analysis()
        memory = {
            name: int(getattr(told, f"{name}_size_in_bytes", 0) or 0)
            for name in ("argument", "output", "alias", "temp", "generated_code")
        }

        def call(state: Any, targets: Any) -> Any:
            lanes, content = state
            return compiled(engine.variables, lanes, content, targets, CHUNK, 0.0), content

        return Program(call, seconds, memory, compiled.as_text() or "")


def inits(contents: Sequence[np.ndarray], style: np.ndarray) -> np.ndarray:
    """Where the optimisation of contents starts by default, N x H x W x 3."""
    return np.stack([initial(StylizeSettings(), one, style, str(k)) for k, one in enumerate(contents)])


def batch_of(
    engine: Stylizer, contents: Sequence[np.ndarray], style: np.ndarray, budget: int = sys.maxsize
) -> tuple[Any, Any]:
    """A batch of lanes with so many evaluations each, by default without end, and the style's targets."""
    targets, starts = engine.style_targets(style), inits(contents, style)
    return engine.stack([engine.start(c, i, targets, budget) for c, i in zip(contents, starts, strict=True)]), targets


def products(precision: str, function: Callable) -> Callable:
    """The function with products of float32 made as `PRODUCTS` says."""

    def traced(*arguments):
        with jax.default_matmul_precision(PRODUCTS[precision]):
            return function(*arguments)

    return traced


def evaluation(engine: Stylizer, precision: str, times: int = 0) -> Callable[..., Any]:
    """(images, content targets, style targets) to N losses and the gradient, or to the images after so many of them.

    Args:
        times: in one compiled loop, as the renderer runs them; 0 is one alone.
    """

    def evaluate(variables, images, content, style):
        one = lambda x, c: engine.evaluate(variables, style, c)(x)  # noqa: E731
        (losses, _), gradient = jax.vmap(one)(images, content)
        return losses, gradient

    def loop(variables, images, content, style):
        # the tiny step keeps XLA from seeing that every round is the same
        step = lambda _, x: x - 1e-12 * evaluate(variables, x, content, style)[1]  # noqa: E731
        return jax.lax.fori_loop(0, times, step, images)

    compiled = jax.jit(products(precision, loop if times else evaluate))
    return lambda images, content, style: compiled(engine.variables, jnp.asarray(images), content, style)


def _fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """A square of this side, cropped around the middle."""
    whole = Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    return np.asarray(ImageOps.fit(whole, (side, side), Image.Resampling.LANCZOS), np.float32) / 255
