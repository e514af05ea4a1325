"""Ablations of the evaluation and the tick: the time without a choice / the time with it, measured in one run.

A variant replaces the renderer's operation under its public name while the program is traced. A ratio above 1 means
that the choice saves time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from subprocess import CalledProcessError
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from engine import divide_cpu, forms_here
from harness import Asked, Results, in_process, medians, result
from jax import lax
from lanes import Batch, batch_of, evaluation, program, stepper

from jaxstyle import huge_pages
from jaxstyle.model import choice, ops, weights
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import Stylizer
from jaxstyle.style.terms import gram

TICKS, BATCH = 5, 2

# Variants of the operations of model/ops.py, with the same arguments.


def _convolve(x, kernel, pad):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x[None], kernel, (1, 1), [(pad, pad)] * 2, dimension_numbers=dimensions)[0]


def _conv_relu(x, kernel, flipped, bias, inside=None, *, replicate=False, relu: Callable, own_gradient: bool, **_):
    pad, back = (0, 2) if replicate else (1, 1)
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge") if replicate else x
    convolution = jax.custom_vjp(lambda x: _convolve(x, kernel, pad))
    convolution.defvjp(lambda x: (_convolve(x, kernel, pad), None), lambda _, dz: (_convolve(dz, flipped, back),))
    y = relu((convolution(x) if own_gradient else _convolve(x, kernel, pad)) + bias)
    return y if inside is None else jnp.where(inside[..., None], y, 0)


def _relu(residual: Callable) -> Callable:
    """Makes a ReLU whose gradient passes where `residual(input, output)`, which it keeps, is positive."""
    relu = jax.custom_vjp(lambda z: jnp.maximum(z, 0))
    forward = lambda z: (lambda y: (y, residual(z, y)))(jnp.maximum(z, 0))  # noqa: E731
    relu.defvjp(forward, lambda kept, dy: (jnp.where(kept > 0, dy, 0),))
    return relu


_SHIPPED = ops.conv_relu


def everywhere(x, kernel, flipped, bias, inside=None, **how):
    """Runs the renderer's network without the mask of the picture."""
    return _SHIPPED(x, kernel, flipped, bias, None, **how)


def _windows(x):
    h, w, c = x.shape
    return x[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c)


def derived_max_pool(x):
    """Computes the same maxima, with the gradient that JAX derives."""
    w = _windows(x)
    return jnp.maximum(jnp.maximum(w[:, 0, :, 0], w[:, 0, :, 1]), jnp.maximum(w[:, 1, :, 0], w[:, 1, :, 1]))


@jax.custom_vjp
def reshaped_max_pool(x):
    """Computes the same maxima and gradient from reshaped windows instead of four strided quadrants."""
    return derived_max_pool(x)


def _reshaped_backward(kept, dy):
    (x, y), (h, w, _) = kept, kept[0].shape
    ties = _windows(x) == y[:, None, :, None]
    share = (dy / ties.sum((1, 3), dtype=dy.dtype))[:, None, :, None]
    whole = jnp.where(ties, share, 0).reshape(h // 2 * 2, w // 2 * 2, -1)
    return (jnp.pad(whole, ((0, h % 2), (0, w % 2), (0, 0))),)


reshaped_max_pool.defvjp(lambda x: (lambda y: (y, (x, y)))(derived_max_pool(x)), _reshaped_backward)


def window_max_pool(x):
    """XLA's own pooling: its gradient is select-and-scatter."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")


def derived_gram_sum(features):
    """Computes the Gram loss with the two products that JAX derives."""
    return jnp.matmul(features.T, features, preferred_element_type=jnp.float32)


def no_gram_sum(features):
    """Leaves the Gram products out: the difference is their cost."""
    return jnp.zeros((features.shape[1],) * 2) + features.mean() * 0


_by_input, _by_sign = _relu(lambda z, y: z), _relu(lambda z, y: y)
VARIANTS: dict[str, tuple[object, str, Callable]] = {
    "custom gradient of the convolution (flipped kernel as an argument)":
        (ops, "conv_relu", partial(_conv_relu, relu=jax.nn.relu, own_gradient=False)),
    "ReLU masked on its output": (ops, "conv_relu", partial(_conv_relu, relu=_by_input, own_gradient=True)),
    "ReLU's mask by y != 0, not y > 0": (ops, "conv_relu", partial(_conv_relu, relu=_by_sign, own_gradient=True)),
    "the mask of the picture (what it costs)": (ops, "conv_relu", everywhere),
    "max pooling's own gradient": (ops, "max_pool", derived_max_pool),
    "max pooling's gradient by quadrants": (ops, "max_pool", reshaped_max_pool),
    "max pooling without reduce_window": (ops, "max_pool", window_max_pool),
    "Gram's gradient as one product": (gram, "gram_sum", derived_gram_sum),
    "Gram matrices at all (an upper bound)": (gram, "gram_sum", no_gram_sum),
}  # fmt: skip
"""Choice by name: (module, public function, what replaces it)."""


@cache
def _network() -> weights.Weights:
    """Reads the default weights once, so that all engines share the parameters on the device."""
    return weights.load(None)


def _engine(devices: int = 1, **settings: Any) -> Stylizer:
    """Makes a renderer; its first call traces the operations that are in place then."""
    return Stylizer(StylizeSettings(**settings), _network(), devices)


def _batch(asked: Asked, engine: Stylizer, number: int = BATCH, size: int | None = None) -> Batch:
    size = size or asked.size
    return batch_of(engine, asked.photographs(size, number), asked.style(size))


def _evaluation(asked: Asked, engine: Stylizer, times: int = 2) -> Callable[[], Any]:
    batch = _batch(asked, engine)
    return partial(evaluation(engine, batch, times), jnp.array(batch.lanes.point.image))


def evaluations(asked: Asked) -> Results:
    """Measures an evaluation in a compiled loop, each variant beside the renderer's own."""
    for name, variant in VARIANTS.items():
        calls = {}
        for how, replaced in (("with", nullcontext()), ("without", patch.object(*variant))):
            with replaced:
                calls[how] = _evaluation(asked, _engine())
                jax.block_until_ready(calls[how]())  # traced while the operation is replaced
        seconds = medians(calls, asked.pick(1, 5))
        yield result(f"evaluation without / with: {name}", seconds["without"] / seconds["with"], seconds=seconds)


def normalisation(asked: Asked) -> Results:
    """Measures the input's normalisation alone: an upper bound of the gain from folding it into conv1_1."""
    engine = _engine()
    batch = _batch(asked, engine)
    images = jnp.array(batch.lanes.point.image)
    mean, std = (engine.variables["preprocessing"][name] for name in ("mean", "std"))
    alone = jax.jit(lambda images, mean, std: lax.fori_loop(0, 5, lambda _, x: (x - mean) / std, images))
    calls = {"evaluation": _evaluation(asked, engine, 5), "alone": partial(alone, images, mean, std)}
    seconds = medians(calls, asked.pick(1, 5))
    what = "normalising the input / an evaluation (folding it into conv1_1 gains at most this)"
    yield result(what, seconds["alone"] / seconds["evaluation"], seconds=seconds)


def ticks(asked: Asked) -> Results:
    """Compares the tick with variants of how it is called and what it keeps."""
    own, short, number = _engine(), _engine(history=5), 2 * TICKS
    kept = program(own, _batch(asked, own), donate=False)
    steppers = {f"chunks of {chunk}": stepper(own.advance, _batch(asked, own), number, chunk) for chunk in (1, 5)}
    steppers |= {
        "nothing donated": stepper(kept.advance, _batch(asked, own), number),
        "5 pairs of history": stepper(short.advance, _batch(asked, short), number),
    }
    seconds = medians({"own": stepper(own.advance, _batch(asked, own), number), **steppers}, asked.pick(1, 5))
    for name in steppers:
        what = f"tick with {name} / as it is (chunks of 10, donated, 10 pairs)"
        yield result(what, seconds[name] / seconds["own"], seconds=seconds)


def division(asked: Asked) -> Results:
    """Compares a batch divided between two devices of the CPU with the same batch on one, by size."""
    if jax.local_device_count() == 1:
        return
    for size, batch, number in ((64, 2, 40), (64, 8, 10), (128, 2, 10), (128, 8, 5), (256, 2, 4), (256, 4, 2)):
        calls = {}
        for devices in (1, 2):
            engine = _engine(devices)
            calls[devices] = stepper(engine.advance, _batch(asked, engine, batch, size), number)
        seconds = medians(calls, asked.pick(1, 7))
        what = f"tick of a batch divided in two / whole, {size}px 4:3, batch {batch}"
        yield result(what, seconds[2] / seconds[1], seconds=seconds)


FLAGS = ("--xla_cpu_enable_fast_math=true", "--xla_cpu_multi_thread_eigen=false")
"""XLA's flags for the CPU that are tried."""


def flagged(size: str, repeats: str) -> float:
    """Measures the seconds of an evaluation in this process, which has its own XLA_FLAGS."""
    return medians({"it": _evaluation(Asked(size=int(size)), _engine())}, int(repeats))["it"]


def flags(asked: Asked) -> Results:
    """Measures XLA flags for the CPU, each in a process of its own, alternating with processes without."""
    if jax.default_backend() != "cpu":
        return

    before = os.environ.get("XLA_FLAGS", "")

    def seconds(flag: str) -> float:
        try:
            return in_process("ablations", "flagged", asked.size, asked.pick(1, 5), XLA_FLAGS=f"{before} {flag}")
        except CalledProcessError:  # XLA ends a process that gives it a flag that it does not know
            return float("nan")

    for flag in FLAGS:
        found = [{"without": seconds(""), "with": seconds(flag)} for _ in range(2)]
        value = sum(one["with"] for one in found) / sum(one["without"] for one in found)
        what = f"evaluation with {flag} / without"
        yield result(what, value if np.isfinite(value) else "refused", seconds=found)


def called(size: str, repeats: str, precision: str) -> float:
    """Measures the seconds of a call of one tick in this process, whose memory comes in pages of its own size.

    Args:
        precision: "float32" or "mixed".
    """
    divide_cpu()
    devices, settings = jax.local_device_count(), StylizeSettings()
    forms = forms_here(settings, int(size), 2) if precision == "mixed" else ()
    asked, engine = Asked(size=int(size)), Stylizer(settings, _network(), devices, forms)
    return medians({"it": stepper(engine.advance, _batch(asked, engine, 2 * devices), 1)}, int(repeats))["it"]


def pages(asked: Asked) -> Results:
    """Measures a call of one tick with huge pages and without, in processes that take turns."""
    if jax.default_backend() != "cpu" or not huge_pages.can_ask():
        return
    precisions = ("float32",) if choice.obstacle() else ("float32", "mixed")
    for size, precision in itertools.product(asked.pick((64,), (256, 512)), precisions):
        found = [
            {
                how: in_process("ablations", "called", size, asked.pick(1, 5), precision,
                                **{huge_pages.VARIABLE: f"{huge_pages.TUNABLE}={number}"})
                for how, number in (("with", 1), ("without", 0))
            }
            for _ in range(asked.pick(1, 2))
        ]  # fmt: skip
        value = sum(one["with"] for one in found) / sum(one["without"] for one in found)
        yield result(
            f"call of a tick with huge pages / without, {size}px, {precision}, two lanes a device", value, seconds=found
        )


def ablations(asked: Asked) -> Results:
    """Runs all ablations."""
    for part in (evaluations, normalisation, ticks, division, flags):
        yield from part(asked)


ALL = {"ablations": ablations, "pages": pages}
"""Measurements by name."""
