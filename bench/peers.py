"""Other programs beside the renderer: time to an equal loss, on the same pairs, weights, start and objective.

SciPy's L-BFGS-B one image at a time is the article's method. "PyTorch, plain" is in the manner of neural-style-pt:
torch.optim.LBFGS with its step of 1 and its history of 100, one image at a time, contiguous. "PyTorch, strong" is what
a good program would be: one batch, channels last, compiled where that is faster, bfloat16 on a GPU, and an L-BFGS of
its own for every image of the batch. pystiche runs where $PYSTICHE_PYTHON is an interpreter that has it, with the
PyTorch that it works with. All take turns of `TURN` evaluations of every image, so that a machine that slows down does
so for all; nothing is timed before it has run once.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import peers_pystiche
from ratios import batch_of, pictures

from jaxstyle.settings import StylizeSettings
from jaxstyle.style.stylizer import Stylizer, stylizer

TURN = 10
"""Evaluations of every image in a turn."""
GIVE_UP = 1.5
"""Evaluations after which a way has not reached a loss, as a multiple of those that SciPy had for it."""
HISTORY = 10
OURS = "the renderer"
OBJECTIVE = StylizeSettings(padding="zero", tv_weight=0.0)
"""What the others have too: no total variation, the network's own padding."""


class Way(Protocol):
    """A program at work on the images of a group.

    Attributes:
        seconds: that have gone into the group after each evaluation of all its images.
        losses: of the images at each evaluation, N each; float32.
    """

    seconds: list[float]
    losses: list[list[float]]

    def evaluate(self) -> None:
        """One evaluation of every image, and the solvers' steps between this and the next."""


def timed(way: Way, began: float) -> None:
    """Adds the time since then to a way's seconds."""
    way.seconds.append((way.seconds[-1] if way.seconds else 0.0) + time.perf_counter() - began)


class Renderer:
    """All images in one batch over all devices, as in a run.

    Called a tick at a time, so that every loss is known; that costs it (bench/REPORT.md: "tick with chunks of 1").
    """

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        self.seconds: list[float] = []
        self.losses: list[list[float]] = []
        there = jax.local_device_count()
        self._engine = engine = stylizer(OBJECTIVE, devices=there if len(contents) % there == 0 else 1)
        warm, self._targets = batch_of(engine, contents, style)
        jax.block_until_ready(engine.advance(warm, self._targets, 1))
        self._state = jax.block_until_ready(batch_of(engine, contents, style)[0])

    def evaluate(self) -> None:
        began = time.perf_counter()
        self._state = self._engine.advance(self._state, self._targets, 1)
        losses = np.asarray(self._state[0].loss, float).tolist()
        timed(self, began)
        self.losses.append(losses)


class Scipy:
    """fmin_l_bfgs_b on one image after another, each in a thread that stands still between its turns."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        self.seconds: list[float] = []
        self.losses: list[list[float]] = []
        loss = jax.jit(lambda v, x, t, c: engine.evaluate(v, t, c)(x))
        (lanes, content), targets = batch_of(engine, contents, style)
        self._images = []
        for k, start in enumerate(np.asarray(lanes.image)):
            own = jax.tree.map(lambda a, k=k: a[k], content)

            def function(x, own=own, shape=start.shape):
                image = jnp.asarray(x, jnp.float32).reshape(shape)
                (value, _), gradient = loss(engine.variables, image, targets, own)
                return float(value), np.asarray(gradient, np.float64).ravel()

            flat = start.astype(np.float64).ravel()
            function(flat)
            self._images.append(_Standing(function, flat))

    def evaluate(self) -> None:
        began = time.perf_counter()
        losses = [image.step() for image in self._images]
        timed(self, began)
        self.losses.append(losses)


class _Standing:
    """SciPy's minimiser of one function, one evaluation at a call."""

    def __init__(self, function, start: np.ndarray):
        self._function, self._start = function, start
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._loss, self._ended, self._error = np.inf, False, None
        threading.Thread(target=self._run, daemon=True).start()
        self._stands.acquire()

    def _run(self) -> None:
        from scipy.optimize import fmin_l_bfgs_b

        try:
            fmin_l_bfgs_b(self._asked, self._start, maxfun=10**6, maxiter=10**6, m=HISTORY, factr=0, pgtol=0)
        except BaseException as error:  # raised where it is waited for
            self._error = error
        self._ended = True
        self._stands.release()

    def _asked(self, x):
        self._stands.release()  # the step that led here belongs to the evaluation before
        self._go.acquire()
        self._loss, gradient = self._function(x)
        return self._loss, gradient

    def step(self) -> float:
        """The loss of one more evaluation; the last one again if the minimiser has ended by itself."""
        if not self._ended:
            self._go.release()
            self._stands.acquire()
        if self._error:
            raise self._error
        return self._loss


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
            for _ in range(min(TURN, budgets[-1] - number)):
                way.evaluate()
    goals = [{budget: min(losses[:budget]) for budget in budgets} for losses in zip(*reference.losses, strict=True)]
    waiting = [way for way in ways.values() if way is not reference]
    while len(waiting) and len(waiting[0].losses) < GIVE_UP * budgets[-1]:
        waiting = [w for w in waiting if any(_spent(w, k, goal[budgets[-1]]) is None for k, goal in enumerate(goals))]
        for way in waiting:
            for _ in range(TURN):
                way.evaluate()
    return goals


def peers(arguments):
    """Seconds an image to the loss that SciPy has after 60 and 200 evaluations, each program's / the renderer's."""
    budgets, number, kinds = ((10, 20), 2, 1) if arguments.quick else ((60, 200), 4, 1)
    contents, styles = pictures(arguments, arguments.loss_size)
    contents = list(itertools.islice(itertools.cycle([*contents, *(c[:, ::-1] for c in contents)]), number))
    engine = stylizer(OBJECTIVE)
    programs: dict[str, Any] = {OURS: Renderer, "SciPy": Scipy}
    missing: dict[str, str] = {}
    about: dict[str, dict] = {}
    if why := peers_pystiche.missing():
        missing["pystiche"] = f"not measured: {why}"
    else:
        programs["pystiche"] = peers_pystiche.Pystiche
    try:
        import peers_torch

        programs |= {"PyTorch, plain": peers_torch.Plain, "PyTorch, strong": peers_torch.Strong}
    except ImportError as error:
        missing |= {f"PyTorch, {kind}": f"not measured: {error}" for kind in ("plain", "strong")}
    spent: dict[str, dict[int, list]] = {name: {b: [] for b in budgets} for name in programs}
    for style in styles[:kinds]:
        ways: dict[str, Any] = {name: programs[name](engine, contents, style) for name in spent}
        firsts = {name: way.about for name, way in ways.items() if hasattr(way, "about")}
        about |= firsts
        goals = _compete(ways, budgets)
        for name, way in ways.items():
            np.testing.assert_allclose(way.losses[0], ways["SciPy"].losses[0], rtol=2e-3)  # they do compute the same
            for k, goal in enumerate(goals):
                for budget in budgets:
                    spent[name][budget].append(_spent(way, k, goal[budget]))
        if "pystiche" in ways:
            ways["pystiche"].close()
    for budget in budgets:
        medians = {name: _median(of[budget]) for name, of in spent.items()}
        for name in [*spent, *missing]:
            what = f"time to SciPy's loss after {budget} evaluations, {name} / {OURS}, {arguments.loss_size}px"
            evaluations, seconds = medians.get(name, (None, None))
            if name in missing:
                value: Any = missing[name]
            elif seconds is None or medians[OURS][1] is None:
                value = f"not within {GIVE_UP * budgets[-1]:.0f} evaluations, median of {number * kinds}"
            else:
                value = seconds / medians[OURS][1]
            yield {
                "what": what, "value": value, "goal": "", "seconds": seconds, "evaluations": evaluations,
                "images_an_hour": seconds and 3600 / seconds, "pairs": spent.get(name, {}).get(budget),
                **about.get(name, {}),
            }  # fmt: skip


def _median(found: list[tuple[int, float] | None]) -> tuple[float | None, float | None]:
    """Evaluations and seconds of the middle pair; None if it is one that did not get there."""
    order = sorted(found, key=lambda one: one[1] if one else np.inf)
    middle = order[(len(order) - 1) // 2], order[len(order) // 2]
    if None in middle:
        return None, None
    return statistics.mean(one[0] for one in middle if one), statistics.mean(one[1] for one in middle if one)


ALL = {"peers": peers}
"""Measurements by name."""
