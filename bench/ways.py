"""The interface of the programs that bench/peers.py compares, with its implementations for the renderer and SciPy."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from engine import forms_here, ticks_of_call
from harness import timed
from lanes import batch_of, evaluation, losses

from jaxstyle.model.products import Forms
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.batch import Batch
from jaxstyle.style.stylizer import Stylizer, stylizer

HISTORY = 10
OBJECTIVE = StylizeSettings(preset="classic", padding="zero", tv_weight=0.0)
"""What other programs have too: no total variation, the network's own padding."""


class Way:
    """A program at work on the images of a group; made of an engine, the contents and a style image.

    Attributes:
        seconds: total seconds after each evaluation of all images.
        losses: N losses of the images at each evaluation, float32.
        about: raw figures for the results.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[list[float]] = []
        self.about: dict[str, Any] = {}

    def step(self) -> list[float]:
        """Evaluates every image once and takes the solvers' steps before the next evaluation; returns the losses."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Makes a step; records its seconds and losses."""
        self.note(*timed(self.step))

    def turn(self, number: int) -> None:
        """Evaluates every image so many times; records each evaluation's seconds and losses."""
        for _ in range(number):
            self.evaluate()

    def note(self, seconds: float, losses: list[float]) -> None:
        """Records the seconds and losses of a step."""
        self.seconds.append((self.seconds[-1] if self.seconds else 0.0) + seconds)
        self.losses.append(losses)

    def close(self) -> None:
        """Ends the program's processes."""


class Renderer(Way):
    """All images in one batch over all devices, as in a run.

    A call of the device takes about as long as in a run. The losses of its ticks come from an untimed repetition a tick
    at a time, which computes the same images; each evaluation gets an equal part of the call's seconds.
    """

    preconditioner = "none"

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        super().__init__()
        there = jax.local_device_count()
        devices = there if len(contents) % there == 0 else 1
        settings = engine.settings.changed(preconditioner=self.preconditioner)
        forms = self._forms(engine, max(contents[0].shape), len(contents) // devices)
        self._engine = engine = stylizer(settings, devices=devices, forms=forms)
        jax.block_until_ready(engine.advance(batch_of(engine, contents, style), 1).lanes)
        self._batch, self._ticks = jax.block_until_ready(batch_of(engine, contents, style)), 1

    def turn(self, number: int) -> None:
        while number:
            # `advance` takes the arrays of the batch that it is given
            again = jax.block_until_ready(jax.tree.map(jnp.copy, self._batch))
            ticks = min(number, self._ticks)
            seconds, self._batch = timed(partial(self._engine.advance, self._batch, ticks))
            for _ in range(ticks):
                again = self._engine.advance(again, 1)
                self.note(seconds / ticks, self._losses(again))
            assert losses(again) == losses(self._batch), "the repetition computes other images"
            number, self._ticks = number - ticks, ticks_of_call(ticks, seconds)

    def _losses(self, batch: Batch) -> list[float]:
        return losses(batch)

    def _forms(self, engine: Stylizer, size: int, lanes: int) -> Forms:
        """Chooses how layers are computed, for pictures of a long side in pixels and the lanes of a device."""
        return ()


class Preconditioned(Renderer):
    """The same in the variables of the default preset."""

    preconditioner = "pyramid"


class Mixed(Preconditioned):
    """The same with the layers that this CPU computes faster so in products of bfloat16; losses scored in float32."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        super().__init__(engine, contents, style)
        self._exact = evaluation(engine, batch_of(engine, contents, style))

    def _forms(self, engine: Stylizer, size: int, lanes: int) -> Forms:
        self.about = {"forms": forms_here(engine.settings, size, lanes)}
        return self.about["forms"]

    def _losses(self, batch: Batch) -> list[float]:
        return np.asarray(self._exact(batch.lanes.point.image)[0]).tolist()


class Scipy(Way):
    """fmin_l_bfgs_b on one image after another, each in a thread that is blocked between its turns."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        super().__init__()
        self._images = []
        for k in range(len(contents)):
            batch = batch_of(engine, contents[k : k + 1], style)
            start, evaluate = np.asarray(batch.lanes.point.image, np.float64), evaluation(engine, batch)

            def function(x, evaluate=evaluate, shape=start.shape):
                values, gradient = evaluate(jnp.asarray(x, jnp.float32).reshape(shape))
                return float(values[0]), np.asarray(gradient, np.float64).ravel()

            function(start)
            self._images.append(_Standing(function, start.ravel()))

    def step(self) -> list[float]:
        return [image.step() for image in self._images]


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
        except BaseException as error:  # raised again by `step`
            self._error = error
        self._ended = True
        self._stands.release()

    def _asked(self, x):
        self._stands.release()  # the step that led here belongs to the evaluation before
        self._go.acquire()
        self._loss, gradient = self._function(x)
        return self._loss, gradient

    def step(self) -> float:
        """Returns the loss of one more evaluation; the last one again if the minimiser has ended by itself."""
        if not self._ended:
            self._go.release()
            self._stands.acquire()
        if self._error:
            raise self._error
        return self._loss
