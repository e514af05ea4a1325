"""Networks as values: layers, channels and names. A new VGG takes one line in `ARCHITECTURES`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from jaxstyle.errors import SettingsError

STRIDE = 32
"""Working sides are multiples of this many pixels, so that no pooling drops a row or a column."""

CAFFE_GAIN = 1.0
"""Gain on the feature maps of a network trained on 0..255 pixels."""
RESCALED_GAIN = 112.0
"""Gain that scales torchvision's feature maps to those of a network trained on 0..255 pixels. With gains of 112 to 135
the preset `article` gives pictures like the article's (bench/LOG.md)."""


@dataclass(frozen=True)
class Architecture:
    """A VGG (Simonyan and Zisserman 2014, arXiv 1409.1556): blocks of 3x3 convolutions, each followed by 2x2 pooling.

    Attributes:
        name: the value of `--network`.
        depths: number of convolutions in each block.
        widths: number of feature maps in each block.
    """

    name: str
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)

    @property
    def title(self) -> str:
        """Name in messages and in the weights file."""
        return self.name.upper()

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Keras's names of the convolutions, from shallow to deep."""
        return tuple(f"block{b}_conv{c}" for b, depth in enumerate(self.depths, 1) for c in range(1, depth + 1))

    @cached_property
    def kernel_shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Shape of every layer's kernel: height, width, channels in, channels out."""
        after = [width for depth, width in zip(self.depths, self.widths, strict=True) for _ in range(depth)]
        before = [3, *after[:-1]]
        return {name: (3, 3, i, o) for name, i, o in zip(self.layers, before, after, strict=True)}

    @cached_property
    def torch_indices(self) -> tuple[int, ...]:
        """Indices N in torchvision's `features.N`: a ReLU follows each convolution, a pooling each block."""
        pooled = [block for block, depth in enumerate(self.depths) for _ in range(depth)]
        return tuple(2 * place + block for place, block in enumerate(pooled))

    def channels(self, layer: str) -> int:
        """Returns the number of feature maps of a layer, named as in Keras."""
        return self.kernel_shapes[layer][3]

    def layer_name(self, name: str) -> str:
        """Returns Keras's name of a layer given as `block4_conv2` or `relu4_2`; both mean the map after the ReLU.

        Raises:
            SettingsError: the network has no such layer.
        """
        keras = "block{}_conv{}".format(*name[4:].split("_", 1)) if name.startswith("relu") and "_" in name else name
        if keras not in self.layers:
            known = ", ".join(layer.replace("block", "relu").replace("_conv", "_") for layer in self.layers)
            raise SettingsError(
                f"{self.title} has no layer {name!r}", f"Use one of {known}, or Keras's names such as block4_conv2."
            )
        return keras


VGG16 = Architecture("vgg16", (2, 2, 3, 3, 3))
VGG19 = Architecture("vgg19", (2, 2, 4, 4, 4))

ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (VGG16, VGG19)}

if TYPE_CHECKING:
    Network = str
else:
    Network = Literal[tuple(ARCHITECTURES)]
"""Type of a network's name; the command line offers the names of `ARCHITECTURES` as choices."""
