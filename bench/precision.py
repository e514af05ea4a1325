"""bfloat16 convolutions against float32: the noise of the loss, and final losses of many pairs scored in float32."""

from __future__ import annotations

import itertools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from ratios import batch_of, pictures

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import stylizer

PAIRS, LANES, SIZE, EVALUATIONS, FINISH = 16, 8, 64, 120, 20
"""Pairs in batches of so many lanes; evaluations of each, and how many of them a float32 finish takes."""


def _loss(engine):
    """(images, content targets, style targets) -> losses, N."""

    @jax.jit
    def losses(variables, images, content, style):
        return jax.vmap(lambda x, c: engine.evaluate(variables, style, c)(x)[0][0])(images, content)

    return lambda images, content, style: losses(engine.variables, images, content, style)


def noise(arguments):
    """Scatter of the loss when every pixel moves by a millionth, as a share of the loss, in both precisions."""
    contents, styles = pictures(arguments, SIZE)
    exact, coarse = (stylizer(StylizeSettings(precision=p)) for p in ("float32", "bfloat16"))
    batch, targets = batch_of(exact, contents[:1], styles[0])
    batch = exact.advance(batch, targets, 10 if arguments.quick else 60)
    image = np.asarray(batch[0].image[0])
    random, number = np.random.default_rng(0), 4 if arguments.quick else 16
    moved = image + 1e-6 * random.standard_normal((number, *image.shape)).astype(np.float32)
    content = jax.tree.map(lambda a: jnp.repeat(a, number, 0), batch[1])
    found = {}
    for name, engine in (("float32", exact), ("bfloat16", coarse)):
        own = content._replace(maps={k: v.astype(jnp.bfloat16) for k, v in content.maps.items()})
        values = np.asarray(_loss(engine)(moved, content if engine is exact else own, targets), np.float64)
        found[name] = float(values.std() / values.mean())
    yield {
        "what": "noise of the loss, standard deviation / loss, bfloat16",
        "value": found["bfloat16"],
        "goal": "",
        "float32": found["float32"],
    }


def quality(arguments):
    """Final losses of pairs, all scored by the float32 objective, against those of all-float32 runs."""
    number, evaluations = (2, 20) if arguments.quick else (PAIRS, EVALUATIONS)
    contents, styles = pictures(arguments, SIZE)
    exact, coarse = (stylizer(StylizeSettings(precision=p)) for p in ("float32", "bfloat16"))
    score = _loss(exact)
    losses: dict[str, list[float]] = {name: [] for name in ("float32", "float32 moved", "bfloat16", "float32 finish")}
    cycle = itertools.islice(itertools.cycle(contents), number)
    for k, group in enumerate(_batched(cycle, min(LANES, number))):
        style = styles[k % len(styles)]
        batch, targets = batch_of(exact, group, style)
        own = batch[1]

        def scored(state, own=own, targets=targets):
            return np.asarray(score(state[0].image, own, targets), float).tolist()

        # the scatter of single runs: the same with starts moved by a thousandth
        lanes, content = batch_of(exact, group, style)[0]
        shaken = 1e-3 * np.random.default_rng(k).standard_normal(lanes.image.shape).astype(np.float32)
        moved = (lanes._replace(image=lanes.image + shaken), content)
        rough, rough_targets = batch_of(coarse, group, style)
        rough = coarse.advance(rough, rough_targets, evaluations - FINISH if not arguments.quick else 10)
        # the finish goes on from the image, with a history of its own
        finish = batch_of(exact, group, style)[0]
        finish = (finish[0]._replace(image=jnp.array(rough[0].image)), finish[1])
        finish = exact.advance(finish, targets, FINISH if not arguments.quick else 10)
        losses["float32 finish"] += scored(finish)
        rough = coarse.advance(rough, rough_targets, FINISH if not arguments.quick else 10)
        losses["bfloat16"] += scored(rough)
        losses["float32"] += scored(exact.advance(batch, targets, evaluations))
        losses["float32 moved"] += scored(exact.advance(moved, targets, evaluations))
    for name, words in (
        ("bfloat16", "bfloat16"),
        ("float32 finish", f"bfloat16 with {FINISH} evaluations of float32 at the end"),
        ("float32 moved", "float32 from a start moved by 0.001 (the scatter of single runs)"),
    ):
        quotients = [a / b for a, b in zip(losses[name], losses["float32"], strict=True)]
        yield {
            "what": f"final loss scored in float32, {words} / float32, median of {number} pairs",
            "value": statistics.median(quotients),
            "goal": "at most 1.02" if name != "float32 moved" else "",
            "better": sum(q < 1 for q in quotients),
            "ratios": sorted(quotients),
            "evaluations": evaluations,
            "size": SIZE,
        }


def _batched(iterable, n):
    iterator = iter(iterable)
    while group := list(itertools.islice(iterator, n)):
        yield group


def precision(arguments):
    """Both."""
    yield from noise(arguments)
    yield from quality(arguments)


ALL = {"precision": precision}
"""Measurements by name."""
