"""Style targets from a file: what decides them, which arrays they have, and whether they suit a run."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jaxstyle.architecture import ARCHITECTURES
from jaxstyle.data import targets_file
from jaxstyle.data.opening import open_regular
from jaxstyle.data.sources.base import printable
from jaxstyle.data.targets_file import MOST_BYTES, Contents
from jaxstyle.errors import ImageError, SettingsError
from jaxstyle.settings import RenderSettings
from jaxstyle.style.colour import Colours

PICTURE = 256
"""Longest side in pixels of the picture in a file."""
MADE_BY = "`jaxstyle targets` makes one"
STATISTICS: dict[str, dict[str, int]] = {
    "gram": {"": 2},
    "moments": {"/mean": 1, "/covariance": 2},
    "w2": {"/mean": 1, "/root": 2, "/blur": 0, "/trace": 0, "/square": 0, "/energy": 0},
}
"""The arrays of a style layer by style loss: name and number of axes, each as long as the layer has channels."""
_KINDS: dict[str, tuple[type, ...]] = {
    "network": (str,), "weights": (str,), "style_layers": (list,), "style_loss": (str,), "pooling": (str,),
    "pooling_gain": (int, float), "padding": (str,), "feature_gain": (int, float, type(None)), "style_size": (int,),
    "style_crop": (bool,),
}  # fmt: skip
"""What decides targets, and the types of its values in a file."""


class Decides(TypedDict):
    """What decides the targets of a style image; a run with another value is refused.

    Attributes:
        network: "vgg16" or "vgg19".
        weights: digest of the network's weights, see the weights file.
        style_layers: layers of the style term by their Keras names, sorted.
        style_loss: "gram", "moments" or "w2".
        pooling: "max", "average" or "l2".
        pooling_gain: factor on the maps after every pooling.
        padding: "replicate" or "zero", of the convolutions.
        feature_gain: factor on the feature maps; null if it is the weights' own.
        style_size: longest side of the style images in pixels, the style's scale included.
        style_crop: whether the style images were cropped to squares.
    """

    network: str
    weights: str
    style_layers: list[str]
    style_loss: str
    pooling: str
    pooling_gain: float
    padding: str
    feature_gain: float | None
    style_size: int
    style_crop: bool


class About(TypedDict):
    """Facts for people.

    Attributes:
        jaxstyle: version of the package.
        source: description of the file or package of the weights.
        images: number of style images in the mean.
        left_out: keys of style images that could not be read, at most 100.
        white_level: the setting of this name; null without one.
        preset: the preset.
    """

    jaxstyle: str
    source: str
    images: int
    left_out: list[str]
    white_level: float | None
    preset: str


@dataclass(frozen=True, eq=False)
class SavedTargets:
    """The targets of one style image, or the weighted mean of those of several.

    Attributes:
        arrays: float32, by their names in the tree of targets, as "style/block1_conv1".
        colours: of all pixels of the style images, by weight.
        picture: h x w x 3 uint8: the style image, or some of them side by side, for sheets and judgements.
        decides: see `deciding`.
        about: facts for people.
        length, modified, sha256: of the file, in bytes, nanoseconds and hexadecimal.
    """

    arrays: Mapping[str, np.ndarray]
    colours: Colours
    picture: np.ndarray
    decides: Mapping[str, Any]
    about: Mapping[str, Any]
    length: int = 0
    modified: int = 0
    sha256: str = ""

    def encoded(self) -> bytes:
        """The bytes of a file."""
        own = {
            "colours/mean": np.asarray(self.colours.mean, np.float64),
            "colours/covariance": np.asarray(self.colours.covariance, np.float64),
            "picture": self.picture,
        }
        return targets_file.encode({**self.arrays, **own}, {"decides": self.decides, "about": self.about})


def deciding(settings: RenderSettings, weights_sha256: str) -> Decides:
    """What decides the targets of a style image, as JSON values.

    `white_level` is left out: it belongs to the style images, and in a run to its photographs too.
    """
    own = settings.objective()
    return {
        "network": own.network,
        "weights": weights_sha256,
        "style_layers": sorted(own.style_layers),
        "style_loss": own.style_loss,
        "pooling": own.pooling,
        "pooling_gain": own.pooling_gain,
        "padding": own.padding,
        "feature_gain": own.feature_gain,
        "style_size": settings.painted_size,
        "style_crop": settings.style_crop,
    }


def refuse_unfit(files: Sequence[Path], settings: RenderSettings) -> None:
    """Raises a SettingsError if the run needs the pixels of style images that are files of targets."""
    saved = next(filter(targets_file.is_targets, files), None)
    if saved is None:
        return
    shown = printable(saved)
    if settings.changes_styles:
        raise SettingsError(
            f"colors is {settings.colors!r}, which changes the colours of style images, and {shown} has targets only",
            "Use --colors content or style, or give the pictures themselves as --style.",
        )
    if weight := settings.objective().histogram_weight:
        raise SettingsError(
            f"histogram_weight is {weight:g}, and {shown} has the statistics of the style term only",
            "Give the pictures themselves as --style, or leave the weight out.",
        )
    if settings.style_masks is not None:
        raise SettingsError(
            f"style_masks is given, and {shown} has the targets of whole pictures",
            "Give the pictures themselves as --style, or leave the masks out.",
        )


def differences(saved: SavedTargets, settings: RenderSettings, weights_sha256: str) -> SettingsError | None:
    """Returns the error of targets that were made with other settings than the run's; None if they suit it."""
    now: Mapping[str, Any] = deciding(settings, weights_sha256)
    there = saved.decides
    differing = [name for name in now if now[name] != there[name]]
    if not differing:
        return None
    told = "; ".join(f"{name} is {_shown(there[name])} there and {_shown(now[name])} here" for name in differing)
    source = _shown(saved.about.get("source", "unknown")).strip("'")
    remedies = [_remedy(name, there[name], source) for name in differing]
    return SettingsError(f"it was made with other settings: {told}",
                         f"{'; '.join(remedies)}; or make the file again with `jaxstyle targets`.")  # fmt: skip


def _shown(value: Any) -> str:
    text = printable(", ".join(map(str, value)) if isinstance(value, list) else repr(value))
    return text if len(text) <= 120 else f"{text[:117]}..."


def _remedy(name: str, there: Any, source: str) -> str:
    flag = f"--{name.replace('_', '-')}"
    match name:
        case "weights":
            return f"Give {flag} the same weights ({source})"
        case "style_crop":
            return f"Give {flag}" if there else f"Leave {flag} out"
        case "style_size":
            return f"Give {flag} {there} and no --style-scale"
        case "feature_gain" if there is None:
            return "Use a preset whose feature_gain is by the weights"
    return f"Give {flag} {' '.join(there) if isinstance(there, list) else there}"


def read(path: Path) -> SavedTargets:
    """Reads a file of targets.

    Raises:
        ImageError: it cannot be read, or is none.
    """
    try:
        with open_regular(path, follow=True) as file:
            found = os.fstat(file.fileno())
            if found.st_size > MOST_BYTES:
                raise ValueError(f"it has {found.st_size:,} bytes, and may have {MOST_BYTES:,}")
            data = file.read(MOST_BYTES + 1)
        return _made(targets_file.decode(data), data, found)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ImageError(f"cannot be used as style targets: {error}", f"{MADE_BY}.") from error


def _made(contents: Contents, data: bytes, found: os.stat_result) -> SavedTargets:
    """Checks names, shapes and ranges; raises ValueError."""
    arrays = dict(contents.arrays)
    decides, about = contents.facts.get("decides"), contents.facts.get("about")
    if not isinstance(decides, dict) or not isinstance(about, dict):
        raise ValueError("it does not say what decides it")
    for name, kinds in _KINDS.items():
        if name not in decides or type(decides[name]) not in kinds:
            raise ValueError(f"its {name} is not valid")
    if not re.fullmatch(r"[\w ]{1,200}", decides["weights"]):
        raise ValueError("its weights are not valid")
    expected = shapes(decides)
    needed = {*expected, "colours/mean", "colours/covariance", "picture"}
    if needed != arrays.keys():
        other = sorted(needed ^ arrays.keys())
        raise ValueError(f"it lacks an array, or has one too many: {other[0]!r:.60}")
    for name, shape in expected.items():
        _check(arrays[name].shape == shape and arrays[name].dtype == np.float32, name, arrays[name])
    mean, covariance, picture = (arrays.pop(name) for name in ("colours/mean", "colours/covariance", "picture"))
    _check(mean.shape == (3,) and mean.dtype == np.float64 and _within(mean, 0, 1), "colours/mean", mean)
    good = covariance.shape == (3, 3) and covariance.dtype == np.float64 and _within(covariance, -1, 1)
    _check(good, "colours/covariance", covariance)
    good = picture.ndim == 3 and picture.shape[2] == 3 and max(picture.shape) <= PICTURE and picture.dtype == np.uint8
    _check(good, "picture", picture)
    digest = hashlib.sha256(data).hexdigest()
    return SavedTargets(
        arrays, Colours(mean, covariance), picture, decides, about, found.st_size, found.st_mtime_ns, digest
    )


def _within(values: np.ndarray, least: float, most: float) -> bool:
    return bool(values.min() >= least - 1e-6 and values.max() <= most + 1e-6)


def _check(good: bool, name: str, array: np.ndarray) -> None:
    if not good:
        raise ValueError(f"its array {name} is {array.dtype} of shape {array.shape}, or has values out of range")


def shapes(decides: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays by name, for a network, style layers and a style loss.

    Raises:
        ValueError: there is no such network, layer or style loss.
    """
    network, loss = ARCHITECTURES.get(decides["network"]), STATISTICS.get(decides["style_loss"])
    if network is None or loss is None:
        raise ValueError(
            f"its network or style loss is unknown: {decides['network']!r:.40}, {decides['style_loss']!r:.40}"
        )
    layers = decides["style_layers"]
    if not layers or not all(isinstance(layer, str) and layer in network.layers for layer in layers):
        raise ValueError(f"its style layers are not {network.title}'s")
    return {
        f"style/{layer}{name}": (network.channels(layer),) * axes for layer in layers for name, axes in loss.items()
    }
