"""The programs that are compared, as a table of named settings: a new preset or program is one line of `PROGRAMS`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jaxstyle
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import match_colours
from quality.pairs import Made, Pair, read, write

OURS = "jaxstyle"
"""The name of the default preset, with which the others are compared."""


@dataclass(frozen=True)
class Program:
    """A program with its settings.

    Attributes:
        make: (pair, factor on the style weight, **options) -> what it makes.
        options: settings that differ from the defaults of `make`; a result is computed again when they change.
        sweeps: whether it has a style weight.
        needs: a module that must be installed, or "".
    """

    make: Callable[..., Made]
    options: Mapping[str, Any] = field(default_factory=dict)
    sweeps: bool = True
    needs: str = ""

    def missing(self) -> str:
        """Returns why it cannot run here, or ""."""
        return "" if not self.needs or find_spec(self.needs) else f"{self.needs} is not installed"


def ours(pair: Pair, factor: float, **options: Any) -> Made:
    """Renders a pair as `jaxstyle render` does, on one device; `options` are fields of `RenderSettings`."""
    settings = RenderSettings(size=max(pair.content.pixels.shape), style_size=max(pair.style.pixels.shape), **options)
    weight = factor * settings.objective().style_weight
    with tempfile.TemporaryDirectory() as folder:
        content, style = (write(one.pixels, Path(folder, name, "a.png"))
                          for name, one in (("content", pair.content), ("style", pair.style)))  # fmt: skip
        began = time.perf_counter()
        jaxstyle.render(content, style, Path(folder, "out"), settings, style_weight=weight, batch=1, workers=0)
        whole = time.perf_counter() - began
        row = json.loads(Path(folder, "out", "manifest.jsonl").read_text())
        if row["status"] != "done":
            raise RuntimeError(f"jaxstyle made no picture of {pair.name}: {row['reason']}")
        image = read(Path(folder, "out", "a.png")).floats
    return Made(image, row["evaluations"], row["seconds"], whole - row["seconds"])


def photograph(pair: Pair, factor: float) -> Made:
    """Returns the photograph, which has no style."""
    return Made(pair.content.floats, 0, 0.0, 0.0)


def matched(pair: Pair, factor: float) -> Made:
    """Returns the photograph in the painting's colours, from which our presets start."""
    return Made(match_colours(pair.content.floats, pair.style.floats), 0, 0.0, 0.0)


def neural_style(pair: Pair, factor: float, **options: Any) -> Made:
    """Runs neural-style-pt's objective; see quality/peer_neural_style.py, which needs torch."""
    from quality import peer_neural_style

    return peer_neural_style.stylize(pair, factor, **options)


def wasserstein(pair: Pair, factor: float, **options: Any) -> Made:
    """Runs style-transfer-pytorch's objective; see quality/peer_wasserstein.py, which needs torch."""
    from quality import peer_wasserstein

    return peer_wasserstein.stylize(pair, factor, **options)


PROGRAMS: dict[str, Program] = {
    "the photograph": Program(photograph, sweeps=False),
    "the photograph in the painting's colours": Program(matched, sweeps=False),
    OURS: Program(ours),
    "jaxstyle, preset classic": Program(ours, {"preset": "classic"}),
    "jaxstyle, preset painterly": Program(ours, {"preset": "painterly"}),
    "jaxstyle, preset gatys": Program(ours, {"preset": "gatys"}),
    "neural-style-pt": Program(neural_style, needs="torch"),
    "neural-style-pt, 200 evaluations from the photograph": Program(
        neural_style, {"init": "image", "evaluations": 200}, needs="torch"
    ),
    "style-transfer-pytorch": Program(wasserstein, needs="torch"),
    "style-transfer-pytorch, a fifth of its evaluations": Program(
        wasserstein, {"min_scale": 64, "initial_evaluations": 200, "evaluations": 100}, needs="torch"
    ),
}
"""Programs by name. Without options they have their own defaults."""
