"""The objective's parameters, and the presets: named values of them, one TOML file each in this folder."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from jaxstyle import toml_file
from jaxstyle.architecture import ARCHITECTURES, Architecture, Network
from jaxstyle.coerce import nearest, shown, typed
from jaxstyle.errors import SettingsError, printable


@dataclass(frozen=True)
class Objective:
    """The function to minimise: content_weight * content + style_weight * style + tv_weight * total variation
    + histogram_weight * histogram, and for frames of a film temporal_weight * temporal.

    `style/terms/` has the formulas. A preset is a value of this class.

    Attributes:
        normalization: how the terms are scaled: "energy" (each divided by its target's energy), "gatys" (mean
            squares, Gram layer weights 1/C^2) or "article" (plain sums over 0..255 pixels).
        content_layers: layers whose post-ReLU maps are compared position by position.
        style_layers: layers whose post-ReLU maps are compared by `style_loss`.
        style_layer_weights: relative weight of each style layer; empty means equal weights.
        style_loss: statistics of the style layers that are compared: "gram" (Gram matrices), "moments" (means and
            covariances) or "w2" (the 2-Wasserstein distance between Gaussians of these moments).
        histogram_layers: layers whose post-ReLU maps are compared by the distribution of each channel.
        content_weight, style_weight, tv_weight, histogram_weight, temporal_weight: see above.
        style_pixels: pixels of a picture from which on the style term counts in full. Below it counts in proportion to
            the picture's pixels, since strokes do not shrink with the picture; 0 means in full at every size.
        tv_exponent: exponent of the squared differences in total variation.
        tv_border: differences along the last row and the last column: "counted" in total variation or "omitted".
        feature_gain: factor on all feature maps; None means 1 for weights trained on 0..255 pixels (Caffe's and so
            Keras's) and `RESCALED_GAIN` for weights trained on normalised ones (torchvision's).
        pooling: "max", "average" or "l2" (the root of the sum of squares).
        pooling_gain: factor on the maps after every pooling.
        padding: padding of the first convolution, "zero" or "replicate".
        network: name of the network whose maps are compared.
    """

    normalization: Literal["energy", "gatys", "article"] = "energy"
    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layer_weights: tuple[float, ...] = ()
    histogram_layers: tuple[str, ...] = ("relu1_1", "relu4_1")
    style_loss: Literal["gram", "w2", "moments"] = "gram"
    content_weight: float = 1.0
    style_weight: float = 40.0
    tv_weight: float = 0.3
    histogram_weight: float = 0.0
    temporal_weight: float = 0.0
    style_pixels: int = 0
    tv_exponent: float = 1.25
    tv_border: Literal["counted", "omitted"] = "omitted"
    feature_gain: float | None = 1.0
    pooling: Literal["max", "average", "l2"] = "max"
    pooling_gain: float = 1.0
    padding: Literal["zero", "replicate"] = "replicate"
    network: Network = "vgg16"

    def style_share(self, pixels: float) -> float:
        """The share of its weight that the style term has in a picture of so many pixels, 0 to 1."""
        return min(1.0, pixels / self.style_pixels) if self.style_pixels else 1.0

    @property
    def architecture(self) -> Architecture:
        """The `Architecture` of that name."""
        return ARCHITECTURES[self.network]


@dataclass(frozen=True)
class Preset:
    """What a preset's file says.

    Attributes:
        description: the preset in a sentence.
        base: name of the preset whose other values it takes, or empty. `values` of `FILES` have them already.
        values: values by the names of settings.
    """

    description: str
    base: str
    values: Mapping[str, Any]

    @property
    def run(self) -> dict[str, Any]:
        """The values of settings outside the objective."""
        return {name: value for name, value in self.values.items() if name in RUN}


BY_THE_WEIGHTS = "by the weights"
"""`feature_gain` of None in a file, since TOML has no null."""

OF_THE_PRESET: Final = "preset"
"""Value of a setting in `RUN` that the preset decides."""

RUN = {"init": str, "scales": str, "evaluations": int | str, "preconditioner": Literal["none", "pyramid"]}
"""Settings outside the objective that a preset may hold, with their types. Each is a field of `StylizeSettings` or
`RenderSettings` whose default is `OF_THE_PRESET`."""

DEFAULTS = {"init": "matched", "scales": "none", "evaluations": 200, "preconditioner": "none"}
"""Values of `RUN` under presets that do not hold them."""


def read(path: Path, where: str) -> Preset:
    """Reads a preset from a TOML file, whose keys are names of settings, `description` and `base`.

    Args:
        where: the file in messages.

    Raises:
        SettingsError: the file cannot be read or is no TOML; a key is unknown; a value is not of its type.
    """
    known = typing.get_type_hints(Objective) | RUN | {"description": str, "base": str}
    found: dict[str, Any] = {}
    for key, value in toml_file.read(path, where).items():
        name = key.replace("-", "_")
        if name not in known:
            raise SettingsError(
                f"{where} has an unknown key {printable(key)}", f"{nearest(name, known)}It may have {', '.join(known)}."
            )
        if name in found:
            raise SettingsError(f"{where} has {name} twice", "Remove one of them.")
        if name == "feature_gain" and value == BY_THE_WEIGHTS:
            found[name] = None
            continue
        good, made, allowed = typed(known[name], value)
        if not good or value == "" or (isinstance(value, float) and not math.isfinite(value)):
            raise SettingsError(f"{where} has {name} = {shown(value)}", f"It must be {allowed}.")
        found[name] = made
    return Preset(found.pop("description", ""), found.pop("base", ""), found)


def read_user(path: Path) -> Preset:
    """Reads a user's preset; its base is `balanced` unless it names another.

    Raises:
        SettingsError: see `read`; or the base is no preset's name.
    """
    where = f"the preset {printable(path)}"
    preset = read(path, where)
    preset = dataclasses.replace(preset, base=preset.base or ORDER[0])
    if preset.base not in PRESETS:
        raise SettingsError(f"{where} has base = {shown(preset.base)}", f"It must be one of {', '.join(PRESETS)}.")
    if preset.values.get("feature_gain", 1) is None and PRESETS[preset.base].feature_gain is not None:
        raise SettingsError(
            f"{where} has feature_gain = {BY_THE_WEIGHTS!r} and base {preset.base!r}",
            "Give a number, or base gatys or article.",
        )
    return preset


def _own() -> dict[str, Preset]:
    """Reads the files of this folder; `ORDER` names them, a base before those that build on it."""
    found: dict[str, Preset] = {}
    for name in ORDER:
        preset = read(Path(__file__).with_name(f"{name}.toml"), f"the preset {name}")
        others = found[preset.base].values if preset.base else {}
        found[name] = dataclasses.replace(preset, values={**others, **preset.values})
    return found


ORDER = ("balanced", "painterly", "faithful", "texture", "classic", "gatys", "article")
"""Names of the presets in this folder, the default first."""

FILES: dict[str, Preset] = _own()
"""Every preset, with the values of its base."""


def _objective(preset: Preset) -> Objective:
    return Objective(**{name: value for name, value in preset.values.items() if name not in RUN})


PRESETS: dict[str, Objective] = {name: _objective(preset) for name, preset in FILES.items()}
"""The objective of every preset."""
