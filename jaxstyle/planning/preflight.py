"""Everything that can be wrong with a run before its first byte is written, and what an earlier run has finished."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data import fingerprint, layout, ledger
from jaxstyle.data.annotations import Annotations, annotations_for
from jaxstyle.data.fingerprint import Fingerprint
from jaxstyle.data.folder import Folder
from jaxstyle.data.image import absent
from jaxstyle.data.ledger import Ledger
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks import SINKS
from jaxstyle.data.sinks.base import Sink
from jaxstyle.data.sinks.folders import check_writable
from jaxstyle.data.sources import prepare, source_for
from jaxstyle.data.sources.base import Input, Locator, Source, printable
from jaxstyle.data.sources.folders import refuse_overlap
from jaxstyle.data.styles import listed
from jaxstyle.decode.pool import Decoders
from jaxstyle.decode.worker import Decoded
from jaxstyle.errors import ImageError, InputError, SettingsError
from jaxstyle.model import weights
from jaxstyle.paths import given_input, given_path
from jaxstyle.planning.description import describe, with_facts
from jaxstyle.planning.places import places_of
from jaxstyle.planning.scales import total_evaluations
from jaxstyle.planning.shots import number_of
from jaxstyle.planning.styles import Styles, unusable
from jaxstyle.settings import INITS, RULES, RenderSettings

INIT_SIZES = 2
"""Long side at which the picture that `init` names is kept, in working sizes: it is resized to each picture's."""
BLOCK = 2**20
"""Bytes of an input that are read at a time for its checksum."""


@dataclass(frozen=True)
class Ready:
    """A run that has been checked, with nothing written yet.

    Attributes:
        styles: the style of all images, or those that are assigned to them.
        output: folder of the manifest.
        start: the picture that `init` names, or None.
        run: see `describe`.
        folder: the output folder, once the run has opened it.
        shots: number of shots, if the inputs are frames; else 0. More images cannot be optimised side by side.
        start_format: `output_format` of the run whose results `init` names.
        annotations: what is copied to the outputs at the end, or None.
        only: key of the one output that is rendered; "" for all.
    """

    source: Source
    sink: Sink
    styles: Styles
    output: Path
    settings: RenderSettings
    start: np.ndarray | None
    network: weights.Weights
    run: Fingerprint
    folder: Folder | None = None
    shots: int = 0
    start_format: str = "keep"
    only: str = ""
    annotations: Annotations | None = None


def check(
    inputs: Path | str | Iterable[Path | str],
    style: Path | str | Iterable[Path | str],
    output: Path | str,
    settings: RenderSettings,
    *,
    source: str = "folders",
    sink: str = "folders",
    decoders: Decoders,
    watch: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    only: str = "",
) -> Ready:
    """Checks everything that can be wrong before the first byte is written, the quick things first.

    Args:
        source, sink: names in `SOURCES` and `SINKS`; see `source_for`.
        decoders: decode the style, and the picture that `init` names.
        watch: a context for each call of storage, given what it does.
        only: see `Ready`.

    Raises what `pipeline.render` raises.
    """
    given = [given_input(one, "an input") for one in _several(inputs)]
    words = [type(one)(given_path(one, "the style")) for one in _several(style)]  # of a text, a weight may be part
    output = given_path(output, "the output")
    place = printable(output)
    if settings.frames and sink != "folders":
        raise InputError("frames are not written to a folder", "Give the sink folders: each is the next one's start.")
    if settings.existing == "continue" and sink != "folders":
        raise SettingsError(f"existing is 'continue' and the sink is {sink!r}", "Outputs are read again as files only.")
    if kinds.WRITTEN.get(settings.output_format) in absent():
        raise SettingsError(f"output_format is {settings.output_format!r}", "This Pillow cannot write it: use png.")
    with watch(f"looking at the inputs and at {place}"):
        outputs = SINKS[sink](output, settings.part())
        sources = source_for(source, given, settings, case_insensitive=outputs.case_insensitive)
        sources.check(output)
    prepare(sources, partial(watch, "looking into the inputs"))
    with watch(f"looking at the styles and at {place}"):
        found = listed(words)
        check_output(found.roots, output, settings)
        _refuse_among(settings.content_masks, [one for one in given if isinstance(one, Path)], "inputs")
        _refuse_among(settings.style_masks, found.roots, "styles")
        styles = Styles(found, settings, decoders)
        annotations = annotations_for(settings)
        if annotations is not None:
            annotations.check(sources.roots, styles.assignment is not None and styles.assignment.several)
        shots = number_of(sources, settings.part()) if settings.frames else 0
    styles.load_one()
    start = None
    if settings.init not in INITS and not settings.starts_from_folder:
        start = own_picture(Path(settings.init), "init picture", INIT_SIZES * settings.size, decoders)
    with watch(f"looking at {place}"):
        check_writable(output)
    network = weights.load(settings.weights, settings.network)
    styles.check_targets(network.digest)
    run = describe(styles, settings, network, None if start is None else start.sha256)
    run = with_facts(run, places=places_of(given, words, settings, source))
    notes = {"style": styles.one.notes if styles.one else (), "init": () if start is None else start.notes}
    run = with_facts(run, **{f"{name}_notes": "; ".join(found) for name, found in notes.items() if found})
    if settings.existing != "overwrite":
        with watch(f"reading the settings of {place}"):
            fingerprint.compare(output, run, continues=settings.existing == "continue")
    pixels = None if start is None else start.pixels
    start_format = fingerprint.output_format(Path(settings.init)) if settings.starts_from_folder else "keep"
    return Ready(
        sources, outputs, styles, output, settings, pixels, network, run, shots=shots, start_format=start_format,
        only=only, annotations=annotations,
    )  # fmt: skip


def _several(given: Path | str | Iterable[Path | str]) -> Iterable[Path | str]:
    return [given] if isinstance(given, str | Path) else given


def protected(ready: Ready) -> list[Path]:
    """The files and folders of this machine that no output may be written into or replace."""
    settings = ready.settings
    init = [] if settings.init in INITS else [Path(settings.init)]
    network = [] if settings.weights is None else [Path(settings.weights)]
    styles = ready.styles.listed
    mapping = [] if settings.assign in RULES else [Path(settings.assign)]
    own = [*styles.roots, *(one.path for one in styles.files)] if styles.matched else styles.roots
    carried = [] if settings.annotations is None else [settings.annotations]
    return [*ready.source.roots, *own, *mapping, *init, *network, *carried, *_masks(settings)]


def _refuse_among(masks: Path | None, roots: Sequence[Path], what: str) -> None:
    """Raises an InputError if masks lie below one of these folders, where they would be taken for pictures."""
    for root in roots:
        if masks is not None and root.is_dir() and masks.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"the masks {printable(masks)} lie among the {what} in {printable(root)}", "Move them elsewhere."
            )


def _masks(settings: RenderSettings) -> list[Path]:
    return [path for path in (settings.content_masks, settings.style_masks) if path is not None]


def check_output(styles: Sequence[Path], output: Path, settings: RenderSettings) -> None:
    """Makes sure that the output folder holds nothing but results of runs, unless it may be overwritten.

    Raises:
        InputError: says what is in the way.
    """
    if settings.starts_from_folder:
        refuse_overlap(output, [Path(settings.init)], "init folder")
    refuse_overlap(output, [path for path in styles if path.is_dir()], "styles")
    refuse_overlap(output, [path for path in _masks(settings) if path.is_dir()], "masks")
    own = [
        *(("mask", path) for path in _masks(settings)),
        *(("style", path) for path in styles),
        ("init picture", Path(settings.init)),
        ("annotations file", settings.annotations or Path("")),
        ("weights file", Path(settings.weights or "")),
    ]
    for name, path in own:
        if path.resolve().is_relative_to(output.resolve()) and path.is_file():
            raise InputError(f"the {name} {printable(path)} lies in the output folder", "Choose another output folder.")
    if output.is_symlink() and not output.exists():
        raise InputError(f"the output {printable(output)} is a link to nothing", "Delete it, or make its target.")
    above = next((one for one in output.absolute().parents if os.path.lexists(one)), output)
    if not above.is_dir() and not output.exists():
        raise InputError(
            f"the output {printable(output)} lies below {printable(above)}, which is no folder", "Choose another."
        )
    if settings.existing == "overwrite" or not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"the output {printable(output)} is not a folder", "Choose another.")
    if settings.existing == "error" and ledger.ledgers(output):
        raise InputError(
            f"{printable(output)} has results already", "Choose another folder, or --existing resume or overwrite."
        )
    known = (output / layout.SETTINGS).exists()
    if not known and any(not p.name.startswith(layout.LEFT_BEHIND) for p in output.iterdir()):
        raise InputError(
            f"{printable(output)} has files in it that no run of jaxstyle wrote",
            "Choose an empty or new folder, or --existing overwrite to write among them.",
        )


def own_picture(path: Path, name: str, size: int, decoders: Decoders) -> Decoded:
    """Decodes a picture that the whole run depends on, with its long side reduced to `size` pixels.

    Args:
        name: of the picture in messages.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return decoders.read(path, size, full_alpha=False)
    except ImageError as error:
        raise unusable(name, path, error) from error


def is_unchanged(one: Input, before: Ledger, ready: Ready) -> bool:
    """Whether an earlier run has finished an input and what it wrote about it still holds.

    A done input needs its output to be there as well, and its masks must be the same. An input is unchanged as long as
    its length and its time are or, where a copy has lost the time, its length and its checksum.
    """
    past = before.get(one.key)
    if past is None or (past.status == "failed" and ready.settings.retry_failed):
        return False
    if past.masks:
        masked = ready.styles.masks_sha256(one.image or one.key, one.style)
        if ledger.checksum_bits(masked) != past.masks:
            return False
    try:
        if past.status == "done":
            if one.failed or (one.style and not ready.styles.is_unchanged(one.style, past)):
                return False
            return _is_same(ready.source, one.locator, past) and ready.sink.has(one.key)
        return bool(one.failed or one.skipped) or _is_same(ready.source, one.locator, past)
    except OSError:  # unchanged if the input could not be looked at when its row was written either
        return past.status != "done" and not past.modified


def row_to_continue(one: Input, before: Ledger, ready: Ready) -> Row | None:
    """The row of a finished input whose output is to be optimised further, or None.

    Those that ended because they converged or stalled would end so again.
    """
    past = before.get(one.key)
    if ready.settings.existing != "continue" or past is None or past.status != "done":
        return None
    row = before.row(one.key)
    unfinished = row is not None and row.evaluations < total_evaluations(ready.settings)
    return row if row is not None and unfinished and row.ended in ("budget", "") else None


def _is_same(source: Source, locator: Locator, past: ledger.PastRow) -> bool:
    """Whether an input is the one that a row was written about."""
    now = source.stamp(locator)
    if now.length != past.length:
        return False
    if now.modified == past.modified:
        return True
    if not past.checksum:
        return not past.modified  # rows of version 0.1 have neither
    with source.open(locator) as file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
    return ledger.checksum_bits(digest.hexdigest()) == past.checksum
