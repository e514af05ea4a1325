"""The results of `jaxstyle bench`, as JSON values, as a table and as a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxstyle.report.plot import Panel, Point, number, plot


@dataclass(frozen=True)
class Machine:
    """The machine that was measured.

    Attributes:
        device: JAX's name of the kind of device.
        backend: platform of JAX, such as cpu.
        count: number of devices that share a batch; the parts of a divided CPU count too.
        cores: CPU cores that this process may use.
        jax, jaxstyle: versions of the packages.
    """

    device: str
    backend: str
    count: int
    cores: int
    jax: str
    jaxstyle: str

    @property
    def chips(self) -> int:
        """Number of physical devices: the parts of a CPU count as one."""
        return 1 if self.backend == "cpu" else self.count


@dataclass(frozen=True)
class Rates:
    """Peak rates of one device, or of a whole CPU, measured in the same run.

    Attributes:
        float32, bfloat16: floating-point operations a second of a large matrix product: the better of two medians,
            one before and one after all other measurements.
        copy: bytes a second of a large copy, read plus written.
    """

    float32: float
    bfloat16: float
    copy: float

    def product(self, precision: str) -> float:
        """Returns the matrix product's rate in a precision."""
        return self.bfloat16 if precision == "bfloat16" else self.float32


@dataclass(frozen=True)
class Cell:
    """One size of image in one size of batch.

    Attributes:
        width, height: size of the images in pixels.
        batch: images side by side, on all devices together.
        ticks: evaluations of each image in a timing.
        repeats: number of timings, of which the median is used.
        seconds_tick: seconds of one tick of the whole batch, including the transfer of the lanes' state.
        compile_seconds: seconds of the first tick less those of a later one, without programs of earlier runs.
        flops: floating-point operations of one image's evaluation, from shapes.
        peak_bytes: peak memory up to and including this cell: of the process on a CPU, else of the fullest device;
            None if unknown.
    """

    width: int
    height: int
    batch: int
    ticks: int
    repeats: int
    seconds_tick: float
    compile_seconds: float
    flops: int
    peak_bytes: int | None

    @property
    def seconds_evaluation(self) -> float:
        """Seconds of a tick divided by the images of the batch."""
        return self.seconds_tick / self.batch

    @property
    def rate(self) -> float:
        """Floating-point operations a second, on all devices together."""
        return self.flops / self.seconds_evaluation


@dataclass(frozen=True)
class Start:
    """Seconds from a device that is ready to the end of its first tick, less that of a later tick.

    Attributes:
        width, height, batch: size of the images in pixels, and their number.
        compiled: seconds if all programs are compiled.
        kept: seconds if the compiled programs are read from the disk cache; None if JAX's cache is turned off.
    """

    width: int
    height: int
    batch: int
    compiled: float
    kept: float | None


@dataclass(frozen=True)
class Whole:
    """A run from picture files to picture files, by `engine.pipeline.render`.

    Attributes:
        width, height, batch: size of the images in pixels, and images side by side.
        images: number of images.
        evaluations: evaluations of each image.
        seconds: seconds of the whole run after its preparations.
        device_seconds: seconds of these in calls of the device.
        programs: programs compiled in this time; 0 means that the times exclude compilation.
    """

    width: int
    height: int
    batch: int
    images: int
    evaluations: int
    seconds: float
    device_seconds: float
    programs: int


@dataclass(frozen=True)
class Report:
    """The results of one run of the bench.

    Attributes:
        machine: the device and the packages.
        precision: number type of the convolutions.
        rates: peak rates of the device.
        cells: the sizes and batches that were measured.
        start: the first tick.
        whole: a whole run; None if it was not made.
        evaluations: evaluations of an image, in all figures of images a second.
        left_out: measurements that were not made, with the reason.
        seconds: seconds of the bench itself.
    """

    machine: Machine
    precision: str
    evaluations: int
    rates: Rates
    cells: tuple[Cell, ...]
    start: Start
    whole: Whole | None
    left_out: tuple[str, ...]
    seconds: float

    def images_per_second(self, cell: Cell) -> float:
        """Returns the images a second, each with all its evaluations."""
        return 1 / (self.evaluations * cell.seconds_evaluation)

    def utilisation(self, cell: Cell) -> float:
        """Returns the rate as a share of the matrix product's rate of all devices, in the same precision."""
        return cell.rate / (self.rates.product(self.precision) * self.machine.chips)

    def as_json(self) -> dict[str, Any]:
        """Returns values for a JSON file: the fields, and the derived figures of every cell."""
        values = dataclasses.asdict(self) | {"left_out": list(self.left_out)}
        values["cells"] = [
            dataclasses.asdict(cell)
            | {
                "seconds_evaluation": cell.seconds_evaluation,
                "images_per_second": self.images_per_second(cell),
                "utilisation": self.utilisation(cell),
            }
            for cell in self.cells
        ]
        return values

    def lines(self) -> list[str]:
        """Returns lines of text: the machine, a table of the cells, the first tick and the whole run."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        at, rates = self.machine, self.rates
        parts = f"{at.cores} cores" + (f", divided in {at.count}" if at.chips < at.count else "")
        yield f"{at.chips} x {at.device} ({at.backend}), {parts}, JAX {at.jax}, {self.precision} convolutions"
        yield (
            f"matrix product: {rates.float32 / 1e9:,.0f} GFLOP/s in float32, {rates.bfloat16 / 1e9:,.0f} in bfloat16; "
            f"copy: {rates.copy / 1e9:,.1f} GB/s"
        )
        yield ""
        yield f"{'size':>11} {'batch':>6} {'ms an':>11} {'images/s':>9} {'images/h':>9} {'of matrix':>10} {'compiled':>9} {'peak':>7}"  # noqa: E501
        yield f"{'':>11} {'':>6} {'evaluation':>11} {'':>9} {'':>9} {'product':>10} {'in s':>9} {'MiB':>7}"
        for cell in self.cells:
            each = self.images_per_second(cell)
            peak = "?" if cell.peak_bytes is None else f"{cell.peak_bytes / 2**20:,.0f}"
            yield (
                f"{f'{cell.width} x {cell.height}':>11} {cell.batch:>6} {number(cell.seconds_evaluation * 1e3):>11} "
                f"{number(each):>9} {number(each * 3600):>9} {self.utilisation(cell):>10.0%} "
                f"{cell.compile_seconds:>9.1f} {peak:>7}"
            )
        yield f"images of {self.evaluations} evaluations; milliseconds of one image's share of a batch"
        yield ""
        one = self.start
        kept = "not measured: JAX may not keep programs" if one.kept is None else f"{one.kept:.2f} s"
        yield (
            f"to the first tick ({one.width} x {one.height}, batch {one.batch}): {one.compiled:.1f} s compiling, "
            f"with programs kept from an earlier run {kept}"
        )
        if self.whole:
            run = self.whole
            compiling = f", {run.programs} programs compiled" if run.programs else ""
            yield (
                f"whole run of {run.images} files ({run.width} x {run.height}, batch {run.batch}, {run.evaluations} "
                f"evaluations{compiling}): {number(run.images / run.seconds)} images/s, "
                f"device alone {number(run.images / run.device_seconds)} ({run.device_seconds / run.seconds:.0%})"
            )
        yield from (f"left out: {words}" for words in self.left_out)
        yield f"measured in {self.seconds:.0f} s"

    def draw(self, path: Path) -> None:
        """Writes a PNG of four plots against the batch size.

        Raises:
            NoMatplotlib: matplotlib is not installed.
            StorageError: the file cannot be written.
        """

        def series(value) -> dict[str, list[Point]]:
            found: dict[str, list[Point]] = {}
            for cell in self.cells:
                if (y := value(cell)) is not None:
                    found.setdefault(f"{cell.width} x {cell.height}", []).append((cell.batch, y))
            return {name: sorted(points) for name, points in found.items()}

        peak = lambda cell: None if cell.peak_bytes is None else cell.peak_bytes / 2**20  # noqa: E731
        hour = f"Images an hour, {self.evaluations} evaluations each"
        product = f"Share of a matrix product's rate, {self.precision}"
        panels = [
            Panel(hour, "batch", "images/h", series(lambda c: 3600 * self.images_per_second(c)), log_x=True),
            Panel("Evaluation of one image", "batch", "ms", series(lambda c: 1e3 * c.seconds_evaluation), True, True),
            Panel(product, "batch", "%", series(lambda c: 100 * self.utilisation(c)), log_x=True),
            Panel("Memory in use, at most", "batch", "MiB", series(peak), log_x=True),
        ]
        plot(path, panels)
