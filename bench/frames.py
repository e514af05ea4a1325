"""Measures how much the frames of a film flicker: rendered as frames, with and without the temporal term, and alone.

    python bench/frames.py [--contents PHOTOS --styles PAINTINGS] [--size 160] [--number 8] [-o FOLDER]

The film is made of a photograph that is panned, with a patch of another one that moves in front, so that its motion is
known. Flicker is the mean absolute difference, in levels of 255, of a result from the one before, moved by the known
motion, where both frames show the same. The figures go to standard output; FOLDER gets the frames and a sheet.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import engine
import harness
import numpy as np
from PIL import Image

import jaxstyle
from jaxstyle.film import TEMPORAL_WEIGHT

PAN, PATCH = (3, 1), (-4, 2)
"""Motion in pixels a frame, to the right and down: of the photograph, and of the patch."""
ALONE = "each frame alone"
SHOWN = 4
"""Frames of the sheet: the last ones."""


class Film(NamedTuple):
    """Frames whose motion is known.

    Attributes:
        frames: N x h x w x 3 in [0, 1].
        patch: N x h x w bool, where the patch is.
    """

    frames: np.ndarray
    patch: np.ndarray


def film(photo: np.ndarray, patch: np.ndarray, size: int, number: int) -> Film:
    """Makes a film.

    Args:
        photo, patch: pictures in [0, 1]; `photo` is larger than the frames by the pan.
        size: of the frames' long side, in pixels; 4:3.
    """
    h, w = size * 3 // 4, size
    frames, where = [], []
    rows, columns = np.mgrid[:h, :w]
    ph, pw = patch.shape[:2]
    for n in range(number):
        left, top = (number - 1 - n) * PAN[0], (number - 1 - n) * PAN[1]
        frame = photo[top : top + h, left : left + w].copy()
        x, y = w * 3 // 4 + n * PATCH[0], h // 3 + n * PATCH[1]
        inside = ((rows - y) / (ph / 2)) ** 2 + ((columns - x) / (pw / 2)) ** 2 < 1
        frame[inside] = patch[(rows - y + ph // 2)[inside] % ph, (columns - x + pw // 2)[inside] % pw]
        frames.append(frame)
        where.append(inside)
    return Film(np.stack(frames), np.stack(where))


def flickers(results: np.ndarray, made: Film) -> list[float]:
    """Returns the flicker of each frame but the first, in levels of 255."""
    found = []
    for n in range(1, len(results)):
        change, seen = both(results, made, n)
        found.append(255 * float(change[seen].mean()))
    return found


def both(results: np.ndarray, made: Film, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much the pixels of a result differ from those of the one before, h x w, and where both show them."""
    change, seen = np.zeros(results.shape[1:3]), np.zeros(results.shape[1:3], bool)
    for motion, now, then in ((PAN, ~made.patch[n], ~made.patch[n - 1]), (PATCH, made.patch[n], made.patch[n - 1])):
        here, there = _overlap(results.shape[1:3], motion)
        same = now[here] & then[there]
        difference = np.abs(results[n][here] - results[n - 1][there]).mean(-1)
        change[here][same], seen[here][same] = difference[same], True
    return change, seen


def _overlap(shape: tuple[int, ...], motion: tuple[int, int]) -> tuple[Any, Any]:
    """Returns the slices of a frame and of the one before that show the same, for a motion to the right and down."""
    here, there = [], []
    for side, step in zip(shape, motion[::-1], strict=True):
        here.append(slice(max(step, 0), side + min(step, 0)))
        there.append(slice(max(-step, 0), side - max(step, 0)))
    return tuple(here), tuple(there)


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Renders the film in each way, prints the figures, and writes a sheet."""
    size, number = asked.size, asked.number
    width, height = size + (number - 1) * PAN[0], size * 3 // 4 + (number - 1) * PAN[1]
    photo = harness.photographs(width, height, 1, asked.contents)[0]
    patch = harness.photographs(size * 3 // 8, size // 4, 2, asked.contents)[1]
    made, style = film(photo, patch, size, number), folder / "style.png"
    _save(style, harness.styles(size, asked.styles)[0])
    for n, frame in enumerate(made.frames):
        _save(folder / "frames" / f"{n:03}.png", frame)
    ways: dict[str, dict[str, Any]] = {ALONE: {}}
    for weight in asked.weights:
        ways[f"temporal_weight {weight:g}"] = {"frames": True, "temporal_weight": weight}
    found: dict[str, np.ndarray] = {"photographs": made.frames}
    print(f"flicker of the photographs: {np.mean(flickers(made.frames, made)):.2f}")
    for name, settings in ways.items():
        output = folder / name.replace(" ", "-")
        summary = jaxstyle.render(
            folder / "frames", style, output, size=size, evaluations=asked.evaluations, **settings
        )
        found[name] = np.stack([_load(output / f"{n:03}.png") for n in range(number)])
        own = flickers(found[name], made)
        base = np.mean(flickers(found[ALONE], made))
        rows = map(json.loads, (output / "manifest.jsonl").read_text().splitlines())
        style_losses = [row["loss"]["style"] for row in rows if row["key"] != "000.png"]
        print(
            f"{name:22} flicker {np.mean(own):6.2f}, as a share of {ALONE} {np.mean(own) / base:.2f}, "
            f"style loss {np.mean(style_losses):.3f}, {summary.device_seconds:.0f} s on the device",
            flush=True,
        )
    _save(folder / "sheet.png", sheet(found, made))


def sheet(found: dict[str, np.ndarray], made: Film) -> np.ndarray:
    """Draws a row of frames for every way, and right of it how much they differ from the ones before, four times."""
    lines = []
    for results in found.values():
        last = range(max(1, len(results) - SHOWN), len(results))
        shown = [results[n] for n in last]
        shown += [np.repeat(4 * both(results, made, n)[0][..., None], 3, -1) for n in last]
        lines.append(np.concatenate(shown, 1))
    return np.concatenate(lines)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(path)


def _load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contents", type=Path, help="folder of at least two photographs; the demo's if left out")
    parser.add_argument("--styles", type=Path, help="folder of paintings, of which the first counts")
    parser.add_argument("--size", type=int, default=160, help="long side of the frames in pixels (160)")
    parser.add_argument("--number", type=int, default=8, help="of frames (8)")
    parser.add_argument("--evaluations", type=int, default=200, help="of each frame (200)")
    parser.add_argument("--weights", type=float, nargs="*", default=[0, TEMPORAL_WEIGHT], help="of the temporal term")
    parser.add_argument("-o", "--output", type=Path, help="folder for frames, results and sheet")
    asked = parser.parse_args()
    engine.divide_cpu()
    if asked.output is not None:
        measure(asked, asked.output)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(asked, Path(folder))


if __name__ == "__main__":
    main()
