"""style-transfer-pytorch's objective, solver and defaults in plain PyTorch, on our weights.

https://github.com/crowsonkb/style-transfer-pytorch: Wasserstein distances of features taken as Gaussian, shallow layers
weighted most, Adam at scales that grow by sqrt(2), warmed from one to the next, and an exponential moving average of
the iterates as the result. Written from descriptions of it; the formulas are in the functions below.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from quality.pairs import Made, Pair
from quality.torch_network import Network, array, tensor

CONTENT = "relu4_2"
STYLE = {"relu1_1": 256 / 341, "relu2_1": 64 / 341, "relu3_1": 16 / 341, "relu4_1": 4 / 341, "relu5_1": 1 / 341}
"""Weights of the style layers."""
RIDGE = 1e-4
"""Added to the diagonal of covariances."""


def moments(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes mean and covariance of the channels of 1 x C x h x w over positions."""
    flat = maps[0].flatten(1)
    mean = flat.mean(1, keepdim=True)
    covariance = (flat - mean) @ (flat - mean).T / flat.shape[1]
    return mean[:, 0], covariance + RIDGE * torch.eye(len(flat))


class Gaussian:
    """A Gaussian from which the squared 2-Wasserstein distance of others is measured, divided by C."""

    def __init__(self, maps: torch.Tensor):
        self._mean, covariance = moments(maps)
        values, vectors = torch.linalg.eigh(covariance.double())
        self._root = ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()
        self._trace = covariance.trace()

    def distance(self, maps: torch.Tensor) -> torch.Tensor:
        """Computes |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2), divided by C (Olkin and Pukelsheim 1982)."""
        mean, covariance = moments(maps)
        product = self._root @ covariance @ self._root
        roots = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(RIDGE**2).sqrt()
        return torch.mean((mean - self._mean) ** 2) + (self._trace + covariance.trace() - 2 * roots.sum()) / len(mean)


def variation(image: torch.Tensor) -> torch.Tensor:
    """Computes the mean squared difference of neighbours along rows, columns and, at a quarter, both diagonals."""
    x = F.pad(image, (1, 1, 1, 1), mode="replicate")
    straight = (x[..., 1:-1, 2:] - x[..., 1:-1, 1:-1]) ** 2, (x[..., 2:, 1:-1] - x[..., 1:-1, 1:-1]) ** 2
    diagonal = (x[..., 1:, 1:] - x[..., :-1, :-1]) ** 2, (x[..., 1:, :-1] - x[..., :-1, 1:]) ** 2
    return 2 * (sum(d.mean() for d in straight) / 3 + sum(d.mean() for d in diagonal) / 12)


def scales(least: int, most: int) -> list[int]:
    """Lists long sides that end at `most`, each larger by sqrt(2), from the smallest that is at least `least`."""
    found = [most]
    while (smaller := round(most / 2 ** (len(found) / 2))) >= least:
        found.insert(0, smaller)
    return found


def resized(pixels: np.ndarray, long_side: int) -> np.ndarray:
    """Resizes H x W x 3 uint8 to a long side; returns floats in [0, 1]."""
    height, width = pixels.shape[:2]
    share = long_side / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), np.float32) / 255


def stylize(
    pair: Pair, factor: float, *, content_weight: float = 0.015, tv_weight: float = 2.0, min_scale: int = 128,
    initial_evaluations: int = 1000, evaluations: int = 500, learning_rate: float = 0.02, decay: float = 0.99,
) -> Made:  # fmt: skip
    """Minimises content + style + total variation at every scale, from the photograph.

    Args:
        factor: multiplies the style layers' weights, which add to 1.
        min_scale: smallest long side in pixels.
        initial_evaluations, evaluations: steps of Adam at the first scale, and at every later one.
        decay: of the moving average of the iterates.
    """
    began, setup, done = time.perf_counter(), 0.0, 0
    network = Network((CONTENT, *STYLE), replicate=True)
    image: torch.Tensor | None = None
    moving: list[torch.Tensor] = []  # Adam's two averages
    for scale in scales(min(min_scale, max(pair.content.pixels.shape)), max(pair.content.pixels.shape)):
        began_scale = time.perf_counter()
        content = tensor(resized(pair.content.pixels, scale))
        style = tensor(resized(pair.style.pixels, min(scale, max(pair.style.pixels.shape))))
        with torch.no_grad():
            target = network(content)[CONTENT]
            gaussians = {name: Gaussian(found) for name, found in network(style).items() if name in STYLE}
        if image is None:
            image, steps = content.clone(), initial_evaluations
            moving = [torch.zeros_like(image), torch.zeros_like(image)]
        else:
            size, steps = content.shape[2:], evaluations
            image = F.interpolate(image, size, mode="bicubic").clamp(0, 1)
            moving = [
                F.interpolate(m, size, mode=mode) for m, mode in zip(moving, ("bicubic", "bilinear"), strict=True)
            ]
            moving[1] = moving[1].clamp_min(0)
        average, rest = (1 - decay) * image, decay
        setup += time.perf_counter() - began_scale
        for _ in range(steps):
            x = image.detach().requires_grad_(True)
            found = network(x)
            loss = content_weight * torch.mean((found[CONTENT] - target) ** 2) + tv_weight * variation(x)
            for name, weight in STYLE.items():
                loss = loss + factor * weight * gaussians[name].distance(found[name])
            loss.backward()
            done += 1
            assert x.grad is not None
            image = adam(image, x.grad, moving, done, learning_rate).clamp(0, 1)
            average, rest = decay * average + (1 - decay) * image, decay * rest
        image = average / (1 - rest)
    assert image is not None
    return Made(array(image), done, time.perf_counter() - began - setup, setup)


def adam(
    image: torch.Tensor, gradient: torch.Tensor, moving: list[torch.Tensor], step: int, rate: float
) -> torch.Tensor:
    """Makes a step of Adam (Kingma and Ba 2015) with b = (0.9, 0.99); replaces the averages in `moving`."""
    moving[0] = 0.9 * moving[0] + 0.1 * gradient
    moving[1] = 0.99 * moving[1] + 0.01 * gradient**2
    return image - rate * (moving[0] / (1 - 0.9**step)) / ((moving[1] / (1 - 0.99**step)).sqrt() + 1e-8)
