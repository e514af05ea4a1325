"""The sections of bench/gpu.py: each takes the `Lab` and returns values for JSON and lines of text.

A section reports errors that it finds under "wrong". Seconds include the wait for a call's result; they are measured
after untimed calls and do not include compilation.
"""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import kernels
import numpy as np
from engine import bytes_by_model
from harness import alternate, medians, timed
from lab import Lab, OutOfTime
from lanes import CHUNK, PRODUCTS, batch_of, evaluation, losses, stepper

from jaxstyle.bench import rates

BOUNDS = {"float32": (1e-4, 0.02), "tf32": (0.01, 0.3), "bfloat16": (0.1, 0.6)}
"""Largest errors against float32 on the CPU that are rounding: of a loss, and of a gradient's length. A ReLU or a
maximum that rounding turns the other way moves gradients far more than values."""
TARGETS = (0.5, 1.0)
"""Losses to be reached: those of float32 after these parts of its evaluations."""
RESERVE = 45.0
"""Seconds that the sweep leaves for what comes after it."""

Found = tuple[dict[str, Any], list[str]]


def device(lab: Lab) -> Found:
    """Measures the rates of matrix products in every precision, and of a copy."""
    _measure_products(lab)
    copied = rates.copy(lab.scale.copied)
    told = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in lab.rates.items())
    line = f"matrix product in TFLOP/s: {told}; copy {copied / 1e9:,.0f} GB/s"
    return {"product": dict(lab.rates), "copy": copied}, [line]


def _measure_products(lab: Lab) -> None:
    """Measures the rates of matrix products; the best of several measurements in the run counts."""
    for precision in lab.precisions:
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        rate = rates.product(dtype, PRODUCTS[precision], lab.scale.side)
        lab.rates[precision] = max(rate, lab.rates.get(precision, 0.0))


def correct(lab: Lab) -> Found:
    """Compares losses and gradients in every precision, and losses after a chunk of ticks, with float32 on the CPU."""
    contents, style = lab.contents(lab.scale.pair_size, 2), lab.style(0, lab.scale.pair_size)
    with jax.default_device(jax.devices("cpu")[0]):
        exact = lab.fresh("float32")
        batch = batch_of(exact, contents, style)
        images = np.array(batch.lanes.point.image)
        loss, gradient = map(np.asarray, evaluation(exact, batch)(images))
        after = np.array(losses(exact.advance(batch, CHUNK)))
    values: dict[str, Any] = {"loss": loss.tolist(), "loss_after_chunk": after.tolist(), "errors": {}}
    lines, wrong = [], []
    for precision in lab.precisions:
        loss_bound, gradient_bound = BOUNDS[precision]
        engine = lab.engine(precision)
        batch = batch_of(engine, contents, style)
        ours, slope = map(np.asarray, evaluation(engine, batch, precision=precision)(images))
        error = float(np.abs(ours / loss - 1).max())
        turned = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(slope, gradient, strict=True))
        values["errors"][precision] = {"loss": error, "gradient": turned}
        lines.append(f"{precision:9} error of the loss {error:.1e}, of the gradient {turned:.1e}")
        if not (error <= loss_bound and turned <= gradient_bound):  # so that NaN is wrong
            wrong.append(f"{precision}: loss {error:.2e} (at most {loss_bound}), gradient {turned:.2e}"
                         f" (at most {gradient_bound})")  # fmt: skip
        if precision == "float32":
            found = np.array(losses(engine.advance(batch, CHUNK)))
            values["errors"]["chunk"] = float(np.abs(found / after - 1).max())
            lines.append(f"{precision:9} loss after {CHUNK} ticks differs by {values['errors']['chunk']:.1e}")
            if not values["errors"]["chunk"] <= 0.05:
                wrong.append(f"the loss after {CHUNK} ticks differs by {values['errors']['chunk']:.2e}")
    return values | {"wrong": wrong}, lines


def ladder(lab: Lab) -> Found:
    """Measures the losses of the same pairs in every precision, scored in float32, by evaluations and seconds."""
    scale, chunks = lab.scale, lab.scale.evaluations // CHUNK
    curves: dict[str, list[list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    for number in range(scale.styles):
        contents, style = lab.contents(scale.pair_size, scale.lanes), lab.style(number, scale.pair_size)
        exact = batch_of(lab.engine("float32"), contents, style)
        for precision in lab.precisions:
            fresh = partial(batch_of, lab.engine(precision), contents, style)
            if number == 0:
                lab.need(60 if lab.accelerator else 1)
                # the first call takes longer
                jax.block_until_ready(lab.program(precision, fresh()).advance(fresh(), CHUNK).lanes)
            batch, curve = jax.block_until_ready(fresh()), []
            program = lab.program(precision, batch)
            for _ in range(chunks):
                spent, batch = timed(partial(program.advance, batch, CHUNK))
                seconds.setdefault(precision, []).append(spent)
                curve.append(lab.score(batch.lanes.point.image, exact))
            curves.setdefault(precision, []).extend(np.array(curve).T.tolist())
        if number == 0:
            lab.pairs |= {"contents": contents, "style": style}
    chunk = {precision: statistics.median(times) for precision, times in seconds.items()}
    lab.pairs["curves"] = curves
    values: dict[str, Any] = {
        "size": scale.pair_size, "lanes": scale.lanes, "pairs": len(curves["float32"]), "every": CHUNK,
        "losses": curves, "seconds_chunk": chunk, "to_loss": [], "final": {},
    }  # fmt: skip
    lines = []
    for precision, ours in curves.items():
        for part in TARGETS:
            row = to_loss(curves["float32"], ours, part, chunk[precision] / scale.lanes)
            values["to_loss"].append({"precision": precision, "part": part, **row})
            lines.append(
                f"{precision:9} to float32's loss after {part * scale.evaluations:.0f} evaluations: "
                f"{row['evaluations']:.0f} evaluations, {1e3 * row['seconds']:.3g} ms an image (median of {len(ours)}"
                f" pairs), {row['reached']} of them within {scale.evaluations}"
            )
        ratio = statistics.median(a[-1] / b[-1] for a, b in zip(ours, curves["float32"], strict=True))
        values["final"][precision] = ratio
        lines.append(f"{precision:9} final loss / float32's {ratio:.4f} (median)")
    wrong = [f"{precision} has losses that are not finite" for precision, ours in curves.items()
             if not np.isfinite(ours).all()]  # fmt: skip
    return values | {"wrong": wrong}, lines


def to_loss(reference: list[list[float]], ours: list[list[float]], part: float, seconds_chunk: float) -> dict:
    """Finds when losses, one a chunk, are first at most those of the reference after a part of its chunks.

    Returns:
        Medians over the pairs: `evaluations`, infinite if fewer than half reach it, and `seconds`; how many `reached`.
    """
    when = []
    for theirs, curve in zip(reference, ours, strict=True):
        target = theirs[max(0, math.ceil(part * len(theirs)) - 1)]
        when.append(next((k for k, loss in enumerate(curve, 1) if loss <= target), math.inf))
    chunks = statistics.median_high(when)
    return {"evaluations": chunks * CHUNK, "seconds": chunks * seconds_chunk, "reached": sum(map(math.isfinite, when))}


def sweep(lab: Lab) -> Found:
    """Measures a tick by precision, size, batch: seconds, share of the matrix product's rate, compile time, memory."""
    _measure_products(lab)
    rows: list[dict[str, Any]] = []
    lines = [
        f"{'cell':>24} {'ms a tick':>10} {'ms an image':>12} {'of product':>10} {'images/h':>9} "
        f"{'compiled':>9} {'MiB':>7}"
    ]
    reserve, longest = RESERVE if lab.accelerator else 5.0, 0.0
    for precision, side, batch in lab.scale.cells:
        row: dict[str, Any] = {"precision": precision, "side": side, "batch": batch}
        name = f"{precision} {side} x {batch}"
        rows.append(row)
        try:
            lab.need(reserve + 1.3 * longest)
            began = time.monotonic()
            row |= _cell(lab, precision, side, batch)
            longest = max(longest, time.monotonic() - began)
        except OutOfTime as reason:
            row["reason"] = str(reason)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
                raise
            row["reason"] = "out of memory"
        if "reason" in row:
            lines.append(f"{name:>24} not measured: {row['reason']}")
        else:
            lines.append(
                f"{name:>24} {1e3 * row['seconds_tick']:>10.3f} {1e3 * row['seconds_tick'] / batch:>12.3f} "
                f"{row['utilisation']:>10.1%} {18 * batch / row['seconds_tick']:>9,.0f} {row['compile_seconds']:>9.1f} "
                f"{row['memory']['temp'] / 2**20:>7,.0f}"
            )
    lines.append("images/h at 200 evaluations each; MiB of temporaries by XLA's account")
    return {"rows": rows, "product": dict(lab.rates)}, lines


def _cell(lab: Lab, precision: str, side: int, number: int) -> dict[str, Any]:
    """Measures one row of the sweep; its names are added by the caller."""
    batch = lab.batch(precision, side, number)
    program = lab.program(precision, batch)
    times = alternate({"tick": stepper(program.advance, batch, CHUNK)}, lab.scale.repeats)["tick"]
    tick = statistics.median(times) / CHUNK
    told = jax.devices()[0].memory_stats() or {}
    return {
        "seconds_tick": tick, "all_seconds_tick": [spent / CHUNK for spent in times], "flops": lab.flops(side),
        "utilisation": number * lab.flops(side) / tick / lab.rates[precision],
        "compile_seconds": program.compile_seconds, "memory": program.memory,
        "memory_by_model": bytes_by_model((side, side), lab.engine(precision).settings, number),
        "peak_bytes_so_far": told.get("peak_bytes_in_use"),
    }  # fmt: skip


def profile(lab: Lab) -> Found:
    """Measures one cell's time by kernel, and its tick against evaluations without a solver in an equal loop."""
    precision, side, number = lab.scale.profiled
    if not lab.compiled(precision, side, number):
        lab.need(60 if lab.accelerator else 1)
    batch = lab.batch(precision, side, number)
    images = jnp.array(batch.lanes.point.image)
    program = lab.program(precision, batch)
    tick = stepper(program.advance, batch, CHUNK)
    jax.block_until_ready(tick())
    ticks = f"{CHUNK} ticks, {precision} {side} x {number}"
    try:
        found = kernels.profile(tick, program.hlo)
        total = found["milliseconds"]
        lines = [f"{ticks}: {total:.2f} ms in kernels"]
        for kind, spent in sorted(found["kinds"].items(), key=lambda one: -one[1]):
            lines.append(f"  {kind:16} {spent:9.2f} ms {spent / total:6.1%}")
        for one in found["kernels"][:15]:
            lines.append(
                f"  {one['milliseconds']:9.2f} ms {one['calls']:5} x {one['kernel'][:60]:60} {one['what'][:36]}"
            )
    except (LookupError, OSError, RuntimeError) as error:  # a machine without tracing: instructions are counted
        found = {"kernels": [], "reason": f"no trace: {error}", "instructions": kernels.inventory(program.hlo)}
        counts = ", ".join(f"{count} x {kind}" for kind, count in found["instructions"].items())
        lines = [f"{ticks}: kernels not timed: {error}", f"instructions of the program: {counts}"]
    values: dict[str, Any] = {"cell": [precision, side, number], "ticks": CHUNK, **found}
    values["kernels"] = found["kernels"][:200]
    try:
        lab.need(30 if lab.accelerator else 3)
    except OutOfTime as reason:
        return values | {"evaluation": str(reason)}, [*lines, f"tick / evaluation not measured: {reason}"]
    alone = partial(evaluation(lab.engine(precision), batch, CHUNK, precision), images)
    seconds = {
        name: spent / CHUNK for name, spent in medians({"tick": tick, "evaluation": alone}, lab.scale.repeats).items()
    }
    return values | {"seconds": seconds}, [*lines, f"tick / evaluation {seconds['tick'] / seconds['evaluation']:.3f}"]
