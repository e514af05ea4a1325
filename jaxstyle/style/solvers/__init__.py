"""Registry of solvers. A new solver is a file in this folder and one line here. This module does not import jax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from jaxstyle.settings import StylizeSettings

if TYPE_CHECKING:
    from jaxstyle.style.solvers.base import Solver


@dataclass(frozen=True)
class SolverKind:
    """Facts about a solver that are available without jax.

    Attributes:
        place: module and class, "lbfgs:Lbfgs".
        options: names of the settings that are passed to the class.
        images: (settings) -> number of float32 arrays of the image's size that a lane holds between two ticks, its
            image included.
        images_on: by "gpu" or "tpu": (settings, width in pixels) -> such arrays that a lane holds there in addition.
        evaluations_at_once: evaluations whose arrays are alive at the same time during a tick.
        images_of_a_tick: (settings) -> number of float32 arrays of the image's size that are alive during a tick's
            evaluation, beside those of every solver, see `planning.memory.IMAGES`.
        options_on: name of the class's option that is set on "gpu" or "tpu".
    """

    place: str
    options: tuple[str, ...]
    images: Callable[[StylizeSettings], float]
    evaluations_at_once: int = 1
    images_of_a_tick: Callable[[StylizeSettings], float] = lambda settings: 0
    options_on: Mapping[str, str] = field(default_factory=dict)
    images_on: Mapping[str, Callable[[StylizeSettings, int], float]] = field(default_factory=dict)

    def make(self, settings: StylizeSettings, kind: str = "cpu") -> Solver:
        """Imports the solver and passes it its options from the settings, and for a kind of device that of
        `options_on`."""
        module, name = self.place.split(":")
        options = {option: getattr(settings, option) for option in self.options}
        if kind in self.options_on:
            options[self.options_on[kind]] = True
        return getattr(import_module(f"jaxstyle.style.solvers.{module}"), name)(**options)


PYRAMID = 4 / 3
"""Values of all levels of a pyramid / those of the image, with the preconditioner pyramid. During a tick two arrays of
this size take the place of one image (XLA for the CPU)."""

PLANES = 3 / 2
"""The same with the zeros beside the levels in `planes.Layout`."""
ROW = 128
"""Numbers of a row of a TPU's memory."""


def _lbfgs_images(settings: StylizeSettings) -> float:
    pair = 1 if settings.history_dtype == "bfloat16" else 2
    return 1 + (1 + pair * settings.history) * (1 if settings.preconditioner == "none" else PYRAMID)


def _squares(settings: StylizeSettings, width: int) -> float:
    """Returns the smoothed squares of both parts of a pair, see `fused.Squares`."""
    return 0 if settings.preconditioner == "none" else 2 * PYRAMID / 16 * settings.history


def _gaps(settings: StylizeSettings, width: int) -> float:
    """Returns what `planes.Layout` takes beside the levels; a TPU fills its rows to a multiple of `ROW` numbers."""
    padded = PLANES * -(-width // ROW) * ROW / width
    return 0 if settings.preconditioner == "none" else (_lbfgs_images(settings) - 1) * (padded / PYRAMID - 1)


SOLVERS: dict[str, SolverKind] = {
    "lbfgs": SolverKind(
        "lbfgs:Lbfgs", ("history", "history_dtype", "preconditioner"), _lbfgs_images,
        images_of_a_tick=lambda settings: 0 if settings.preconditioner == "none" else 2 * PYRAMID - 1,
        options_on={"gpu": "compact", "tpu": "planes"}, images_on={"gpu": _squares, "tpu": _gaps},
    ),
    "adam": SolverKind("adam:Adam", ("learning_rate", "averaging"), lambda settings: 7 if settings.averaging else 5),
    "jaxopt-zoom": SolverKind("zoom:JaxoptZoom", ("history",), lambda settings: 3 + 2 * settings.history, 2),
}  # fmt: skip
