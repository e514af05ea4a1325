"""Shots of a film: pictures of one folder whose names differ only in a number are the frames of one shot."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator

from jaxstyle.data.ledger import hashed
from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import Input, Source

MOST = 4096
"""Shots that are counted: the most lanes of a batch."""


def in_shard(key: str, part: tuple[int, int]) -> bool:
    """Whether an input belongs to shard i of n. Its key alone decides, so that all versions and machines agree.

    Args:
        key: of the input; for frames the name of their shot.
    """
    index, parts = part
    return parts == 1 or hashed(key, "shard") % parts == index - 1


def numbered(key: str) -> tuple[str, int]:
    """Returns the name of a frame's shot, which has # for the number, and the number.

    A picture without a number before its extension is a shot of one frame.
    """
    folder, slash, name = key.rpartition("/")
    found = re.fullmatch(r"(.*?)([0-9]+)(\.[^.]*)?", name, re.DOTALL)
    if found is None:
        return key, 0
    return f"{folder}{slash}{found[1]}#{found[3] or ''}", int(found[2])


def in_order(inputs: Iterable[Input]) -> Iterator[Input]:
    """Yields inputs with their shots, the frames of a shot one after the other, in the order of their numbers.

    Args:
        inputs: those of a folder follow one another; they are held in memory together.
    """
    for _, folder in itertools.groupby(inputs, lambda one: one.key.rpartition("/")[0]):
        named = ((*numbered(one.key), one) for one in folder)
        for shot, _, one in sorted(named, key=lambda each: (each[0], each[1], each[2].key)):
            yield one if one.skipped else dataclasses.replace(one, shot=shot)


def number_of(source: Source, part: tuple[int, int]) -> int:
    """Counts the shots of a shard, by the names of pictures, up to `MOST`."""
    found: set[str] = set()
    for one in source.inputs():
        shot, _ = numbered(one.key)
        if not one.skipped and kinds.by_name(one.key) and in_shard(shot, part):
            found.add(shot)
            if len(found) == MOST:
                break
    return len(found)
