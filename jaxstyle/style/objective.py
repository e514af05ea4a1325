"""The objective of one image: the weighted sum of its terms (`style/terms/`).

Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks" (CVPR), equation 7, and total
variation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.model.vgg import pooled_weights
from jaxstyle.presets import Objective
from jaxstyle.style.terms import TERMS, Term, View
from jaxstyle.style.terms.base import Image, Maps

Network = Callable[[Any, Image, Inside], Maps]
"""(variables, image, inside) -> feature maps by layer name, like `VGG.apply`."""


REGIONS = "regions"
"""Name of the content image's regions among its targets."""


class Targets(NamedTuple):
    """Targets of every active term, by term name.

    Attributes:
        content: targets from the content image, one tree for each lane; with masks also `REGIONS`, see `View.regions`.
        style: targets from the style image; lanes with the same style share them.
    """

    content: dict[str, Any]
    style: dict[str, Any]


def active(objective: Objective) -> list[Term]:
    """Lists the active terms: those whose weight is not 0."""
    return [term for term in TERMS.values() if term.weight_in(objective)]


def layers(objective: Objective, source: Literal["content", "style"] | None = None) -> tuple[str, ...]:
    """Lists the layers that the active terms read, each once.

    Args:
        source: count only terms whose targets come from that image.
    """
    terms = [term for term in active(objective) if source in (None, term.source)]
    return tuple(dict.fromkeys(name for term in terms for name in term.layers(objective)))


def targets(
    objective: Objective,
    source: Literal["content", "style"],
    network: Network,
    variables: Any,
    image: Image,
    inside: Inside,
    regions: Float[Array, "H W R"] | None = None,
) -> dict[str, Any]:
    """Computes the targets of the active terms whose source is this image.

    Args:
        image, inside: the content or style image, and its mask.
        regions: weights of its pixels in each region.
    """
    pooled = None
    if regions is not None:
        pooled = pooled_weights(objective.architecture, layers(objective, "style"), regions, inside)
    view = View(image, inside, network(variables, image, inside), pooled)
    found = {term.name: term.targets(objective, view) for term in active(objective) if term.source == source}
    return found if source == "style" or not pooled else found | {REGIONS: pooled}


def losses(
    objective: Objective, network: Network, variables: Any, image: Image, inside: Inside, targets: Targets
) -> dict[str, Float[Array, ""]]:
    """Computes every term at one image, weights applied, in float32; 0 for a term of weight 0. The sum is the loss."""
    view = View(image, inside, network(variables, image, inside), targets.content.get(REGIONS))
    found = {name: jnp.zeros((), jnp.promote_types(image.dtype, jnp.float32)) for name in TERMS}
    for term in active(objective):
        own = (targets.content if term.source == "content" else targets.style)[term.name]
        found[term.name] = term.weight_in(objective) * term.loss(objective, view, own)
    return found
