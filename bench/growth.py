"""What an image costs as things grow: number of images, size, batch, number of styles, length of history."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from ratios import alternate, batch_of, pictures

from jaxstyle.data import image
from jaxstyle.engine import pipeline
from jaxstyle.planning import cost
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.stylizer import stylizer

TICKS = 3


def _ticks(arguments, engine, size: int, batch: int):
    """A function that advances a batch by `TICKS` ticks."""
    contents, styles = pictures(arguments, size)
    state, targets = batch_of(engine, list(itertools.islice(itertools.cycle(contents), batch)), styles[0])
    holder = [engine.advance(state, targets, 2)]

    def advance():
        holder[0] = engine.advance(holder[0], targets, TICKS)
        return holder[0][0].loss

    return advance


def _seconds(arguments, cells: dict) -> dict:
    """Seconds a tick of an image, by (size, batch, history), all alternating."""
    functions = {
        cell: _ticks(arguments, stylizer(StylizeSettings(history=history)), size, batch)
        for cell, (size, batch, history) in cells.items()
    }
    found = alternate(functions, 1 if arguments.quick else 3)
    return {cell: found[cell] / TICKS / cells[cell][1] for cell in cells}


def growth(arguments):
    """All of them; values are ratios to the smallest (to the default history of 10)."""
    sizes, batches, histories = ((64,), (1, 2), (2, 10)) if arguments.quick else (
        (64, 128, 256, 512), (1, 2, 4, 8, 16), (2, 5, 10, 20))  # fmt: skip

    def gflops(size):
        return cost.evaluation_flops((size, size * 3 // 4), StylizeSettings().objective()) / 1e9

    seconds = _seconds(arguments, {size: (size, 2, 10) for size in sizes})
    for size in sizes:
        yield {"what": f"GFLOP/s at {size}px / at {sizes[-1]}px, batch 2",
               "value": gflops(size) / seconds[size] / (gflops(sizes[-1]) / seconds[sizes[-1]]), "goal": "",
               "axis": "size", "x": size, "seconds": seconds[size], "gflops": gflops(size) / seconds[size]}  # fmt: skip
    for size in (128, 256) if not arguments.quick else (64,):
        seconds = _seconds(arguments, {batch: (size, batch, 10) for batch in batches})
        for batch in batches:
            yield {"what": f"seconds an image and tick, batch {batch} / batch 1, {size}px",
                   "value": seconds[batch] / seconds[1], "goal": "", "axis": f"batch, {size}px", "x": batch,
                   "seconds": seconds[batch]}  # fmt: skip
    seconds = _seconds(arguments, {history: (128, 2, history) for history in histories})
    for history in histories:
        yield {"what": f"seconds a tick, history of {history} / 10, 128px, batch 2",
               "value": seconds[history] / seconds[10], "goal": "", "axis": "history", "x": history,
               "seconds": seconds[history]}  # fmt: skip
    yield from _histories(arguments, histories)
    yield from _styles(arguments)
    yield from _images(arguments)


def _histories(arguments, histories):
    """Final losses by length of history, the same eight photographs in one batch."""
    contents, styles = pictures(arguments, 64)
    eight = list(itertools.islice(itertools.cycle([*contents, *(c[:, ::-1] for c in contents)]), 8))
    losses = {}
    for history in histories:
        engine = stylizer(StylizeSettings(history=history))
        state, targets = batch_of(engine, eight, styles[0])
        losses[history] = np.asarray(engine.advance(state, targets, 12 if arguments.quick else 120)[0].loss, float)
    for history in histories:
        quotients = losses[history] / losses[10]
        yield {"what": f"loss after 120 evaluations, history of {history} / 10, median of 8 at 64px",
               "value": float(np.median(quotients)), "goal": "", "ratios": quotients.tolist()}  # fmt: skip


def _styles(arguments):
    """What another style costs: its targets, once, against an evaluation of an image."""
    _, styles = pictures(arguments, 256)
    engine = stylizer(StylizeSettings())
    calls = {f"{k} styles": (lambda k=k: [engine.style_targets(s) for s in styles[:k]]) for k in (1, 2, 3)}
    seconds = alternate({**calls, "tick": _ticks(arguments, engine, 256, 1)}, 1 if arguments.quick else 3)
    for k in (1, 2, 3):
        yield {"what": f"seconds for the targets of {k} styles of 256px / of a tick of one image",
               "value": seconds[f"{k} styles"] / (seconds["tick"] / TICKS), "goal": "", "seconds": seconds}  # fmt: skip


def _images(arguments):
    """Whole runs by number of images, compiled before."""
    numbers = (2, 4) if arguments.quick else (8, 16, 32)
    contents, styles = pictures(arguments, 256)
    settings = RenderSettings(size=64, evaluations=5 if arguments.quick else 20, batch=8 if not arguments.quick else 2)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder, "style.png")
        Image.fromarray(image.to_bytes(styles[0])).save(style)
        for turn, number in enumerate((numbers[0], *numbers)):
            inputs = Path(folder, f"in{turn}")
            inputs.mkdir()
            for k in range(number):
                moved = np.roll(contents[k % len(contents)], 11 * k, 1)
                Image.fromarray(image.to_bytes(moved)).save(inputs / f"{k}.png")
            began = time.perf_counter()
            summary = pipeline.render(inputs, style, Path(folder, f"out{turn}"), settings)
            seconds[number] = (time.perf_counter() - began) / number
            assert summary.done == number, summary
    for number in numbers:
        yield {"what": f"seconds an image of a whole run, {number} images / {numbers[0]}, 64px, batch 8",
               "value": seconds[number] / seconds[numbers[0]], "goal": "", "axis": "images", "x": number,
               "seconds": seconds[number]}  # fmt: skip


ALL = {"growth": growth}
"""Measurements by name."""
