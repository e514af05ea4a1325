"""The objective's parameters, and the presets: named values of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxstyle.architecture import ARCHITECTURES, Architecture, Network


@dataclass(frozen=True)
class Objective:
    """The function to minimise: content_weight * content + style_weight * style + tv_weight * total variation.

    `style/terms/` has the formulas. A preset is a value of this class.

    Attributes:
        normalization: how the terms are scaled: "energy" (each divided by its target's energy), "gatys" (mean
            squares, Gram layer weights 1/C^2) or "article" (plain sums over 0..255 pixels).
        content_layers: layers whose post-ReLU maps are compared position by position.
        style_layers: layers whose post-ReLU maps are compared by their Gram matrices.
        style_layer_weights: relative weight of each style layer; empty means equal weights.
        content_weight, style_weight, tv_weight: see above.
        feature_gain: factor on all feature maps; None means 1 for weights trained on 0..255 pixels (Caffe's and so
            Keras's) and `RESCALED_GAIN` for weights trained on normalised ones (torchvision's).
        pooling: "max" or "average".
        padding: padding of the first convolution, "zero" or "replicate".
        network: name of the network whose maps are compared.
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
    network: Network = "vgg16"

    @property
    def architecture(self) -> Architecture:
        """The `Architecture` of that name."""
        return ARCHITECTURES[self.network]


PRESETS: dict[str, Objective] = {
    "balanced": Objective(),
    "painterly": Objective(content_weight=3.0),
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

SCALES = {"painterly": "auto"}
"""`RenderSettings.scales` of the presets that do not work at one size only. Large forms come from the coarse scale, and
so does more of the style, which the content weight makes up for."""
