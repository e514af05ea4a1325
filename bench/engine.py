"""Whole runs, in this process or in separate ones. Of the files that measure rendering, no other uses the engine.

`harness.in_process` runs the functions whose arguments are all text in a separate process. Functions import the engine
themselves, so that a process loads only what a run loads.
"""

from __future__ import annotations

import array
import dataclasses
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.planning import cost, memory
from jaxstyle.planning.batches import ticks_of_call as ticks_of_call
from jaxstyle.presets import Objective
from jaxstyle.settings import RenderSettings, StylizeSettings

TESTS = Path(__file__).parent.parent / "tests"
"""Where the stand-in renderer is."""

Size = tuple[int, int]
"""Width and height in pixels."""


def flops(size: Size, objective: Objective) -> int:
    """Counts the floating-point operations of an evaluation of one image from its shapes."""
    return cost.evaluation_flops(size, objective)


def bytes_by_model(
    size: Size, settings: StylizeSettings, batch: int, platform: str = "cpu", *, used: bool = False
) -> int:
    """Returns the memory of a batch on one device in bytes as the planning estimates it.

    Args:
        platform: JAX's name of it.
        used: leave out the parameters of layers that the objective does not use, which no program gets.
    """
    network = settings.objective().architecture
    unused = set(network.layers) - set(cost.layers_used(settings.objective())) if used else ()
    shared = memory.fixed_bytes(settings, platform) - memory.parameter_bytes(network, unused)
    tile = settings.tile if isinstance(settings.tile, int) else None
    return shared + batch * memory.lane_bytes(size, settings, tile, platform)


def forms_here(settings: StylizeSettings, size: int, lanes: int) -> Any:
    """Chooses how layers are computed in mixed precision on this CPU, by the measurement of a run.

    Args:
        size: long side in pixels.
        lanes: of a device.
    """
    from jaxstyle.model import choice

    objective = settings.objective()
    return choice.forms_of(choice.chosen(objective.architecture, cost.layers_used(objective), {size: lanes}), size)


def divide_cpu() -> None:
    """Divides the CPU as commands do; what is not meant to be divided works on the first part, over all threads."""
    from jaxstyle.engine import jax_setup

    jax_setup.divide_cpu()


def render(inputs: Path | str, style: Path | str, output: Path | str, settings: RenderSettings, progress=None) -> Any:
    """Renders a whole run; returns its summary."""
    from jaxstyle.engine import pipeline

    return pipeline.render(inputs, style, output, settings, progress=progress)


def alone(inputs: Path, style: Path, settings: RenderSettings) -> Callable[[], float]:
    """Decodes the inputs, and compiles all that a run of them may want, for all of them at once in memory.

    Returns:
        A call that optimises them as a run does, drops the results, and returns the seconds that it took.
    """
    from jaxstyle.decode.pool import decoders_for
    from jaxstyle.decode.reader import Reader
    from jaxstyle.engine import pipeline
    from jaxstyle.engine.lanes import BatchScheduler
    from jaxstyle.engine.prepare import prepare
    from jaxstyle.engine.queues import Queues
    from jaxstyle.planning import preflight
    from jaxstyle.planning.batches import batch_sizes
    from jaxstyle.planning.contract import Group
    from jaxstyle.planning.plan import plan
    from jaxstyle.style.initial import lane_inputs

    with decoders_for(settings) as decoders:
        ready = preflight.check(inputs, style, inputs.with_name("nothing"), settings, decoders=decoders)
        reader = Reader(ready.source, decoders)
        style = ready.styles.one
        tasks = [
            prepare(job, reader, ready, style) for job in plan(ready.source.inputs(), settings, lambda _: False, reader)
        ]
    device, lanes = pipeline.device_for(ready), int(settings.batch)
    for width, height in {task.job.bucket for task in tasks}:
        blank = np.zeros((height, width, 3), np.float32)
        for size in batch_sizes(lanes, device.count):
            batch = device.batch(Group((width, height)), size)
            batch.put(0, lane_inputs(blank, blank, height, width), 1, style)
            batch.advance(1)
            batch.result(0)
            for smaller in batch_sizes(size, device.count)[1:]:
                batch = batch.select(range(smaller), smaller)

    def optimise() -> float:
        queues: Queues = Queues(lambda _: lanes, window=10 * len(tasks))
        for task in tasks:
            queues.ready(task.job.group, task)
        queues.end()
        scheduler: BatchScheduler = BatchScheduler(pipeline.device_for(ready), queues, lambda *_: None)
        began = time.perf_counter()
        while (chosen := queues.choose()) is not None:
            for _ in scheduler.run(*chosen, lanes, print):
                pass
        return time.perf_counter() - began

    return optimise


def peak_bytes() -> int:
    """Returns the peak memory of this process. getrusage is no use: a child starts with its parent's peak."""
    told = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert told
    return int(told[1]) * 1024


class _Clock:
    """A `Progress` that notes when things happen.

    Attributes:
        chunks: (time, evaluations) of every chunk.
        rows: times of rows.
    """

    def __init__(self) -> None:
        self.chunks: list[tuple[float, int]] = []
        self.rows = array.array("d")

    def advance(self, evaluations: int, loss: float) -> None:
        self.chunks.append((time.perf_counter(), evaluations))

    def row(self, row: Any) -> None:
        self.rows.append(time.perf_counter())

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


# In processes of their own.


def _set_up() -> None:
    """Prepares JAX as commands do."""
    from jaxstyle.engine import jax_setup

    jax_setup.set_up()


def peak_of_a_run(inputs: str, style: str, output: str) -> int:
    """Returns the peak memory in bytes of a process that renders; compiling takes memory too."""
    divide_cpu()
    render(inputs, style, output, RenderSettings(size=192, evaluations=3, batch=4, workers=1))
    return peak_bytes()


def stand_in_run(inputs: str, style: str, output: str) -> dict[str, Any]:
    """Runs the stand-in renderer of the tests; returns seconds, peak memory and images/s by tenths of the run."""
    began = time.perf_counter()
    sys.path.insert(0, str(TESTS))
    import stub

    from jaxstyle.engine import pipeline  # noqa: F401  the time of importing is told apart

    stub.install()
    clock, imported = _Clock(), time.perf_counter() - began
    summary = render(inputs, style, output, RenderSettings(size=32, evaluations=10, batch=8), clock)
    seconds, n, rates = time.perf_counter() - began, len(clock.rows), []
    for k in range(10 if n else 0):
        part = clock.rows[k * n // 10 : (k + 1) * n // 10]
        rates.append(len(part) / (part[-1] - part[0]))
    return {"done": summary.done, "rendered": summary.rendered, "seconds": seconds, "imported": imported,
            "first": clock.chunks[0][0] - began if n else None, "peak": peak_bytes(), "rates": rates}  # fmt: skip


def first_tick(inputs: str, style: str, output: str) -> dict[str, float]:
    """Measures the seconds to the first tick of a run of two pictures in one batch, once everything is imported.

    The end of the first chunk is what can be seen; a tick's own seconds, from the last chunk of a longer run, are taken
    off.
    """
    import jaxstyle.engine.device  # noqa: F401  JAX too is imported before the clock starts

    _set_up()
    settings, began = RenderSettings(size=256, evaluations=1, batch=2), time.perf_counter()
    clock = _Clock()
    render(inputs, style, output, settings, clock)
    first = clock.chunks[0][0] - began
    longer = _Clock()
    render(inputs, style, f"{output}-again", dataclasses.replace(settings, evaluations=12), longer)
    (before, _), (after, evaluations) = longer.chunks[-2:]
    tick = (after - before) / (evaluations / 2)
    return {"end of the first tick": first, "a tick": tick, "first tick": first - tick}
