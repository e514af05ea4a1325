"""Matches the colours of one image to those of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Colours(NamedTuple):
    """Mean and covariance of the colours of a picture's pixels, 3 and 3 x 3 float64, gamma-encoded in [0, 1]."""

    mean: np.ndarray
    covariance: np.ndarray


def colours_of(pixels: np.ndarray) -> Colours:
    """Computes the mean and covariance of the colours of h x w x 3 pixels in [0, 1]."""
    flat = pixels.reshape(-1, 3).astype(np.float64)
    return Colours(flat.mean(0), _covariance(flat))


def pooled(colours: Sequence[Colours], weights: Sequence[float]) -> Colours:
    """Computes the mean and covariance of the pixels of several pictures together, each with its weight."""
    (mean, covariance), total = colours[0], weights[0]
    for one, weight in zip(colours[1:], weights[1:], strict=True):
        total += weight
        share, apart = weight / total, one.mean - mean
        mean = mean + share * apart
        covariance = (1 - share) * covariance + share * one.covariance + share * (1 - share) * np.outer(apart, apart)
    return Colours(mean, covariance)


def match_colours(content: np.ndarray, style: np.ndarray | Colours) -> np.ndarray:
    """Gives the content image the style image's mean colour and covariance of colours.

    The map is the linear one with these moments that changes colours least (Pitie and Kokaram 2007, "The linear
    Monge-Kantorovitch linear colour mapping for example-based colour transfer"): T = C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2.

    Args:
        content: H x W x 3 in [0, 1].
        style: h x w x 3 in [0, 1], or its `colours_of`.

    Returns:
        H x W x 3 float32, clipped to [0, 1].
    """
    target = style if isinstance(style, Colours) else colours_of(style)
    pixels = content.reshape(-1, 3).astype(np.float64)
    floor = 1e-4 * np.eye(3)  # the covariance of a grey or flat image is singular
    c, s = _covariance(pixels) + floor, target.covariance + floor
    root = _root(c)
    inverse = np.linalg.inv(root)
    transport = inverse @ _root(root @ s @ root) @ inverse
    moved = (pixels - pixels.mean(0)) @ transport + target.mean
    return np.clip(moved, 0, 1).reshape(content.shape).astype(np.float32)


def _covariance(pixels: np.ndarray) -> np.ndarray:
    centred = pixels - pixels.mean(0)
    return centred.T @ centred / len(pixels)


def _root(matrix: np.ndarray) -> np.ndarray:
    """Computes the square root of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                 [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                 [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
"""Matrices of Oklab (Ottosson 2020, "A perceptual color space for image processing")."""


def to_oklab(pixels: np.ndarray) -> np.ndarray:
    """Converts gamma-encoded sRGB in [0, 1], H x W x 3, to Oklab: lightness in [0, 1], and two axes of colour."""
    pixels = np.clip(pixels.astype(np.float64), 0, 1)
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LMS.T) @ _LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Converts Oklab to gamma-encoded sRGB, H x W x 3 float32 in [0, 1]; colours outside lose saturation, not
    lightness."""
    gray = lab * (1, 0, 0)
    inside, outside = np.zeros((*lab.shape[:2], 1)), np.ones((*lab.shape[:2], 1))
    if not (fits := _fits(lab)).all():
        for _ in range(12):  # bisection on the saturation, to 1/4096
            middle = (inside + outside) / 2
            good = _fits(gray + (lab - gray) * middle)[..., None]
            inside, outside = np.where(good, middle, inside), np.where(good, outside, middle)
        lab = np.where(fits[..., None], lab, gray + (lab - gray) * inside)
    linear = np.clip(_linear(lab), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _linear(lab: np.ndarray) -> np.ndarray:
    return (lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T


def _fits(lab: np.ndarray) -> np.ndarray:
    linear = _linear(lab)
    return np.all((linear > -1e-4) & (linear < 1 + 1e-4), axis=-1)


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Returns the picture in gray of the same Oklab lightness, H x W x 3 float32."""
    return from_oklab(to_oklab(pixels) * (1, 0, 0))


def with_colours_of(pixels: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Returns the lightness of one picture with the colours of another of the same size, in Oklab.

    Gatys, Bethge, Hertzmann and Shechtman 2016, "Preserving Color in Neural Artistic Style Transfer", do so in YIQ.
    """
    lab = to_oklab(content)
    lab[..., 0] = to_oklab(pixels)[..., 0]
    return from_oklab(lab)


def matched_luminance(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Returns the style image in gray, with the content image's mean and spread of lightness (section 4 of the
    paper)."""
    own, wanted = to_oklab(style)[..., 0], to_oklab(content)[..., 0]
    moved = (own - own.mean()) * (wanted.std() / max(own.std(), 1e-6)) + wanted.mean()
    return from_oklab(np.clip(moved, 0, 1)[..., None] * (1, 0, 0))
