"""The device side: keeps the lanes of one bucket busy and hands out what has ended."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import jax
import numpy as np

from jaxstyle.settings import RenderSettings
from jaxstyle.style.objective import StyleTargets
from jaxstyle.style.solver import Status
from jaxstyle.style.stylize import CHUNK, Stylizer


class Task(Protocol):
    """What a lane needs of a picture: both arrays of the bucket's size, H x W x 3."""

    @property
    def content(self) -> np.ndarray: ...
    @property
    def init(self) -> np.ndarray: ...


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class Ended(Generic[T]):
    """A lane's result.

    Attributes:
        image: H x W x 3 as optimised, not clipped.
        terms: the objective's terms, weights applied.
        seconds: each tick's time divided by the lanes that were running.
    """

    task: T
    image: np.ndarray
    terms: dict[str, float]
    evaluations: int
    status: Status
    seconds: float


def run(
    stylizer: Stylizer,
    settings: RenderSettings,
    style: StyleTargets,
    batch: int,
    queue: Iterator[T],
    report: Callable[[int, float], None],
) -> Iterator[Ended[T]]:
    """Renders a queue of tasks of one shape, up to `batch` at a time; each lane ends on its own and is refilled.

    Args:
        report: called after each chunk with the evaluations spent in it and the mean loss of the running lanes.

    While others still run, lanes without a successor idle. When all have ended, what is left of the queue starts
    as a batch of its own number, so that a queue compiles two programs at most when all budgets are equal.
    """
    tasks: list[T | None] = []
    while True:
        if all(task is None for task in tasks):
            first = list(itertools.islice(queue, batch))
            if not first:
                return
            tasks = list(first)
            lanes = stylizer.stack([stylizer.start(task.content, task.init, style) for task in first])
            seconds, spent = np.zeros(len(tasks)), np.zeros(len(tasks), int)
        else:
            for index in [i for i, task in enumerate(tasks) if task is None]:
                task = next(queue, None)
                if task is None:
                    break
                lanes = stylizer.put(lanes, index, stylizer.start(task.content, task.init, style))
                tasks[index], seconds[index], spent[index] = task, 0, 0

        active = np.array([task is not None for task in tasks])
        left = settings.evaluations - spent[active].max()
        began = time.perf_counter()
        ticks = max(1, min(CHUNK, int(left)))
        lanes = stylizer.advance(lanes, style, ticks, settings.evaluations, settings.tolerance)
        status, evaluations, loss = (np.asarray(a) for a in (lanes[0].status, lanes[0].evaluations, lanes[0].loss))
        seconds[active] += (time.perf_counter() - began) / active.sum()
        report(int((evaluations - spent)[active].sum()), float(loss[active].mean()))
        spent = np.where(active, evaluations, spent)

        for index in np.flatnonzero(active & (status != Status.RUNNING)).tolist():
            one = jax.device_get(jax.tree.map(lambda a, i=index: a[i], (lanes[0].image, lanes[0].terms)))
            task, tasks[index] = tasks[index], None
            assert task is not None
            terms = {name: float(value) for name, value in one[1]._asdict().items()}
            yield Ended(task, one[0], terms, int(spent[index]), Status(int(status[index])), float(seconds[index]))
