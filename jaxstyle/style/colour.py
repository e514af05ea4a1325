"""Matches the colours of one image to those of another."""

from __future__ import annotations

import numpy as np


def match_colours(content: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Gives the content image the style image's mean colour and covariance of colours.

    The map is the linear one with these moments that changes colours least (Pitie and Kokaram 2007, "The linear
    Monge-Kantorovitch linear colour mapping for example-based colour transfer"): T = C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2.

    Args:
        content: H x W x 3 in [0, 1].
        style: h x w x 3 in [0, 1].

    Returns:
        H x W x 3 float32, clipped to [0, 1].
    """
    pixels, target = content.reshape(-1, 3).astype(np.float64), style.reshape(-1, 3).astype(np.float64)
    floor = 1e-4 * np.eye(3)  # the covariance of a grey or flat image is singular
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
    """Computes the square root of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
