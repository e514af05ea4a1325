"""One row of a manifest, the outcome of one input: as an object, as JSON, and as a line of a ledger."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

STYLE_ROWS = "style://"
"""Beginning of the key of a broken style's row. No input's key begins so, since its folders have names."""
STATUSES = ("done", "skipped", "failed")

LAST_RUN = 2**31 - 1
"""Bound on the number of a run."""
LONGEST_CURVE = 400
"""Numbers of a curve beyond which it is read as empty; those of our runs are shorter, other rows may hold anything."""
LONGEST_TIME = 1e9
"""Seconds beyond which a row's time is not counted, for the same reason."""


@dataclass(frozen=True)
class Row:
    """The outcome of one input.

    Attributes:
        key: the input's path below the input folder, and its output's path below OUT; the output's where they differ.
        status: done; skipped, such as a file that is not a picture; failed.
        reason: why an input was skipped or has failed.
        image: the input's path, where the output has another because an image has several styles or the run names
            another format; else empty.
        style: key of the style image.
        style_sha256, style_bytes, style_modified: SHA-256 in hexadecimal, length in bytes and time of the last change
            in nanoseconds since 1970 of the style's file; length and time are 0 where all images have one style, whose
            checksum settings.json has.
        masks_sha256: SHA-256 of the checksums of the photograph's and the style's mask; empty without masks.
        seed: seed of the run.
        ended: how the optimisation ended: budget, converged, stalled or diverged.
        loss: terms of the objective at the result with their weights applied, and their total.
        evaluations: evaluations of loss and gradient for this image, of all its stages.
        precision: number type of the convolutions, float32 or bfloat16.
        batch: images side by side in its batch of the last stage, itself included; it decides rounding.
        seconds: this image's share of the device's time, in seconds: each chunk's time divided by its running lanes.
        occupancy: share of the lanes of its batches that worked on an image while it was optimised, 0 to 1; 0 where it
            is not known.
        lane_seconds: this image's share of the time of all lanes of its batches, in seconds, by which a mean of several
            rows weights their `occupancy`.
        curve: loss by term of the best image so far, weights applied, at the ends of calls of the device, in at most 12
            points of three digits: `evaluations` and each term are lists of one length. `stages` lists the evaluations
            after which later stages, or continued runs, began. Empty where it is not known, and where others wrote more
            than 400 numbers.
        start_loss: objective at the start of the last stage.
        judgement: figures by which the image was judged: fall (of the loss, as a share of the start's), moved (mean
            change from the start), brightness (mean) and spread (standard deviation), in levels of 255, and saturated
            (share of values that are 0 or 255).
        input_bytes, input_modified, input_sha256: length in bytes, time of the last change (nanoseconds since 1970; in
            an object store a number made of the entity tag) and SHA-256 of the input. A resumed run renders the input
            again if they differ; if only the time differs, the checksum decides.
        input_size, work_size, output_size: [width, height] in pixels of the upright input, the optimised image and
            the output.
        output_bytes, output_sha256: length in bytes and SHA-256 of the output file.
        frames: number of pictures in the input file; the first was used.
        notes: conversions of the picture that a user might not expect.
        run: number of the run that appended it, larger than that of every row in the folder when the run began; 0 in
            rows of version 0.1. Of the rows of a key the one with the largest number counts, in whatever ledger.
    """

    key: str
    status: Literal["done", "skipped", "failed"]
    reason: str = ""
    image: str = ""
    style: str = ""
    style_sha256: str = ""
    style_bytes: int = 0
    style_modified: int = 0
    masks_sha256: str = ""
    seed: int = 0
    ended: str = ""
    loss: Mapping[str, float] = dataclasses.field(default_factory=dict)
    evaluations: int = 0
    precision: str = ""
    batch: int = 0
    seconds: float = 0.0
    occupancy: float = 0.0
    lane_seconds: float = 0.0
    curve: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    start_loss: float = 0.0
    judgement: Mapping[str, float] = dataclasses.field(default_factory=dict)
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
    run: int = 0

    @property
    def lane_time(self) -> tuple[float, float]:
        """The seconds in which its lane worked, and `lane_seconds`; 0 and 0 where they are not known."""
        known = 0 < self.occupancy <= 1 and 0 < self.lane_seconds <= LONGEST_TIME
        return (self.occupancy * self.lane_seconds, self.lane_seconds) if known else (0.0, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        curve = {name: list(one) for name, one in self.curve.items()}
        return values | {"loss": dict(self.loss), "judgement": dict(self.judgement), "curve": curve}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """Builds a row from the values of `as_json`, also of another version of jaxstyle.

        Names that this version does not know are ignored. Absent names take their field's default: rows of version
        0.1 have no times and no checksums.

        Raises:
            ValueError: the key or the status is absent, or a field has an invalid value; the message names it.
        """
        fields: dict[str, Any] = {"loss": {}, "judgement": {}, "curve": {}}  # the other defaults are class attributes
        for name, value in values.items():
            if name in _TEXTS and type(value) is str:  # fast path for half of the fields
                fields[name] = value
            elif name in _READ:
                try:
                    fields[name] = _READ[name](value)
                except (ValueError, TypeError, AttributeError):
                    raise ValueError(f"its {name} is not valid") from None
        if "key" not in fields or "status" not in fields:
            raise ValueError("it has no key or no status")
        row = object.__new__(cls)
        vars(row).update(fields)  # a frozen dataclass's __init__ would take as long as parsing the line
        return row


def parse(line: bytes) -> Row:
    """Parses a line of a ledger.

    Raises:
        ValueError: the line is not a row; the message says why.
    """
    try:
        values = json.loads(line.decode())  # json.loads(bytes) would guess the encoding
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return Row.from_json(values)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    return value


def _status(value: Any) -> str:
    if value not in STATUSES:
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) < value < 2**63:
        raise ValueError
    return value


def _run(value: Any) -> int:
    if type(value) is not int or not 0 <= value < LAST_RUN:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if type(value) is bool or not -1e300 < value < 1e300:
        raise ValueError
    return value


def _sha256(value: Any) -> str:
    if len(bytes.fromhex(value)) not in (0, 32):
        raise ValueError
    return value


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    width, height = value
    return _whole(width), _whole(height)


def _loss(value: Any) -> dict[str, float]:
    return {name: _number(term) for name, term in value.items()}


def _curve(value: Any) -> dict[str, tuple[float, ...]]:
    for one in value.values():
        if type(one) is not list or not _NUMBERS.issuperset(map(type, one)):
            raise ValueError
        if not all(-1e300 < number < 1e300 for number in one):
            raise ValueError
    few = sum(map(len, value.values())) <= LONGEST_CURVE
    return {name: tuple(one) for name, one in value.items()} if few else {}


def _notes(value: Any) -> tuple[str, ...]:
    if type(value) is not list:
        raise ValueError
    return tuple(map(_text, value))


_NUMBERS = {int, float}
_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "tuple[int, int] | None": _size,
    "tuple[str, ...]": _notes,
    "Mapping[str, float]": _loss,
    "Mapping[str, tuple[float, ...]]": _curve,
}
_BY_NAME = {"status": _status, "run": _run} | {
    f"{name}_sha256": _sha256 for name in ("input", "style", "masks", "output")
}
_READ = _BY_NAME | {
    field.name: _BY_TYPE[str(field.type)] for field in dataclasses.fields(Row) if field.name not in _BY_NAME
}
"""Functions that check and convert a field's JSON value, by the field's name."""
_TEXTS = {name for name, read in _READ.items() if read is _text}
