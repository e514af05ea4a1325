"""Style term: distance of the features' statistics from those of the style image (Gatys et al. 2016, equation 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms import gram, moments, wasserstein
from jaxstyle.style.terms.base import Term, View, count


class StyleLoss(NamedTuple):
    """The statistics of a layer that are compared.

    Attributes:
        target: feature maps of the style image -> a tree of arrays.
        loss: (normalization, feature maps, target, positions of the layer inside the picture, pixels of the picture)
            -> scalar.
    """

    target: Callable[[FeatureMap], Any]
    loss: Callable[[str, FeatureMap, Any, Float[Array, ""], Float[Array, ""]], Float[Array, ""]]


STYLE_LOSSES: dict[str, StyleLoss] = {
    "gram": StyleLoss(gram.gram, gram.loss),
    "moments": StyleLoss(moments.moments, moments.loss),
    "w2": StyleLoss(wasserstein.target, wasserstein.loss),
}
"""Every style loss by its name in `Objective.style_loss`."""


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the style layers."""
    return objective.style_layers


def targets(objective: Objective, view: View) -> dict[str, Any]:
    """Returns the target of every style layer, such as A, the style image's Gram matrix."""
    compute = STYLE_LOSSES[objective.style_loss].target
    return {name: compute(view.maps[name]) for name in objective.style_layers}


def layer_weights(objective: Objective) -> tuple[float, ...]:
    """Returns the weight of each style layer: normalised to sum 1 for "energy" and "article", as given for "gatys"."""
    weights = objective.style_layer_weights or (1.0,) * len(objective.style_layers)
    return weights if objective.normalization == "gatys" else tuple(w / sum(weights) for w in weights)


def loss(objective: Objective, view: View, targets: dict[str, Any]) -> Float[Array, ""]:
    """Computes the weighted sum over the style layers."""
    distance = STYLE_LOSSES[objective.style_loss].loss
    total = jnp.zeros((), jnp.promote_types(view.image.dtype, jnp.float32))
    for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
        f = view.maps[name]
        positions = count(f.inside, total)
        total = total + weight * distance(objective.normalization, f, targets[name], positions, view.pixels)
    return total


TERM = Term("style", loss, layers, targets, source="style")
