"""The measurements. Each takes the parsed arguments and yields dicts: `what`, `value`, `goal`, and its raw figures."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from lab import batch_of, evaluation
from PIL import Image, ImageOps

from jaxstyle.data import image
from jaxstyle.data.image import work_size
from jaxstyle.demo.demo import PHOTOS
from jaxstyle.demo.styles import STYLES
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.status import Status
from jaxstyle.style.stylizer import Stylizer, stylizer

CROP = (4, 3)
"""Aspect ratio to which photographs are cropped, so that all of them fit one batch."""


def pictures(arguments, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Contents, size x 3/4 size, and styles of this long side, floats in [0, 1]."""
    width, height = size, size * CROP[1] // CROP[0]
    paths = sorted((arguments.contents or PHOTOS).glob("*.[jp][pn]*g"))
    contents = [
        np.asarray(ImageOps.fit(Image.open(p).convert("RGB"), (width, height), Image.Resampling.LANCZOS), np.float32)
        / 255
        for p in paths
    ]
    if arguments.styles:
        whole = [image.read(p, RenderSettings.max_pixels).pixels for p in sorted(arguments.styles.glob("*.[jp][pn]*g"))]
    else:
        whole = [draw().astype(np.float32) / 255 for draw in STYLES.values()]
    return contents, [image.resize(s, *work_size(s.shape[1], s.shape[0], size)) for s in whole]


def pairs(arguments, size: int, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Content and style of `number` pairs, contents changing fastest."""
    contents, styles = pictures(arguments, size)
    every = list(itertools.islice(itertools.cycle(itertools.product(styles, contents)), len(styles) * len(contents)))
    return [(content, style) for style, content in every[:number]]


def alternate(functions: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turn; each is called once before, unmeasured."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def evaluation_of(engine: Stylizer, batch, targets, times: int = 0):
    """A function of no arguments that evaluates losses and gradients of the batch, once and returning the losses.

    Args:
        times: or so many times in one compiled loop, as the renderer does, returning the images at its end.
    """
    lanes, content = batch
    images, function = jnp.array(lanes.image), evaluation(engine, "float32", times)
    return lambda: function(images, content, targets)


def tick(arguments):
    """A tick against an evaluation, both in compiled loops of 5; and an image's evaluation by batch against batch 1."""
    ticks, repeats = 5, 2 if arguments.quick else 7
    contents, styles = pictures(arguments, arguments.size)
    engine = stylizer(StylizeSettings())
    per_image = {}
    for size in (1, 2, 4, 8):
        state, targets = batch_of(engine, list(itertools.islice(itertools.cycle(contents), size)), styles[0])
        evaluate, alone = evaluation_of(engine, state, targets, ticks), evaluation_of(engine, state, targets)
        holder = [engine.advance(state, targets, 2)]  # past the first two ticks, which are special

        def advance(holder=holder, targets=targets):
            holder[0] = engine.advance(holder[0], targets, ticks)
            return holder[0][0].loss

        seconds = alternate({"tick": advance, "evaluation": evaluate, "alone": alone}, repeats)
        per_image[size] = seconds["evaluation"] / ticks / size
        yield {
            "what": f"tick / evaluation, {arguments.size}px 4:3, batch {size}",
            "value": seconds["tick"] / seconds["evaluation"], "goal": "at most 1.05",
            "seconds_tick": seconds["tick"] / ticks, "seconds_evaluation": seconds["evaluation"] / ticks,
            "seconds_evaluation_alone": seconds["alone"],
        }  # fmt: skip
    for size, seconds in per_image.items():
        yield {
            "what": f"seconds an image-evaluation, batch {size} / batch 1",
            "value": seconds / per_image[1], "goal": "", "seconds_image_evaluation": seconds,
        }  # fmt: skip


def scipy(arguments):
    """Final loss of the tick against SciPy's L-BFGS-B with as many evaluations and pairs of history."""
    from scipy.optimize import fmin_l_bfgs_b

    number, budgets = (2, (10,)) if arguments.quick else (8, (60, 200))
    engine = stylizer(StylizeSettings())
    found = {budget: [] for budget in budgets}
    for content, style in pairs(arguments, arguments.loss_size, number):
        batch, targets = batch_of(engine, [content], style)
        start, (_, content_targets) = jnp.array(batch[0].image[0]), batch
        one = jax.tree.map(lambda a: a[0], content_targets)
        loss = jax.jit(lambda v, x, t, c: engine.evaluate(v, t, c)(x))
        values: list[float] = []

        def function(x, loss=loss, targets=targets, one=one, start=start, values=values):
            (value, _), gradient = loss(
                engine.variables, jnp.asarray(x, jnp.float32).reshape(start.shape), targets, one
            )
            values.append(float(value))
            return values[-1], np.asarray(gradient, np.float64).ravel()

        fmin_l_bfgs_b(function, np.asarray(start, np.float64).ravel(), maxfun=max(budgets), maxiter=10**6, m=10,
                      factr=0, pgtol=0)  # fmt: skip
        spent = 0
        for budget in budgets:
            batch = engine.advance(batch, targets, budget - spent)
            spent = budget
            found[budget].append((float(batch[0].loss[0]), min(values[:budget])))
    for budget, losses in found.items():
        quotients = [ours / theirs for ours, theirs in losses]
        yield {
            "what": f"final loss, tick / SciPy, {budget} evaluations, {arguments.loss_size}px, median of {number}",
            "value": statistics.median(quotients), "goal": "at most 1.02", "pairs": losses, "ratios": quotients,
        }  # fmt: skip


def torch(arguments):
    """An evaluation against PyTorch's: the same network, layers and Gram matrices, value and input gradient."""
    try:
        import torch_strong
    except ImportError as error:
        yield {"what": "evaluation / PyTorch's", "value": f"not measured: {error}", "goal": "at most 1.0"}
        return
    contents, styles = pictures(arguments, arguments.size)
    square = [np.asarray(ImageOps.fit(Image.fromarray(image.to_bytes(c)), (arguments.size,) * 2), np.float32) / 255
              for c in contents]  # fmt: skip
    engine = stylizer(StylizeSettings(padding="zero", tv_weight=0.0))
    for size in (1, 4):
        batch = list(itertools.islice(itertools.cycle(square), size))
        state, targets = batch_of(engine, batch, styles[0])
        ours = evaluation_of(engine, state, targets)
        evaluations = {"jax": ours, "jax, 5 in a loop": evaluation_of(engine, state, targets, 5)}
        for layout in ("contiguous", "channels_last"):
            program = torch_strong.Strong(engine, np.stack(batch), styles[0], layout=layout)
            images = program.images(np.asarray(state[0].image))
            evaluations[f"torch {layout}"] = lambda p=program, x=images: p.evaluate(x)[0].numpy()
            value, reference = evaluations[f"torch {layout}"](), np.asarray(ours()[0])
            np.testing.assert_allclose(value, reference, rtol=1e-3)  # they do compute the same
        seconds = alternate(evaluations, 2 if arguments.quick else 7)
        best = min(seconds["torch contiguous"], seconds["torch channels_last"])
        for how, ours_in in (("alone", seconds["jax"]), ("in a chunk", seconds["jax, 5 in a loop"] / 5)):
            yield {
                "what": f"evaluation {how} / PyTorch's in its faster layout, {arguments.size}px, batch {size}",
                "value": ours_in / best, "goal": "at most 0.90" if size == 4 else "at most 1.0", "seconds": seconds,
                "torch": torch_strong.VERSION,
            }  # fmt: skip


def zoom(arguments):
    """Time in which four images in a batch reach the loss of jaxopt's own zoom line search, and the evaluations."""
    contents, styles = pictures(arguments, arguments.loss_size)
    four = list(itertools.islice(itertools.cycle(contents), 4))
    four[3] = four[3][:, ::-1]  # three photographs: the fourth is one of them mirrored
    curves = {}
    for solver, ticks in (("jaxopt-zoom", 3 if arguments.quick else 40), ("lbfgs", 30 if arguments.quick else 160)):
        engine = stylizer(StylizeSettings(solver=solver))
        warm, targets = batch_of(engine, four, styles[0])
        jax.block_until_ready(engine.advance(warm, targets, 1))
        state, targets = batch_of(engine, four, styles[0])
        jax.block_until_ready(state)
        curve, spent = [], 0.0
        for _ in range(ticks):
            began = time.perf_counter()
            state = engine.advance(state, targets, 1)
            loss = float(state[0].loss.sum())
            spent += time.perf_counter() - began
            curve.append((spent, loss))
        curves[solver] = curve
    for iterations in (1, 5, 12, 40)[: 1 if arguments.quick else 4]:
        seconds, loss = curves["jaxopt-zoom"][iterations - 1]
        ticks, reached = next(
            ((k, s) for k, (s, value) in enumerate(curves["lbfgs"], 1) if value <= loss), (None, None)
        )
        yield {
            "what": f"time to jaxopt-zoom's loss after {iterations} iterations, zoom / tick, batch 4",
            "value": seconds / reached if reached else "not reached", "goal": "expected at least 10",
            "ticks": ticks, "curves": curves if iterations == 1 else None,
        }  # fmt: skip


def batching(arguments):
    """A batch of 8 against 8 singles: rounding after 10 evaluations, final losses after 200."""
    contents, styles = pictures(arguments, arguments.loss_size)
    mirrored = [c[:, ::-1] for c in contents] + [c[::-1] for c in contents]
    eight = list(itertools.islice(itertools.cycle([*contents, *mirrored]), 8))
    for evaluations in (10,) if arguments.quick else (10, 200):
        engine = stylizer(StylizeSettings())
        losses = []
        for group in ([eight], [[c] for c in eight]):
            found = []
            for contents_of in group:
                batch, targets = batch_of(engine, contents_of, styles[0], evaluations)
                while (np.asarray(batch[0].status) == Status.RUNNING).any():
                    batch = engine.advance(batch, targets)
                found += np.asarray(batch[0].loss, float).tolist()
            losses.append(found)
        quotients = [a / b for a, b in zip(*losses, strict=True)]
        if evaluations == 10:
            what, value, goal = "largest difference of loss", max(abs(q - 1) for q in quotients), "rounding"
        else:
            what, value, goal = "median final loss, batch / single", statistics.median(quotients), "within 1%"
        yield {"what": f"{what}, batch of 8 against 8 singles, {evaluations} evaluations", "value": value, "goal": goal,
               "ratios": quotients}  # fmt: skip


_PEAK = """
import re, sys
from pathlib import Path
from jaxstyle.engine.pipeline import render
from jaxstyle.settings import RenderSettings
render(sys.argv[1], sys.argv[2], sys.argv[3], RenderSettings(size=192, evaluations=3, batch=4, workers=1))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
# getrusage's ru_maxrss would not do: a child starts with its parent's.


def memory(arguments):
    """Peak memory of a process that renders 40 photographs against one that renders 8."""
    import tempfile

    contents, styles = pictures(arguments, 1024)
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder, "style.png")
        Image.fromarray(image.to_bytes(styles[0])).save(style)
        for number in (8, 40):
            inputs = Path(folder, f"in{number}")
            inputs.mkdir()
            for k in range(number):
                Image.fromarray(image.to_bytes(np.roll(contents[k % len(contents)], 20 * k, 1))).save(
                    inputs / f"{k}.jpg"
                )
            command = [sys.executable, "-c", _PEAK, str(inputs), str(style), str(Path(folder, f"out{number}"))]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[number] = int(run.stdout.split()[-1]) * 1024
    yield {
        "what": "peak memory, 40 photographs / 8",
        "value": peaks[40] / peaks[8],
        "goal": "at most 1.10",
        "bytes": peaks,
    }


ALL = {"tick": tick, "scipy": scipy, "torch": torch, "zoom": zoom, "batching": batching, "memory": memory}
"""Measurements by name."""
