"""The objective of one image: the weighted sum of its terms (`style/terms/`).

Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks" (CVPR), equation 7, and total
variation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.model.vgg import FeatureMap, pooled_weights
from jaxstyle.presets import Objective
from jaxstyle.style.terms import TERMS, Term, View
from jaxstyle.style.terms.base import Image, Maps, Regions

Network = Callable[[Any, Image, Inside], Maps]
"""(variables, image, inside) -> feature maps by layer name, like `VGG.apply`."""


Source = Literal["content", "style"] | None
"""The image that targets come from; None where all active terms count."""
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


class Seen(NamedTuple):
    """What all terms read of one image.

    Attributes:
        view: without sums.
        sums: `Term.sums` by layer and term.
    """

    view: View
    sums: dict[str, dict[str, Any]]

    def by(self, term: Term) -> View:
        """Returns the view of one term."""
        own = {layer: by_term[term.name] for layer, by_term in self.sums.items() if term.name in by_term}
        return self.view._replace(sums=own)


def active(objective: Objective) -> list[Term]:
    """Lists the active terms: those whose weight is not 0."""
    return [term for term in TERMS.values() if term.weight_in(objective)]


def shown(objective: Objective) -> tuple[str, ...]:
    """Lists the names of the terms that rows and results show."""
    return tuple(term.name for term in TERMS.values() if term.weight_in(objective) or not term.optional)


def layers(objective: Objective, source: Source = None) -> tuple[str, ...]:
    """Lists the layers that the active terms read, each once.

    Args:
        source: count only terms whose targets come from that image.
    """
    terms = [term for term in active(objective) if source in (None, term.source)]
    return tuple(dict.fromkeys(name for term in terms for name in term.layers(objective)))


def summed(objective: Objective, source: Source = None) -> dict[str, dict[str, Callable[[FeatureMap], Any]]]:
    """Maps the layers of which active terms read sums to these terms' `Term.sums`, by layer and term.

    Args:
        source: see `layers`.
    """
    found: dict[str, dict[str, Callable[[FeatureMap], Any]]] = {}
    for term in active(objective):
        if term.sums and source in (None, term.source):
            for name in term.layers(objective):
                found.setdefault(name, {})[term.name] = partial(term.sums, objective)
    return found


def read_whole(objective: Objective, source: Source = None) -> tuple[str, ...]:
    """Lists the layers of which active terms read the maps themselves, each once.

    Args:
        source: see `layers`.
    """
    terms = [term for term in active(objective) if not term.sums and source in (None, term.source)]
    return tuple(dict.fromkeys(name for term in terms for name in term.layers(objective)))


def see(
    objective: Objective,
    source: Source,
    network: Network,
    variables: Any,
    image: Image,
    inside: Inside,
    regions: Regions | None = None,
) -> Seen:
    """Computes what the terms read, with the maps of the whole image in memory; `tiles.see` does without.

    Args:
        source: see `layers`.
        regions: see `pooled`.
    """
    maps = network(variables, image, inside)
    wanted = summed(objective, source)
    sums = {layer: {term: sums(maps[layer]) for term, sums in by_term.items()} for layer, by_term in wanted.items()}
    return Seen(View(image, inside, maps, regions=regions), sums)


def pooled(objective: Objective, regions: Float[Array, "H W R"], inside: Inside) -> Regions:
    """Computes the weights of regions at the layers of the terms whose targets come from the style image.

    Args:
        regions: weights of an image's pixels in each region.
        inside: mask of the image.
    """
    return pooled_weights(objective.architecture, layers(objective, "style"), regions, inside)


def targets(objective: Objective, source: Literal["content", "style"], seen: Seen) -> dict[str, Any]:
    """Computes the targets of the active terms whose source is the image seen; with masks also its regions."""
    found = {term.name: term.targets(objective, seen.by(term)) for term in active(objective) if term.source == source}
    return found if source == "style" or not seen.view.regions else found | {REGIONS: seen.view.regions}


def prepared(objective: Objective, style: dict[str, Any]) -> dict[str, Any]:
    """Returns style targets, of one image or of several along a leading axis, as `Term.prepared` makes them."""
    terms = {term.name: term.prepared for term in active(objective)}
    return {name: own(objective, found) if (own := terms[name]) else found for name, found in style.items()}


def losses(objective: Objective, seen: Seen, targets: Targets) -> dict[str, Float[Array, ""]]:
    """Computes every term at one image, weights applied, in float32; 0 for a term of weight 0. The sum is the loss."""
    zero = jnp.promote_types(seen.view.image.dtype, jnp.float32)
    found = {name: jnp.zeros((), zero) for name in shown(objective)}
    for term in active(objective):
        own = (targets.content if term.source == "content" else targets.style)[term.name]
        found[term.name] = term.weight_in(objective) * term.loss(objective, seen.by(term), own)
    return found
