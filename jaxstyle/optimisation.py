"""The settings of one optimisation, each with its default."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from jaxstyle import schedule
from jaxstyle.architecture import Network
from jaxstyle.coerce import check as _check
from jaxstyle.coerce import normalise
from jaxstyle.errors import SettingsError
from jaxstyle.paths import given_path
from jaxstyle.presets import DEFAULTS, FILES, OF_THE_PRESET, PRESETS, Objective, read_user

INITS = ("content", "matched", "noise")
"""Starts of the optimisation that read no file; see style/initial.py."""


@dataclass(frozen=True, kw_only=True)
class StylizeSettings:
    """Settings of the optimisation. A field of the objective that is None takes the preset's value.

    Attributes:
        preset: objective whose fields the other flags override: balanced, painterly, faithful, texture, classic, gatys,
            article, or the path of a TOML file with such fields.
        normalization: how terms are scaled: energy (by their targets), gatys or article [default: the preset's]
        content_weight: weight of the content term [default: the preset's]
        style_weight: weight of the style term [default: the preset's]
        tv_weight: weight of total variation, which smooths [default: the preset's]
        histogram_weight: weight of the distance of every channel's distribution from the style's, such as 5; it needs
            the normalization energy [default: the preset's]
        temporal_weight: weight of the distance from the frame before, for frames [default: 300 with frames]
        content_layers: layers whose feature maps are compared directly, e.g. relu4_2 [default: the preset's]
        style_layers: layers whose style_loss is computed [default: the preset's]
        style_layer_weights: relative weight of each style layer [default: the preset's, or equal weights where
            style_layers is given]
        histogram_layers: layers of histogram_weight [default: the preset's]
        style_loss: what the style layers are compared by: gram (Gram matrices), moments (means and covariances) or w2
            (Wasserstein distance of these); the last two need the normalization energy [default: the preset's]
        style_pixels: pixels of a picture from which on the style term counts in full; in a smaller picture it counts in
            proportion to its pixels, because strokes do not shrink with it. 0 means in full at every size
            [default: the preset's]
        tv_exponent: exponent of the squared differences in total variation, 1 to 4 [default: the preset's]
        tv_border: differences along the last row and the last column: counted in total variation, or omitted as in
            the article, which lets dots stand there [default: the preset's]
        feature_gain: factor on all feature maps [default: the preset's]
        pooling: pooling of the network: max, average or l2 (root of the sum of squares) [default: the preset's]
        pooling_gain: factor on the maps after every pooling; 2 for average and 0.78 for l2 make them about as large as
            those of max [default: the preset's]
        padding: padding of the first convolution [default: the preset's]
        init: start of the optimisation: matched (the content image in the style's colours), content, noise, the path of
            a picture, the folder of an earlier run, whose result for the same photograph it is, or preset (the preset's
            own start).
        seed: seed of the noise; each image draws its own noise from the seed and its name.
        solver: lbfgs (one evaluation a step, for batches), adam, or jaxopt-zoom (the library's line search).
        evaluations: most evaluations of loss and gradient for an image; at several scales each gets an equal part, or
            its own number, as "120,80"; preset is what the preset has.
        history: curvature pairs that L-BFGS keeps; each takes 24 bytes a pixel (two float32 images of three channels).
        history_dtype: number type of these pairs; bfloat16 halves their memory. Sums over them stay in float32.
        preconditioner: variables of L-BFGS: none takes the pixels; pyramid takes variables in which the loss curves
            more equally over spatial frequencies and places, so that fewer evaluations reach the same loss; preset is
            what the preset has.
        tolerance: an image is done when its loss falls by less than this fraction in 10 evaluations; 0 turns this off.
        learning_rate: learning rate of adam, in units of the pixel range.
        averaging: decay of the average of adam's images, which is then the result, such as 0.99; 0 turns this off.
        precision: number type of the convolutions: float32, bfloat16, or mixed, which is float32 with matrix products
            in bfloat16 in those layers in which this CPU is measured to be faster with them. auto is mixed on CPUs with
            units for bfloat16 if the size is 128 pixels or more, and float32 on others; bfloat16 on accelerators, but
            float32 on NVIDIA GPUs below compute capability 8. Image, gradient and loss are always float32.
        tile: longest side of a tile in pixels, a multiple of 16. The network then works on one tile after the other,
            for pictures whose feature maps memory cannot hold; the result is the same up to rounding, and takes up to
            1.5 times as long. none computes each picture whole; auto takes tiles for a picture that does not fit, and
            none in `jaxstyle.stylize`.
        network: network whose feature maps are compared: vgg16, or vgg19 as in the paper.
        weights: file of the network's weights, from `jaxstyle weights convert` [default: an installed package's]
    """

    preset: str = "balanced"
    normalization: Literal["energy", "gatys", "article"] | None = None
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    histogram_weight: float | None = None
    temporal_weight: float | None = None
    content_layers: tuple[str, ...] | None = None
    style_layers: tuple[str, ...] | None = None
    style_layer_weights: tuple[float, ...] | None = None
    histogram_layers: tuple[str, ...] | None = None
    style_loss: Literal["gram", "w2", "moments"] | None = None
    style_pixels: int | None = None
    tv_exponent: float | None = None
    tv_border: Literal["counted", "omitted"] | None = None
    feature_gain: float | None = None
    pooling: Literal["max", "average", "l2"] | None = None
    pooling_gain: float | None = None
    padding: Literal["zero", "replicate"] | None = None
    init: str = OF_THE_PRESET
    seed: int = 0
    solver: Literal["lbfgs", "adam", "jaxopt-zoom"] = "lbfgs"
    evaluations: int | str = OF_THE_PRESET
    history: int = 10
    history_dtype: Literal["float32", "bfloat16"] = "float32"
    preconditioner: Literal["none", "pyramid", "preset"] = OF_THE_PRESET
    tolerance: float = 0.0
    learning_rate: float = 0.02
    averaging: float = 0.0
    precision: Literal["auto", "float32", "bfloat16", "mixed"] = "auto"
    tile: int | Literal["auto", "none"] = "auto"
    network: Network = Objective.network
    weights: Path | None = None

    def __post_init__(self) -> None:
        normalise(self)
        self._take_preset()
        self.budgets()
        _check(1 <= self.history <= 100, "history", self.history, "1 to 100")
        _check(0 <= self.tolerance < 1, "tolerance", self.tolerance, "at least 0 and under 1")
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "above 0")
        _check(0 <= self.averaging < 1, "averaging", self.averaging, "at least 0 and under 1")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        fine = isinstance(self.tile, str) or (16 <= self.tile <= 8192 and self.tile % 16 == 0)
        _check(fine, "tile", self.tile, "auto, none, or a multiple of 16 up to 8192")
        if self.init not in INITS:
            object.__setattr__(self, "init", str(given_path(self.init, "init", SettingsError)))
            there = os.path.isfile(self.init) or os.path.isdir(self.init)
            _check(there, "init", self.init, f"{', '.join(INITS)}, or the path of a picture or folder")
        self.objective()

    @property
    def lane_regions(self) -> int:
        """Number of regions of a lane: 0, since masks belong to files."""
        return 0

    @property
    def starts_from_folder(self) -> bool:
        """Whether `init` is the folder of an earlier run."""
        return self.init not in INITS and os.path.isdir(self.init)

    def _take_preset(self) -> None:
        """Replaces a preset's file by the preset that it builds on and its values, and `OF_THE_PRESET` by values.

        So a file is read once, and equal settings are equal whatever file they come from.
        """
        values: dict[str, Any] = {}
        if self.preset not in FILES:
            path = given_path(self.preset, "preset", SettingsError)
            _check(os.path.exists(path), "preset", self.preset, f"{', '.join(FILES)}, or the path of a TOML file")
            preset = read_user(path)
            values = {name: value for name, value in preset.values.items() if value is not None}
            object.__setattr__(self, "preset", preset.base)
            try:
                StylizeSettings(preset=self.preset, **{name: values[name] for name in values if name != "scales"})
            except SettingsError as error:
                raise SettingsError(f"{error.what} (in {path})", error.remedy) from error
        for name, value in (DEFAULTS | FILES[self.preset].run | values).items():
            if getattr(self, name, "") in (None, OF_THE_PRESET):  # scales are of `RenderSettings`
                object.__setattr__(self, name, value)

    def changed(self, **fields: Any) -> Self:
        """Returns the settings with some fields replaced.

        Another preset also brings its own values of the settings in `RUN`, where they have the values of the present
        preset.
        """
        if "preset" in fields:
            present = DEFAULTS | FILES[self.preset].run
            own = {name: OF_THE_PRESET for name, value in present.items() if getattr(self, name, None) == value}
            fields = own | fields
        return dataclasses.replace(self, **fields)

    def budgets(self) -> tuple[int, ...]:
        """Returns `evaluations` as given: one number, or one for each scale."""
        return schedule.budgets(self.evaluations)

    def objective(self) -> Objective:
        """Returns the preset with the given fields replaced, after checking them."""
        names = [f.name for f in dataclasses.fields(Objective)]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "style_layers" in given:  # the preset's weights are those of its own layers
            given.setdefault("style_layer_weights", ())
        objective = dataclasses.replace(PRESETS[self.preset], **given)
        for name in ("content_weight", "style_weight", "tv_weight", "histogram_weight", "temporal_weight"):
            check_weight(name, getattr(objective, name))
        _check(objective.content_weight + objective.style_weight + objective.tv_weight > 0, "the sum of weights", 0,
               "above 0: give one of the terms a weight")  # fmt: skip
        loss, scaled = objective.style_loss, objective.normalization
        _check(loss == "gram" or scaled == "energy", "style_loss", loss,
               f"gram where normalization is {scaled}; or use the normalization energy")  # fmt: skip
        _check(not objective.histogram_weight or scaled == "energy", "histogram_weight", objective.histogram_weight,
               f"0 where normalization is {scaled}; or use the normalization energy")  # fmt: skip
        _check(0 <= objective.style_pixels < 2**31, "style_pixels", objective.style_pixels, "0 to 2147483647")
        _check(1 <= objective.tv_exponent <= 4, "tv_exponent", objective.tv_exponent, "1 to 4")
        _check(0.01 <= objective.pooling_gain <= 100, "pooling_gain", objective.pooling_gain, "0.01 to 100")
        gain = objective.feature_gain
        _check(
            gain is None or 1e-3 <= gain <= 1e4,
            "feature_gain",
            gain,
            "0.001 to 10000, so that float32 can hold the loss",
        )
        layer_name = objective.architecture.layer_name
        named: dict[str, Any] = {
            name: tuple(map(layer_name, getattr(objective, name)))
            for name in ("content_layers", "style_layers", "histogram_layers")
        }
        for name, layers in named.items():
            _check(len(layers) > 0, name, "empty", "at least one layer (or set the term's weight to 0)")
            _check(len(set(layers)) == len(layers), name, layers, "each layer once")
        weights, number = objective.style_layer_weights, len(named["style_layers"])
        if weights:
            _check(len(weights) == number, "style_layer_weights", weights, f"{number} numbers, one a layer")
            _check(min(weights) >= 0 and 0 < sum(weights) < math.inf, "style_layer_weights", weights,
                   "numbers of at least 0, one of them above 0")  # fmt: skip
        return dataclasses.replace(objective, **named)


def check_weight(name: str, value: float) -> None:
    _check(value == 0 or 1e-20 <= value <= 1e20, name, value, "0, or 1e-20 to 1e20, so that float32 can hold it")
