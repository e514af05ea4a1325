"""Histogram term: distance of every channel's distribution of features from the style image's.

Risser, Wilmot and Barnes 2017, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using Histogram
Losses" (arXiv 1701.08893). Their loss is the distance of the features from the same features with the style's
histogram. In one dimension that match gives the n-th smallest value the style's n-th quantile, so that the distance is
that of sorted values from quantiles: the squared 2-Wasserstein distance of the channel's two distributions.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective
from jaxstyle.style.terms.base import Term, View, count, sum_square, wide

QUANTILES = 256
"""Values that stand for a channel's distribution; the paper's histograms have 256 bins."""


def layers(objective: Objective) -> tuple[str, ...]:
    """Returns the layers whose histograms are compared."""
    return objective.histogram_layers


def in_order(f: FeatureMap) -> Float[Array, "C P"]:
    """Sorts the features of each channel; the positions outside the picture come last."""
    flat, last = wide(f.features).reshape(-1, f.features.shape[-1]).T, jnp.finfo(jnp.float32).max
    return jnp.sort(jnp.where(f.inside.reshape(1, -1), flat, last), axis=-1)


def between(values: Float[Array, "C N"], at: Float[Array, " M"]) -> Float[Array, "C M"]:
    """Interpolates rows of values linearly at places from 0 to N - 1."""
    below = jnp.floor(at).astype(jnp.int32)
    above, part = jnp.minimum(below + 1, values.shape[-1] - 1), (at - jnp.floor(at))[None]
    return values[:, below] * (1 - part) + jnp.where(part > 0, values[:, above], 0) * part


def quantiles(f: FeatureMap) -> Float[Array, "C Q"]:
    """Computes the quantiles (q + 1/2) / Q of every channel over the positions inside the picture."""
    values = in_order(f)
    number = count(f.inside, values)
    at = (jnp.arange(QUANTILES, dtype=values.dtype) + 0.5) / QUANTILES * number - 0.5
    return between(values, jnp.clip(at, 0, number - 1))


def distance(f: FeatureMap, target: Float[Array, "C Q"]) -> Float[Array, ""]:
    """Computes the mean over channels of the squared distance, divided by the mean square of the style's features."""
    values = in_order(f)
    number, rank = count(f.inside, values), jnp.arange(values.shape[-1], dtype=values.dtype)
    wanted = between(target, jnp.clip((rank + 0.5) / number * QUANTILES - 0.5, 0, QUANTILES - 1))
    apart = jnp.where((rank < number)[None], values - wanted, 0)
    return sum_square(apart) / (number * len(target)) / jnp.maximum(sum_square(target) / target.size, 1e-12)


def targets(objective: Objective, view: View) -> dict[str, Any]:
    """Returns the quantiles of the style image's features by layer."""
    return {name: quantiles(view.maps[name]) for name in objective.histogram_layers}


def loss(objective: Objective, view: View, targets: dict[str, Any]) -> Float[Array, ""]:
    """Computes the mean over the layers."""
    del objective
    return jnp.mean(jnp.stack([distance(view.maps[name], target) for name, target in targets.items()]))


TERM = Term("histogram", loss, layers, targets, source="style", optional=True)
