"""Other ways to the same loss: SciPy one image after another, PyTorch one by one, PyTorch batched, and the renderer.

All have the same photographs, weights, objective and start, and all their images are scored by the renderer's float32
objective. A way's time is what it takes until every image of a group is at the loss that SciPy had after a number of
evaluations; compilation and first calls come before.
"""

from __future__ import annotations

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from ratios import batch_of, pictures

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import stylizer

GROUP, SIZE, EVERY = 4, 128, 5
"""Images, their long side, and evaluations between two looks at the losses (whose time does not count)."""

Curve = list[tuple[float, np.ndarray]]
"""Seconds from the beginning, and the losses of the group at that time."""


def _tick(engine, contents, style, evaluations: int) -> Curve:
    """The renderer: all images in one batch."""
    warm, targets = batch_of(engine, contents, style)
    jax.block_until_ready(engine.advance(warm, targets, EVERY))
    state, targets = batch_of(engine, contents, style)
    curve, spent = [], 0.0
    for _ in range(0, evaluations, EVERY):
        began = time.perf_counter()
        state = engine.advance(state, targets, EVERY)
        jax.block_until_ready(state)
        spent += time.perf_counter() - began
        curve.append((spent, np.asarray(state[0].loss, float)))
    return curve


def _scipy(engine, contents, style, evaluations: int) -> list[list[tuple[float, float]]]:
    """The article's way, by image: seconds and best loss after each evaluation."""
    from scipy.optimize import fmin_l_bfgs_b

    loss = jax.jit(lambda v, x, t, c: engine.evaluate(v, t, c)(x))
    curves = []
    for k in range(len(contents)):
        batch, targets = batch_of(engine, contents[k : k + 1], style)
        start, content = np.asarray(batch[0].image[0]), jax.tree.map(lambda a: a[0], batch[1])
        jax.block_until_ready(loss(engine.variables, start, targets, content))
        curve: list[tuple[float, float]] = []
        began = time.perf_counter()

        def function(x, curve=curve, targets=targets, content=content, start=start, began=began):
            (value, _), gradient = loss(
                engine.variables, jnp.asarray(x, jnp.float32).reshape(start.shape), targets, content
            )
            best = min(float(value), curve[-1][1]) if curve else float(value)
            gradient = np.asarray(gradient, np.float64).ravel()
            curve.append((time.perf_counter() - began, best))
            return float(value), gradient

        fmin_l_bfgs_b(function, start.astype(np.float64).ravel(), maxfun=evaluations, maxiter=10**6, m=10, factr=0,
                      pgtol=0)  # fmt: skip
        curves.append(curve)
    return curves


def _torch(engine, contents, style, evaluations: int, group: int, compiled: bool = False) -> list[Curve]:
    """torch.optim.LBFGS over groups of so many images: one by one as neural-style-pt does it, or all in one batch."""
    import torch_strong

    score = jax.jit(jax.vmap(lambda v, x, t, c: engine.evaluate(v, t, c)(x)[0][0], (None, 0, None, 0)))
    curves = []
    for k in range(0, len(contents), group):
        batch, targets = batch_of(engine, contents[k : k + group], style)
        starts = np.asarray(batch[0].image)
        strong = torch_strong.Strong(
            engine, np.stack(contents[k : k + group]), style, device="cpu", precision="float32", compiled=compiled
        )
        strong.evaluate(strong.images(starts))
        found = strong.descend(starts, evaluations, EVERY)
        curves.append(
            [(s, np.asarray(score(engine.variables, jnp.asarray(i), targets, batch[1]), float)) for s, i in found]
        )
    return curves


def _reached(curve: Curve, goal: np.ndarray) -> float | None:
    """Seconds until all images were at their goals at some time, or None."""
    best = np.full(len(goal), np.inf)
    for seconds, losses in curve:
        best = np.minimum(best, losses)
        if (best <= goal).all():
            return seconds
    return None


def peers(arguments):
    """Seconds to SciPy's loss of each way / those of the renderer, and images an hour."""
    budgets, most = ((5,), 10) if arguments.quick else ((60, 120), 160)
    contents, styles = pictures(arguments, SIZE)
    four = list(itertools.islice(itertools.cycle([*contents, *(c[:, ::-1] for c in contents)]), GROUP))
    engine, style = stylizer(StylizeSettings()), styles[0]
    by_image = _scipy(engine, four, style, max(budgets))
    curves = {"the renderer (one batch)": [_tick(engine, four, style, most)]}
    missing = {}
    for name, group, compiled in (
        ("PyTorch, one image at a time", 1, False),
        ("PyTorch, one batch, channels last", GROUP, False),
        ("PyTorch, the same with torch.compile", GROUP, True),
    ):
        try:
            curves[name] = _torch(engine, four, style, most, group, compiled)
        except Exception as error:  # no torch, no compiler for torch.compile: which is the figure then
            missing[name] = f"not measured: {type(error).__name__}: {str(error).splitlines()[0][:160]}"
    try:
        import pystiche

        missing["pystiche"] = f"not measured: nobody has written that yet ({pystiche.__version__} is installed)"
    except ImportError as error:  # it asks for torchvision
        missing["pystiche"] = f"not measured: {error}; its loop is that of PyTorch, one image at a time"
    for budget in budgets:
        goal = np.array([curve[budget - 1][1] for curve in by_image])
        seconds = {"SciPy, one image at a time (the article's way)": sum(curve[budget - 1][0] for curve in by_image)}
        for name, parts in curves.items():
            size = len(four) // len(parts)
            times = [_reached(curve, goal[k * size : (k + 1) * size]) for k, curve in enumerate(parts)]
            if all(one is not None for one in times):
                seconds[name] = sum(one for one in times if one is not None)
        own = seconds.get("the renderer (one batch)")
        for name in [*dict.fromkeys([*seconds, *curves]), *missing]:
            hours = 3600 * GROUP / seconds[name] if name in seconds else None
            value = (
                seconds[name] / own if own and name in seconds else missing.get(name, f"not within {most} evaluations")
            )
            yield {"what": f"time to SciPy's loss after {budget} evaluations, {name} / the renderer, {SIZE}px",
                   "value": value, "goal": "", "images_an_hour": hours, "seconds": seconds.get(name)}  # fmt: skip


ALL = {"peers": peers}
"""Measurements by name."""
