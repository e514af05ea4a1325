"""Reads inputs from shards of samples, tar archives as WebDataset writes them, one member at a time."""

from __future__ import annotations

import io
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from jaxstyle.data.bounds import most_bytes
from jaxstyle.data.opening import open_regular
from jaxstyle.data.samples import IMAGES, SPLIT, Sample, hash_of, is_meta, plain, recurring, samples
from jaxstyle.data.sources.base import Input, Locator, Stamp, is_tar, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.sources.given import Shard, expanded, refuse_equal_names
from jaxstyle.data.sources.index import Indexed
from jaxstyle.data.sources.walk import fold
from jaxstyle.data.tar import Headers, Member, Part, open_archive, unreadable
from jaxstyle.errors import InputError
from jaxstyle.settings import RenderSettings

NO_IMAGE = "a sample without an image (--member names one that is called otherwise)"
"""Reason for which a sample is skipped. It says nothing of the sample, since a run counts its reasons."""
STEP = 1000
"""Samples that are listed in a step of `TarSource.prepare`."""

_CHANGED = "its archive has changed since the run began"


class TarSource(Indexed):
    """Provides the images of samples in tar archives. See `base.Source`.

    The key of the member a/b.jpg of train-000.tar is train-000/a/b.jpg. `prepare` walks the headers once; keys, offsets
    and lengths are then kept in a temporary file.
    """

    def __init__(self, inputs: Iterable[Path | str], *, settings: RenderSettings, case_insensitive: bool = False):
        """Args:
        settings: `member` and `max_pixels` of the run.
        case_insensitive: see `walk.discover`.
        """
        super().__init__("the index of the archives")
        self._paths = [*expanded(inputs)]
        self._settings, self._case_insensitive = settings, case_insensitive
        self._shards: list[Shard] = []

    def check(self, output: Path) -> None:
        """Checks that the inputs are tar archives, and that no output would replace one. `prepare` looks into them."""
        for path in self._paths:
            if not is_tar(path):
                raise InputError(
                    f"the input {printable(path)} is no tar archive, and another input is",
                    "Give archives alone, or render the rest in a run of its own.",
                )
        refuse_equal_names((path.stem, path) for path in self._paths)
        refuse_overlap(output, self._paths)

    def prepare(self) -> Iterator[None]:
        """Walks the archives and keeps the index, in steps of a second at most on a local disk.

        Raises:
            InputError: an archive cannot be used, or no archive has a sample.
        """
        shards = list[Shard]()
        with self._new_index() as index:
            for path in self._paths:
                yield from self._list(path, shards, index)
            if not index.tell():
                where = ", ".join(map(printable, self._paths))
                raise InputError(f"there is no sample in {where}", "Give other archives.")
        with self._lock:
            self._index, self._shards = index, shards

    @property
    def roots(self) -> Sequence[Path]:
        """The given files."""
        return self._paths

    def inputs(self) -> Iterator[Input]:
        """Yields the samples of each archive in their order, and the files that are in no sample as skipped."""
        for line in self._lines():
            yield Input(*line)

    def open(self, locator: Locator) -> BinaryIO:
        """Opens the data of a member."""
        shard, start, size = self._at(locator)
        file = open_regular(shard.path, buffering=0, follow=True)
        if not shard.is_same(os.fstat(file.fileno())):
            file.close()
            raise OSError(_CHANGED)
        return io.BufferedReader(Part(file, start, size))

    def stamp(self, locator: Locator) -> Stamp:
        """Returns the member's length and the archive's modification time (st_mtime_ns)."""
        shard, _, size = self._at(locator)
        if not shard.is_same(os.stat(shard.path)):
            raise OSError(_CHANGED)
        return Stamp(size, shard.found.st_mtime_ns)

    def close(self) -> None:
        """Forgets the index; a later call lists the archives again."""
        with self._lock:
            super().close()
            self._shards = []

    def _at(self, locator: Locator) -> tuple[Shard, int, int]:
        number, start, size = map(int, str(locator).split(":"))
        with self._lock:
            self._listed()
            return self._shards[number], start, size

    def _list(self, path: Path, shards: list[Shard], index: IO[bytes]) -> Iterator[None]:
        """Adds an archive and its lines."""
        begin, bases, names = index.tell(), array("Q"), array("Q")
        with open_archive(path) as file:
            shard = Shard(path, os.fstat(file.fileno()))
            shards.append(shard)
            with reading(path):
                for sample in samples(Headers(file, path)):
                    line = self._line(sample, shard, len(shards) - 1)
                    bases.append(sample.hash)
                    names.append(hash_of(fold(line[0])) if self._case_insensitive else len(names))
                    self._add(index, line)
                    if len(bases) % STEP == 0:
                        yield
        several = recurring(bases)
        alike = recurring(names) if self._case_insensitive else frozenset()
        if several or alike:
            index.seek(begin)
            lines = index.readlines()
            index.seek(begin)
            index.truncate()
            for line in _corrected(lines, bases, names, several, alike):
                self._add(index, line)

    def _line(self, sample: Sample, shard: Shard, number: int) -> list[str]:
        """Key, locator, and why a sample is skipped or has failed."""
        name, skipped, failed = plain(sample.members[0].name), "", sample.failed
        found, wanted = images(sample, self._settings.member), self._settings.member
        if found:
            name = plain(found[0].name)
        image = found[0] if found else sample.members[0]
        if not sample.extensions and not failed:
            meta = "metadata of WebDataset" if is_meta(name) else "a hidden file"
            skipped = meta if is_meta(name) or "/." in f"/{name}" else "in no sample: its name has no extension"
        elif not found and not failed:
            skipped = f"a sample without a member .{wanted}" if wanted else NO_IMAGE
        elif len(found) > 1 and not failed:
            two = " and ".join(printable(one.name) for one in found[:2])
            failed = f"has {len(found)} images, {two}. Choose one with --member EXTENSION."
        elif image.size > (most := most_bytes(self._settings.max_pixels)) and not failed:
            failed = f"has {image.size} bytes, more than {most}. Raise --max-pixels if it is a picture."
        key = f"{shard.prefix}//{image.offset}" if sample.nameless else f"{shard.prefix}/{name}"
        return [key, f"{number}:{image.start}:{image.size}", skipped, failed]


def images(sample: Sample, wanted: str | None) -> list[Member]:
    """The members of a sample that may be its image.

    Args:
        wanted: extension of the image; None for all images that are nothing else by their names.
    """
    good = IMAGES if wanted is None else {wanted.lower()}
    return [one for one, name in zip(sample.members, sample.extensions, strict=False) if name.lower() in good]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of an archive's file inside the block into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def _corrected(lines: Sequence[bytes], bases: array[int], names: array[int], several: frozenset[int],
               alike: frozenset[int]) -> Iterator[list[str]]:  # fmt: skip
    """The lines of an archive: one that has failed for each sample of several places, and for equal names."""
    taken: dict[int, str] = {}
    seen = set[int]()
    for text, base, name in zip(lines, bases, names, strict=True):
        key, locator, skipped, failed = json.loads(text)
        if base in several:
            if base in seen:
                continue
            seen.add(base)
            skipped, failed = "", failed or SPLIT
        if name in alike and not skipped:
            before = taken.setdefault(name, key)
            if before is not key:
                failed = failed or (
                    f"its output would replace that of {printable(before)}, whose name differs only in case or Unicode "
                    "form"
                )
        yield [key, locator, skipped, failed]
