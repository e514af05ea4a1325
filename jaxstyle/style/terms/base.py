"""What a term of the objective is: targets taken from an image once, and a loss against them at every evaluation.

In the papers' symbols F are the feature maps of the image being optimised, P those of the content image, G and A the
Gram matrices of the image and of the style image, C the channels of a layer and h x w its positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.settings import Objective

Image = Float[Array, "H W 3"]
Maps = dict[str, FeatureMap]


class View(NamedTuple):
    """What a term sees of one image.

    Attributes:
        image: gamma-encoded sRGB in [0, 1], though the optimisation may leave that range.
        inside: where the picture is; outside nothing counts.
        maps: the layers that the active terms ask for.
    """

    image: Image
    inside: Inside
    maps: Maps

    @property
    def pixels(self) -> Float[Array, ""]:
        """Number of pixels inside the picture."""
        return count(self.inside, self.image)


def no_layers(objective: Objective) -> tuple[str, ...]:
    """The layers of a term that looks at pixels only."""
    del objective
    return ()


def no_targets(objective: Objective, view: View) -> Any:
    """The targets of a term that has none."""
    del objective, view
    return ()


@dataclass(frozen=True)
class Term:
    """One term of the objective.

    Attributes:
        name: names its weight in `Objective` (NAME_weight), its loss in rows, and its targets.
        loss: (objective, view of the image being optimised, targets) -> scalar, without its weight.
        layers: (objective) -> Keras's names of the layers that `loss` and `targets` read.
        targets: (objective, view of the image named by `source`) -> a tree of arrays.
        source: which image the targets come from: "content" (one a lane) or "style" (one a painting).
        weight: (objective) -> number; a term of weight 0 is not computed, nor are its layers.
    """

    name: str
    loss: Callable[[Objective, View, Any], Float[Array, ""]]
    layers: Callable[[Objective], tuple[str, ...]] = no_layers
    targets: Callable[[Objective, View], Any] = no_targets
    source: Literal["content", "style"] = "content"
    weight: Callable[[Objective], float] | None = None

    def weight_in(self, objective: Objective) -> float:
        """The term's weight in an objective."""
        return self.weight(objective) if self.weight else getattr(objective, f"{self.name}_weight")


def sum_square(x: Array) -> Float[Array, ""]:
    """Sum of squares."""
    return jnp.sum(jnp.square(x))


def wide(x: Array) -> Array:
    """At least float32, whatever the maps are computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def count(inside: Inside, like: Array) -> Float[Array, ""]:
    """Positions inside the picture, in the number type of another array (float32 at least)."""
    return jnp.sum(inside, dtype=jnp.promote_types(like.dtype, jnp.float32))
