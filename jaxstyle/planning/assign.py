"""Which styles an image gets: rendezvous hashing, and the other rules of `--assign`.

`random` and `balanced` look at the seed, the image's key and the styles' keys alone, so that order, batch, shards,
resumed runs and the number of images change nothing.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

from jaxstyle.data.ledger import hashed
from jaxstyle.data.styles import StyleFile

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: multiples of it modulo 2^64 are spread evenly (Knuth, TAOCP 3, 6.4)."""


class Assignment:
    """Assigns styles to images. Thread-safe.

    Rules:
        random: rendezvous hashing (Thaler and Ravishankar 1998): the styles with the highest hash of seed, image and
            style. A new style takes only the images that it gets.
        balanced: each style gets an even share of the images of a folder whose names are numbered. The number in a
            name, times the golden ratio, decides; a name without number is hashed. A new style moves more images.
        cycle: the n-th image of a folder gets the n-th style, in the order of listing. More images change it.
        each: every style.
        a mapping: what it says.
    """

    def __init__(
        self,
        files: Sequence[StyleFile],
        rule: str = "random",
        *,
        per_image: int = 1,
        seed: int = 0,
        by_folder: bool = True,
        mapping: Mapping[str, Sequence[int]] | None = None,
    ):
        """Args:
        rule: one of `settings.RULES`, or anything with a mapping.
        per_image: styles for each image.
        by_folder: balance and cycle within each folder of images instead of over all.
        mapping: indices of styles by image key.
        """
        self._rule, self._per_image, self._by_folder, self._mapping = rule, per_image, by_folder, mapping
        self._keys = [one.key for one in files]
        self._seed = seed
        self._hashes = np.array([hashed(key, "style") for key in self._keys], np.uint64)
        weights = np.array([one.weight for one in files])
        self._weights = None if (weights == weights[0]).all() else weights
        self._ring = lru_cache(maxsize=16)(self._ring_of)
        self._broken: set[int] = set()
        self._next: Counter[str] = Counter()
        self._mutex = threading.Lock()

    @property
    def several(self) -> bool:
        """Whether an image may have several outputs, which then carry the styles' names."""
        if self._mapping is not None:
            return any(len(styles) > 1 for styles in self._mapping.values())
        return self._rule == "each" or self._per_image > 1

    @property
    def fixed(self) -> bool:
        """Whether no other style takes the place of a broken one."""
        return self.mapped or self._rule == "each"

    @property
    def mapped(self) -> bool:
        """Whether a mapping decides."""
        return self._mapping is not None

    @property
    def by_position(self) -> bool:
        """Whether the position of an image in the listing counts."""
        return self._rule == "cycle" and self._mapping is None

    def lose(self, style: int) -> None:
        """Takes a style out that cannot be read; its images get the next styles of their orders."""
        with self._mutex:
            self._broken.add(style)

    def styles(self, image: str, position: int = 0) -> list[int]:
        """The styles of an image; none if a mapping leaves it out, or no style can be read.

        Args:
            position: of the image in its folder, or in the whole listing; see `by_position`.
        """
        if self._mapping is not None:
            return list(self._mapping.get(image, ()))
        if self._rule == "each":
            return list(range(len(self._keys)))
        with self._mutex:
            broken = set(self._broken)
        whole = (n for n in self._order(image, position, self._per_image + len(broken)) if n not in broken)
        return list(itertools.islice(whole, self._per_image))

    def instead(self, image: str, position: int = 0) -> int | None:
        """The next style for an image one of whose styles turned out to be broken; None if there is none.

        The styles that an image gets are in the end the first of its order that can be read, whichever of them were
        found to be broken first.
        """
        if self.fixed:
            return None
        with self._mutex:
            order = list(self._order(image, position, len(self._keys)))
            while True:
                at = self._per_image + self._next[image]
                self._next[image] += 1
                if at >= len(order):
                    return None
                if order[at] not in self._broken:
                    return order[at]

    def _order(self, image: str, position: int, wanted: int) -> Iterator[int]:
        """The first styles of an image's order, each once."""
        first: list[int] = []
        if self._rule in ("balanced", "cycle"):
            pick = self._balanced if self._rule == "balanced" else self._cycled
            first = list(dict.fromkeys(pick(image, position, n) for n in range(self._per_image)))
        yield from first
        taken = set(first)
        yield from (n for n in self._ranked(image, wanted + len(first)) if n not in taken)

    def _ranked(self, image: str, wanted: int) -> list[int]:
        """The styles with the highest hashes, highest first: -weight / log(hash) with weights (Schindelhauer and
        Schomaker 2005), so that a style of weight 2 is twice as frequent."""
        mixed = _mix(self._hashes ^ np.uint64(hashed(f"{self._seed}\0{image}", "image")))
        score = mixed
        if self._weights is not None:
            score = -self._weights / np.log((mixed.astype(np.float64) + 0.5) / 2.0**64)
        if wanted == 1:
            return [int(score.argmax())]
        if wanted < len(score) // 4:
            best = np.argpartition(score, len(score) - wanted)[-wanted:]
            return [int(n) for n in best[np.argsort(score[best])[::-1]]]
        return [int(n) for n in np.argsort(score)[::-1]]

    def _group(self, image: str) -> str:
        return image.rpartition("/")[0] if self._by_folder else ""

    def _balanced(self, image: str, position: int, pick: int) -> int:
        del position
        group, name = self._group(image), image.rpartition("/")[2]
        number = re.search(r"\d{1,18}(?=\D*$)", name.rpartition(".")[0] or name)
        pattern = name[: number.start()] + "#" + name[number.end() :] if number else name
        at = int(number[0]) * self._per_image + pick if number else pick
        offset = hashed(f"{self._seed}\0{group}\0{pattern}", "offset")
        order, ends = self._ring(group)
        return int(order[np.searchsorted(ends, ((at * GOLDEN + offset) % 2**64 >> 11) / 2**53, side="right")])

    def _ring_of(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """The styles of a folder in their order on a ring, and where their shares of it end."""
        order = np.argsort(_mix(self._hashes ^ np.uint64(hashed(f"{self._seed}\0{group}", "ring"))))
        weights = np.ones(len(order)) if self._weights is None else self._weights[order]
        ends = np.cumsum(weights) / weights.sum()
        ends[-1] = 1.0
        return order, ends

    def _cycled(self, image: str, position: int, pick: int) -> int:
        first = hashed(f"{self._seed}\0{self._group(image)}", "cycle")
        return (first + position * self._per_image + pick) % len(self._keys)


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads every bit of 64-bit integers over all bits: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    values = values.copy()
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
