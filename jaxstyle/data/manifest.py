"""OUT/manifest.jsonl: one row for every input, and OUT/settings.json: what the run was."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxstyle.data.sink import publish
from jaxstyle.errors import SettingsMismatch, StorageError

NAME = "manifest.jsonl"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Row:
    """What became of one input.

    Attributes:
        key: its path below the input folder, and that of its output below OUT.
        status: done; skipped (no picture, or told to); failed.
        reason: of skipped and failed.
        style: key of the style picture.
        seed: of the run.
        ended: how the optimisation ended: budget, converged, stalled or diverged.
        loss: the objective at the result, and its terms, weights applied.
        evaluations: of loss and gradient, spent on this image.
        seconds: its share of the time on the device: each tick's time divided by the lanes running then.
        input_size, work_size, output_size: [width, height] of the upright input, as optimised, and as written.
        frames: pictures in the input file; the first was used.
        notes: what was done to the picture that its owner might not expect.
    """

    key: str
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    style: str = ""
    seed: int = 0
    ended: str = ""
    loss: Mapping[str, float] = dataclasses.field(default_factory=dict)
    evaluations: int = 0
    seconds: float = 0.0
    input_size: tuple[int, int] | None = None
    work_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    frames: int = 1
    notes: tuple[str, ...] = ()


class Manifest:
    """The rows of an output folder; the last one of a key counts.

    Rows are appended and synced as they come; `close` rewrites the file with one row a key where a retry added a
    second. A torn last line, from a run that was killed, is dropped.
    """

    def __init__(self, output: Path, *, fresh: bool = False):
        self.path = output / NAME
        self.rows: dict[str, dict[str, Any]] = {}
        self._lines = 0
        try:
            if fresh:
                self.path.unlink(missing_ok=True)
            elif self.path.exists():
                self._load()
            self._file = self.path.open("a", encoding="ascii")
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror})", "Mend its permissions.") from error

    def _load(self) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows[row["key"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise SettingsMismatch(
                    f"line {number} of {self.path} is no row of a manifest", "Mend it, or use another output folder."
                ) from error
            self._lines += 1
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def append(self, *rows: Row) -> None:
        """Adds rows, on the disk when this returns."""
        try:
            for row in rows:
                as_json = dataclasses.asdict(row)
                self._file.write(json.dumps(as_json) + "\n")
                self.rows[row.key] = as_json
                self._lines += 1
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror})", "Make room, then run again."
            ) from error

    def close(self) -> None:
        """Closes the file, with one row for each key in it."""
        try:
            self._file.close()
        except OSError as error:  # rows that a failed `append` left in the buffer
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror})", "Make room, then run again."
            ) from error
        if self._lines > len(self.rows):
            publish(self.path, "".join(json.dumps(row) + "\n" for row in self.rows.values()).encode("ascii"))

    def count(self, status: str) -> int:
        """Number of inputs with this status."""
        return sum(row["status"] == status for row in self.rows.values())


def settle(output: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Writes settings.json, or finds there the same run.

    Args:
        run: what decides the pixels: `settings`, `style`, `weights` and so on, as JSON.

    Raises:
        SettingsMismatch: the folder's run differs; says in what.
    """
    path, run = output / SETTINGS, json.loads(json.dumps(run))
    if path.exists() and not overwrite:
        try:
            there = _flat(json.loads(path.read_bytes())["decides"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsMismatch(
                f"{path} is damaged", "Use another output folder, or --existing overwrite."
            ) from error
        here = _flat(run["decides"])
        differing = [name for name in here | there if here.get(name) != there.get(name)]
        if differing:
            shown = "; ".join(f"{n} is {here.get(n)!r} now and {there.get(n)!r} there" for n in differing[:5])
            raise SettingsMismatch(
                f"{output} holds results of other settings: {shown}",
                "Use another output folder, the same settings, or --existing overwrite.",
            )
        return
    publish(path, (json.dumps(run, indent=2) + "\n").encode())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
