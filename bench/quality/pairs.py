"""Pairs of photographs and paintings from two folders, and what a program makes of a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Picture:
    """A picture at its working size.

    Attributes:
        name: the file's name without its suffix.
        pixels: H x W x 3 uint8, gamma-encoded sRGB.
    """

    name: str
    pixels: np.ndarray

    @property
    def floats(self) -> np.ndarray:
        """Returns H x W x 3 float32 in [0, 1]."""
        return self.pixels.astype(np.float32) / 255


@dataclass(frozen=True)
class Pair:
    """A photograph and a painting."""

    content: Picture
    style: Picture

    @property
    def name(self) -> str:
        """Returns the name of the pair's results."""
        return f"{self.content.name}--{self.style.name}"


@dataclass(frozen=True)
class Made:
    """What a program makes of a pair.

    Attributes:
        image: H x W x 3 floats; values outside [0, 1] are clipped.
        evaluations: evaluations of loss and gradient, at all sizes together.
        seconds: of the optimisation.
        setup_seconds: of what comes before: compilation, targets, decoding.
    """

    image: np.ndarray
    evaluations: int
    seconds: float
    setup_seconds: float


def read(path: Path, size: int | None = None, *, exactly: tuple[int, int] | None = None) -> Picture:
    """Reads a picture file upright and in RGB.

    Args:
        size: reduce the picture to this long side in pixels; a smaller one keeps its size.
        exactly: width and height to resize it to.
    """
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file).convert("RGB")
    if exactly is not None:
        picture = picture.resize(exactly, Image.Resampling.LANCZOS)
    elif size is not None:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=None)
    return Picture(path.stem, np.asarray(picture))


def files(place: Path) -> list[Path]:
    """Lists the JPEG and PNG files of a folder by name, or the file itself.

    Raises:
        SystemExit: there is none.
    """
    found = [place] if place.is_file() else sorted(p for p in place.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{place} has no .jpg, .jpeg or .png file. Give a folder of pictures, or one picture.")
    return found


def pairs(contents: Path, styles: Path, size: int, number: int | None = None) -> list[Pair]:
    """Pairs the photographs of a folder with the paintings of another.

    The k-th pair has the k-th photograph and the k-th painting, beginning again at the end of either list, so that a
    few pairs already have different ones; no pair comes twice.

    Args:
        contents, styles: folders of pictures, or single files.
        size: long side in pixels to which both are reduced.
        number: how many pairs [default: all]
    """
    photographs, paintings = files(contents), files(styles)
    every = len(photographs) * len(paintings)
    cycle = math.lcm(len(photographs), len(paintings))  # after which the same pairs would come again
    found = []
    for k in range(every if number is None else min(number, every)):
        content, style = photographs[k % len(photographs)], paintings[(k + k // cycle) % len(paintings)]
        found.append(Pair(read(content, size), read(style, size)))
    return found


def bytes_of(image: np.ndarray) -> np.ndarray:
    """Rounds floats to H x W x 3 uint8, as a file has them."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write(pixels: np.ndarray, path: Path) -> Path:
    """Writes H x W x 3 uint8 to a PNG, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
