"""Where the optimisation of one image starts."""

from __future__ import annotations

import hashlib

import numpy as np

from jaxstyle.errors import InputError
from jaxstyle.settings import StylizeSettings

_MEAN = np.array((123.68, 116.779, 103.939), np.float32)
"""ImageNet's mean colour, RGB in 0..255."""


def initial(
    settings: StylizeSettings, content: np.ndarray, style: np.ndarray, key: str, picture: np.ndarray | None = None
) -> np.ndarray:
    """The start, H x W x 3 float32, that `settings.init` names.

    Args:
        content: the content image, H x W x 3 in [0, 1].
        style: the style image, h x w x 3 in [0, 1].
        key: the image's name; with the seed it decides the noise, whatever the batch or the order.
        picture: for `init` a file: that picture at the content image's size.
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
    raise InputError(f"init is {settings.init!r}", "Arrays can start from content, matched or noise only.")


def noise(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The article's start: uniform in -128..127 about the mean colour, here divided by 255."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
    values = np.random.default_rng(list(digest)).uniform(-128, 127, shape)
    return ((values + _MEAN) / 255).astype(np.float32)


def match_colours(content: np.ndarray, style: np.ndarray) -> np.ndarray:
    """The content image with the style image's mean colour and covariance of colours.

    Of the linear maps that do this, the one that moves colours least (Pitie and Kokaram 2007, "The linear
    Monge-Kantorovitch linear colour mapping for example-based colour transfer"): T = C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2.
    """
    pixels, target = content.reshape(-1, 3).astype(np.float64), style.reshape(-1, 3).astype(np.float64)
    floor = 1e-4 * np.eye(3)  # a grey or flat picture has no covariance to divide by
    c, s = _covariance(pixels) + floor, _covariance(target) + floor
    root = _root(c)
    inverse = np.linalg.inv(root)
    transport = inverse @ _root(root @ s @ root) @ inverse
    moved = (pixels - pixels.mean(0)) @ transport + target.mean(0)
    return np.clip(moved, 0, 1).reshape(content.shape).astype(np.float32)


def _covariance(pixels: np.ndarray) -> np.ndarray:
    centred = pixels - pixels.mean(0)
    return centred.T @ centred / len(pixels)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def pad_reflect(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image continued to the right and below by its mirror image, edge pixels included, to the given size."""
    h, w = image.shape[:2]
    return np.pad(image, ((0, height - h), (0, width - w), (0, 0)), mode="symmetric")


def lane_inputs(content: np.ndarray, init: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """The arrays of a lane: a picture and its start, h x w x 3 each, filled up to a bucket of height x width.

    Returns:
        "content" and "init", H x W x 3 float32; "inside", H x W float32: 1 on the picture, 0 on its mirrored border.
    """
    inside = np.zeros((height, width), np.float32)
    inside[: content.shape[0], : content.shape[1]] = 1
    filled = {"content": pad_reflect(content, height, width), "init": pad_reflect(init, height, width)}
    return {name: np.asarray(array, np.float32) for name, array in filled.items()} | {"inside": inside}
