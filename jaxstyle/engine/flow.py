"""Where the pixels of a frame come from in the frame before: optical flow, and what the flow cannot explain.

A flow is h x w x 2 float32, in pixels to the right and down. The flow is OpenCV's (DIS: Kroeger, Timofte, Dai and
Van Gool 2016, "Fast Optical Flow using Dense Inverse Search"). Where it can be trusted is by Ruder, Dosovitskiy and
Brox 2016, "Artistic style transfer for videos" (GCPR), section 5.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of R, G and B in the gray picture that the flow is computed of."""
SMALLEST = 16
"""Side in pixels below which a picture is taken to be unmoved."""
STILL = 8 / 255
"""Largest change of a channel at which a pixel counts as unmoved where no flow can be computed."""


class Moved(NamedTuple):
    """What a frame has of the one before.

    Attributes:
        flow: from each of its pixels to where the pixel was in the frame before.
        weights: h x w float32, 1 where the flow can be trusted, else 0.
    """

    flow: np.ndarray
    weights: np.ndarray


def opencv() -> Any:
    """OpenCV's module, or None if it is not installed."""
    try:
        return importlib.import_module("cv2")
    except ImportError:
        return None


def moved(before: np.ndarray, frame: np.ndarray) -> Moved:
    """Finds out what a frame has of the one before; without OpenCV, what has not moved.

    Args:
        before, frame: h x w x 3 float32 in [0, 1].
    """
    cv2 = opencv()
    if cv2 is None or min(frame.shape[:2]) < SMALLEST:
        weights = (np.abs(frame - before).max(-1) <= STILL).astype(np.float32)
        return Moved(np.zeros((*frame.shape[:2], 2), np.float32), weights)
    one, other = (np.round(np.clip(each @ LUMA, 0, 1) * 255).astype(np.uint8) for each in (before, frame))
    forward, backward = (_flow(cv2, *pair) for pair in ((one, other), (other, one)))
    return Moved(backward, trusted(forward, backward))


def _flow(cv2: Any, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    way = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    way.setFinestScale(0)  # the preset stops at half of the size, with four times the error (bench/LOG.md)
    return way.calc(one, other, None)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Samples an image, h x w x C float32, where a flow points to, by linear interpolation; beyond its edge, at it."""
    h, w = flow.shape[:2]
    rows, columns = np.mgrid[:h, :w].astype(np.float32)
    y, x = np.clip(rows + flow[..., 1], 0, h - 1), np.clip(columns + flow[..., 0], 0, w - 1)
    top, left = (np.minimum(np.floor(at).astype(int), max(side - 2, 0)) for at, side in ((y, h), (x, w)))
    below, right = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
    down, along = (y - top)[..., None], (x - left)[..., None]
    upper = image[top, left] * (1 - along) + image[top, right] * along
    lower = image[below, left] * (1 - along) + image[below, right] * along
    return upper * (1 - down) + lower * down


def trusted(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Returns weights of a frame's pixels, h x w float32: 1, or 0 for what the frame before does not show.

    0 are pixels that come from beyond its edge; disoccluded ones, where forward and backward flow do not cancel
    (equation 5 of the paper); and the edges of motion, where a flow is inexact (equation 6).

    Args:
        forward: flow from the frame before to the frame.
        backward: flow from the frame to the frame before.
    """
    h, w = backward.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32) + np.moveaxis(backward[..., ::-1], -1, 0)
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    there = warp(forward, backward)
    size = _square(there) + _square(backward)
    disoccluded = _square(there + backward) > 0.01 * size + 0.5
    slopes = [np.gradient(backward[..., k]) for k in (0, 1)]
    edge = sum(np.square(one) for pair in slopes for one in pair) > 0.01 * _square(backward) + 0.002
    return (inside & ~disoccluded & ~edge).astype(np.float32)


def _square(flow: np.ndarray) -> np.ndarray:
    return np.square(flow).sum(-1)
