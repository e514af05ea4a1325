"""Compares the tick with an evaluation, and an evaluation with PyTorch and a matrix product; measures memory."""

from __future__ import annotations

import statistics
from functools import partial

import engine as engines
import jax
import jax.numpy as jnp
import numpy as np
from harness import Asked, Results, medians, result
from lanes import batch_of, evaluation, losses, program, stepper

from jaxstyle.bench import rates
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylizer import stylizer

TIMES = 5
"""Ticks and evaluations in a compiled loop."""


def tick(asked: Asked) -> Results:
    """Compares a tick with an evaluation, both in compiled loops, and an image's evaluation by batch with batch 1."""
    engine, each = stylizer(StylizeSettings()), {}
    for size in (1, 2, 4, 8):
        batch = batch_of(engine, asked.photographs(asked.size, size), asked.style(asked.size))
        images = jnp.array(batch.lanes.point.image)
        seconds = medians(
            {
                "evaluation": partial(evaluation(engine, batch, TIMES), images),
                "alone": partial(evaluation(engine, batch), images),
                "tick": stepper(engine.advance, batch, TIMES),
            },
            asked.pick(2, 7),
        )
        each[size] = seconds["evaluation"] / TIMES / size
        yield result(
            f"tick / evaluation, {asked.size}px 4:3, batch {size}", seconds["tick"] / seconds["evaluation"],
            "at most 1.05", seconds_tick=seconds["tick"] / TIMES, seconds_evaluation=seconds["evaluation"] / TIMES,
            seconds_evaluation_alone=seconds["alone"],
        )  # fmt: skip
    for size, seconds_each in each.items():
        what = f"seconds an image-evaluation, batch {size} / batch 1"
        yield result(what, seconds_each / each[1], seconds_image_evaluation=seconds_each)


def lane_memory(asked: Asked) -> Results:
    """Computes what one lane more takes on the device while lanes advance, by XLA's account: compiled, not run."""
    size, most = asked.pick(64, 512), StylizeSettings()
    engine = stylizer(most)
    blank = np.zeros((size, size, 3), np.float32)
    one = jax.eval_shape(lambda: engine.start(lane_inputs(blank, blank, size, size), engine.style_targets(blank)))
    found = {n: program(engine, jax.eval_shape(partial(engine.fill, size=n), one)) for n in (2, 4)}
    name = f"memory a lane, MiB, {size}px, {most.history} pairs"
    raw = {n: {**p.memory, "alive": p.bytes_alive} for n, p in found.items()}
    temporaries, alive = (
        (value(found[4]) - value(found[2])) / 2 for value in (lambda p: p.memory["temp"], lambda p: p.bytes_alive)
    )
    model = engines.bytes_by_model((size, size), most, 4) - engines.bytes_by_model((size, size), most, 3)
    yield result(f"{name}: XLA's temporaries and arguments", alive / 2**20, programs=raw, bytes_by_model=model)
    yield result(f"{name}: XLA's temporaries", temporaries / 2**20)


def torch(asked: Asked) -> Results:
    """Compares an evaluation with PyTorch's: the same network, layers and Gram matrices, value and input gradient."""
    try:
        import torch_strong
    except ImportError as error:
        yield result("evaluation / PyTorch's", f"not measured: {error}", "at most 1.0")
        return
    engine, style = stylizer(StylizeSettings(preset="classic", padding="zero", tv_weight=0.0)), asked.style(asked.size)
    for size in (1, 4):
        contents = asked.photographs(asked.size, size, square=True)
        batch = batch_of(engine, contents, style)
        images = jnp.array(batch.lanes.point.image)
        alone = evaluation(engine, batch)
        calls = {"jax": partial(alone, images), "jax in a loop": partial(evaluation(engine, batch, TIMES), images)}
        expected = np.asarray(alone(images)[0])
        for layout in torch_strong.LAYOUTS:
            strong = torch_strong.Strong(engine, np.stack(contents), style, layout=layout)
            calls[layout] = partial(strong.evaluations, strong.images(np.asarray(images)), 1)
            assert strong.error(np.asarray(images), expected) < 1e-3, "the two programs compute different losses"
        seconds = medians(calls, asked.pick(2, 7))
        best = min(seconds[layout] for layout in torch_strong.LAYOUTS)
        for how, ours in (("alone", seconds["jax"]), ("in a chunk", seconds["jax in a loop"] / TIMES)):
            yield result(
                f"evaluation {how} / PyTorch's in its faster layout, {asked.size}px, batch {size}", ours / best,
                "at most 0.90" if size == 4 else "at most 1.0", seconds=seconds, torch=torch_strong.VERSION,
            )  # fmt: skip


SIDES = (1024, 2048, 3072)
"""Sides of the matrices of the products; the fastest product counts."""


def utilisation(asked: Asked) -> Results:
    """FLOP/s of an evaluation, counted from shapes, / those of the fastest matrix product, measured in turn."""
    engine, size = stylizer(StylizeSettings()), asked.size
    products = {n: rates.chain(jnp.float32, "highest", n) for n in SIDES}
    for number in (1, 4):
        batch = batch_of(engine, asked.photographs(size, number, square=True), asked.style(size))
        images = jnp.array(batch.lanes.point.image)
        calls = {"evaluation": partial(evaluation(engine, batch, TIMES), images), **products}
        seconds = medians(calls, asked.pick(1, 7))
        gflops = {f"product {n}": 2 * n**3 * rates.CHAIN / seconds[n] / 1e9 for n in SIDES}
        best = max(gflops.values())
        done = number * engines.flops((size, size), engine.objective) * TIMES
        gflops["evaluation"] = done / seconds["evaluation"] / 1e9
        what = f"evaluation's FLOP/s / the fastest matrix product's, {size}px, batch {number}"
        yield result(what, gflops["evaluation"] / best, "at least 0.75", gflops=gflops)


def batching(asked: Asked) -> Results:
    """Compares a batch of 8 with 8 singles: rounding after 10 evaluations, final losses after 200."""
    engine, eight = stylizer(StylizeSettings()), asked.photographs(asked.loss_size, 8)
    style = asked.style(asked.loss_size)
    for evaluations in asked.pick((10,), (10, 200)):

        def final(contents, evaluations=evaluations):
            return losses(engine.advance(batch_of(engine, contents, style, evaluations), evaluations))

        singles = [final([content])[0] for content in eight]
        quotients = [a / b for a, b in zip(final(eight), singles, strict=True)]
        if evaluations == 10:
            what, value, goal = "largest difference of loss", max(abs(q - 1) for q in quotients), "rounding"
        else:
            what, value, goal = "median final loss, batch / single", statistics.median(quotients), "within 1%"
        what = f"{what}, batch of 8 against 8 singles, {evaluations} evaluations"
        yield result(what, value, goal, ratios=quotients)


ALL = {
    "tick": tick, "lane-memory": lane_memory, "torch": torch, "utilisation": utilisation, "batching": batching,
}  # fmt: skip
"""Measurements by name."""
