"""A style as the device needs it: the pictures that its targets are computed from, or targets from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jaxstyle.data.image import resize, to_float
from jaxstyle.planning.saved_targets import SavedTargets
from jaxstyle.style.colour import Colours, colours_of, pooled


class Part(NamedTuple):
    """One picture of a style.

    Attributes:
        levels: h x w x 3, uint8, or float32 in [0, 1]; of saved targets the small picture beside them.
        weight: its share of the style's targets, relative to the other parts.
        sha256: of its file, in hexadecimal.
        labels: h x w int8, the index of each pixel's region, -1 for none; None without masks.
        mask_sha256: of the mask's file; empty without masks.
        saved: targets from a file, in the place of the picture's.
    """

    levels: np.ndarray
    weight: float
    sha256: str
    labels: np.ndarray | None = None
    mask_sha256: str = ""
    saved: SavedTargets | None = None

    @property
    def colours(self) -> Colours:
        """Mean and covariance of its colours."""
        return self.saved.colours if self.saved is not None else colours_of(to_float(self.levels))


@dataclass(frozen=True, eq=False)
class Painting:
    """A style: one picture, or a blend of several.

    Attributes:
        name: for rows: the key of its file, or keys with weights.
        parts: the pictures.
        length, modified: stamp of the file of a single picture, in bytes and nanoseconds.
        notes: on the pictures.
        file_sha256: checksum for rows, where that of the targets is another one.
        colours: of the regions in the masks, see `planning.masks.Mask`; a region's index is its place here.
    """

    name: str
    parts: Sequence[Part]
    length: int = 0
    modified: int = 0
    notes: Sequence[str] = ()
    file_sha256: str = ""
    colours: tuple[int, ...] = ()

    @classmethod
    def of(cls, pixels: np.ndarray, name: str = "style") -> Painting:
        """A style from an array, h x w x 3 in [0, 1] or uint8."""
        digest = hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
        return cls(name, [Part(pixels, 1.0, digest)])

    def changed(self, change: Callable[[np.ndarray], np.ndarray], by: str) -> Painting:
        """The style with other pixels.

        Args:
            change: of a picture, h x w x 3 in [0, 1].
            by: names the change, so that targets can be kept.
        """
        parts = [
            one._replace(
                levels=change(to_float(one.levels)), sha256=hashlib.sha256(f"{one.sha256}\0{by}".encode()).hexdigest()
            )
            for one in self.parts
        ]
        return dataclasses.replace(self, parts=parts, file_sha256=self.file_sha256 or self.sha256)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the file, or of the files' checksums and weights, and of those of masks."""
        if self.mask_sha256:
            every = [(one.sha256, one.weight, one.mask_sha256) for one in self.parts]
            return hashlib.sha256(json.dumps(every).encode()).hexdigest()
        if len(self.parts) == 1:
            return self.parts[0].sha256
        return hashlib.sha256(json.dumps([(one.sha256, one.weight) for one in self.parts]).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Bytes of its arrays."""
        labels = [one.labels for one in self.parts if one.labels is not None]
        saved = [array for one in self.parts if one.saved is not None for array in one.saved.arrays.values()]
        return sum(array.nbytes for array in (*(one.levels for one in self.parts), *labels, *saved))

    @property
    def mask_sha256(self) -> str:
        """Checksums of the masks; empty without masks."""
        return " ".join(one.mask_sha256 for one in self.parts if one.mask_sha256)

    @property
    def picture(self) -> np.ndarray:
        """All parts in one picture, h x w x 3 float32 in [0, 1], with heights in proportion to their weights: it has
        the colours of the style. That of a single part is made at each call, so that `bytes` is all that is held."""
        return to_float(self.parts[0].levels) if len(self.parts) == 1 else self._stacked

    @property
    def colour_source(self) -> np.ndarray | Colours:
        """What `match_colours` takes the style's colours from: its picture, or the colours beside saved targets."""
        if all(one.saved is None for one in self.parts):
            return self.picture
        return pooled([one.colours for one in self.parts], [one.weight for one in self.parts])

    @cached_property
    def _stacked(self) -> np.ndarray:
        height, width = self.parts[0].levels.shape[:2]
        most = max(one.weight for one in self.parts)
        rows = [max(1, round(height * one.weight / most)) for one in self.parts]
        return np.concatenate([resize(to_float(one.levels), width, n) for one, n in zip(self.parts, rows, strict=True)])
