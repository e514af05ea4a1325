"""`jaxstyle replay`: renders one row of a manifest again as it was, and compares the output with the row's checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import jaxstyle
from jaxstyle.data import image
from jaxstyle.data.audit import MAX_PIXELS, opened
from jaxstyle.data.fingerprint import read_recorded
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.opening import open_regular, read_regular, sha256_of
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import Row
from jaxstyle.data.sources import SOURCES, close, prepare, source_for
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.data.styles import listed
from jaxstyle.data.writing import write_file
from jaxstyle.engine.events import Progress
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import ImageError, InputError, SettingsMismatch
from jaxstyle.planning.places import settings_of
from jaxstyle.settings import RenderSettings

CONTINUED = ("continued from its output", "not continued: ")
"""Beginnings of notes of an image that started from an output, which it has replaced."""
ANYWAY = "Give --anyway to render it nevertheless."
SHOWN = 5
"""Outputs of an input that a message names."""


@dataclass
class Replayed:
    """What came of a row that was rendered again.

    Attributes:
        key: of the row.
        recorded, made: checksums of the output's file, in hexadecimal; `made` is "" if it failed.
        output: the file that was written, or None.
        reason: why it failed this time, or "".
        difference: (mean, largest) difference of the pixels in levels of 255, where the checksums differ and the old
            output is still as its row says; else None.
        circumstances: what is otherwise than it was, and may be why.
    """

    key: str
    recorded: str
    made: str = ""
    output: Path | None = None
    reason: str = ""
    difference: tuple[float, float] | None = None
    circumstances: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether the output has the recorded checksum."""
        return bool(self.made) and self.made == self.recorded

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        output = None if self.output is None else printable(self.output)
        return dataclasses.asdict(self) | {"key": printable(self.key), "output": output, "equal": self.equal}

    def lines(self) -> list[str]:
        """The outcome as lines of text."""
        if self.reason:
            verdict = f"failed: {self.reason}"
        elif self.equal:
            verdict = "the same, byte for byte"
        elif self.difference is None:
            verdict = "not the recorded checksum, and the old output is not there to compare with"
        elif self.difference[1] == 0:
            verdict = "the same pixels in another encoding"
        else:
            verdict = (
                f"different: by {self.difference[0]:.3g} levels of 255 on average, {self.difference[1]:.0f} at most"
            )
        told = [f"{printable(self.key)}: {printable(verdict)}"]
        if not self.equal:
            told += [f"  {printable(one)}" for one in self.circumstances]
        return told + ([] if self.output is None else [printable(self.output)])


def replay(
    output: Path,
    key: str,
    target: Path | None = None,
    *,
    inputs: Sequence[Path | str] = (),
    style: Sequence[Path | str] = (),
    anyway: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    own_process: bool = False,
) -> Replayed:
    """Renders the image of one row again: same settings, style, start, seed, precision and batch.

    Args:
        output: the output folder of runs; nothing is written into it.
        key: of the row, or of its input if that has one output.
        target: the new file, which must not exist yet; None to compare only.
        inputs, style: where they lie now [default: where they lay when the folder was begun]
        anyway: render it although the input, the style or a setting differs, or the row cannot come out the same.
        progress, stop, own_process: see `pipeline.render`.

    Raises:
        InputError: no such row, none that is done, or an input that has changed or is absent.
        SettingsMismatch: the style, the weights or another file that decides pixels has changed.
        what `pipeline.render` raises.
    """
    folder = opened(output)
    recorded = read_recorded(folder)
    row = _row(folder, key)
    places, about = recorded["about"].get("places"), recorded["about"]
    places = places if isinstance(places, dict) else {}
    given = _given("input", inputs, places, "inputs")
    words = _given("style", style, places, "style")
    settings = settings_of(recorded, row, places)
    if target is not None:
        _check_target(target, output, row)
    source = str(places.get("source", "folders"))
    problems = [*_inexact(row, settings), *_input_changed(given, source, settings, row), *_style_changed(words, row)]
    if problems and not anyway:
        raise InputError(f"{printable(row.key)} cannot come out the same: {'; '.join(problems)}", ANYWAY)
    found = Replayed(row.key, row.output_sha256, circumstances=[*problems, *_versions(about)])
    with tempfile.TemporaryDirectory(prefix="jaxstyle-replay-") as place:
        new = Path(place, "out")
        if not anyway:  # the run compares its settings, style and weights with these
            facts = {name: one for name, one in about.items() if name != "rounding"}  # the batch is the row's
            write_file((Folder(new, create=True), SETTINGS), json.dumps(recorded | {"about": facts}).encode())
        try:
            render(
                given, words, new, settings, only=row.key, source=source, progress=progress, stop=stop,
                own_process=own_process,
            )  # fmt: skip
        except SettingsMismatch as error:
            what = error.what.replace(printable(new), printable(output))
            raise SettingsMismatch(what, f"Put the files back as they were (--style, --input). {ANYWAY}") from error
        with LastRows(new) as rows:
            made = next((one for one in rows if one.key == row.key), None)
        if made is None or made.status != "done":
            found.reason = "stopped, or no longer among the outputs" if made is None else made.reason
            return found
        found.made = made.output_sha256
        data = read_regular(new / row.key)
        if not found.equal:
            found.circumstances += _otherwise(row, made)
            found.difference = _difference(folder, row, new / row.key)
    if target is not None:
        write_file(target, data)
        found.output = target
    return found


def _row(folder: Folder, key: str) -> Row:
    """The last row of a key, or of the one output of an input."""
    exact: Row | None = None
    of_input: list[Row] = []
    with LastRows(folder) as rows:
        for row in rows:
            if row.key == key:
                exact = row
            elif row.image == key and row.status == "done" and len(of_input) < SHOWN:
                of_input.append(row)
    if exact is None and len(of_input) > 1:
        some = ", ".join(printable(one.key) for one in of_input)
        raise InputError(f"{printable(key)} has several outputs: {some}", "Give one of them.")
    if exact is None and not of_input:
        raise InputError(f"no row has the key {printable(key)}", "Give a key as in the manifest (`jaxstyle manifest`).")
    row = exact or of_input[0]
    if row.status != "done" or not row.output_sha256:
        why = row.reason or "it has no checksum"
        raise InputError(f"{printable(key)} is {row.status}: {why}", "Give the key of an output.")
    return row


def _given(what: str, given: Sequence[Path | str], places: Mapping[str, Any], name: str) -> list[Path | str]:
    if given:
        return list(given)
    known = places.get(name)
    if not isinstance(known, list) or not known or not all(isinstance(one, str) for one in known):
        raise InputError(f"{SETTINGS} does not say where the {what} lies", f"Give it: --{what} PATH.")
    return list(known)


def _inexact(row: Row, settings: RenderSettings) -> list[str]:
    """Why a row cannot come out the same, whatever the files are."""
    if settings.frames:
        return ["it is a frame, which starts from the result of the one before"]
    if any(note.startswith(CONTINUED) for note in row.notes):
        return ["it was continued from an output that is gone (--existing continue)"]
    total = sum(evaluations for _, evaluations in settings.stages())
    if row.ended == "budget" and row.evaluations != total:
        return [f"it has {row.evaluations} evaluations, and the folder's settings {total} (--existing continue)"]
    return []


def _input_changed(given: Sequence[Path | str], name: str, settings: RenderSettings, row: Row) -> list[str]:
    """Says whether the input's content has another checksum than in the row.

    Raises:
        InputError: there is no such input, or it cannot be read.
    """
    if name not in SOURCES:
        raise InputError(f"its source {printable(name)} is not in SOURCES", "Register it, as for the run.")
    source, wanted = source_for(name, given, settings, case_insensitive=False), row.image or row.key
    where = ", ".join(map(printable, given))
    try:
        prepare(source, nullcontext)
        one: Input | None = next((one for one in source.inputs() if one.key == wanted), None)
        if one is None:
            raise InputError(f"there is no input {printable(wanted)} in {where}", "Say where it lies: --input PATH.")
        with source.open(one.locator) as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"the input {printable(wanted)} in {where} cannot be read ({error.strerror or error})",
                         "Correct its permissions, or say where it lies: --input PATH.") from error  # fmt: skip
    finally:
        close(source)
    if row.input_sha256 in ("", digest.hexdigest()):
        return []
    return [f"the input {printable(one.locator)} has changed since (its checksum is not the row's)"]


def _style_changed(words: Sequence[Path | str], row: Row) -> list[str]:
    """Says whether the row's own style has another checksum; one that all images have is compared by the run.

    Raises:
        InputError: there is no such style.
    """
    if not row.style_bytes:
        return []
    one = next((one for one in listed(words).files if one.key == row.style), None)
    where = ", ".join(map(printable, words))
    if one is None:
        raise InputError(f"there is no style {printable(row.style)} in {where}", "Say where it lies: --style PATH.")
    try:
        same = row.style_sha256 in ("", sha256_of(one.path))
    except OSError as error:
        raise InputError(f"the style {printable(one.path)} cannot be read ({error.strerror or error})",
                         "Correct its permissions, or say where it lies: --style PATH.") from error  # fmt: skip
    return [] if same else [f"the style {printable(one.path)} has changed since (its checksum is not the row's)"]


def _versions(about: Mapping[str, Any]) -> list[str]:
    here = {"jaxstyle": jaxstyle.__version__, "jax": version("jax")}
    return [f"{name} was {about[name]} and is {now}" for name, now in here.items() if about.get(name, now) != now]


def _otherwise(row: Row, made: Row) -> list[str]:
    """Circumstances of a row that are otherwise in the new one and change rounding."""
    told = [
        f"{name} was {getattr(row, name)} and is {getattr(made, name)}"
        for name in ("batch", "precision", "ended", "evaluations", "seed", "style", "style_sha256", "masks_sha256")
        if getattr(row, name) != getattr(made, name)
    ]
    told += [f"a note was: {note}" for note in row.notes if note not in made.notes]
    told += [f"a note is: {note}" for note in made.notes if note not in row.notes]
    return told or ["another device, other cores or other versions of libraries round otherwise"]


def _difference(folder: Folder, row: Row, new: Path) -> tuple[float, float] | None:
    """Mean and largest difference of two outputs in levels; None if the old one is not as its row says."""
    try:
        with folder.parent(row.key) as (at, name), open_regular(name, within=at) as file:
            if hashlib.sha256(file.read()).hexdigest() != row.output_sha256:
                return None
            before = image.read(file, MAX_PIXELS).pixels  # type: ignore[arg-type]
        after = image.read(new, MAX_PIXELS).pixels
    except (OSError, ValueError, ImageError):
        return None
    if before.shape != after.shape:
        return None
    apart = np.abs(before - after) * 255
    return float(apart.mean()), float(apart.max())


def _check_target(target: Path, output: Path, row: Row) -> None:
    """Checks that the file is new, is called as the output is, and lies outside the output folder."""
    place = printable(target)
    if target.suffix.lower() != Path(row.key).suffix.lower():
        raise InputError(f"the file {place} is not called as the output is", f"End it in {Path(row.key).suffix!r}.")
    if target.resolve().is_relative_to(output.resolve()):
        raise InputError(f"the file {place} would lie in the output folder", "Choose a place outside.")
    if target.exists() or target.is_symlink():
        raise InputError(f"the file {place} is there already", "Choose another name.")
    if not target.parent.is_dir():
        raise InputError(f"the file's folder {printable(target.parent)} does not exist", "Make it.")
