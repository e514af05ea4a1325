"""PyTorch's side of bench/peers.py: a plain program and a strong one, each with the attributes of `peers.Way`."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import torch
import torch_strong
from peers import timed
from ratios import alternate, batch_of

from jaxstyle.style.stylizer import Stylizer

HISTORY, PLAIN_HISTORY = 10, 100
"""Pairs of curvature kept by the strong program, as by the renderer, and by the plain one, as neural-style-pt does."""


class Plain:
    """torch.optim.LBFGS on one image after another; an evaluation a step, as neural-style-pt has it."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        self.seconds: list[float] = []
        self.losses: list[list[float]] = []
        self._ones, device = [], "cuda" if torch.cuda.is_available() else "cpu"
        for k, start in enumerate(_starts(engine, contents, style)):
            one = torch_strong.Strong(engine, np.stack(contents[k : k + 1]), style, device=device, layout="contiguous")
            one.evaluate(one.images(start[None]))
            image = one.images(start[None]).requires_grad_(True)
            optimiser = torch.optim.LBFGS(
                [image], lr=1.0, max_iter=1, tolerance_grad=-1, tolerance_change=-1, history_size=PLAIN_HISTORY
            )
            self._ones.append((one, image, optimiser))

    def evaluate(self) -> None:
        began, losses = time.perf_counter(), []
        for one, image, optimiser in self._ones:

            def closure(one=one, image=image, optimiser=optimiser):
                optimiser.zero_grad()
                loss = one.losses(image).sum()
                loss.backward()
                return loss

            losses.append(float(optimiser.step(closure).detach()))
            one.wait()
        timed(self, began)
        self.losses.append(losses)


class Strong:
    """A batch in which every image has an L-BFGS of its own: torch.optim.LBFGS's rules, two loops over all images.

    One torch.optim.LBFGS over the summed loss would share curvature and step among images that have nothing to do
    with each other.
    """

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        self.seconds: list[float] = []
        self.losses: list[list[float]] = []
        gpu = torch.cuda.is_available()
        named: dict[str, Any] = {"device": "cuda" if gpu else "cpu", "precision": "bfloat16" if gpu else "float32"}
        starts, batch = _starts(engine, contents, style), np.stack(contents)
        self._exact = torch_strong.Strong(engine, batch, style, device=named["device"], precision="float32")
        programs = {"as it is": torch_strong.Strong(engine, batch, style, **named)}
        self.about: dict[str, Any] = {"torch": torch_strong.VERSION, **named, "compile": "faster"}
        self._x, began = self._exact.images(starts), time.perf_counter()
        try:
            programs["compiled"] = torch_strong.Strong(engine, batch, style, compiled=True, **named)
            programs["compiled"].evaluate(self._x)
        except (RuntimeError, AssertionError) as error:  # torch.compile works where it works
            programs.pop("compiled", None)
            self.about["compile"] = f"does not work: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        self.about["compile_seconds"] = time.perf_counter() - began

        def timing(program):
            program.evaluate(self._x)
            program.wait()

        told = alternate({name: lambda p=p: timing(p) for name, p in programs.items()}, 3)
        best = min(told, key=told.__getitem__)
        if "compiled" in told and best != "compiled":
            self.about["compile"] = "slower"
        self.about["seconds_evaluation"] = told
        self._program = programs[best]
        self._pairs: deque[tuple] = deque(maxlen=HISTORY)
        self._before: tuple | None = None
        self._gamma: Any = 1.0

    def evaluate(self) -> None:
        began = time.perf_counter()
        losses, gradient = self._program.evaluate(self._x)
        scored = losses
        x = self._x
        self._x = x + self._direction(x, gradient)
        self._program.wait()
        timed(self, began)
        if self._program is not self._exact and self.about["precision"] != "float32":
            scored, _ = self._exact.evaluate(x)
        self.losses.append(scored.cpu().tolist())

    def _direction(self, x, gradient):
        """The step of every image, N x 3 x H x W."""
        dot = lambda a, b: (a * b).sum((1, 2, 3), keepdim=True)  # noqa: E731
        first = self._before is None
        if not first:
            s, y = x - self._before[0], gradient - self._before[1]
            ys = dot(y, s)
            good = ys > 1e-10
            self._pairs.append((s, y, good / ys.where(good, ys.new_ones(()))))  # a pair of weight 0 does nothing
            self._gamma = (ys / dot(y, y)).where(good, self._gamma * ys.new_ones(()))
        self._before = x, gradient
        q, along = -gradient, []
        for s, y, rho in reversed(self._pairs):
            along.append(rho * dot(s, q))
            q = q - along[-1] * y
        q = self._gamma * q
        for (s, y, rho), a in zip(self._pairs, reversed(along), strict=True):
            q = q + (a - rho * dot(y, q)) * s
        return q * (1 / gradient.abs().sum((1, 2, 3), keepdim=True)).clamp_max(1) if first else q


def _starts(engine: Stylizer, contents: list[np.ndarray], style: np.ndarray) -> np.ndarray:
    """Where all begin, N x H x W x 3."""
    return np.asarray(batch_of(engine, contents, style)[0][0].image)
