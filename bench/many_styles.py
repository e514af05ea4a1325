"""Measures what a style of its own for every image costs, against one style for all of them."""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np
from harness import Asked, Results, alternate, result, timed

from jaxstyle.engine.device import JaxDevice
from jaxstyle.model import weights
from jaxstyle.planning.contract import Batch, Group
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import lane_inputs

BATCH, SERVED = 8, 10
"""Lanes, and images that each style serves."""


def own_styles(asked: Asked) -> Results:
    """Measures ticks of a batch of 8 with one style and with 8, taking turns, and the Gram matrices of new styles."""
    size, evaluations = asked.pick(64, asked.size), RenderSettings().evaluations
    settings = RenderSettings(size=size)
    base = asked.style(size)
    styles = [Painting.of(np.roll(base, 17 * n, (0, 1))) for n in range(BATCH)]
    network = weights.load()
    one, many = (JaxDevice(settings, network, style) for style in (styles[0], None))
    inputs = [lane_inputs(photo, photo, *photo.shape[:2]) for photo in asked.photographs(size, BATCH)]
    height, width = inputs[0]["content"].shape[:2]

    def filled(device: JaxDevice) -> Batch:
        batch = device.batch(Group((width, height)), BATCH)
        for lane in range(BATCH):
            batch.put(lane, inputs[lane], 10**6, styles[lane if device is many else 0])
        return batch

    ticks = {name: partial(filled(device).advance, 1) for name, device in (("one", one), ("many", many))}
    seconds = alternate(ticks, asked.pick(2, 7))
    engine = many._engines[False, False]
    fresh = (np.roll(base, 5 * n + 3, (0, 1)) for n in range(asked.pick(3, 9)))
    engine.style_targets(base, many._shape(base))  # compiles
    targets = statistics.median(timed(partial(engine.style_targets, each, many._shape(each)))[0] for each in fresh)
    tick = {name: statistics.median(times) for name, times in seconds.items()}
    image = {"one": evaluations * tick["one"] / BATCH, "many": evaluations * tick["many"] / BATCH + targets / SERVED}
    yield result(
        f"seconds an image, each style for {SERVED} (Grams included) / one style, {size}px, batch {BATCH}",
        image["many"] / image["one"], "at most 1.05", seconds=seconds, targets=targets,
    )  # fmt: skip


ALL = {"own-styles": own_styles}
