"""Counts the floating-point operations of an image, from shapes alone. A bucket is (width, height) in pixels."""

from __future__ import annotations

import math

from jaxstyle.architecture import Architecture
from jaxstyle.presets import Objective

ROOT_PRODUCTS = {"w2": 35}
"""Products of two C x C matrices that a style loss has at each style layer, its gradient included: for "w2", those of
`terms/wasserstein.py`, 31 of them in 11 iterations."""


def positions(bucket: tuple[int, int], layer: str) -> int:
    """Returns the number of positions in a layer's feature map."""
    shrink = 2 ** (int(layer.split("_")[0].removeprefix("block")) - 1)
    return (bucket[0] // shrink) * (bucket[1] // shrink)


def map_size(bucket: tuple[int, int], network: Architecture, layer: str) -> int:
    """Returns the number of values in a layer's feature maps."""
    return positions(bucket, layer) * network.channels(layer)


def sorted_layers(objective: Objective) -> tuple[str, ...]:
    """Lists the layers whose features are sorted for the histogram term; none if its weight is 0."""
    return tuple(map(objective.architecture.layer_name, objective.histogram_layers)) * bool(objective.histogram_weight)


def compared_layers(objective: Objective) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lists the content and style layers that an evaluation reads, by Keras's names; none for a term of weight 0."""
    name = objective.architecture.layer_name
    content = tuple(map(name, objective.content_layers)) if objective.content_weight else ()
    return content, tuple(map(name, objective.style_layers)) if objective.style_weight else ()


def layers_used(objective: Objective) -> tuple[str, ...]:
    """Lists the layers that an evaluation computes, from shallow to deep."""
    network = objective.architecture
    content, style = compared_layers(objective)
    read = (*content, *style, *sorted_layers(objective))
    return network.layers[: 1 + max(map(network.layers.index, read), default=-1)]


def evaluation_flops(bucket: tuple[int, int], objective: Objective) -> int:
    """Counts the operations of one evaluation of loss and gradient for one image; a multiply-add counts as two.

    The count has the convolutions, the products of features (one more for the gradient of each) and the products of
    the style loss; the rest, about 1%, is left out. Products with zero padding count too.
    """
    network, total = objective.architecture, 0
    for layer in layers_used(objective):
        total += 4 * positions(bucket, layer) * math.prod(network.kernel_shapes[layer])
    for layer in compared_layers(objective)[1]:
        channels = network.channels(layer)
        total += 4 * positions(bucket, layer) * channels**2
        total += 2 * ROOT_PRODUCTS.get(objective.style_loss, 0) * channels**3
    return max(total, 1)
