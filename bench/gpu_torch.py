"""The section of bench/gpu.py that compares the renderer with PyTorch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gpu_sections import TARGETS, Found, to_loss
from harness import medians, timed
from lab import Lab, OutOfTime, Skip
from lanes import CHUNK, starts

TORCH_BOUNDS = {"float32": 1e-3, "tf32": 0.01, "bfloat16": 0.1}
"""Largest errors of PyTorch's losses against ours in float32 that are rounding."""
KEEP = 180.0
"""Seconds that it leaves for the sections after it, on an accelerator."""


def torch(lab: Lab) -> Found:
    """Evaluations by a strong PyTorch program, and its L-BFGS on the first pairs of the ladder, scored alike."""
    try:
        import peers_torch
        import torch_strong
    except ImportError as error:
        raise Skip(f"no PyTorch: {error}") from error
    gpu = lab.accelerator
    if gpu and not torch_strong.torch.cuda.is_available():
        raise Skip(f"PyTorch {torch_strong.VERSION} has no CUDA here")
    where = "cuda" if gpu else "cpu"
    # TF32 is of GPUs, and compiling for the CPU takes longer than what it is to speed up
    variants = [("bfloat16", False), ("bfloat16", True), ("tf32", False), ("float32", False)]
    variants = variants if gpu else [("float32", False), ("bfloat16", False)]
    floor = KEEP if gpu else 0.0
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    wrong: list[str] = []
    for number, (side, batch) in enumerate(lab.scale.peers):
        contents, style = np.stack(lab.contents(side, batch)), lab.style(0, side)
        images = starts(contents, style)
        for precision, compiled in variants:
            row: dict[str, Any] = {"precision": precision, "compiled": compiled, "side": side, "batch": batch}
            rows.append(row)
            name = f"{side} x {batch} {precision}{', compiled' if compiled else ''}"
            try:
                lab.need(floor + (60 if compiled else 10 if gpu else 2))
                strong = torch_strong.Strong(
                    lab.engine("float32"), contents, style, device=where, precision=precision, compiled=compiled
                )
                x = strong.images(images)
                row["ready_seconds"], _ = timed(partial(strong.evaluations, x, 1))
                if number == 0:  # for one batch: whether both programs compute the same
                    row["error"] = strong.error(
                        images, np.asarray(lab.score(images, lab.batch("float32", side, batch)))
                    )
                    if not row["error"] <= TORCH_BOUNDS[precision]:
                        wrong.append(f"PyTorch's losses, {name}, differ by {row['error']:.2e}")
                times = 20 if gpu else 1
                call = partial(strong.evaluations, x, times)
                row["seconds"] = medians({"it": call}, lab.scale.repeats)["it"] / times
            except OutOfTime as reason:
                row["reason"] = str(reason)
            except torch_strong.torch.OutOfMemoryError:
                row["reason"] = "out of memory"
            except RuntimeError as error:  # of torch.compile, which works where it works
                if not compiled:
                    raise
                row["reason"] = f"torch.compile: {(str(error).splitlines() or [type(error).__name__])[0]}"
            told = f"not measured: {row['reason']}" if "reason" in row else f"{1e3 * row['seconds'] / batch:.3f} ms"
            lines.append(f"{name:30} {told}{'' if 'reason' in row else ' an image'}")
    values: dict[str, Any] = {"version": torch_strong.VERSION, "rows": rows, "wrong": wrong}
    if "curves" not in lab.pairs:
        return values, [*lines, "no ladder to compare L-BFGS with"]
    values["descents"] = []
    good = [row for row in rows if "seconds" in row]
    fastest = min(good, key=lambda row: row["seconds"] / row["batch"] / lab.flops(row["side"]), default=None)
    chosen = [("float32", False)] + ([(fastest["precision"], fastest["compiled"])] if fastest else [])
    for precision, compiled in dict.fromkeys(chosen):
        try:
            lab.need(floor + (60 if compiled else 20 if gpu else 2))
        except OutOfTime as reason:
            lines.append(f"torch L-BFGS, {precision}: not measured: {reason}")
            continue
        values["descents"].append(_descend(lab, peers_torch.Strong, precision, compiled))
        found = values["descents"][-1]
        for row in found["to_loss"]:
            lines.append(
                f"torch L-BFGS, {precision}{', compiled' if compiled else ''}, to float32's loss after "
                f"{row['part'] * lab.scale.evaluations:.0f} evaluations: {row['evaluations']:.0f} evaluations, "
                f"{1e3 * row['seconds']:.3g} ms an image; {row['reached']} of {lab.scale.lanes}"
            )
    if gpu:
        torch_strong.torch.cuda.empty_cache()
    return values, lines


def _descend(lab: Lab, way: Any, precision: str, compiled: bool) -> dict[str, Any]:
    """PyTorch's L-BFGS on the ladder's first pairs, a curvature for every image; losses in float32, once a chunk."""
    strong = way(lab.engine("float32"), lab.pairs["contents"], lab.pairs["style"], precision, compiled)
    for _ in range(lab.scale.evaluations):
        strong.evaluate()
    losses, seconds = np.array(strong.losses)[CHUNK - 1 :: CHUNK].T.tolist(), strong.seconds[CHUNK - 1 :: CHUNK]
    reference = lab.pairs["curves"]["float32"][: lab.scale.lanes]
    chunk = seconds[-1] / len(seconds) / lab.scale.lanes
    return {
        "precision": precision, "compiled": compiled, "losses": losses, "seconds": seconds,
        "to_loss": [{"part": part, **to_loss(reference, losses, part, chunk)} for part in TARGETS],
    }  # fmt: skip
