"""Measures the results of an existing run of `jaxstyle render` against their photographs and style images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quality.distances import Distances
from quality.pairs import files, read


def score(output: Path, contents: Path, styles: Path, size: int | None = None) -> Iterator[dict[str, Any]]:
    """Yields a row of distances for every result in OUT/manifest.jsonl that is done.

    A result is compared at its own size, or reduced to `size`: the photograph is resized to it, and the style image
    to the run's style size, in proportion.

    Args:
        output: folder of the run.
        contents: the run's input folder, below which the manifest's keys name the photographs, or its one input.
        styles: the run's style image, or a folder that has it under its name.
        size: long side in pixels to which results are reduced before they are measured.

    Raises:
        SystemExit: there is no manifest, or a photograph or a style image is missing.
    """
    manifest = output / "manifest.jsonl"
    if not manifest.is_file():
        raise SystemExit(f"{output} has no manifest.jsonl. Give the output folder of `jaxstyle render`.")
    style_size, distances = _style_size(output), Distances()
    for line in manifest.read_text().splitlines():
        row = json.loads(line)
        if row["status"] != "done":
            continue
        photograph = contents if contents.is_file() else contents / (row.get("image") or row["key"])
        if not photograph.is_file():
            raise SystemExit(f"{photograph} is missing. Give the folder that was rendered by --contents.")
        picture = read(output / row["key"], size)
        height, width = picture.pixels.shape[:2]
        reduced = max(width, height) / max(row["output_size"])
        of_output = max(row["output_size"]) / max(row["work_size"])
        style = read(_style(styles, row["style"]), max(32, round(style_size * of_output * reduced)))
        found = distances.measure(picture.floats, read(photograph, exactly=(width, height)).floats, style.floats)
        yield {"key": row["key"], "style_image": row["style"], "size": [width, height],
               "evaluations": row["evaluations"], "seconds": row["seconds"], **found}  # fmt: skip


def _style_size(output: Path) -> int:
    """Returns the long side of the run's style image from its settings.json."""
    try:
        return int(json.loads((output / "settings.json").read_text())["decides"]["settings"]["style_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{output / 'settings.json'} does not state the style's size ({error}).") from error


def _style(styles: Path, key: str) -> Path:
    """Returns the file of a row's style image."""
    if styles.is_file():
        return styles
    for path in files(styles):
        if path.name == Path(key).name:
            return path
    raise SystemExit(f"{styles} has no {key}. Give the run's style image, or its folder, by --styles.")


def tell(rows: list[dict[str, Any]]) -> None:
    """Writes the rows as JSON lines to standard output, and their means to standard error."""
    for row in rows:
        print(json.dumps(row))
    if rows:
        means = {name: sum(row[name] for row in rows) / len(rows) for name in ("lpips", "style", "colours")}
        print(f"{len(rows)} results, means: LPIPS {means['lpips']:.3f}, style {means['style']:.3f}, colours"
              f" {means['colours']:.1f} levels", file=sys.stderr)  # fmt: skip
