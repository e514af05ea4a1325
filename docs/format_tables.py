"""The tables of docs/formats.md, from the classes that describe files and the results of commands."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxstyle.bench import report as bench
from jaxstyle.data import audit, fingerprint, identity, layout, ledger, lock, mutex, recorded, shards, targets_file
from jaxstyle.data.packing.base import Packed
from jaxstyle.data.publishing import Published, commit, record
from jaxstyle.data.rows import Row
from jaxstyle.doctor import Finding
from jaxstyle.engine.replay import Replayed
from jaxstyle.model import weights_file
from jaxstyle.planning import forecast, saved_targets
from jaxstyle.report import chunks, gallery, rows_index

FORMATS: Mapping[str, type] = {
    "recorded": recorded.Recorded, "decides": recorded.Decides, "about": recorded.About, "places": recorded.Places,
    "lock": lock.LockRecord, "targets_head": targets_file.Metadata, "targets_decides": saved_targets.Decides,
    "targets_about": saved_targets.About, "weights": weights_file.Header, "index": rows_index.Index,
    "cells": chunks.Cells, "marker": commit.Marker, "record_head": record.RecordHead, "record_line": record.RecordLine,
    "status": audit.FolderStatus, "shard": shards.ShardStatus, "verdict": audit.Verdict, "forecast": forecast.Forecast,
    "bucket": forecast.Bucket, "packed": Packed, "published": Published, "written": gallery.Written,
    "replayed": Replayed, "finding": Finding, "bench": bench.Report, "bench_machine": bench.Machine,
    "bench_rates": bench.Rates, "bench_cell": bench.Cell, "bench_start": bench.Start, "bench_whole": bench.Whole,
}  # fmt: skip
"""The class behind each table. Test files compare them with what is written."""
BASES: Mapping[type, type] = {lock.LockRecord: identity.Process}
"""Bases of TypedDicts, which Python 3.11 does not remember."""
WORDS = {str: "text", Path: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
LISTS = (list, tuple)
STATISTICS = {
    "": "the Gram matrix, divided by the number of positions", "/mean": "mean of each channel",
    "/covariance": "covariance of the channels", "/root": "square root of the covariance, blurred",
    "/blur": "variance that blurs it, added to every channel", "/trace": "trace of the blurred covariance",
    "/square": "trace of its square", "/energy": "mean square of the features",
}  # fmt: skip
"""What the arrays of a style layer are."""


def kind(hint: Any) -> str:
    """A type as JSON has it, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in WORDS:
        return WORDS[hint]
    if origin is typing.Literal:
        return "text"
    if origin is typing.NotRequired:
        return f"{kind(inner[0])}; may be absent"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(kind, inner))
    return "list" if origin in LISTS or hint in LISTS else "object"


def properties(owner: type) -> Iterator[tuple[str, Any, str]]:
    """The properties that `as_json` adds to a class's fields: name, type, meaning."""
    for name, thing in vars(owner).items():
        if isinstance(thing, property) and name in JSON_PROPERTIES.get(owner, ()):
            meaning = (thing.__doc__ or "").split("\n")[0].rstrip(".")
            yield name, typing.get_type_hints(thing.fget)["return"], meaning[0].lower() + meaning[1:] + "."


JSON_TEXTS = {(audit.FolderStatus, "written"): "text or null", (shards.ShardStatus, "seen"): "text or null"}
"""Types of fields that `as_json` makes texts of."""
JSON_PROPERTIES: Mapping[type, tuple[str, ...]] = {
    audit.Verdict: ("ok",),
    forecast.Forecast: ("programs",),
    Replayed: ("equal",),
    bench.Cell: ("seconds_evaluation",),
}


def fields(owner: type, attributes: Callable[[type], Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Every field's name, type and meaning.

    Raises:
        KeyError: the docstring says nothing of a field.
    """
    hints, told = typing.get_type_hints(owner, include_extras=True), dict(attributes(owner))
    if owner in BASES:
        told |= attributes(BASES[owner])
    for name in own_names(owner):
        if name not in told:
            raise KeyError(f"the docstring of {owner.__name__} says nothing of {name}")
        yield name, JSON_TEXTS.get((owner, name)) or kind(hints[name]), re.sub(r"\bNone\b", "null", told[name])
    for name, hint, meaning in properties(owner):
        yield name, kind(hint), meaning


def own_names(owner: type) -> list[str]:
    """The names of a class's fields, without properties."""
    if dataclasses.is_dataclass(owner):
        return [one.name for one in dataclasses.fields(owner)]
    return [*typing.get_type_hints(owner)]


def json_names(owner: type) -> set[str]:
    """The names of a class's fields in JSON."""
    return {*own_names(owner), *(name for name, _, _ in properties(owner))}


def arrays() -> Iterator[tuple[str, str, str]]:
    """The arrays of a file of style targets: name, number type and shape, and when."""
    for loss, statistics in saved_targets.STATISTICS.items():
        for name, axes in statistics.items():
            yield f"style/LAYER{name}", f"F32, [{', '.join(['C'] * axes)}]", f"`{loss}`: {STATISTICS[name]}"
    yield "colours/mean", "F64, [3]", "mean colour of all pixels, in [0, 1]"
    yield "colours/covariance", "F64, [3, 3]", "covariance of the colours"
    yield "picture", f"U8, [height, width, 3], at most {saved_targets.PICTURE} a side", "for sheets and judgements"


def versions() -> Iterator[tuple[str, str, str]]:
    """Each file, what marks its version, and the present one."""
    formats = " and ".join(f'"{name}"' for name in weights_file.FORMATS)
    yield layout.MANIFEST, "none: every field may be absent but `key` and `status`", ""
    yield layout.SETTINGS, "`format`", str(recorded.FORMAT)
    yield "the record of a lock", "none: every field may be absent", ""
    yield f"style targets ({targets_file.EXTENSION})", "`format` in `__metadata__`", f'"{targets_file.FORMAT}"'
    yield "weights (.h5)", "attribute `format`", formats
    yield "a report's data/index.js", "`version`: page and data are of one jaxstyle", "that of the package"
    yield commit.MARKER, "`format`", str(record.FORMAT)
    yield record.RECORD, "`format` in its first line", str(record.FORMAT)
    yield "results and events of commands", "`jaxstyle --version`", "that of the package"


def limits() -> Iterator[tuple[str, str]]:
    """Files and the most bytes that jaxstyle reads of them."""
    for name, most in (
        ("a line of a ledger", ledger.LONGEST_LINE),
        (layout.SETTINGS, fingerprint.MOST_BYTES),
        ("the record of a lock", mutex.MOST_BYTES),
        ("style targets", targets_file.MOST_BYTES),
        ("their header", targets_file.MOST_HEADER),
    ):
        yield name, f"{most:,}"


def described(
    attributes: Callable[[type], Mapping[str, str]], table: Callable[..., str]
) -> dict[str, Callable[[], str]]:
    """What makes each table of docs/formats.md, by its name.

    Args:
        attributes: the descriptions in a class's docstring by name.
        table: makes a table of Markdown from its head and rows.
    """

    def of(owner: type) -> Callable[[], str]:
        def made() -> str:
            together: dict[str, list[tuple[str, str]]] = {}  # fields that one sentence describes
            for name, words, text in fields(owner, attributes):
                together.setdefault(text, []).append((f"`{name}`", words))
            rows = []
            for text, some in together.items():
                words = [word for _, word in some]
                words = words if len({*words}) > 1 else words[:1]
                rows.append((", ".join(name for name, _ in some), ", ".join(words), text))
            return table(("field", "type", "meaning"), rows)

        return made

    def shown(rows: Callable[[], Iterator[tuple[str, ...]]], *head: str) -> Callable[[], str]:
        def made() -> str:
            coded = ((f"`{name}`" if re.fullmatch(r"[\w./]+", name) else name, *rest) for name, *rest in rows())
            return table(head, coded)

        return made

    found = {f"format_{name}": of(owner) for name, owner in FORMATS.items()} | {"row": of(Row)}
    found["format_arrays"] = shown(arrays, "array", "type and shape", "what it is")
    found["format_versions"] = shown(versions, "file", "what marks its version", "now")
    found["format_limits"] = shown(limits, "file", "most bytes")
    return found
