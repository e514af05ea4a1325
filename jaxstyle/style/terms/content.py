"""Content term: distance of the feature maps from those of the content image (Gatys et al. 2016, equation 1)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Term, View, count, sum_square, wide


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the content layers."""
    return objective.content_layers


def targets(objective: Objective, view: View) -> dict[str, Float[Array, "h w C"]]:
    """Returns P, the content image's feature maps by layer."""
    return {name: view.maps[name].features for name in objective.content_layers}


def distance(formula: str, f: FeatureMap, p: Float[Array, "h w C"]) -> Float[Array, ""]:
    """Computes the distance of F and P of one layer; both are 0 outside the picture."""
    square, numbers = sum_square(wide(f.features) - wide(p)), count(f.inside, p) * p.shape[-1]
    match formula:
        case "energy":
            return (square / numbers) / jnp.maximum(sum_square(wide(p)) / numbers, 1e-12)
        case "gatys":  # departs from the paper's half sum: the mean of Gatys's later code does not grow with the image
            return square / numbers
        case "article":
            return square
    raise AssertionError(formula)


def loss(objective: Objective, view: View, targets: dict[str, Any]) -> Float[Array, ""]:
    """Computes the mean over the content layers."""
    losses = [distance(objective.normalization, view.maps[name], p) for name, p in targets.items()]
    return jnp.mean(jnp.stack(losses))


TERM = Term("content", loss, layers, targets)
