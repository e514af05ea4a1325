"""How much of the rate of a plain matrix product the evaluation reaches, both measured in one run."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps
from ratios import alternate, batch_of, evaluation_of, pictures

from jaxstyle.bench import rates
from jaxstyle.data import image
from jaxstyle.planning import cost
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import stylizer

SIDES = (1024, 2048, 3072)
"""Of the matrices; the fastest counts."""
TIMES = 3
"""Evaluations in a compiled loop."""


def utilisation(arguments):
    """FLOP/s of an evaluation, counted from shapes, / those of the fastest product."""
    contents, styles = pictures(arguments, arguments.size)
    side = arguments.size
    square = [
        np.asarray(ImageOps.fit(Image.fromarray(image.to_bytes(c)), (side, side)), np.float32) / 255 for c in contents
    ]
    engine = stylizer(StylizeSettings())
    flops = cost.evaluation_flops((side, side), engine.objective)
    products = {f"product {n}": rates.chain(jnp.float32, "highest", n) for n in SIDES}
    for batch in (1, 4):
        state, targets = batch_of(engine, list(itertools.islice(itertools.cycle(square), batch)), styles[0])
        functions = {"evaluation": evaluation_of(engine, state, targets, TIMES), **products}
        seconds = alternate(functions, 1 if arguments.quick else 7)
        gflops = {f"product {n}": 2 * n**3 * rates.CHAIN / seconds[f"product {n}"] / 1e9 for n in SIDES}
        gflops["evaluation"] = batch * flops * TIMES / seconds["evaluation"] / 1e9
        best = max(rate for name, rate in gflops.items() if name != "evaluation")
        yield {"what": f"evaluation's FLOP/s / the fastest matrix product's, {side}px, batch {batch}",
               "value": gflops["evaluation"] / best, "goal": "at least 0.75", "gflops": gflops}  # fmt: skip


ALL = {"utilisation": utilisation}
"""Measurements by name."""
