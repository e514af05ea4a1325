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
from jaxstyle.settings import Objective
from jaxstyle.style.terms import TERMS, Term, View
from jaxstyle.style.terms.base import Image, Maps

Network = Callable[[Any, Image, Inside], Maps]
"""(variables, image, inside) -> feature maps by layer name; what `VGG.apply` is."""


class Targets(NamedTuple):
    """What an image is optimised towards: for every active term its targets.

    Attributes:
        content: from the content image: one tree a lane.
        style: from the style image: shared by all lanes of one style.
    """

    content: dict[str, Any]
    style: dict[str, Any]


def active(objective: Objective) -> list[Term]:
    """The terms that have a weight."""
    return [term for term in TERMS.values() if term.weight_in(objective)]


def layers(objective: Objective, source: Literal["content", "style"] | None = None) -> tuple[str, ...]:
    """Layers that the active terms read, each once.

    Args:
        source: only of terms with targets from that image.
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
) -> dict[str, Any]:
    """Targets of the active terms that take them from this image.

    Args:
        image, inside: the content or the style image, and where it is in its array.
    """
    view = View(image, inside, network(variables, image, inside))
    return {term.name: term.targets(objective, view) for term in active(objective) if term.source == source}


def losses(
    objective: Objective, network: Network, variables: Any, image: Image, inside: Inside, targets: Targets
) -> dict[str, Float[Array, ""]]:
    """Every term at one image, its weight applied, in float32; 0 for a term of weight 0. Their sum is the loss."""
    view = View(image, inside, network(variables, image, inside))
    found = {name: jnp.zeros((), jnp.promote_types(image.dtype, jnp.float32)) for name in TERMS}
    for term in active(objective):
        own = (targets.content if term.source == "content" else targets.style)[term.name]
        found[term.name] = term.weight_in(objective) * term.loss(objective, view, own)
    return found
