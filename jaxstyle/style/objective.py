"""The objective of one image: content + style (Gram matrices) + total variation.

Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks" (CVPR). In its symbols F are
the feature maps of the image being optimised, P those of the content image, G and A the Gram matrices of the image
and of the style image, C the number of channels of a layer and h x w its positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxstyle.model.ops import gram_sum
from jaxstyle.settings import Objective

Image = Float[Array, "H W 3"]
Maps = dict[str, Float[Array, "h w C"]]


class Terms(NamedTuple):
    """The three terms, each with its weight already applied; their sum is the loss."""

    content: Float[Array, ""]
    style: Float[Array, ""]
    tv: Float[Array, ""]


class StyleTargets(NamedTuple):
    """Gram matrix of the style image for every style layer; computed once for a style, shared by all images."""

    grams: dict[str, Float[Array, "C C"]]


class ContentTargets(NamedTuple):
    """Feature maps of the content image for every content layer."""

    maps: Maps


def gram(features: Float[Array, "h w C"]) -> Float[Array, "C C"]:
    """G = F'F / (h w), so that it means the same at every image size (the paper sums; Gatys's code averages)."""
    h, w, channels = features.shape
    return gram_sum(features.reshape(h * w, channels)) / (h * w)


def total_variation(image: Image) -> Float[Array, ""]:
    """Sum over pixels and channels of (dx^2 + dy^2)^1.25, in the image's units (the article's form of it).

    The exponent is Mahendran and Vedaldi's beta / 2 with beta = 2.5 (arXiv 1412.0035).
    """
    corner = image[:-1, :-1]
    return jnp.sum(((corner - image[1:, :-1]) ** 2 + (corner - image[:-1, 1:]) ** 2) ** 1.25)


def _mean_square(x):
    return jnp.mean(jnp.square(x))


def _sum_square(x):
    return jnp.sum(jnp.square(x))


def _wide(x):
    """At least float32, whatever the maps are computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _content(formula: str, f, p) -> Float[Array, ""]:
    match formula:
        case "energy":
            return _mean_square(_wide(f) - _wide(p)) / jnp.maximum(_mean_square(_wide(p)), 1e-12)
        case "gatys":  # the paper has half the sum; the mean, as in Gatys's later code, does not grow with the image
            return _mean_square(_wide(f) - _wide(p))
        case "article":
            return _sum_square(_wide(f) - _wide(p))
    raise AssertionError(formula)


def _style(formula: str, g, a, positions: int, pixels: int) -> Float[Array, ""]:
    channels = g.shape[0]
    match formula:
        case "energy":
            return _sum_square(g - a) / jnp.maximum(_sum_square(a), 1e-12)
        case "gatys":
            return _mean_square(g - a) / channels**2
        case "article":
            # The article's Grams are sums, and its two pictures have one size. Here the style picture may have
            # another, so averages are compared and both brought to the number of positions of the image.
            return _sum_square((g - a) * (positions / pixels)) / (4 * 3**2)
    raise AssertionError(formula)


def _tv(formula: str, image: Image) -> Float[Array, ""]:
    pixels = image.shape[0] * image.shape[1]
    match formula:
        case "energy":  # no target to divide by: mean over the image, with 1 for a step of a tenth of the range
            return total_variation(image * 10) / (3 * pixels)
        case "gatys":  # the paper has no such term
            return total_variation(image * 255) / (3 * pixels)
        case "article":
            return total_variation(image * 255)
    raise AssertionError(formula)


def layer_weights(objective: Objective) -> tuple[float, ...]:
    """Weight of each style layer: means for "energy" and the article (which divides by their number), else sums."""
    weights = objective.style_layer_weights or (1.0,) * len(objective.style_layers)
    return weights if objective.normalization == "gatys" else tuple(w / sum(weights) for w in weights)


Network = Callable[[Any, Image], Maps]
"""(variables, image) -> maps by layer name; what `VGG.apply` is."""


def style_targets(objective: Objective, network: Network, variables: Any, style: Image) -> StyleTargets:
    """Gram targets of a style image."""
    maps = network(variables, style)
    return StyleTargets({name: gram(maps[name]) for name in objective.style_layers})


def content_targets(objective: Objective, network: Network, variables: Any, content: Image) -> ContentTargets:
    """Feature maps of a content image."""
    maps = network(variables, content)
    return ContentTargets({name: maps[name] for name in objective.content_layers})


def terms(
    objective: Objective, network: Network, variables: Any, image: Image, style: StyleTargets, content: ContentTargets
) -> Terms:
    """The objective's terms at one image, float32.

    Args:
        objective: resolved; layers under Keras's names.
        image: gamma-encoded sRGB in [0, 1], though the optimisation may leave that range.
    """
    formula, maps = objective.normalization, network(variables, image)
    pixels = image.shape[0] * image.shape[1]

    content_terms = [_content(formula, maps[name], content.maps[name]) for name in objective.content_layers]
    content_term = jnp.mean(jnp.stack(content_terms))

    style_term = jnp.zeros((), image.dtype)
    for name, weight in zip(objective.style_layers, layer_weights(objective), strict=True):
        positions = maps[name].shape[0] * maps[name].shape[1]
        style_term = style_term + weight * _style(formula, gram(maps[name]), style.grams[name], positions, pixels)

    tv_term = _tv(formula, image) if objective.tv_weight else jnp.zeros((), image.dtype)
    return Terms(
        objective.content_weight * content_term, objective.style_weight * style_term, objective.tv_weight * tv_term
    )
