"""Measures what a style of its own for every image costs, against one style for all of them."""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np
from harness import Asked, Results, medians, result, timed
from lanes import stepper

from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylizer import stylizer

BATCH, SERVED, TICKS = 8, 10, 1
"""Lanes, images that each style serves, and ticks of one timed call."""


def own_styles(asked: Asked) -> Results:
    """Measures ticks of a batch of 8 with one style and with 8, taking turns, and the Gram matrices of new styles."""
    size, evaluations = asked.pick(64, asked.size), RenderSettings().evaluations
    engine, base = stylizer(RenderSettings(size=size)), asked.style(size)
    shape = (-(-size // 32) * 32,) * 2
    photographs = asked.photographs(size, BATCH)
    inputs = [lane_inputs(photo, photo, *photo.shape[:2]) for photo in photographs]
    targets = [engine.style_targets(np.roll(base, 17 * n, (0, 1)), shape) for n in range(BATCH)]
    lanes = {
        "one": engine.stack([engine.start(one, targets[0]) for one in inputs]),
        "many": engine.stack([engine.start(one, own) for one, own in zip(inputs, targets, strict=True)]),
    }
    assert lanes["one"].shared and not lanes["many"].shared
    seconds = medians({name: stepper(engine.advance, batch, TICKS) for name, batch in lanes.items()}, asked.pick(2, 7))
    fresh = (np.roll(base, 5 * n + 3, (0, 1)) for n in range(asked.pick(3, 9)))
    grams = statistics.median(timed(partial(engine.style_targets, each, shape))[0] for each in fresh)
    images = {name: int(evaluations) * one / TICKS / BATCH for name, one in seconds.items()}
    yield result(
        f"seconds an image, each style for {SERVED} (Grams included) / one style, {size}px, batch {BATCH}",
        (images["many"] + grams / SERVED) / images["one"], "at most 1.05", seconds=seconds, grams=grams,
    )  # fmt: skip


ALL = {"own-styles": own_styles}
