"""Compares bfloat16 convolutions with float32: noise of the loss, and final losses of many pairs scored in float32."""

from __future__ import annotations

import statistics

import numpy as np
from harness import Asked, Results, result
from lanes import batch_of, evaluation, starts

from jaxstyle.architecture import VGG16
from jaxstyle.model.products import Forms
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import stylizer

PAIRS, LANES, SIZE, EVALUATIONS, FINISH = 16, 8, 64, 120, 20
"""Number of pairs, lanes of a batch, size in pixels, evaluations of each pair, and those of a float32 finish."""
MIXED: Forms = tuple((name, *2 * (("tall" if name > "block4" else "winograd"),)) for name in VGG16.layers[1:])  # type: ignore[misc]
"""Every layer but the first in products of bfloat16, as no measurement would choose more of them."""


def _noise(asked: Asked) -> Results:
    """Measures the scatter of the loss, as a share, when every pixel moves by a millionth, in both precisions."""
    content, style = asked.photographs(SIZE, 1), asked.style(SIZE)
    exact, coarse = (stylizer(StylizeSettings(precision=p)) for p in ("float32", "bfloat16"))
    image = np.asarray(exact.advance(batch_of(exact, content, style), asked.pick(10, 60)).lanes.point.image[0])
    random, number = np.random.default_rng(0), asked.pick(4, 16)
    moved = image + 1e-6 * random.standard_normal((number, *image.shape)).astype(np.float32)
    found = {}
    for name, engine in (("float32", exact), ("bfloat16", coarse)):
        values = np.asarray(evaluation(engine, batch_of(engine, content * number, style))(moved)[0], np.float64)
        found[name] = float(values.std() / values.mean())
    what = "noise of the loss, standard deviation / loss, bfloat16"
    yield result(what, found["bfloat16"], float32=found["float32"])


def _quality(asked: Asked) -> Results:
    """Compares the final losses of pairs, all scored by the float32 objective, with those of all-float32 runs."""
    number, evaluations, finish = asked.pick((2, 20, 10), (PAIRS, EVALUATIONS, FINISH))
    contents, styles = asked.photographs(SIZE, number), asked.all_styles(SIZE)
    exact, coarse = (stylizer(StylizeSettings(precision=p)) for p in ("float32", "bfloat16"))
    mixed = stylizer(StylizeSettings(precision="float32"), forms=MIXED)
    names = ("float32", "float32 moved", "bfloat16", "float32 finish", "mixed")
    losses: dict[str, list[float]] = {name: [] for name in names}
    for k, first in enumerate(range(0, number, LANES)):
        group, style = contents[first : first + LANES], styles[k % len(styles)]
        score = evaluation(exact, batch_of(exact, group, style))

        def after(name, engine, batch, evaluations, score=score):
            batch = engine.advance(batch, evaluations)
            losses[name] += np.asarray(score(batch.lanes.point.image)[0], float).tolist()

        # the scatter of single runs: the same with starts moved by a thousandth
        inits = starts(group, style)
        moved = inits + 1e-3 * np.random.default_rng(k).standard_normal(inits.shape).astype(np.float32)
        after("float32", exact, batch_of(exact, group, style), evaluations)
        after("mixed", mixed, batch_of(mixed, group, style), evaluations)
        after("float32 moved", exact, batch_of(exact, group, style, inits=moved), evaluations)
        rough = coarse.advance(batch_of(coarse, group, style), evaluations - finish)
        # the finish goes on from the image, with a history of its own
        images = np.array(rough.lanes.point.image)
        after("float32 finish", exact, batch_of(exact, group, style, inits=images), finish)
        after("bfloat16", coarse, rough, finish)
    for name, words in (
        ("bfloat16", "bfloat16"),
        ("mixed", "products of bfloat16 in all layers but the first"),
        ("float32 finish", f"bfloat16 with {FINISH} evaluations of float32 at the end"),
        ("float32 moved", "float32 from a start moved by 0.001 (the scatter of single runs)"),
    ):
        quotients = [a / b for a, b in zip(losses[name], losses["float32"], strict=True)]
        yield result(
            f"final loss scored in float32, {words} / float32, median of {number} pairs", statistics.median(quotients),
            "at most 1.02" if name != "float32 moved" else "", better=sum(q < 1 for q in quotients),
            ratios=sorted(quotients), evaluations=evaluations, size=SIZE,
        )  # fmt: skip


def precision(asked: Asked) -> Results:
    """Measures noise and quality."""
    yield from _noise(asked)
    yield from _quality(asked)


ALL = {"precision": precision}
"""Measurements by name."""
