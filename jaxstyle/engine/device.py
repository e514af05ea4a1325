"""The device of `planning.contract` on JAX: makes batches of lanes, estimates their memory, detects out of memory.

No other file of the engine uses jax, except `jax_setup`, so that runs can be planned without it and tested with
a stub.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxstyle.data.image import Size, to_float
from jaxstyle.errors import DeviceError, SettingsError
from jaxstyle.model import choice
from jaxstyle.model.products import Forms
from jaxstyle.model.weights import Weights
from jaxstyle.planning import cost, host, memory
from jaxstyle.planning.buckets import bucket
from jaxstyle.planning.contract import Batch, Group, OutOfMemory, Result, Snapshot
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.settings import RenderSettings
from jaxstyle.style.batch import Batch as LaneBatch
from jaxstyle.style.initial import in_regions, lane_inputs
from jaxstyle.style.named_targets import as_arrays, as_targets
from jaxstyle.style.stylizer import Stylizer, stylizer

CPU_BATCH, CPU_PIXELS = (1, 2), 2 * 128 * 96
"""Fewest and most images on each device that the CPU is divided into, and the target number of pixels in between. A
batch keeps its size to the end, so that a large one would cost a run of few pictures more than it gains the others
(bench/LOG.md)."""
ACCELERATOR_PIXELS = 16 * 512**2
"""Target number of pixels in a batch on an accelerator; an estimate, not measured."""
COMPILE_FLOPS = {"cpu": 5e11}
"""Floating-point operations of a device in about the time of compiling a program: 2 s on two cores."""
COMPILE_FLOPS_ACCELERATOR = 4e15
"""The same for accelerators: 10 s at 400 TFLOP/s; an estimate, not measured."""
TARGETS = 64
"""Styles whose targets are kept on the device. Those of VGG16's five default layers take 2.3 MiB."""
CAREFUL_STEP = 0.1
"""Factor on the first step of a careful second try."""


class JaxDevice:
    """The local devices of JAX.

    Attributes:
        count: number of devices; a divided CPU counts as several.
        precision: number type of the convolutions, "float32", "bfloat16" or "mixed".
        products: how layers are computed where it is "mixed", see `model.choice.Choice`.
        n_compiled: programs compiled for batches since this object was made.
    """

    def __init__(
        self,
        settings: RenderSettings,
        network: Weights,
        style: Painting | None,
        products: Mapping[str, Any] | None = None,
    ):
        """Args:
            style: of all images, whose targets the lanes of a batch then share; None if images have different ones.
            products: what the output folder remembers; none if its results are in float32 [default: it is measured]

        Raises:
            SettingsError: the settings ask for more devices than JAX has, or for "mixed" on another device than a CPU;
                `products` is damaged.
            DeviceError: JAX finds no usable device.
            OutOfMemory: the device has no memory for the network.
        """
        there = self._there()
        self.count = there if settings.devices == "all" else int(settings.devices)
        if self.count > there:
            raise SettingsError(f"devices is {self.count}", f"It must be at most {there}: JAX has no more here.")
        self._platform = jax.default_backend()
        self._cpu = self._platform == "cpu"
        if settings.precision == "mixed" and not self._cpu:
            raise SettingsError("precision is 'mixed' on a device that is no CPU", "Give float32 or bfloat16.")
        while self._cpu and settings.devices == "all" and self.count > 1 and not self._room(settings, self.count):
            self.count //= 2
        with _memory_errors():
            self._engines = {
                (careful, coarse): stylizer(_settings_of(settings, careful, coarse), network, self.count, "none")
                for careful in (False, True)
                for coarse in (False, True)
            }
        self.precision: str = self._engines[False, False].settings.precision
        self.settings = dataclasses.replace(settings, precision=self.precision)
        self._style, self._network = style, network
        self._others: dict[tuple[bool, bool, int | None, Forms], Stylizer] = {}
        self._before = self._count()
        self._targets: OrderedDict[tuple[Stylizer, str], Any] = OrderedDict()
        self._style_bytes = 0 if style is not None else self._engines[False, False].target_bytes(settings.lane_regions)
        self.memory = self._memory()
        self.products: Mapping[str, Any] = {}
        if self._cpu and settings.precision in ("auto", "mixed"):
            chosen = self._chosen(settings) if products is None else products
            self.take("mixed" if chosen or settings.precision == "mixed" else "float32", chosen)

    def take(self, precision: str, products: Mapping[str, Any]) -> None:
        self.products = choice.checked(products, self.settings.objective().architecture)
        self.precision = precision
        self.settings = dataclasses.replace(self.settings, precision=precision)  # type: ignore[arg-type]

    def _chosen(self, settings: RenderSettings) -> Mapping[str, Any]:
        """Chooses by measurement, for the sizes of the run; nothing if this CPU or this JAX lacks units."""
        if settings.precision == "auto" and choice.obstacle():
            return {}
        objective, lanes = settings.objective(), {}
        for size, _ in settings.stages():
            shape = bucket((size, size * 3 // 4), size)
            batch = self.preferred_batch(shape) if settings.batch == "auto" else int(settings.batch)
            lanes[size] = max(1, batch // self.count)
        return choice.chosen(objective.architecture, cost.layers_used(objective), lanes)

    @staticmethod
    def _there() -> int:
        """Counts the local devices. The first call starts the drivers."""
        try:
            return jax.local_device_count()
        except (RuntimeError, AssertionError) as error:  # AssertionError: a platform in JAX_PLATFORMS is not installed
            what = " ".join(str(error).split()) or f"JAX_PLATFORMS is {jax.config.jax_platforms!r}"  # type: ignore[attr-defined]
            remedy = "Correct JAX_PLATFORMS if it is set, or install jaxstyle's extra for the device, such as 'cuda'."
            raise DeviceError(f"JAX finds no device that works ({what})", remedy) from error

    @property
    def n_compiled(self) -> int:
        return self._count() - self._before

    def _count(self) -> int:
        return sum(one.n_compiled for one in {*self._engines.values(), *self._others.values()})

    def _engine(self, group: Group) -> Stylizer:
        """Returns the functions for a group: in float32 for careful ones, in tiles if the memory has no room.

        Tiles are computed in float32 too where the precision is "mixed".
        """
        settings = _settings_of(self.settings, group.careful, group.coarse)
        tile = self._tile(group.bucket, settings)
        whole = tile is None and not group.careful
        forms = choice.forms_of(self.products, max(group.bucket)) if whole else ()
        if tile is None and not forms:
            return self._engines[group.careful, group.coarse]
        of = group.careful, group.coarse, tile, forms
        if of not in self._others:
            one = stylizer(settings, self._network, self.count, tile or "none", forms)
            self._before += 0 if one in self._others.values() else one.n_compiled
            self._others[of] = one
        return self._others[of]

    def _tile(self, bucket: Size, settings: RenderSettings | None = None) -> int | None:
        return memory.chosen_tile(bucket, settings or self.settings, self.memory // self.count, self._platform)

    @staticmethod
    def _room(settings: RenderSettings, parts: int) -> bool:
        """Whether each part of the CPU's memory has space for a lane of the largest shape, computed whole."""
        return memory.largest_batch((settings.size, settings.size), settings, host.total_memory() // parts) > 0

    def _memory(self) -> int:
        """Returns the bytes that batches may take; what is free at the moment does not count."""
        if self._cpu:
            return host.total_memory()
        each = int((jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)) or 8 * 2**30
        return each * self.count

    @property
    def name(self) -> str:
        if self._cpu:
            return f"a CPU of {host.cores()} cores as {self.count} devices"
        return f"{self.count} x {jax.local_devices()[0].device_kind}"

    @property
    def free(self) -> int:
        if self._cpu:
            return host.host_memory()
        used = int((jax.local_devices()[0].memory_stats() or {}).get("bytes_in_use", 0))
        return max(0, self.memory - self.count * used)

    def memory_bytes(self, bucket: Size, lanes: int) -> int:
        each = memory.lane_bytes(bucket, self.settings, self._tile(bucket), self._platform) + self._style_bytes
        return self.count * memory.fixed_bytes(self.settings, self._platform) + lanes * each

    def max_batch(self, bucket: Size) -> int:
        tile = self._tile(bucket)
        most = memory.largest_batch(bucket, self.settings, self.memory // self.count, tile, self._platform)
        lane = memory.lane_bytes(bucket, self.settings, tile, self._platform)
        return self.count * max(1, most * lane // (lane + self._style_bytes))

    def preferred_batch(self, bucket: Size) -> int:
        pixels = bucket[0] * bucket[1]
        least, most = CPU_BATCH if self._cpu else (1, 64)
        wanted = max(least, min(most, (CPU_PIXELS if self._cpu else ACCELERATOR_PIXELS) // pixels))
        return min(wanted * self.count, self.max_batch(bucket))

    def worth_shrinking(self, group: Group, lanes: int, evaluations: int) -> bool:
        each = lanes if self._cpu else lanes / self.count  # the parts of a CPU share its cores
        flops = each * evaluations * cost.evaluation_flops(group.bucket, self.settings.objective())
        return flops > COMPILE_FLOPS.get(self._platform, COMPILE_FLOPS_ACCELERATOR)

    def batch(self, group: Group, size: int) -> Batch:
        step_scale = CAREFUL_STEP if group.careful else 1.0
        with _memory_errors():
            engine, shared = self._engine(group), self._style is not None
            number = self.settings.lane_regions
            style = engine.no_targets(number) if self._style is None else self._targets_of(engine, self._style)
            width, height = group.bucket
            blank = np.zeros((height, width, 3), np.float32)
            one = engine.start(lane_inputs(blank, blank, height, width, in_regions(None, number, blank.shape)), style)
            idle = engine.advance(engine.fill(one, size, shared=shared), 0)  # compiles
            return _JaxBatch(engine, idle, partial(self._targets_of, engine), self.settings.tolerance, step_scale)

    def _targets_of(self, engine: Stylizer, style: Painting) -> Any:
        """The targets of a style: computed, or kept since they were. All styles have few shapes, each compiled once."""
        of = engine, style.sha256
        if of not in self._targets:
            targets = [self._targets_of_part(engine, part) for part in style.parts]
            self._targets[of] = engine.blend(targets, [part.weight for part in style.parts])
            while len(self._targets) > TARGETS:
                self._targets.popitem(last=False)
        self._targets.move_to_end(of)
        return self._targets[of]

    def _targets_of_part(self, engine: Stylizer, part: Part) -> Any:
        number = self.settings.lane_regions
        if part.saved is not None:
            return as_targets(part.saved.arrays, engine.no_targets(number), whole=number > 0)
        shape = None if self._style else self._shape(part.levels)
        return engine.style_targets(to_float(part.levels), shape, in_regions(part.labels, number, part.levels.shape))

    def targets(self, levels: np.ndarray) -> dict[str, np.ndarray]:
        """Computes the targets of a style image as a run does that has it as its one style, for a file.

        Args:
            levels: h x w x 3, see `planning.painting.Part`.

        Raises:
            OutOfMemory: the device has no room for the picture.
        """
        with _memory_errors():
            engine = self._engine(Group(self._shape(levels)))
            return as_arrays(engine.style_targets(to_float(levels)))

    def _shape(self, levels: np.ndarray) -> Size:
        """Width and height of the array that a style is padded to."""
        height, width = levels.shape[:2]
        return bucket((width, height), max(height, width, self.settings.painted_size))


def _settings_of(settings: RenderSettings, careful: bool, coarse: bool) -> RenderSettings:
    """Returns the settings of a group's lanes."""
    if careful:
        settings = dataclasses.replace(settings, precision="float32")
    if coarse and settings.coarse_content_weight is not None:
        settings = dataclasses.replace(settings, content_weight=settings.coarse_content_weight)
    return settings


class _JaxBatch:
    """See `planning.contract.Batch`. Empty lanes are marked as ended."""

    def __init__(
        self,
        engine: Stylizer,
        batch: LaneBatch,
        targets: Callable[[Painting], Any],
        tolerance: float,
        step_scale: float,
    ):
        self._engine, self._batch, self._targets = engine, batch, targets
        self._tolerance, self._step_scale = tolerance, step_scale

    def put(self, lane: int, inputs: Mapping[str, np.ndarray], evaluations: int, style: Painting) -> None:
        with _memory_errors():
            one = self._engine.start(inputs, self._targets(style), evaluations, self._step_scale)
            self._batch = self._engine.put(self._batch, lane, one)

    def advance(self, ticks: int) -> Snapshot:
        with _memory_errors():
            self._batch = self._engine.advance(self._batch, ticks, self._tolerance)
            lanes, best = self._batch.lanes, self._batch.lanes.result
            return Snapshot(*jax.device_get((lanes.status, lanes.evaluations, best.loss, best.terms)))

    def result(self, lane: int) -> Result:
        with _memory_errors():
            best, start_loss = jax.device_get(self._engine.result(self._batch, lane))
        terms, used = {name: float(value) for name, value in best.terms.items()}, self._engine.settings
        tile = 0 if isinstance(used.tile, str) else used.tile
        return Result(best.image, float(best.loss), terms, float(start_loss), self._engine.precision, tile)

    def select(self, lanes: Sequence[int], size: int) -> Batch:
        with _memory_errors():
            smaller = self._engine.advance(self._engine.pick(self._batch, lanes, size), 0)  # compiles
            return _JaxBatch(self._engine, smaller, self._targets, self._tolerance, self._step_scale)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turns the errors of a device without free memory into `OutOfMemory`."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(str(error)) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower():
            raise OutOfMemory(str(error)) from error
        raise
