"""Style term: distance of the features' statistics from those of the style image (Gatys et al. 2016, equation 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms import gram, guided, moments, wasserstein
from jaxstyle.style.terms.base import Term, View
from jaxstyle.style.terms.gram import Sums


class StyleLoss(NamedTuple):
    """The statistics of a layer that are compared.

    Attributes:
        target: sums of the style image's feature maps -> a tree of arrays.
        loss: (normalization, sums of the feature maps, target, pixels of the picture) -> scalar.
        features: whether the sums of the features are needed beside those of their products.
        prepared: see `Term.prepared`, for the target of one layer.
    """

    target: Callable[[Sums], Any]
    loss: Callable[[str, Sums, Any, Float[Array, ""]], Float[Array, ""]]
    features: bool = True
    prepared: Callable[[Any], Any] | None = None


STYLE_LOSSES: dict[str, StyleLoss] = {
    "gram": StyleLoss(gram.gram, gram.loss, features=False),
    "moments": StyleLoss(moments.moments, moments.loss, prepared=moments.prepared),
    "w2": StyleLoss(wasserstein.target, wasserstein.loss),
}
"""Every style loss by its name in `Objective.style_loss`."""


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the style layers."""
    return objective.style_layers


def sums(objective: Objective, f: FeatureMap) -> Sums:
    """Computes the sums over a layer's positions that the loss is computed from."""
    return gram.sums(f, features=STYLE_LOSSES[objective.style_loss].features)


def targets(objective: Objective, view: View) -> dict[str, Any]:
    """Returns the target of every style layer, such as A, the style image's Gram matrix; with regions, one of each."""
    compute, features = STYLE_LOSSES[objective.style_loss].target, STYLE_LOSSES[objective.style_loss].features
    if view.regions is not None:
        return {
            name: guided.targets(compute, view.maps[name], view.regions[name], features=features)
            for name in objective.style_layers
        }
    return {name: compute(view.sums[name]) for name in objective.style_layers}


def layer_weights(objective: Objective) -> tuple[float, ...]:
    """Returns the weight of each style layer: normalised to sum 1 for "energy" and "article", as given for "gatys"."""
    weights = objective.style_layer_weights or (1.0,) * len(objective.style_layers)
    return weights if objective.normalization == "gatys" else tuple(w / sum(weights) for w in weights)


def loss(objective: Objective, view: View, targets: dict[str, Any]) -> Float[Array, ""]:
    """Computes the weighted sum over the style layers, times `Objective.style_share`."""
    compare, features = STYLE_LOSSES[objective.style_loss].loss, STYLE_LOSSES[objective.style_loss].features

    def distance(of: Sums, target: Any) -> Float[Array, ""]:
        return compare(objective.normalization, of, target, view.pixels)

    total = jnp.zeros((), jnp.promote_types(view.image.dtype, jnp.float32))
    for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
        if view.regions is not None:
            maps, regions = view.maps[name], view.regions[name]
            own = guided.loss(distance, maps, regions, targets[name], features=features)
        else:
            own = distance(view.sums[name], targets[name])
        total = total + weight * own
    return total * jnp.minimum(1, view.pixels / objective.style_pixels) if objective.style_pixels else total


def prepared(objective: Objective, targets: dict[str, Any]) -> dict[str, Any]:
    """Prepares the targets of every layer; see `Term.prepared`."""
    own = STYLE_LOSSES[objective.style_loss].prepared
    return {name: own(target) for name, target in targets.items()} if own else targets


TERM = Term("style", loss, layers, targets, source="style", sums=sums, prepared=prepared)
