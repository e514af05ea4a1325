"""Reads a mapping of photographs to styles: a CSV file, or the manifest of another run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from jaxstyle.data.opening import open_regular
from jaxstyle.data.rows import Row
from jaxstyle.data.shallow import loads
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import InputError


def mapping(path: Path, index: Mapping[str, int]) -> dict[str, list[int]]:
    """Reads a mapping: the styles of each image, by index.

    Args:
        path: a CSV file with the columns image and style, or a manifest, whose done rows count.
        index: of each style's key.

    Raises:
        InputError: it cannot be read, or names a style that is not there.
    """
    styles: dict[str, list[int]] = {}
    where = f"the mapping {printable(path)}"
    try:
        with open_regular(path, follow=True) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
            pairs = _from_manifest(file) if path.suffix.lower() == ".jsonl" else _from_csv(file)
            for image, style in pairs:
                if style not in index:
                    raise InputError(
                        f"{where} gives {printable(image)} the style {printable(style)}, which is not among the styles",
                        "Give the folder of styles that it was made with.",
                    )
                known = styles.setdefault(image, [])
                if index[style] not in known:
                    known.append(index[style])
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{where} cannot be read ({error})", "Give CSV with the columns image and style.") from error
    if not styles:
        raise InputError(f"{where} names no image", "Give CSV with the columns image and style.")
    return styles


def _from_csv(file: Iterable[str]) -> Iterator[tuple[str, str]]:
    rows = csv.DictReader(file)
    if not {"image", "style"} <= set(rows.fieldnames or ()):
        raise ValueError("its first line has no columns image and style")
    for row in rows:
        if row["image"] is None or row["style"] is None:
            raise ValueError(f"line {rows.line_num} has too few columns")
        yield row["image"], row["style"]


def _from_manifest(file: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in file:
        row = Row.from_json(loads(line))
        if row.status == "done":
            yield row.image or row.key, row.style
