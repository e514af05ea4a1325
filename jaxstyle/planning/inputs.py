"""The inputs of a run: those of its shard, with their styles and with the keys of their outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache

from jaxstyle.data.pictures import kinds
from jaxstyle.data.sources.base import Input
from jaxstyle.data.styles import output_key
from jaxstyle.planning.assign import Assignment
from jaxstyle.planning.preflight import Ready
from jaxstyle.planning.shots import in_order, in_shard
from jaxstyle.planning.styles import Styles
from jaxstyle.settings import RenderSettings

NOT_MAPPED, NO_STYLE = "the mapping gives it no style", "no style can be read"
"""Reasons of inputs without a style."""


def inputs_of(ready: Ready) -> Iterator[Input]:
    """The inputs of this run, those of its shard, with their styles; an input of several styles comes several times.

    Raises:
        InputError: see `Source.inputs`.
    """
    part, assignment = ready.settings.part(), ready.styles.assignment
    positions = _positions(ready.settings) if assignment is not None and assignment.by_position else lambda key: 0
    if ready.settings.frames:
        positions = lru_cache(1)(positions)  # all frames of a shot have one position
    for one in in_order(ready.source.inputs()) if ready.settings.frames else ready.source.inputs():
        position = positions(one.shot or one.key)
        if in_shard(one.shot or one.key, part):
            found = [one] if assignment is None else _in_its_styles(one, position, ready.styles, assignment)
            outputs = (named_for(each, ready.settings.output_format) for each in found)
            yield from (each for each in outputs if ready.only in ("", each.key))


def _positions(settings: RenderSettings) -> Callable[[str], int]:
    """Counts the inputs of each folder, or all of them. The inputs of a folder follow one another."""
    last, number = None, -1

    def position(key: str) -> int:
        nonlocal last, number
        folder = key.rpartition("/")[0] if settings.balance_by == "parent" else ""
        last, number = folder, (number + 1 if folder == last else 0)
        return number

    return position


def _in_its_styles(one: Input, position: int, styles: Styles, assignment: Assignment) -> Iterator[Input]:
    if one.failed or one.skipped:
        yield one
        return
    keys = [styles.listed.files[n].key for n in assignment.styles(one.shot or one.key, position)]
    if not keys:
        mapped = assignment.mapped
        yield dataclasses.replace(one, skipped=NOT_MAPPED) if mapped else dataclasses.replace(one, failed=NO_STYLE)
    for key in keys:
        named = {"key": output_key(one.key, key), "image": one.key} if assignment.several else {}
        yield dataclasses.replace(one, style=key, position=position, **named)


def named_for(one: Input, output_format: str) -> Input:
    """The input with the key that its output has in this format; what is skipped has no output and keeps its key."""
    key = kinds.output_name(one.key, output_format)
    if one.skipped or key == one.key:
        return one
    return dataclasses.replace(one, key=key, image=one.image or one.key, plain=one.key)
