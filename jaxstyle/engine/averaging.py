"""`jaxstyle targets`: the style targets of one picture, or the weighted mean of those of a collection, in a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxstyle
from jaxstyle.coerce import combined
from jaxstyle.data import image
from jaxstyle.data.opening import sha256_of
from jaxstyle.data.sources.base import printable
from jaxstyle.data.styles import StyleFile, listed
from jaxstyle.data.targets_file import EXTENSION, is_targets
from jaxstyle.data.writing import write_file
from jaxstyle.decode.pool import Decoders, decoders_for
from jaxstyle.engine.pipeline import jax_device
from jaxstyle.errors import DeviceError, ImageError, InputError, SettingsError
from jaxstyle.model import weights
from jaxstyle.paths import given_path
from jaxstyle.planning import saved_targets
from jaxstyle.planning.contract import OutOfMemory
from jaxstyle.planning.painting import Part
from jaxstyle.planning.saved_targets import PICTURE, About, Decides, SavedTargets
from jaxstyle.planning.style_picture import decoded
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import Colours, pooled

TILES = 16
"""Most style images that the picture in the file shows, the heaviest ones."""


class Averaged(NamedTuple):
    """What was written.

    Attributes:
        path, sha256: of the file.
        images: style images whose targets are in the mean.
        left_out: keys of style images that cannot be read, with the reasons.
    """

    path: Path
    sha256: str
    images: int
    left_out: dict[str, str]


def average(
    style: Path | str | Iterable[Path | str],
    output: Path | str,
    settings: RenderSettings | Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    own_process: bool = False,
    **overrides: Any,
) -> Averaged:
    """Computes the style targets of pictures in float32, averages them by weight, and writes them to a file.

    The mean is that of a blend of the same pictures by `--style`, up to rounding. Pictures are decoded one by one, so
    that memory does not grow with their number. A picture that cannot be read is left out and told.

    Args:
        style: see `pipeline.render`; also files of targets, which count as one picture each.
        output: the file, .safetensors; an older file of targets is replaced.
        settings: those of the run that will use the file.
        say: is told of pictures that cannot be read.
        own_process: see `pipeline.device_for`.

    Raises:
        InputError: there is no style image, or none can be read; the output is a folder, a style or another file.
        SettingsError: an impossible setting, or one that needs more than targets.
        WeightsError, DeviceError, StorageError: see `pipeline.render`.
    """
    settings = combined(RenderSettings, settings, overrides)
    words = [style] if isinstance(style, str | Path) else style
    found = listed([type(one)(given_path(one, "the style")) for one in words])
    path = given_path(output, "the output")
    _check(path, found.files, settings)
    network = weights.load(settings.weights, settings.network)
    decides = saved_targets.deciding(settings, network.digest)
    with decoders_for(settings) as decoders:
        mean = _Mean(settings, decides, decoders, lambda: _device(settings, network, own_process))
        for file in found.files:
            mean.add(file, say)
    if not mean.images:
        reasons = "; ".join(f"{printable(key)}: {reason}" for key, reason in [*mean.left_out.items()][:5])
        raise InputError(f"none of the style images can be read ({reasons})", "Give pictures.")
    about: About = {
        "jaxstyle": jaxstyle.__version__,
        "source": network.source,
        "images": mean.images,
        "left_out": sorted(mean.left_out)[:100],
        "white_level": settings.white_level,
        "preset": settings.preset,
    }
    write_file(path, mean.saved(about).encoded())
    return Averaged(path, sha256_of(path), mean.images, mean.left_out)


def _device(settings: RenderSettings, network: weights.Weights, own_process: bool) -> Any:
    """The device of a run with these settings, in float32."""
    return jax_device(dataclasses.replace(settings, precision="float32"), network, None, own_process=own_process)


def _check(path: Path, files: list[StyleFile], settings: RenderSettings) -> None:
    """Checks what can be wrong before anything is computed."""
    place = printable(path)
    if not is_targets(path):
        raise InputError(f"the output {place} does not end in {EXTENSION}", f"Give a name such as look{EXTENSION}.")
    if path.is_dir():
        raise InputError(f"the output {place} is a folder", "Give the path of a file.")
    if path.exists():
        if any(path.samefile(one.path) for one in files if one.path.exists()):
            raise InputError(f"the output {place} is one of the styles", "Give another name.")
        try:
            saved_targets.read(path)
        except ImageError as error:
            raise InputError(
                f"the output {place} is there already and is no whole file of targets", "Delete it, or give another."
            ) from error
    if settings.objective().style_weight == 0:
        raise SettingsError("style_weight is 0", "Without a style term there are no targets: leave it out.")
    if weight := settings.objective().histogram_weight:
        raise SettingsError(f"histogram_weight is {weight:g}", "Leave it out: a file has the style term's.")
    if settings.changes_styles or settings.style_masks is not None:
        name = "colors" if settings.changes_styles else "style_masks"
        raise SettingsError(
            f"{name} is {str(getattr(settings, name))!r}: the targets depend on each photograph, or on regions",
            "Leave it out: a file has the targets of whole pictures in their own colours.",
        )


class _Mean:
    """The weighted mean of the targets so far, in float64."""

    def __init__(self, settings: RenderSettings, decides: Decides, decoders: Decoders, device_for: Callable[[], Any]):
        self._settings, self._decides, self._decoders, self._device_for = settings, decides, decoders, device_for
        self._device: Any = None
        self._sums: dict[str, np.ndarray] = {}
        self._total = 0.0
        self._colours: Colours | None = None
        self._shown: list[tuple[float, int, np.ndarray]] = []
        self.images = 0
        self.left_out: dict[str, str] = {}

    def add(self, file: StyleFile, say: Callable[[str], None]) -> None:
        """Adds a style image, or leaves it out if it cannot be read."""
        try:
            (part,) = decoded(file, self._settings, self._decoders).parts
        except ImageError as error:
            self.left_out[file.key] = str(error)
            say(f"Left out: the style {printable(file.key)}: {error}")
            return
        arrays = self._arrays(part, file)
        for name, array in arrays.items():
            self._sums[name] = self._sums.get(name, 0) + file.weight * array.astype(np.float64)
        ours = part.colours
        weights = [self._total, file.weight]
        self._colours = ours if self._colours is None else pooled([self._colours, ours], weights)
        self._total += file.weight
        small = image.to_float(part.levels)
        small = image.resize(small, *image.work_size(small.shape[1], small.shape[0], PICTURE))
        self._shown.append((-file.weight, self.images, image.to_bytes(small)))
        self._shown = sorted(self._shown, key=lambda one: one[:2])[:TILES]
        self.images += 1

    def _arrays(self, part: Part, file: StyleFile) -> Mapping[str, np.ndarray]:
        if part.saved is not None:
            error = saved_targets.differences(part.saved, self._settings, self._decides["weights"])
            if error is not None:
                raise SettingsError(f"the style {printable(file.path)}: {error.what}", error.remedy)
            return part.saved.arrays
        try:
            if self._device is None:
                self._device = self._device_for()
            found: Mapping[str, np.ndarray] = self._device.targets(part.levels)
        except OutOfMemory as error:
            remedy = "Give a smaller --style-size, or --tile 512."
            raise DeviceError(
                f"the device has no room for the style {printable(file.key)} ({error})", remedy
            ) from error
        if found.keys() != saved_targets.shapes(self._decides).keys():
            raise SettingsError("there are style terms that files of targets do not hold", "Remove them from TERMS.")
        return found

    def saved(self, about: About) -> SavedTargets:
        """The mean."""
        assert self._colours is not None
        arrays = {name: (total / self._total).astype(np.float32) for name, total in self._sums.items()}
        picture = side_by_side([picture for _, _, picture in self._shown])
        return SavedTargets(arrays, self._colours, picture, self._decides, about)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """The picture itself, or the middles of several in rows, at most `PICTURE` pixels a side, h x w x 3 uint8."""
    if len(pictures) == 1:
        return pictures[0]
    columns = math.ceil(math.sqrt(len(pictures)))
    side = PICTURE // columns
    cells = []
    for one in pictures:
        cells.append(image.to_bytes(image.resize(image.to_float(image.middle(one)), side, side)))
    cells += [cells[n % len(pictures)] for n in range(-len(cells) % columns)]
    return np.concatenate([np.concatenate(cells[n : n + columns], 1) for n in range(0, len(cells), columns)])
