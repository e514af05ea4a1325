"""Makes the start image of one optimisation and the input arrays of its lane."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from jaxstyle.errors import InputError
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.colour import Colours, match_colours

_MEAN = np.array((123.68, 116.779, 103.939), np.float32)
"""ImageNet's mean colour, RGB in 0..255."""


def initial(
    settings: StylizeSettings,
    content: np.ndarray,
    style: np.ndarray | Colours,
    key: str,
    picture: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the start image, H x W x 3 float32, that `settings.init` names.

    Args:
        content: the content image, H x W x 3 in [0, 1], without padding.
        style: the style image, h x w x 3 in [0, 1], or its colours.
        key: the image's name; the seed and the name decide the noise, independent of batch and order.
        picture: the picture at the content image's size, if `init` is the path of a file.

    Raises:
        InputError: `settings.init` names a file and no picture was given.
    """
    if picture is not None:
        return picture
    match settings.init:
        case "content":
            return content
        case "matched":
            return match_colours(content, style)
        case "noise":
            return noise(settings.seed, key, content.shape)
    raise InputError(f"init is {settings.init!r}", "Use content, matched or noise: arrays cannot start from a file.")


def noise(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the article's start: uniform noise in -128..127 around the mean colour, here divided by 255."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
    values = np.random.default_rng(list(digest)).uniform(-128, 127, shape)
    return ((values + _MEAN) / 255).astype(np.float32)


def lane_inputs(
    content: np.ndarray,
    init: np.ndarray,
    height: int,
    width: int,
    regions: np.ndarray | None = None,
    before: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Pads a content image and its start image to the size of a bucket.

    Args:
        content, init: h x w x 3 in [0, 1].
        height, width: size of the bucket, at least h x w.
        regions: h x w x R bool, True where a pixel belongs to a region.
        before: of a frame: the warped result of the frame before, h x w x 3, and its weights, h x w.

    Returns:
        content, init: height x width x 3 float32, padded by reflection.
        inside: height x width bool, True on the picture. Every term leaves out the pixels outside.
        regions: height x width x R bool, if regions were given.
        before, weights: height x width x 3 and height x width float32, if `before` was given; weights are 0 outside.
    """
    inside = np.zeros((height, width), bool)
    inside[: content.shape[0], : content.shape[1]] = True
    made = {
        "content": pad_reflect(content, height, width),
        "init": pad_reflect(init, height, width),
        "inside": inside,
    }
    if regions is not None:
        h, w = regions.shape[:2]
        made["regions"] = np.pad(regions, ((0, height - h), (0, width - w), (0, 0)))
    if before is not None:
        h, w = before[1].shape
        made["before"] = pad_reflect(before[0], height, width)
        made["weights"] = np.pad(before[1], ((0, height - h), (0, width - w))).astype(np.float32)
    return made


def region_weights(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the weights of regions among the inputs of a lane, if there are any."""
    return [np.asarray(inputs["regions"], np.float32)] if "regions" in inputs else []


def warped(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the result of the frame before and its weights; for a first frame, weights of 0."""
    if "before" in inputs:
        return inputs["before"], inputs["weights"]
    return np.asarray(inputs["content"], np.float32), np.zeros(inputs["inside"].shape, np.float32)


def in_regions(labels: np.ndarray | None, number: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns h x w x `number` bool, True where a pixel has the region's label; None for no regions.

    Args:
        labels: h x w, indices of regions, others for none [default: all in region 0]
        shape: h x w, or more.
    """
    if number == 0:
        return None
    labels = np.zeros(shape[:2], np.int8) if labels is None else labels
    return labels[..., None] == np.arange(number)


def pad_reflect(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pads an image to the right and below by reflection that repeats the edge pixels; returns float32."""
    h, w = image.shape[:2]
    padded = np.pad(image, ((0, height - h), (0, width - w), (0, 0)), mode="symmetric")
    return np.asarray(padded, np.float32)
