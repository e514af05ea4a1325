"""What each choice in the evaluation and in the tick is worth: the time without it over the time with it, in one run.

A variant is the renderer's own code with one function replaced while it is traced. Above 1 the choice pays.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ratios import alternate, batch_of, evaluation_of, pictures

from jaxstyle.model import ops, weights
from jaxstyle.settings import StylizeSettings
from jaxstyle.style import objective
from jaxstyle.style.stylizer import Stylizer

TICKS, BATCH = 5, 2

# Variants of functions of model/ops.py, with the same arguments.


def _pad(x, replicate):
    return jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge") if replicate else jnp.pad(x, ((1, 1), (1, 1), (0, 0)))


def derived_conv_relu(x, kernel, flipped, bias, *, replicate=False):
    """With the gradients that JAX derives."""
    return jax.nn.relu(ops._convolve(_pad(x, replicate), kernel, 0) + bias)


@jax.custom_vjp
def _relu_by_input(z):
    return jnp.maximum(z, 0)


_relu_by_input.defvjp(lambda z: (jnp.maximum(z, 0), z), lambda z, dy: (jnp.where(z > 0, dy, 0),))


def conv_relu_by_input(x, kernel, flipped, bias, *, replicate=False):
    """The renderer's convolution, but a ReLU that keeps its input for the gradient."""

    @jax.custom_vjp
    def convolution(x):
        return ops._convolve(_pad(x, replicate), kernel, 0) + bias

    def backward(_, dz):
        dp = ops._convolve(dz, flipped, 2)
        if replicate:
            dp = dp.at[1].add(dp[0]).at[-2].add(dp[-1]).at[:, 1].add(dp[:, 0]).at[:, -2].add(dp[:, -1])
        return (dp[1:-1, 1:-1],)

    convolution.defvjp(lambda x: (convolution(x), None), backward)
    return _relu_by_input(convolution(x))


def derived_max_pool(x):
    """The same maxima, with the gradient that JAX derives."""
    w = ops._windows(x)
    return jnp.maximum(jnp.maximum(w[:, 0, :, 0], w[:, 0, :, 1]), jnp.maximum(w[:, 1, :, 0], w[:, 1, :, 1]))


def window_max_pool(x):
    """XLA's own pooling: its gradient is select-and-scatter."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")


def derived_gram_sum(features):
    """With the two products that JAX derives."""
    return jnp.matmul(features.T, features, preferred_element_type=jnp.float32)


def no_gram_sum(features):
    """No Gram product at all: what they cost together."""
    return jnp.zeros((features.shape[1],) * 2) + features.mean() * 0


VARIANTS: dict[str, tuple[object, str, Callable]] = {
    "custom gradient of the convolution (flipped kernel as an argument)": (ops, "conv_relu", derived_conv_relu),
    "ReLU masked on its output": (ops, "conv_relu", conv_relu_by_input),
    "max pooling's own gradient": (ops, "max_pool", derived_max_pool),
    "max pooling without reduce_window": (ops, "max_pool", window_max_pool),
    "Gram's gradient as one product": (objective, "gram_sum", derived_gram_sum),
    "Gram matrices at all (an upper bound)": (objective, "gram_sum", no_gram_sum),
}
"""Choice by name: (module, function, what replaces it)."""


@contextmanager
def _replaced(variant) -> Iterator[None]:
    with ExitStack() as stack:
        if variant:
            stack.enter_context(patch.object(*variant))
        yield


def _batch(arguments, engine, number=BATCH):
    contents, styles = pictures(arguments, arguments.size)
    return batch_of(engine, list(itertools.islice(itertools.cycle(contents), number)), styles[0])


def evaluations(arguments):
    """An evaluation in a compiled loop, each variant beside the renderer's own."""
    network, repeats = weights.load(None), 1 if arguments.quick else 5
    for name, variant in VARIANTS.items():
        functions = {}
        for how, replacement in (("with", None), ("without", variant)):
            with _replaced(replacement):
                engine = Stylizer(StylizeSettings(), network)
                state, targets = _batch(arguments, engine)
                functions[how] = evaluation_of(engine, state, targets, 2)
                jax.block_until_ready(functions[how]())  # traced while the function is replaced
        seconds = alternate(functions, repeats)
        yield {"what": f"evaluation without / with: {name}", "value": seconds["without"] / seconds["with"],
               "goal": "", "seconds": seconds}  # fmt: skip


def normalisation(arguments):
    """An upper bound of folding the input's normalisation into conv1_1: what it takes alone."""
    engine = Stylizer(StylizeSettings(), weights.load(None))
    state, targets = _batch(arguments, engine)
    images = jnp.array(state[0].image)
    mean, std = (engine.variables["preprocessing"][name] for name in ("mean", "std"))

    @jax.jit
    def alone(images, mean, std):
        return lax.fori_loop(0, 5, lambda _, x: (x - mean) / std, images)

    functions = {"evaluation": evaluation_of(engine, state, targets, 5), "alone": lambda: alone(images, mean, std)}
    seconds = alternate(functions, 1 if arguments.quick else 5)
    yield {"what": "normalising the input / an evaluation (folding it into conv1_1 gains at most this)",
           "value": seconds["alone"] / seconds["evaluation"], "goal": "", "seconds": seconds}  # fmt: skip


def ticks(arguments):
    """The tick against variants of how it is called and what it keeps."""
    network, repeats = weights.load(None), 1 if arguments.quick else 5

    def stepping(engine, chunk, number=2 * TICKS):
        state, targets = _batch(arguments, engine)
        holder = [engine.advance(state, targets, 2)]

        def advance():
            for _ in range(number // chunk):
                holder[0] = engine.advance(holder[0], targets, chunk)
            return holder[0][0].loss

        return advance

    own, kept = Stylizer(StylizeSettings(), network), Stylizer(StylizeSettings(), network)
    kept._advance = jax.jit(kept._advance_all)  # not donated
    short = Stylizer(StylizeSettings(history=5), network)
    variants = {f"chunks of {chunk}": stepping(own, chunk) for chunk in (1, 5)}
    variants |= {"nothing donated": stepping(kept, 10), "5 pairs of history": stepping(short, 10)}
    seconds = alternate({"own": stepping(own, 10), **variants}, repeats)
    for name in variants:
        yield {"what": f"tick with {name} / as it is (chunks of 10, donated, 10 pairs)",
               "value": seconds[name] / seconds["own"], "goal": "", "seconds": seconds}  # fmt: skip


def division(arguments):
    """The lanes of a batch divided between two devices that the CPU is made, against all on one, by size."""
    if jax.local_device_count() == 1:
        return
    network, repeats = weights.load(None), 1 if arguments.quick else 7
    for size, batch, number in ((64, 2, 40), (64, 8, 10), (128, 2, 10), (128, 8, 5), (256, 2, 4), (256, 4, 2)):
        found = {}
        for devices in (1, 2):
            engine = Stylizer(StylizeSettings(), network, devices)
            contents, styles = pictures(arguments, size)
            state, targets = batch_of(engine, list(itertools.islice(itertools.cycle(contents), batch)), styles[0])
            holder = [engine.advance(state, targets, 2)]

            def advance(engine=engine, targets=targets, holder=holder, number=number):
                holder[0] = engine.advance(holder[0], targets, number)
                return holder[0][0].loss

            found[f"{devices} devices"] = advance
        seconds = alternate(found, repeats)
        yield {"what": f"tick of a batch divided in two / whole, {size}px 4:3, batch {batch}",
               "value": seconds["2 devices"] / seconds["1 devices"], "goal": "", "seconds": seconds}  # fmt: skip


FLAGS = ("--xla_cpu_enable_fast_math=true", "--xla_cpu_multi_thread_eigen=false")
_FLAGGED = """
import sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
import ablations, ratios
from jaxstyle.model import weights
arguments = SimpleNamespace(contents=None, styles=None, quick=True, size=int(sys.argv[2]))
engine = ablations.Stylizer(ablations.StylizeSettings(), weights.load(None))
state, targets = ablations._batch(arguments, engine)
print(ratios.alternate({"it": ratios.evaluation_of(engine, state, targets, 2)}, int(sys.argv[3]))["it"])
"""


def flags(arguments):
    """XLA flags for the CPU, each in a process of its own, alternating with processes without."""
    if jax.default_backend() != "cpu":
        return

    def seconds(flag):
        environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
        command = [sys.executable, "-c", _FLAGGED, str(Path(__file__).parent), str(arguments.size)]
        run = subprocess.run(
            [*command, "1" if arguments.quick else "5"], capture_output=True, text=True, env=environment
        )
        return float(run.stdout) if run.returncode == 0 else float("nan")

    for flag in FLAGS:
        found = {"without": seconds(""), "with": seconds(flag)}
        again = {"without": seconds(""), "with": seconds(flag)}
        value = (found["with"] + again["with"]) / (found["without"] + again["without"])
        yield {"what": f"evaluation with {flag} / without", "value": value if np.isfinite(value) else "refused",
               "goal": "", "seconds": [found, again]}  # fmt: skip


def ablations(arguments):
    """All of them."""
    for part in (evaluations, normalisation, ticks, division, flags):
        yield from part(arguments)


ALL = {"ablations": ablations}
"""Measurements by name."""
