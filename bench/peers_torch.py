"""The two PyTorch programs of bench/peers.py, plain and strong, each a `ways.Way`."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import numpy as np
import torch
import torch_strong
from harness import medians, timed
from lanes import starts
from ways import HISTORY, Way

from jaxstyle.style.stylizer import Stylizer

PLAIN_HISTORY = 100
"""Pairs of curvature that the plain program keeps, as neural-style-pt does; the strong one keeps `HISTORY`."""


class Plain(Way):
    """torch.optim.LBFGS on one image after another; an evaluation a step, as neural-style-pt has it."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        super().__init__()
        self._ones, device = [], "cuda" if torch.cuda.is_available() else "cpu"
        for k, start in enumerate(starts(contents, style)):
            one = torch_strong.Strong(engine, np.stack(contents[k : k + 1]), style, device=device, layout="contiguous")
            one.evaluate(one.images(start[None]))
            image = one.images(start[None]).requires_grad_(True)
            optimiser = torch.optim.LBFGS(
                [image], lr=1.0, max_iter=1, tolerance_grad=-1, tolerance_change=-1, history_size=PLAIN_HISTORY
            )
            self._ones.append((one, image, optimiser))

    def step(self) -> list[float]:
        losses = []
        for one, image, optimiser in self._ones:

            def closure(one=one, image=image, optimiser=optimiser):
                optimiser.zero_grad()
                loss = one.losses(image).sum()
                loss.backward()
                return loss

            losses.append(float(optimiser.step(closure).detach()))
            one.wait()
        return losses


class Strong(Way):
    """A batch in which every image has an L-BFGS of its own: torch.optim.LBFGS's rules, two loops over all images.

    One torch.optim.LBFGS over the summed loss would share curvature and step among images that have nothing to do
    with each other.
    """

    def __init__(
        self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray,
        precision: str, compiled: bool | None = None,
    ):  # fmt: skip
        """Args:
        precision: "float32" or "bfloat16".
        compiled: by torch.compile [default: the faster of compiled and not]
        """
        super().__init__()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        make = partial(torch_strong.Strong, engine, np.stack(contents), style, device=device)
        self._exact = make(precision="float32")
        self._x = self._exact.images(starts(contents, style))
        self.about = {"torch": torch_strong.VERSION, "device": device, "precision": precision}
        if compiled is None:
            self._program = self._faster(make(precision=precision), make(precision=precision, compiled=True))
        else:
            self._program = make(precision=precision, compiled=compiled)
            self._program.evaluations(self._x, 1)
        self._pairs: deque[tuple] = deque(maxlen=HISTORY)
        self._before: tuple | None = None
        self._gamma: Any = 1.0

    def _faster(self, plain, compiled):
        """Returns the faster of two programs; `about` says what torch.compile did."""
        programs = {"slower": plain, "faster": compiled}
        try:
            self.about["compile_seconds"], _ = timed(partial(compiled.evaluations, self._x, 1))
        except (RuntimeError, AssertionError) as error:  # torch.compile works where it works
            del programs["faster"]
            self.about["compile"] = f"does not work: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        seconds = medians({name: partial(one.evaluations, self._x, 1) for name, one in programs.items()}, 3)
        best = min(seconds, key=seconds.__getitem__)
        self.about = {"compile": best, **self.about, "seconds_evaluation": seconds}
        return programs[best]

    def step(self) -> list[float]:
        losses, gradient = self._program.evaluate(self._x)
        self._x = self._x + self._direction(self._x, gradient)
        self._program.wait()
        return losses.cpu().tolist()

    def evaluate(self) -> None:
        x, (seconds, losses) = self._x, timed(self.step)
        if self.about["precision"] != "float32":
            losses = self._exact.evaluate(x)[0].cpu().tolist()
        self.note(seconds, losses)

    def _direction(self, x, gradient):
        """Returns the step of every image, N x 3 x H x W."""
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
