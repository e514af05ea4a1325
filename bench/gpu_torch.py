"""The section of bench/gpu.py that compares with PyTorch."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from gpu_sections import TARGETS, Found, score, to_loss
from lab import CHUNK, Lab, OutOfTime, Skip, evaluation, inits

TORCH_BOUNDS = {"float32": 1e-3, "tf32": 0.01, "bfloat16": 0.1}
"""Largest errors of PyTorch's losses against ours in float32 that are rounding."""
KEEP = 180.0
"""Seconds that it leaves for the sections after it, on an accelerator."""


def torch(lab: Lab) -> Found:
    """Evaluations by a strong PyTorch program, and its L-BFGS on the first pairs of the ladder, scored alike."""
    try:
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
    side, batch = lab.scale.peers[0]
    state, targets = lab.batch("float32", side, batch)
    expected = evaluation(lab.engine("float32"), "float32")(state[0].image, state[1], targets)[0]
    for number, (side, batch) in enumerate(lab.scale.peers):
        contents, style = lab.contents(side, batch), lab.style(0, side)
        images = inits(contents, style)
        for precision, compiled in variants:
            row: dict[str, Any] = {"precision": precision, "compiled": compiled, "side": side, "batch": batch}
            rows.append(row)
            name = f"{side} x {batch} {precision}{', compiled' if compiled else ''}"
            try:
                lab.need(floor + (60 if compiled else 10 if gpu else 2))
                began = time.perf_counter()
                strong = torch_strong.Strong(
                    lab.engine("float32"), contents, style, device=where, precision=precision, compiled=compiled
                )
                if number == 0:  # for one batch: whether both programs compute the same
                    row["error"] = strong.error(images, np.asarray(expected))
                    if not row["error"] <= TORCH_BOUNDS[precision]:
                        wrong.append(f"PyTorch's losses, {name}, differ by {row['error']:.2e}")
                strong.evaluate(strong.images(images))
                row["ready_seconds"] = time.perf_counter() - began
                row["seconds"] = strong.seconds(images, 20 if gpu else lab.scale.repeats)
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
        values["descents"].append(_descend(lab, torch_strong, where, precision, compiled))
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


def _descend(lab: Lab, torch_strong: Any, where: str, precision: str, compiled: bool) -> dict[str, Any]:
    """PyTorch's L-BFGS on the ladder's first pairs."""
    contents, style, exact = (lab.pairs[name] for name in ("contents", "style", "exact"))
    starts = inits(contents, style)
    strong = torch_strong.Strong(lab.engine("float32"), contents, style, device=where, precision=precision,
                                 compiled=compiled)  # fmt: skip
    strong.seconds(starts, 1)
    found = strong.descend(starts, lab.scale.evaluations, CHUNK)
    losses = np.array([score(lab, images, *exact) for _, images in found]).T.tolist()
    reference = lab.pairs["curves"]["float32"][: lab.scale.lanes]
    chunk = found[-1][0] / len(found) / lab.scale.lanes
    return {
        "precision": precision, "compiled": compiled, "losses": losses, "seconds": [seconds for seconds, _ in found],
        "to_loss": [{"part": part, **to_loss(reference, losses, part, chunk)} for part in TARGETS],
    }  # fmt: skip
