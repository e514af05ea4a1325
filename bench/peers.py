"""Compares the renderer with other programs: time to an equal loss on the same pairs, weights, start and objective.

SciPy's L-BFGS-B one image at a time is the article's method. "PyTorch, plain" works like neural-style-pt:
torch.optim.LBFGS with its step of 1 and its history of 100, one image at a time, contiguous. "PyTorch, strong" is a
well optimised program: one batch, channels last, compiled if that is faster, and a separate L-BFGS for every image of
the batch; in float32 and in bfloat16, whose losses are scored in float32. pystiche runs if $PYSTICHE_PYTHON is an
interpreter with pystiche and a PyTorch that it supports. The programs take turns of `TURN` evaluations of every image,
so that a slower phase of the machine affects all of them; each runs once before it is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import peers_pystiche
from harness import Asked, Results, result
from ways import OBJECTIVE, Mixed, Preconditioned, Renderer, Scipy, Way

from jaxstyle.model import choice
from jaxstyle.style.stylizer import stylizer

TURN = 10
"""Evaluations of every image in a turn."""
GIVE_UP = 1.5
"""Evaluations after which a way has not reached a loss, as a multiple of those that SciPy had for it."""
OURS = "the renderer"
STRONG = {"strong": "float32", "strong, bfloat16": "bfloat16"}
"""Precisions of the strong PyTorch program, by the words for it."""


def programs() -> tuple[dict[str, Callable[..., Way]], dict[str, str]]:
    """Returns the programs that can run here, by name, and why others cannot."""
    found: dict[str, Callable[..., Way]] = {OURS: Renderer, f"{OURS}, preconditioned": Preconditioned, "SciPy": Scipy}
    missing = {}
    mixed = f"{OURS}, preconditioned, mixed"
    if why := choice.obstacle():
        missing[mixed] = why
    else:
        found[mixed] = Mixed
    if why := peers_pystiche.missing():
        missing["pystiche"] = why
    else:
        found["pystiche"] = peers_pystiche.Pystiche
    try:
        import peers_torch

        found["PyTorch, plain"] = peers_torch.Plain
        found |= {f"PyTorch, {kind}": partial(peers_torch.Strong, precision=precision)
                  for kind, precision in STRONG.items()}  # fmt: skip
    except ImportError as error:
        missing |= {f"PyTorch, {kind}": str(error) for kind in ("plain", *STRONG)}
    return found, missing


def _spent(way: Way, image: int, goal: float) -> tuple[int, float] | None:
    """Evaluations of an image, and its share of the seconds, until its loss is at most the goal; None: never."""
    for k, losses in enumerate(way.losses):
        if losses[image] <= goal:
            return k + 1, way.seconds[k] / len(losses)
    return None


def _compete(ways: dict[str, Way], budgets: tuple[int, ...]) -> list[dict[int, float]]:
    """Runs SciPy for the largest budget, the others until they are where it was; the goals by image and budget."""
    reference, number = ways["SciPy"], 0
    while len(reference.losses) < budgets[-1]:
        number = len(reference.losses)
        for way in ways.values():
            way.turn(min(TURN, budgets[-1] - number))
    goals = [{budget: min(losses[:budget]) for budget in budgets} for losses in zip(*reference.losses, strict=True)]
    waiting = [way for way in ways.values() if way is not reference]
    while len(waiting) and len(waiting[0].losses) < GIVE_UP * budgets[-1]:
        waiting = [w for w in waiting if any(_spent(w, k, goal[budgets[-1]]) is None for k, goal in enumerate(goals))]
        for way in waiting:
            way.turn(TURN)
    return goals


def peers(asked: Asked, size: int | None, budgets: tuple[int, ...], number: int) -> Results:
    """Measures the seconds an image to SciPy's loss after so many evaluations, each program's / the renderer's.

    Args:
        size: long side in pixels [default: `asked.loss_size`]
        number: photographs, each optimised by every program.
    """
    budgets, number = asked.pick(((10, 20), 2), (budgets, number))
    size = size or asked.loss_size
    contents, style, (kinds, missing) = asked.photographs(size, number), asked.style(size), programs()
    engine = stylizer(OBJECTIVE)
    ways = {name: kind(engine, contents, style) for name, kind in kinds.items()}
    goals = _compete(ways, budgets)
    for way in ways.values():
        np.testing.assert_allclose(way.losses[0], ways["SciPy"].losses[0], rtol=2e-3)  # they do compute the same
        way.close()
    for budget in budgets:
        spent = {name: [_spent(way, k, goal[budget]) for k, goal in enumerate(goals)] for name, way in ways.items()}
        ours = _median(spent[OURS])
        for name in [*ways, *missing]:
            evaluations, seconds = _median(spent[name]) if name in ways else (None, None)
            if name in missing:
                value: Any = f"not measured: {missing[name]}"
            elif seconds is None or ours[1] is None:
                value = f"not within {GIVE_UP * budgets[-1]:.0f} evaluations, median of {number}"
            else:
                value = seconds / ours[1]
            yield result(
                f"time to SciPy's loss after {budget} evaluations, {name} / {OURS}, {size}px", value,
                seconds=seconds, evaluations=evaluations, images_an_hour=seconds and 3600 / seconds,
                pairs=spent.get(name), **(ways[name].about if name in ways else {}),
            )  # fmt: skip


def _median(found: list[tuple[int, float] | None]) -> tuple[float | None, float | None]:
    """Evaluations and seconds of the middle pair; None if it is one that did not get there."""
    order = sorted(found, key=lambda one: one[1] if one else np.inf)
    middle = order[(len(order) - 1) // 2], order[len(order) // 2]
    if None in middle:
        return None, None
    return statistics.mean(one[0] for one in middle if one), statistics.mean(one[1] for one in middle if one)


ALL = {
    "peers": partial(peers, size=None, budgets=(60, 200), number=4),
    "peers-256": partial(peers, size=256, budgets=(60, 200), number=2),
    "peers-512": partial(peers, size=512, budgets=(60,), number=1),
}
"""Measurements by name."""
