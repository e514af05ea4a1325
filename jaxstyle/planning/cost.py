"""What one image costs in floating-point operations, from shapes alone. A bucket is (width, height) in pixels."""

from __future__ import annotations

from collections.abc import Iterable

from jaxstyle.settings import CHANNELS, LAYERS, Objective, layer_name


def layer_shape(bucket: tuple[int, int], layer: str) -> tuple[int, int]:
    """Positions of a layer's map, and its channels."""
    block = layer.split("_")[0]
    shrink = 2 ** (int(block.removeprefix("block")) - 1)
    return (bucket[0] // shrink) * (bucket[1] // shrink), CHANNELS[block]


def map_size(bucket: tuple[int, int], layer: str) -> int:
    """Numbers in a layer's map."""
    positions, channels = layer_shape(bucket, layer)
    return positions * channels


def input_channels(layer: str) -> int:
    """Channels that a layer's convolution reads."""
    index = LAYERS.index(layer)
    return CHANNELS[LAYERS[index - 1].split("_")[0]] if index else 3


def _names(layers: Iterable[str]) -> list[str]:
    return [layer_name(name) for name in layers]


def layers_used(objective: Objective) -> tuple[str, ...]:
    """The layers that an evaluation computes, from shallow to deep."""
    wanted = _names((*objective.content_layers, *objective.style_layers))
    return LAYERS[: 1 + max(map(LAYERS.index, wanted))]


def evaluation_flops(bucket: tuple[int, int], objective: Objective) -> int:
    """Operations of one evaluation of loss and gradient for one image; a multiplication and an addition are two.

    Convolutions and Gram products, each with a gradient of the same work (`ops.gram_sum` has one product there); the
    rest, about 1%, is left out. Taps that read zeros beyond a border count, as if it had none.
    """
    total = 0
    for layer in layers_used(objective):
        positions, channels = layer_shape(bucket, layer)
        total += 4 * positions * channels * 9 * input_channels(layer)
    for layer in _names(objective.style_layers):
        positions, channels = layer_shape(bucket, layer)
        total += 4 * positions * channels**2
    return total
