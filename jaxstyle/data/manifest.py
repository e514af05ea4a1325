"""OUT/manifest.jsonl: one row for every input, and OUT/settings.json: what the run was."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxstyle.data.sink import publish, sync_folder
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
        input_bytes: length of the input file; a resumed run takes another length for another picture.
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
    input_bytes: int = 0
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
        try:
            if fresh:
                self.path.unlink(missing_ok=True)
                sync_folder(output)
            self.rows, self._lines, whole = _parse(self.path)
            if self.path.exists():
                os.truncate(self.path, whole)
            self._file = self.path.open("a", encoding="ascii")
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror})", "Mend its permissions.") from error

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


def read(output: Path) -> dict[str, dict[str, Any]]:
    """The rows of an output folder by key; none where it has no manifest yet.

    Raises:
        SettingsMismatch: the manifest is damaged.
        StorageError: it cannot be read.
    """
    try:
        return _parse(output / NAME)[0]
    except OSError as error:
        raise StorageError(f"{output / NAME} cannot be read ({error.strerror})", "Mend its permissions.") from error


def _parse(path: Path) -> tuple[dict[str, dict[str, Any]], int, int]:
    """Rows by key, the number of lines, and of the bytes that they take, without a torn last line."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    rows, lines = {}, whole.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[row["key"]] = row
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsMismatch(
                f"line {number} of {path} is no row of a manifest", "Mend it, or use another output folder."
            ) from error
    return rows, len(lines), len(whole)


def compare(output: Path, run: Mapping[str, Any]) -> None:
    """Makes sure that the output folder, if it has a run in it, has this one.

    Args:
        run: `decides` is what decides the pixels (settings, checksums of style and weights), as JSON; the rest is told
            but not compared.

    Raises:
        SettingsMismatch: the folder's run differs; says in what.
    """
    path = output / SETTINGS
    if not path.exists():
        return
    try:
        there = _flat(json.loads(path.read_bytes())["decides"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsMismatch(f"{path} is damaged", "Use another output folder, or --existing overwrite.") from error
    here = _flat(json.loads(json.dumps(run["decides"])))
    differing = [name for name in here | there if here.get(name) != there.get(name)]
    if differing:
        shown = "; ".join(f"{n} is {here.get(n)!r} now and {there.get(n)!r} there" for n in differing[:5])
        raise SettingsMismatch(
            f"{output} holds results of other settings: {shown}",
            "Use another output folder, the same settings, or --existing overwrite.",
        )


def settle(output: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Writes settings.json unless this run's is there; see `compare`."""
    if not overwrite:
        compare(output, run)
    if overwrite or not (output / SETTINGS).exists():
        publish(output / SETTINGS, (json.dumps(run, indent=2) + "\n").encode())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
