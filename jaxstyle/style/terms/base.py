"""A term of the objective: targets computed from an image once, and a loss against them at every evaluation.

Symbols follow the papers: F are the feature maps of the optimised image, P those of the content image, G and A the
Gram matrices of the optimised image and the style image, C the channels of a layer and h x w its positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import Inside
from jaxstyle.model.vgg import FeatureMap
from jaxstyle.presets import Objective

Image = Float[Array, "H W 3"]
Maps = dict[str, FeatureMap]
Regions = dict[str, Float[Array, "h w R"]]
"""Weights in [0, 1] of every position of a layer in each of R regions, by layer name."""


class Warped(NamedTuple):
    """The result of the frame before, as this frame should look where both show the same.

    Attributes:
        image: the result, moved along with the picture.
        weights: in [0, 1], 0 where this frame shows what the one before did not.
    """

    image: Image
    weights: Float[Array, "H W"]


class View(NamedTuple):
    """The inputs of a term for one image.

    Attributes:
        image: gamma-encoded sRGB in [0, 1]; the optimisation may leave that range.
        inside: mask of the picture; terms leave out everything outside.
        maps: feature maps of the layers that the active terms read. Where a picture is computed in tiles, those of
            layers that are read only for sums are absent.
        sums: the term's own `Term.sums` of the picture, by layer.
        regions: regions at the layers of terms whose targets come from the style image; None without masks.
        before: of the content image: the result of the frame before; None unless the temporal term is active.
    """

    image: Image
    inside: Inside
    maps: Maps
    sums: Mapping[str, Any] = MappingProxyType({})
    regions: Regions | None = None
    before: Warped | None = None

    @property
    def pixels(self) -> Float[Array, ""]:
        """Number of pixels inside the picture."""
        return count(self.inside, self.image)


def no_layers(objective: Objective) -> tuple[str, ...]:
    """Returns no layers, for a term that reads pixels only."""
    del objective
    return ()


def no_targets(objective: Objective, view: View) -> Any:
    """Returns no targets, for a term that has none."""
    del objective, view
    return ()


@dataclass(frozen=True)
class Term:
    """One term of the objective.

    Attributes:
        name: name of its weight in `Objective` (NAME_weight), its loss in rows, and its targets.
        loss: (objective, view of the optimised image, targets) -> scalar, without its weight.
        layers: (objective) -> Keras's names of the layers that `loss` and `targets` read.
        targets: (objective, view of the image named by `source`) -> a tree of arrays.
        source: image from which the targets are computed: "content" (once a lane) or "style" (once a style image).
        weight: (objective) -> number; neither a term of weight 0 nor its layers are computed.
        prepared: (objective, targets of one image, or of several along a leading axis) -> the same targets together
            with sums over them. A loop on a GPU passes these to `loss`, since XLA would add up at every evaluation.
        sums: (objective, feature map of one layer) -> a tree of sums over its positions, from which alone `loss` and
            `targets` are computed, as `view.sums`. A picture in tiles then needs no whole maps of the term's layers.
            Without `sums` the term reads `view.maps`, and its layers are kept whole.
        optional: rows and results do not show it where its weight is 0.
    """

    name: str
    loss: Callable[[Objective, View, Any], Float[Array, ""]]
    layers: Callable[[Objective], tuple[str, ...]] = no_layers
    targets: Callable[[Objective, View], Any] = no_targets
    source: Literal["content", "style"] = "content"
    weight: Callable[[Objective], float] | None = None
    sums: Callable[[Objective, FeatureMap], Any] | None = None
    prepared: Callable[[Objective, Any], Any] | None = None
    optional: bool = False

    def weight_in(self, objective: Objective) -> float:
        """Returns the term's weight in an objective."""
        return self.weight(objective) if self.weight else getattr(objective, f"{self.name}_weight")


def sum_square(x: Array) -> Float[Array, ""]:
    """Computes the sum of squares."""
    return jnp.sum(jnp.square(x))


def wide(x: Array) -> Array:
    """Converts to float32, unless the type is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def count(inside: Inside, like: Array) -> Float[Array, ""]:
    """Counts the positions inside the picture, in the number type of `like` (float32 at least)."""
    return jnp.sum(inside, dtype=jnp.promote_types(like.dtype, jnp.float32))
