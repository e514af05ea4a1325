"""OUT/manifest.jsonl: one row for every input, and OUT/settings.json: what the run was."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxstyle.data import ledger
from jaxstyle.data.ledger import NAME, STATUSES, Ledger
from jaxstyle.data.sinks.folders import sync_folder, write_file
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import SettingsMismatch, StorageError

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
        precision: of the convolutions, float32 or bfloat16.
        seconds: its share of the time on the device: each tick's time divided by the lanes running then.
        start_loss: the objective where the optimisation started.
        input_bytes, input_modified, input_sha256: length, time of the last change (nanoseconds) and checksum of the
            input file; a resumed run renders it again if they differ (if only the time does, the checksum decides).
        input_size, work_size, output_size: [width, height] of the upright input, as optimised, and as written.
        output_bytes, output_sha256: of the file that was written.
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
    precision: str = ""
    seconds: float = 0.0
    start_loss: float = 0.0
    input_bytes: int = 0
    input_modified: int = 0
    input_sha256: str = ""
    input_size: tuple[int, int] | None = None
    work_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    output_bytes: int = 0
    output_sha256: str = ""
    frames: int = 1
    notes: tuple[str, ...] = ()


class Manifest:
    """The rows of an output folder; the last one of a key counts.

    Rows are appended and synced as they come; `close` leaves one row a key where a retry added a second. A torn last
    line, from a run that was killed, is dropped. The caller holds the folder's lock, or its shard's.

    Attributes:
        before: the rows of earlier runs.
    """

    def __init__(self, output: Path, part: tuple[int, int] = (1, 1)):
        self.path = output / ledger.name(part)
        try:
            there = ledger.ledgers(output)
            self.before = Ledger(there)
            if part == (1, 1) and (self.before.rows > len(self.before) or there not in ([], [self.path])):
                ledger.fold(output)
            if self.path.exists() and (whole := _whole(self.path)) < self.path.stat().st_size:
                os.truncate(self.path, whole)
            self._counts = {status: self.before.count(status) for status in STATUSES}
            self._replaced = False
            self._file = self.path.open("ab", buffering=0)
            self._end = self._file.seek(0, os.SEEK_END)
            sync_folder(output)
        except OSError as error:
            raise StorageError(
                f"{printable(self.path)} cannot be written ({error.strerror})", "Make room, or mend its permissions."
            ) from error

    def append(self, *rows: Row) -> None:
        """Adds rows, one a key in the life of this object; they are on the disk when this returns."""
        lines = "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows).encode("ascii")
        try:
            if self._file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            self._end += len(lines)
        except OSError as error:
            with contextlib.suppress(OSError):  # else half a line stays, as after a kill, and nothing may follow it
                os.ftruncate(self._file.fileno(), self._end)
            raise StorageError(
                f"{printable(self.path)} cannot be written ({error.strerror})", "Make room, then run again."
            ) from error
        for row in rows:
            past = self.before.get(row.key)
            if past is not None:
                self._counts[past.status] -= 1
                self._replaced = True
            self._counts[row.status] += 1

    def close(self) -> None:
        """Closes the file, with one row for each key in it."""
        try:
            self._file.close()
        except OSError as error:
            raise StorageError(
                f"{printable(self.path)} cannot be written ({error.strerror})", "Make room, then run again."
            ) from error
        if self._replaced and self.path.name == NAME:
            ledger.fold(self.path.parent)

    def count(self, status: str) -> int:
        """Number of inputs with this status, over all runs into the folder."""
        return self._counts[status]


def _whole(path: Path) -> int:
    """Bytes of a file up to its last line's end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0


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
        raise SettingsMismatch(
            f"{printable(path)} is damaged", "Use another output folder, or --existing overwrite."
        ) from error
    here = _flat(json.loads(json.dumps(run["decides"])))
    differing = [name for name in here | there if here.get(name) != there.get(name)]
    if differing:
        shown = "; ".join(f"{n} is {here.get(n)!r} now and {there.get(n)!r} there" for n in differing[:5])
        raise SettingsMismatch(
            f"{printable(output)} holds results of other settings: {shown}",
            "Use another output folder, the same settings, or --existing overwrite.",
        )


def forget(output: Path) -> None:
    """Removes the rows of all runs.

    Raises:
        StorageError: one cannot be removed.
    """
    for old in ledger.ledgers(output):
        try:
            old.unlink()
        except OSError as error:
            raise StorageError(
                f"{printable(old)} cannot be written ({error.strerror})", "Make room, or mend its permissions."
            ) from error
    sync_folder(output)


def settle(output: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Writes settings.json unless this run's is there; see `compare`. The caller keeps others from doing the same.

    To overwrite, it forgets the rows first: old rows must never stand beside new settings, whenever it is killed.
    """
    if overwrite:
        forget(output)
    else:
        compare(output, run)
    if overwrite or not (output / SETTINGS).exists():
        write_file(output / SETTINGS, (json.dumps(run, indent=2) + "\n").encode())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
