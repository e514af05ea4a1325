"""What a run would do, without doing it: counts, shapes, memory, disk, and time from a short measurement."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data import ledger
from jaxstyle.data.image import Size
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import existing
from jaxstyle.data.sources import close
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.pool import Decoders, decoders_for
from jaxstyle.decode.reader import Reader
from jaxstyle.planning import cost, preflight
from jaxstyle.planning.batches import batch_size, batch_sizes, chosen_batch
from jaxstyle.planning.contract import Device, Group
from jaxstyle.planning.inputs import inputs_of
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.plan import Unchanged, planned
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import in_regions, lane_inputs

BYTES = {"JPEG": 1.3, "MPO": 1.3, "PNG": 2.5, "TIFF": 3.0, "WEBP": 0.8, "AVIF": 0.9, "GIF": 1.4}
"""Bytes a pixel of a stylized picture by format, at the default quality; measured at 64 to 96 pixels. Else 3."""
PROBE = 128
"""Side in pixels of the image that is timed."""
TICKS = 5
"""Ticks that are timed."""
STYLES = 10
"""Styles that are listed for people."""
REASONS = 5
"""Reasons that are listed."""


@dataclass(frozen=True)
class Bucket:
    """Images of one shape.

    Attributes:
        width, height: of the shape, in pixels.
        images: number of them; an image of several stages counts in the bucket of each.
        batch: images side by side.
        programs: most programs that are compiled for them.
        memory: bytes on the device, estimated.
        evaluations: of all images.
    """

    width: int
    height: int
    images: int
    batch: int
    programs: int
    memory: int
    evaluations: int


@dataclass
class Forecast:
    """What a run would do.

    Attributes:
        output: the output folder.
        render, finished, skipped, failed: inputs by what would become of them.
        reasons: of skipped and failed inputs, the most common first; each is an object with `reason` and `inputs`.
        buckets: the shapes.
        shots: that the inputs are frames of; 0 if they are no frames.
        memory: bytes that the device has for batches.
        styles: images by the style that they would get, the most frequent first; empty if all have the same.
        disk, disk_free: bytes that the outputs would take, estimated, and that there are.
        seconds_an_evaluation: of an image of 512 x 512, from a measurement on this device; None if not measured.
        seconds: for all evaluations; None if not measured.
    """

    output: Path
    render: int = 0
    finished: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: list[tuple[str, int]] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    styles: dict[str, int] = field(default_factory=dict)
    shots: int = 0
    memory: int = 0
    disk: int = 0
    disk_free: int = 0
    seconds_an_evaluation: float | None = None
    seconds: float | None = None

    @property
    def programs(self) -> int:
        """Most programs that are compiled for all buckets."""
        return sum(bucket.programs for bucket in self.buckets)

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        values = dataclasses.asdict(self)
        values["output"] = printable(self.output)
        values["reasons"] = [{"reason": printable(reason), "inputs": n} for reason, n in self.reasons]
        values["styles"] = {printable(key): n for key, n in self.styles.items()}
        return values | {"programs": self.programs}

    def lines(self) -> list[str]:
        """For people."""
        told = [f"{self.render} to render, {self.finished} finished, {self.skipped} to skip, {self.failed} failing"]
        told += [f"  {n} x {printable(reason)}" for reason, n in self.reasons]
        told += [f"{self.shots} shots, one frame of each at a time"] if self.shots else []
        for one in self.buckets:
            memory = f"{one.memory / 2**20:,.0f} MiB"
            told.append(f"  {one.width} x {one.height}: {one.images} images, {one.batch} at a time, {memory}")
        told += self._of_styles()
        told.append(f"at most {sum(bucket.programs for bucket in self.buckets)} programs to compile")
        told.append(f"memory for batches: {self.memory / 2**30:,.1f} GiB")
        told.append(f"disk: about {self.disk / 2**20:,.0f} MiB of {self.disk_free / 2**20:,.0f} MiB free")
        if self.disk > self.disk_free:
            told.append("NOT ENOUGH DISK for the outputs")
        if self.seconds is not None:
            hours, minutes = divmod(round(self.seconds / 60), 60)
            told.append(f"time: about {hours} h {minutes:02} min on this device")
        return told

    def _of_styles(self) -> list[str]:
        numbers = list(self.styles.values())
        if not numbers:
            return []
        told = [f"{len(numbers)} styles in use, {min(numbers)} to {max(numbers)} images each"]
        shown = [*self.styles.items()][:STYLES]
        more = [f"  and {len(numbers) - STYLES} more"] if len(numbers) > STYLES else []
        return told + [f"  {printable(key)}: {n}" for key, n in shown] + more


def forecast(
    inputs: Path | str | Iterable[Path | str],
    style: Path | str | Iterable[Path | str],
    output: Path | str,
    settings: RenderSettings,
    device_for: Callable[[preflight.Ready], Device],
    *,
    measure: bool = True,
) -> Forecast:
    """Looks at every input's header, as a run would, and writes nothing.

    Args:
        device_for: makes the device; called only if there is something to render.
        measure: time some evaluations on the device.

    Raises what `pipeline.render` raises before it begins.
    """
    with decoders_for(settings) as decoders:
        ready = preflight.check(inputs, style, output, settings, decoders=decoders)
        output = ready.output
        made = Forecast(output, shots=ready.shots)
        try:
            images, evaluations, objectives = _count(made, ready, decoders)
        finally:
            close(ready.source)
    made.disk_free = shutil.disk_usage(existing(output)).free
    if images:
        device = device_for(ready)
        made.memory = device.memory
        for bucket, number in images.most_common():
            batch = chosen_batch(device, bucket, settings.batch, ready.shots)
            programs = len(objectives[bucket])
            if settings.tail == "shrink":
                batch = batch_size(batch, number, device.count)
                programs *= len(batch_sizes(batch, device.count))
            memory = device.memory_bytes(bucket, batch)
            made.buckets.append(Bucket(*bucket, number, batch, programs, memory, evaluations[bucket]))
        if measure:
            _time(made, ready, device)
    return made


def _count(
    made: Forecast, ready: preflight.Ready, decoders: Decoders
) -> tuple[Counter[Size], Counter[Size], dict[Size, set[bool]]]:
    """Fills in what becomes of the inputs.

    Returns:
        of each bucket: its images, their evaluations, and its objectives: {whether `coarse_content_weight` counts}.
    """
    settings = ready.settings
    overwrite = settings.existing == "overwrite" or not ready.output.exists()
    names = [] if overwrite else ledger.ledgers(ready.output)
    before = ledger.Ledger(ready.output, names, whole=settings.existing == "continue")
    ready.styles.begin(before)
    reasons: Counter[str] = Counter()
    styles: Counter[str] = Counter()
    images: Counter[Size] = Counter()
    evaluations: Counter[Size] = Counter()
    objectives: defaultdict[Size, set[bool]] = defaultdict(set)
    own = settings.coarse_content_weight is not None
    for one in planned(ready, before, Reader(ready.source, decoders), inputs_of(ready)):
        if isinstance(one, Unchanged):
            made.finished += 1
        elif isinstance(one, Row):
            made.skipped += one.status == "skipped"
            made.failed += one.status == "failed"
            reasons[one.reason] += 1
        else:
            for stage in one.stages:
                images[stage.bucket] += 1
                evaluations[stage.bucket] += stage.evaluations
                objectives[stage.bucket].add(own and stage is not one.stages[-1])
            width, height = one.output_size(settings)
            made.disk += round(width * height * BYTES.get(one.header.format, 3))
            styles.update([one.style] if one.style else [])
            made.render += 1
            if made.render == settings.limit:
                break
    made.reasons = reasons.most_common(REASONS)
    made.styles = dict(styles.most_common())
    return images, evaluations, objectives


def _time(made: Forecast, ready: preflight.Ready, device: Device) -> None:
    """Fills in the times: some ticks of a small batch, scaled by the floating-point operations of the others."""
    group, objective = Group((PROBE, PROBE)), ready.settings.objective()
    size = device.preferred_batch(group.bucket)
    batch = device.batch(group, size)
    picture = np.random.default_rng(0).random((PROBE, PROBE, 3), np.float32)
    style = ready.styles.one or Painting.of(picture)
    regions = in_regions(None, ready.settings.lane_regions, picture.shape)
    inputs = lane_inputs(picture, picture[:, ::-1], PROBE, PROBE, regions)
    for lane in range(size):
        batch.put(lane, inputs, 3 * TICKS, style)
    batch.advance(TICKS)
    began = time.perf_counter()
    batch.advance(TICKS)
    each = (time.perf_counter() - began) / (TICKS * size) / cost.evaluation_flops(group.bucket, objective)
    made.seconds_an_evaluation = each * cost.evaluation_flops((512, 512), objective)
    flops = (one.evaluations * cost.evaluation_flops((one.width, one.height), objective) for one in made.buckets)
    made.seconds = each * sum(flops)
