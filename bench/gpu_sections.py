"""The sections of bench/gpu.py: each takes the `Lab` and returns values for JSON and lines for people.

A section that finds something wrong says so under "wrong". Seconds are those of calls whose results were waited for,
after calls that are not counted; no compilation is in them.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import kernels
import numpy as np
from lab import CHUNK, PRODUCTS, Lab, OutOfTime, Program, Skip, batch_of, evaluation

from jaxstyle.bench import rates
from jaxstyle.planning import memory

BOUNDS = {"float32": (1e-4, 0.02), "tf32": (0.01, 0.3), "bfloat16": (0.1, 0.6)}
"""Largest errors against float32 on the CPU that are rounding: of a loss, and of a gradient's length. A ReLU or a
maximum that rounding turns the other way moves gradients far more than values."""
TARGETS = (0.5, 1.0)
"""Losses to be reached: those of float32 after these parts of its evaluations."""
RESERVE = 45.0
"""Seconds that the sweep leaves for what comes after it."""

Found = tuple[dict[str, Any], list[str]]


def device(lab: Lab) -> Found:
    """Rates of matrix products in every precision, and of a copy."""
    _measure_products(lab)
    copied = rates.copy(lab.scale.copied)
    told = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in lab.rates.items())
    return (
        {"product": dict(lab.rates), "copy": copied},
        [f"matrix product in TFLOP/s: {told}; copy {copied / 1e9:,.0f} GB/s"],
    )


def _measure_products(lab: Lab) -> None:
    """Rates of matrix products; of measurements at several times of the run the best counts."""
    for precision in lab.precisions:
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        rate = rates.product(dtype, PRODUCTS[precision], lab.scale.side)
        lab.rates[precision] = max(rate, lab.rates.get(precision, 0.0))


def correct(lab: Lab) -> Found:
    """Losses and gradients in every precision, and losses after a chunk of ticks, against float32 on the CPU."""
    contents, style = lab.contents(lab.scale.pair_size, 2), lab.style(0, lab.scale.pair_size)
    with jax.default_device(jax.devices("cpu")[0]):
        exact = lab.fresh("float32")
        state, targets = batch_of(exact, contents, style)
        images = np.asarray(state[0].image)
        loss, gradient = map(np.asarray, evaluation(exact, "float32")(images, state[1], targets))
        after = np.asarray(exact.advance(state, targets, CHUNK)[0].loss)
    values: dict[str, Any] = {"loss": loss.tolist(), "loss_after_chunk": after.tolist(), "errors": {}}
    lines, wrong = [], []
    for precision in lab.precisions:
        loss_bound, gradient_bound = BOUNDS[precision]
        engine = lab.engine(precision)
        state, targets = batch_of(engine, contents, style)
        ours, slope = map(np.asarray, evaluation(engine, precision)(images, state[1], targets))
        error = float(np.abs(ours / loss - 1).max())
        turned = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(slope, gradient, strict=True))
        values["errors"][precision] = {"loss": error, "gradient": turned}
        lines.append(f"{precision:9} error of the loss {error:.1e}, of the gradient {turned:.1e}")
        if not (error <= loss_bound and turned <= gradient_bound):  # so that NaN is wrong
            wrong.append(f"{precision}: loss {error:.2e} (at most {loss_bound}), gradient {turned:.2e}"
                         f" (at most {gradient_bound})")  # fmt: skip
        if precision == "float32":
            found = np.asarray(engine.advance(state, targets, CHUNK)[0].loss)
            values["errors"]["chunk"] = float(np.abs(found / after - 1).max())
            lines.append(f"{precision:9} loss after {CHUNK} ticks differs by {values['errors']['chunk']:.1e}")
            if not values["errors"]["chunk"] <= 0.05:
                wrong.append(f"the loss after {CHUNK} ticks differs by {values['errors']['chunk']:.2e}")
    return values | {"wrong": wrong}, lines


def score(lab: Lab, images: np.ndarray, content: Any, targets: Any) -> list[float]:
    """Losses of images in float32."""
    if "score" not in lab.pairs:
        lab.pairs["score"] = evaluation(lab.engine("float32"), "float32")
    return np.asarray(lab.pairs["score"](images, content, targets)[0], float).tolist()


def ladder(lab: Lab) -> Found:
    """Losses of the same pairs in every precision, all scored in float32, against evaluations and seconds."""
    scale, chunks = lab.scale, lab.scale.evaluations // CHUNK
    curves: dict[str, list[list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    programs: dict[str, Program] = {}
    for number in range(scale.styles):
        contents, style = lab.contents(scale.pair_size, scale.lanes), lab.style(number, scale.pair_size)
        exact, exact_targets = batch_of(lab.engine("float32"), contents, style)
        for precision in lab.precisions:
            engine = lab.engine(precision)
            state, targets = batch_of(engine, contents, style)
            if number == 0:
                lab.need(60 if lab.accelerator else 1)
                programs[precision] = lab.compile(precision, state, targets)
                jax.block_until_ready(programs[precision].call(state, targets))  # the first call takes longer
                state, targets = batch_of(engine, contents, style)
            curve, each = [], []
            jax.block_until_ready(state)
            for _ in range(chunks):
                began = time.perf_counter()
                state = jax.block_until_ready(programs[precision].call(state, targets))
                each.append(time.perf_counter() - began)
                curve.append(score(lab, np.asarray(state[0].image), exact[1], exact_targets))
            curves.setdefault(precision, []).extend(np.array(curve).T.tolist())
            seconds.setdefault(precision, []).extend(each)
        if number == 0:
            lab.pairs |= {"contents": contents, "style": style, "exact": (exact[1], exact_targets)}
    chunk = {precision: statistics.median(times) for precision, times in seconds.items()}
    lab.pairs |= {"curves": curves, "chunk": chunk}
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
    """When losses, told once a chunk, first are at most those of the reference after a part of its chunks.

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
    """A tick by precision, size and batch: seconds, share of the matrix product's rate, compile time, memory."""
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


def _cell(lab: Lab, precision: str, side: int, batch: int) -> dict[str, Any]:
    """One row of the sweep, but for its names."""
    state, targets = lab.batch(precision, side, batch)
    program = lab.compile(precision, state, targets)
    if (precision, side, batch) == lab.scale.profiled:
        lab.profiled = program
    state = jax.block_until_ready(program.call(state, targets))
    times = []
    for _ in range(lab.scale.repeats):
        began = time.perf_counter()
        state = jax.block_until_ready(program.call(state, targets))
        times.append((time.perf_counter() - began) / CHUNK)
    tick = statistics.median(times)
    rate = batch * lab.flops(side) / tick
    settings = lab.engine(precision).settings
    told = jax.devices()[0].memory_stats() or {}
    return {
        "seconds_tick": tick,
        "all_seconds_tick": times,
        "flops": lab.flops(side),
        "utilisation": rate / lab.rates[precision],
        "compile_seconds": program.compile_seconds,
        "memory": program.memory,
        "memory_by_model": memory.fixed_bytes(settings) + batch * memory.lane_bytes((side, side), settings),
        "peak_bytes_so_far": told.get("peak_bytes_in_use"),
    }


def profile(lab: Lab) -> Found:
    """One cell's time by kernel, and its tick against evaluations without a solver in a loop of the same length."""
    if lab.profiled is None:
        raise Skip("the sweep has not come to the cell")
    precision, side, batch = lab.scale.profiled
    engine, program = lab.engine(precision), lab.profiled
    state, targets = lab.batch(precision, side, batch)
    holder = [jax.block_until_ready(program.call(state, targets))]

    def tick() -> Any:
        holder[0] = program.call(holder[0], targets)
        return holder[0]

    ticks = f"{CHUNK} ticks, {precision} {side} x {batch}"
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
    except (LookupError, OSError, RuntimeError) as error:  # a machine that lets nobody trace: what there is, untimed
        found = {"kernels": [], "reason": f"no trace: {error}", "instructions": kernels.inventory(program.hlo)}
        counts = ", ".join(f"{count} x {kind}" for kind, count in found["instructions"].items())
        lines = [f"{ticks}: kernels not timed: {error}", f"instructions of the program: {counts}"]
    values: dict[str, Any] = {"cell": [precision, side, batch], "ticks": CHUNK, **found}
    values["kernels"] = found["kernels"][:200]
    try:
        lab.need(30 if lab.accelerator else 3)
    except OutOfTime as reason:
        return values | {"evaluation": str(reason)}, [*lines, f"tick / evaluation not measured: {reason}"]
    images, content = jnp.array(holder[0][0].image), holder[0][1]
    alone = evaluation(engine, precision, CHUNK)
    seconds: dict[str, list[float]] = {"tick": [], "evaluation": []}
    jax.block_until_ready(alone(images, content, targets))
    for _ in range(lab.scale.repeats):
        for name, call in (("tick", tick), ("evaluation", lambda: alone(images, content, targets))):
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append((time.perf_counter() - began) / CHUNK)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    lines.append(f"tick / evaluation {medians['tick'] / medians['evaluation']:.3f}")
    return values | {"seconds": medians}, lines
