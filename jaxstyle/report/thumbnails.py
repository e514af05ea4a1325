"""Makes small JPEGs of pictures in decoder processes. A thumbnail is named after its picture, and made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from jaxstyle.data import image
from jaxstyle.decode.worker import Decoded
from jaxstyle.errors import ImageError
from jaxstyle.report.site import Site, thumb_key

SIZE = 320
"""Long side in pixels."""
QUALITY = 80
DIGITS = 20
"""Hexadecimal digits of a picture's checksum in its thumbnail's name."""
AT_A_TIME = 16


class Wanted(NamedTuple):
    """A thumbnail to be made.

    Attributes:
        name: see `name_of`.
        sha256: checksum of the picture's file; another file's thumbnail is not made.
        read: decodes the picture at `SIZE`; raises ImageError.
    """

    name: str
    sha256: str
    read: Callable[[], Decoded]


def name_of(sha256: str) -> str:
    """Returns the name of a picture's thumbnail, "" for a picture without checksum."""
    return sha256[:DIGITS] if len(sha256) >= DIGITS else ""


class Thumbnails:
    """Makes thumbnails.

    Attributes:
        refused: names of those that could not be made, which are not tried again.
    """

    def __init__(self, site: Site, workers: int):
        """Args:
        workers: threads, each of which waits for a decoder process.
        """
        self._site, self._workers = site, max(1, workers)
        self.refused: set[str] = set()

    def make(self, wanted: Iterable[Wanted], told: Callable[[int], None], ended: Callable[[], bool]) -> int:
        """Makes those that the site lacks; returns their number.

        Args:
            told: called now and then with the number made so far.
            ended: whether to begin nothing more.

        Raises:
            StorageError: a thumbnail cannot be written.
            ProcessError: no decoder process can be started.
        """
        made, missing = 0, self._missing(wanted)
        with ThreadPoolExecutor(self._workers) as threads:
            while not ended() and (some := list(islice(missing, AT_A_TIME))):
                made += sum(threads.map(self._make, some))
                told(made)
        return made

    def _missing(self, wanted: Iterable[Wanted]) -> Iterator[Wanted]:
        """Yields those that are to be made, each once."""
        asked = self.refused.copy()
        for one in wanted:
            if one.name not in asked and not self._site.has(thumb_key(one.name)):
                yield one
            asked.add(one.name)

    def _make(self, one: Wanted) -> bool:
        try:
            picture = one.read()
            if picture.sha256 != one.sha256:
                raise ImageError("is not the picture of its row")
            data = image.encode(picture.pixels, None, "JPEG", QUALITY)
        except ImageError:
            self.refused.add(one.name)
            return False
        return self._site.put(thumb_key(one.name), data)
