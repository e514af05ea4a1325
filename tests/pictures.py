"""Pictures made by formula, for tests: no file of anybody's is needed."""

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """H x W x 3 uint8: a smooth scene with edges and a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    phase = rng.uniform(0, 6, 3)
    sky = 0.5 + 0.4 * np.sin(5 * x[..., None] + phase) * np.cos(4 * y[..., None] - phase)
    sky[(x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.04] = rng.uniform(0, 1, 3)
    return (np.clip(sky + rng.normal(0, 0.03, sky.shape), 0, 1) * 255).astype(np.uint8)


def painting(width: int = 64, height: int = 64) -> np.ndarray:
    """H x W x 3 uint8: coloured stripes that bend."""
    y, x = np.mgrid[0:height, 0:width] / 64
    bands = np.sin(40 * x + 6 * np.sin(9 * y))
    return (np.stack([bands > 0, np.abs(bands) > 0.5, bands < 0.3], -1) * np.array([230, 180, 140])).astype(np.uint8)


def save(path, array, **options):
    """Writes a picture and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path
