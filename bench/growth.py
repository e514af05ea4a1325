"""Measures the cost of an image against the number of images, size, batch, number of styles and length of history."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import engine as engines
import numpy as np
from harness import Asked, Results, medians, result, save, timed
from lanes import batch_of, losses, stepper

from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.stylizer import stylizer

TICKS = 3
"""Ticks of one timed call."""


def _seconds(asked: Asked, cells: dict[int, tuple[int, int, int]]) -> dict[int, float]:
    """Measures the seconds a tick of an image, by (size, batch, history), all taking turns."""
    calls = {}
    for x, (size, number, history) in cells.items():
        engine = stylizer(StylizeSettings(history=history))
        batch = batch_of(engine, asked.photographs(size, number), asked.style(size))
        calls[x] = stepper(engine.advance, batch, TICKS)
    found = medians(calls, asked.pick(1, 3))
    return {x: found[x] / TICKS / cells[x][1] for x in cells}


def _sizes(asked: Asked) -> Results:
    sizes, objective = asked.pick((64,), (64, 128, 256, 512)), StylizeSettings().objective()
    seconds = _seconds(asked, {size: (size, 2, 10) for size in sizes})
    gflops = {size: engines.flops((size, size * 3 // 4), objective) / 1e9 / seconds[size] for size in sizes}
    for size in sizes:
        yield result(
            f"GFLOP/s at {size}px / at {sizes[-1]}px, batch 2", gflops[size] / gflops[sizes[-1]],
            axis="size", x=size, seconds=seconds[size], gflops=gflops[size],
        )  # fmt: skip


def _batches(asked: Asked) -> Results:
    batches = asked.pick((1, 2), (1, 2, 4, 8, 16))
    for size in asked.pick((64,), (128, 256)):
        seconds = _seconds(asked, {batch: (size, batch, 10) for batch in batches})
        for batch in batches:
            what = f"seconds an image and tick, batch {batch} / batch 1, {size}px"
            value = seconds[batch] / seconds[1]
            yield result(what, value, axis=f"batch, {size}px", x=batch, seconds=seconds[batch])


def _histories(asked: Asked) -> Results:
    """Measures seconds by length of history, and final losses of eight photographs in one batch."""
    histories, evaluations = asked.pick(((2, 10), 12), ((2, 5, 10, 20), 120))
    seconds = _seconds(asked, {history: (128, 2, history) for history in histories})
    for history in histories:
        what, value = f"seconds a tick, history of {history} / 10, 128px, batch 2", seconds[history] / seconds[10]
        yield result(what, value, axis="history", x=history, seconds=seconds[history])
    found = {}
    for history in histories:
        engine = stylizer(StylizeSettings(history=history))
        batch = batch_of(engine, asked.photographs(64, 8), asked.style(64))
        found[history] = np.array(losses(engine.advance(batch, evaluations)))
    for history in histories:
        quotients = found[history] / found[10]
        what = f"loss after 120 evaluations, history of {history} / 10, median of 8 at 64px"
        yield result(what, float(np.median(quotients)), ratios=quotients.tolist())


def _styles(asked: Asked) -> Results:
    """Measures the targets of another style against an evaluation of an image."""
    styles, engine = asked.all_styles(256), stylizer(StylizeSettings())
    calls = {
        f"{k} styles": partial(lambda some: [engine.style_targets(s) for s in some], styles[:k]) for k in (1, 2, 3)
    }
    batch = batch_of(engine, asked.photographs(256, 1), styles[0])
    seconds = medians({**calls, "tick": stepper(engine.advance, batch, TICKS)}, asked.pick(1, 3))
    for k in (1, 2, 3):
        value = seconds[f"{k} styles"] / (seconds["tick"] / TICKS)
        yield result(f"seconds for the targets of {k} styles of 256px / of a tick of one image", value, seconds=seconds)


def _images(asked: Asked) -> Results:
    """Measures whole runs by number of images, all programs compiled before."""
    numbers, evaluations, batch = asked.pick(((2, 4), 5, 2), ((8, 16, 32), 20, 8))
    settings = RenderSettings(size=64, evaluations=evaluations, batch=batch)
    photographs, seconds = asked.photographs(256, numbers[-1]), {}
    with tempfile.TemporaryDirectory() as folder:
        save(asked.style(256), style := Path(folder, "style.png"))
        for turn, number in enumerate((numbers[0], *numbers)):
            inputs = Path(folder, f"in{turn}")
            for k in range(number):
                save(photographs[k], inputs / f"{k}.png")
            spent, summary = timed(partial(engines.render, inputs, style, Path(folder, f"out{turn}"), settings))
            seconds[number] = spent / number
            assert summary.done == number, summary
    for number in numbers:
        what = f"seconds an image of a whole run, {number} images / {numbers[0]}, 64px, batch 8"
        value = seconds[number] / seconds[numbers[0]]
        yield result(what, value, axis="images", x=number, seconds=seconds[number])


def growth(asked: Asked) -> Results:
    """Runs all; values are ratios to the smallest (sizes: to the largest; histories: to the default of 10)."""
    for part in (_sizes, _batches, _histories, _styles, _images):
        yield from part(asked)


ALL = {"growth": growth}
"""Measurements by name."""
