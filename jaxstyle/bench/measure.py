"""`jaxstyle bench` measures how fast this device renders, by size and batch, with the code of the renderer."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle import __version__
from jaxstyle.bench import rates
from jaxstyle.bench.report import Cell, Machine, Rates, Report, Start, Whole
from jaxstyle.data import image
from jaxstyle.data.image import Size
from jaxstyle.data.sinks.folders import make_output_folder, write_file
from jaxstyle.demo.demo import PHOTOS
from jaxstyle.demo.styles import example
from jaxstyle.engine import jax_setup, pipeline
from jaxstyle.engine.device import JaxDevice
from jaxstyle.model import weights
from jaxstyle.planning import cost
from jaxstyle.planning.buckets import bucket
from jaxstyle.planning.contract import Batch, Group, OutOfMemory
from jaxstyle.planning.host import cores
from jaxstyle.planning.painting import Painting
from jaxstyle.report.plot import NoMatplotlib
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import initial, lane_inputs

QUICK_SECONDS, FULL_SECONDS = 100.0, 1800.0
"""Seconds after which no further cell is started."""
PROBE = 128
"""Size in pixels of the images that time the first tick and give an estimate of the speed."""
CHUNK = 10
"""Most ticks of one timing; the evaluations of the whole run are a multiple of it."""
ENDLESS = 10**9
"""Budget of evaluations for lanes that must not end while they are timed."""

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The measurements to make.

    Attributes:
        sizes: long sides of 4:3 pictures in pixels.
        batches: images side by side, for each device; for a CPU, on all its parts together.
        timing: target seconds of one timing; a chunk of ticks may take longer.
        whole: target seconds of the device's work in the whole run; 0 leaves the run out.
    """

    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    timing: float
    whole: float


def choose(flops: float, *, full: bool) -> Sweep:
    """Chooses the measurements for a device of this speed.

    Args:
        flops: floating-point operations a second, estimated from a first tick.
    """
    fast = flops > 5e12  # faster than a CPU: an accelerator
    if full:
        return Sweep((256, 512, 1024), (1, 2, 4, 8, 16, 32, 64), 1.0, 20.0) if fast else Sweep(
            (128, 256, 512), (1, 2, 4, 8, 16), 2.0, 60.0
        )  # fmt: skip
    if fast:
        return Sweep((256, 512), (1, 2, 4, 8, 16, 32), 0.5, 5.0)
    return Sweep((128, 256) if flops > 3e10 else (64, 128), (1, 2, 4, 8), 1.0, 10.0)


def run(output: Path, *, full: bool = False, precision: str = "auto", tell: Tell = print) -> Report:
    """Measures, and writes OUTPUT/bench.json and, if matplotlib is installed, OUTPUT/bench.png.

    Args:
        full: the whole sweep, which takes up to half an hour on a slow device.
        tell: called with a line of text at the start of each measurement, and with one about the plot.

    Raises:
        StorageError: the folder cannot be written.
        WeightsError: the network's weights cannot be loaded.
    """
    make_output_folder(output)
    settings = RenderSettings(precision=precision)  # type: ignore[arg-type]  # RenderSettings checks it
    report = measure(settings, full=full, tell=tell)
    write_file(output / "bench.json", (json.dumps(report.as_json()) + "\n").encode())
    try:
        report.draw(output / "bench.png")
        tell(f"As a plot: {output / 'bench.png'}")
    except NoMatplotlib as error:
        tell(f"No plot: {error}")
    return report


def measure(
    settings: RenderSettings,
    *,
    full: bool = False,
    seconds: float | None = None,
    sweep: Sweep | None = None,
    tell: Tell = print,
) -> Report:
    """Measures.

    Args:
        settings: precision, devices, workers and objective; images a second are computed for its `evaluations`.
        seconds: time limit; cells that would exceed it are left out.
        sweep: the measurements [default: chosen by the device's speed]
    """
    began = time.perf_counter()
    jax_setup.divide_cpu(settings.cpu_devices)  # as in `jaxstyle render`; before JAX is initialised
    limit = seconds or (FULL_SECONDS if full else QUICK_SECONDS)
    tell("matrix products ...")
    before = [rates.product(dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    bench = _Bench(settings, tell)
    with _programs_kept() as kept:
        start, flops = bench.start(kept, PROBE if sweep is None else min(sweep.sizes))
    sweep = sweep or choose(flops, full=full)
    cells, left_out = [], []
    with _programs_kept():
        jax.clear_caches()  # clears the cache in memory, so that every cell compiles
        shapes = (bucket((size, size * 3 // 4), size) for size in sweep.sizes)
        wanted = set(itertools.product(shapes, _multiples(sweep.batches, bench.device.count)))
        for shape, batch in sorted(wanted, key=lambda one: one[0][0] * one[0][1] * one[1]):  # so that peak memory rises
            name = f"{shape[0]} x {shape[1]}, batch {batch}"
            tick = batch * cost.evaluation_flops(shape, bench.objective) / flops
            expected = start.compiled + 3 * tick + 3 * max(tick, sweep.timing)
            if batch > bench.device.max_batch(shape):
                left_out.append(f"{name}: no room in {bench.device.memory / 2**30:.1f} GiB")
            elif time.perf_counter() - began + expected > limit:
                left_out.append(f"{name}: no time within {limit:.0f} s")
            else:
                tell(f"{name} ...")
                try:
                    cells.append(bench.cell(shape, batch, sweep.timing))
                except OutOfMemory:
                    left_out.append(f"{name}: the device has no room")
        whole = None
        if sweep.whole and cells:
            tell("a whole run ...")
            middle = [cell for cell in cells if cell.width == min(c.width for c in cells)]
            whole = bench.whole(middle[len(middle) // 2], sweep.whole)
    tell("matrix products again, and a copy ...")
    products = [
        max(rate, rates.product(dtype)) for rate, dtype in zip(before, (jnp.float32, jnp.bfloat16), strict=True)
    ]
    return Report(
        machine=Machine(
            jax.devices()[0].device_kind, jax.default_backend(), bench.device.count, cores(), version("jax"),
            __version__,
        ),
        precision=bench.device.settings.precision,
        evaluations=sum(settings.budgets()),
        rates=Rates(products[0], products[1], rates.copy()),
        cells=tuple(sorted(cells, key=lambda one: (one.width * one.height, one.batch))),
        start=start, whole=whole, left_out=tuple(left_out), seconds=time.perf_counter() - began,
    )  # fmt: skip


class _Bench:
    """The measurements on one device, with the demo's photographs and one of its styles."""

    def __init__(self, settings: RenderSettings, tell: Tell):
        tell("pictures and weights ...")
        self.settings, self.objective = settings, settings.objective()
        self.photos = [image.read(path, settings.max_pixels).pixels for path in sorted(PHOTOS.glob("*.jpg"))]
        self.style = example()
        self.network = weights.load(settings.weights, settings.network)
        self.device = self._device()

    def _device(self) -> JaxDevice:
        size = self.settings.style_size or PROBE
        endless = dataclasses.replace(self.settings, scales="none", evaluations=ENDLESS, tolerance=0.0)
        self.painting = Painting.of(image.resize(self.style, size, size))
        return JaxDevice(endless, self.network, self.painting)

    def _content(self, shape: Size, number: int) -> np.ndarray:
        """Returns a photograph cropped to a shape and shifted, so that all images differ."""
        pixels = self.photos[number % len(self.photos)]
        height, width = pixels.shape[:2]
        across, down = min(width, height * shape[0] // shape[1]), min(height, width * shape[1] // shape[0])
        return image.resize(np.roll(pixels, 37 * (number // len(self.photos)), 1)[:down, :across], *shape)

    def _filled(self, shape: Size, batch: int) -> Batch:
        lanes = self.device.batch(Group(shape), batch)
        for lane in range(batch):
            content = self._content(shape, lane)
            start = initial(self.settings, content, self.style, str(lane))
            lanes.put(lane, lane_inputs(content, start, shape[1], shape[0]), ENDLESS, self.painting)
        return lanes

    def start(self, kept: bool, size: int) -> tuple[Start, float]:
        """Times the first tick, compiled and with cached programs; also estimates a tick's operations a second."""
        shape, batch = bucket((size, size * 3 // 4), size), self.device.count
        found: list[float] = []
        for _ in range(1 + kept):
            jax.clear_caches()  # clears the cache in memory; the second time the folder has the programs
            self.device = self._device()
            began = time.perf_counter()
            lanes = self._filled(shape, batch)
            lanes.advance(1)
            spent = time.perf_counter() - began
            tick = min(_seconds(lanes, 1) for _ in range(2))
            found.append(max(0.0, spent - tick))
        flops = batch * cost.evaluation_flops(shape, self.objective) / tick
        return Start(*shape, batch, found[0], found[1] if kept else None), flops

    def cell(self, shape: Size, batch: int, timing: float) -> Cell:
        """Measures one image size in one batch size.

        Raises:
            OutOfMemory: the device has no memory for it.
        """
        lanes = self._filled(shape, batch)
        first = _seconds(lanes, 1)
        tick = _seconds(lanes, 1)
        ticks = max(1, min(CHUNK, round(timing / tick)))
        repeats = max(3, min(30, round(timing / (ticks * tick))))
        seconds = statistics.median(_seconds(lanes, ticks) for _ in range(repeats)) / ticks
        flops = cost.evaluation_flops(shape, self.objective)
        return Cell(*shape, batch, ticks, repeats, seconds, max(0.0, first - tick), flops, peak_bytes())

    def whole(self, cell: Cell, seconds: float) -> Whole:
        """Measures a run over files at a cell's size and batch; `seconds` is the device's approximate work."""
        number = 3 * cell.batch
        evaluations = round(seconds / (number * cell.seconds_evaluation))
        evaluations = max(CHUNK, min(sum(self.settings.budgets()), evaluations // CHUNK * CHUNK))
        settings = dataclasses.replace(
            self.settings, size=cell.width, style_size=PROBE, scales="none", batch=cell.batch, evaluations=evaluations,
            tolerance=0.0,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            style, inputs = Path(folder, "style.png"), Path(folder, "in")
            inputs.mkdir()
            style.write_bytes(image.encode(self.style, None, "PNG", 0))
            for k in range(number):
                pixels = self._content((2 * cell.width, 2 * cell.height), k)
                Path(inputs, f"{k}.jpg").write_bytes(image.encode(pixels, None, "JPEG", 95))
            summary = pipeline.render(inputs, style, Path(folder, "out"), settings)
        return Whole(cell.width, cell.height, cell.batch, summary.rendered, evaluations, summary.seconds,
                     summary.device_seconds, summary.programs)  # fmt: skip


def _multiples(batches: tuple[int, ...], count: int) -> set[int]:
    """Converts `Sweep.batches` to multiples of the number of devices."""
    return {-(-each // count) * count if jax.default_backend() == "cpu" else each * count for each in batches}


def _seconds(lanes: Batch, ticks: int) -> float:
    """Returns the seconds of `ticks` ticks, which `advance` waits for."""
    began = time.perf_counter()
    lanes.advance(ticks)
    return time.perf_counter() - began


@contextmanager
def _programs_kept() -> Iterator[bool]:
    """Caches compiled programs in a new folder during the block; yields False if JAX's cache is turned off."""
    with tempfile.TemporaryDirectory() as folder:
        before = jax_setup.enable_cache_in(Path(folder))
        try:
            yield bool(getattr(jax.config, "jax_enable_compilation_cache"))  # noqa: B009
        finally:
            jax_setup.configure(before)


def peak_bytes() -> int | None:
    """Returns the peak memory in bytes of this process on a CPU, else of the fullest device; None if unknown."""
    if jax.default_backend() != "cpu":
        told = [int((device.memory_stats() or {}).get("peak_bytes_in_use", 0)) for device in jax.local_devices()]
        return max(told) or None
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
