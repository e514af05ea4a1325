"""The styles of a run: one for all images, or one of many for each, decoded when they are needed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from jaxstyle.data import styles as files
from jaxstyle.data.ledger import Ledger, PastRow, checksum_bits, style_stamp
from jaxstyle.data.opening import sha256_of
from jaxstyle.data.rows import STYLE_ROWS, Row
from jaxstyle.data.sources.base import printable
from jaxstyle.data.styles import Listed, StyleFile
from jaxstyle.data.targets_file import is_targets
from jaxstyle.decode.pool import Decoders
from jaxstyle.errors import ImageError, InputError, SettingsError
from jaxstyle.planning import masks, saved_targets
from jaxstyle.planning.assign import Assignment
from jaxstyle.planning.mapping import mapping
from jaxstyle.planning.painting import Painting, Part
from jaxstyle.planning.style_picture import decoded
from jaxstyle.settings import RULES, RenderSettings

CACHE_BYTES = 256 * 2**20
"""Of decoded styles that are kept."""


class BrokenStyle(Exception):
    """A style cannot be read. Its images get other styles.

    Attributes:
        row: its row; None after the first time.
    """

    def __init__(self, row: Row | None):
        super().__init__()
        self.row = row


def unusable(name: str, path: Path, error: ImageError) -> InputError:
    """Returns the error of a picture that the whole run depends on.

    Args:
        name: of the picture in messages.
    """
    return InputError(f"the {name} {printable(path)}: {error.what}", error.remedy or "Give the path of one picture.")


class Styles:
    """The styles of a run. Thread-safe.

    Attributes:
        one: the style of all images, if they have one.
        assignment: assigns one of many otherwise.
        listed: the style images.
    """

    def __init__(self, listed: Listed, settings: RenderSettings, decoders: Decoders):
        """Reads the mapping, if `assign` names one.

        Raises:
            InputError, SettingsError: settings that contradict each other, or a mapping that cannot be used.
        """
        saved_targets.refuse_unfit([one.path for one in listed.files], settings)
        self.listed, self._settings, self._decoders = listed, settings, decoders
        self._weights_sha256: str | None = None
        self.one: Painting | None = None
        self.assignment: Assignment | None = None
        assigned = settings.styles == "assign" or (settings.styles == "auto" and listed.several)
        if not assigned:
            self._refuse_rules()
            return
        self._index = {one.key: n for n, one in enumerate(listed.files)}
        mapped = None if settings.assign in RULES else mapping(Path(settings.assign), self._index)
        if settings.styles_per_image > len(listed.files):
            raise SettingsError(
                f"styles_per_image is {settings.styles_per_image}",
                f"There are {len(listed.files)} style images: give a smaller number, or --assign each.",
            )
        self.assignment = Assignment(
            listed.files,
            settings.assign,
            per_image=settings.styles_per_image,
            seed=settings.seed,
            by_folder=settings.balance_by == "parent",
            mapping=mapped,
        )
        if self.assignment.several:
            files.refuse_equal_suffixes(listed.files)
        self._mutex = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        self._kept: OrderedDict[str, Painting] = OrderedDict()
        self._rows: dict[str, Row | None] = {}
        self._mended: set[str] = set()
        self._stamps: dict[str, int] = {}
        self._checksums: dict[str, int] = {}

    def _refuse_rules(self) -> None:
        settings, default = self._settings, RenderSettings
        for name in ("assign", "styles_per_image"):
            if getattr(settings, name) != getattr(default, name):
                raise SettingsError(
                    f"{name} is {getattr(settings, name)!r}, and all photographs get the same style",
                    "Give a folder of styles, or --styles assign.",
                )

    @property
    def shared(self) -> Painting | None:
        """The style whose targets all lanes share; None if images have different ones, or need other colours in it."""
        return None if self._settings.changes_styles else self.one

    @property
    def fingerprint(self) -> str:
        """What settings.json compares: the checksum of the style of all images; "assigned" where rows have it."""
        return "assigned" if self.one is None else self.one.sha256

    @property
    def name(self) -> str:
        """What is shown to the user."""
        number = len(self.listed.files)
        return f"{number} styles, assigned by {self._settings.assign}" if self.one is None else self.one.name

    def load_one(self) -> None:
        """Decodes the style of all images, if they have one.

        Raises:
            InputError: it cannot be read.
        """
        if self.assignment is not None:
            return
        parts: list[Part] = []
        notes: list[str] = []
        names: list[str] = []
        colours: tuple[int, ...] = ()
        several = len(self.listed.files) > 1
        for file in self.listed.files:
            try:
                made = self._decoded(file)
            except ImageError as error:
                raise unusable("style", file.path, error) from error
            if parts and made.colours != colours:
                raise InputError(
                    f"the masks of the styles {printable(self.listed.files[0].key)} and {printable(file.key)} "
                    f"have other colours: {masks.named(colours)}, and {masks.named(made.colours)}",
                    "Styles are blended region by region: give masks of the same colours.",
                )
            colours = made.colours
            parts.append(made.parts[0]._replace(weight=file.weight))
            notes += [f"{file.key}: {note}" if several else note for note in made.notes]
            names.append(f"{file.key}:{file.weight:g}" if several else file.key)
        own = "" if several else parts[0].sha256
        self.one = Painting(printable(" + ".join(names)), parts, notes=notes, file_sha256=own, colours=colours)

    def begin(self, before: Ledger) -> list[str]:
        """Takes out the styles that an earlier run could not read and that are unchanged; returns their keys."""
        if self.assignment is None or not len(before):
            return []
        lost = []
        for n, file in enumerate(self.listed.files):
            past = before.get(STYLE_ROWS + file.key)
            if past is None or past.status != "failed":
                continue
            mended = past.masks not in (0, checksum_bits(self.masks_sha256(None, file.key)))
            if self._settings.retry_failed or mended or _found(file) != (past.length, past.modified):
                self._mended.add(file.key)
                continue
            self._rows[file.key] = None
            self.assignment.lose(n)
            lost.append(file.key)
        return lost

    def is_unchanged(self, key: str, past: PastRow) -> bool:
        """Whether an image of an earlier run has the style that it would get now."""
        if self.assignment is None:  # settings.json has its checksum
            return True
        file = self.listed.files[self._index[key]]
        with self._mutex:
            found = self._stamps.get(key) or self._stamps.setdefault(key, style_stamp(key, *_found(file)))
        return found == past.style or (past.style_checksum != 0 and self._checksum(file) == past.style_checksum)

    def _checksum(self, file: StyleFile) -> int:
        with self._mutex:
            if file.key not in self._checksums:
                self._checksums[file.key] = checksum_bits(sha256_of(file.path))
            return self._checksums[file.key]

    def get(self, key: str) -> tuple[Painting, Row | None]:
        """Decodes a style, or returns it from the cache.

        Returns:
            the style, and a row if an earlier run could not read it.

        Raises:
            BrokenStyle: it cannot be read.
        """
        assert self.assignment is not None
        with self._mutex:
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            with self._mutex:
                if key in self._rows:
                    raise BrokenStyle(None)
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key], None
            file = self.listed.files[self._index[key]]
            try:
                made = self._decoded(file)
            except ImageError as error:
                length, modified = _found(file)
                reason = f"a style that cannot be read: {error}"
                masked = self.masks_sha256(None, key)
                row = Row(
                    STYLE_ROWS + key,
                    "failed",
                    reason,
                    input_bytes=length,
                    input_modified=modified,
                    masks_sha256=masked,
                )
                with self._mutex:
                    self._rows[key] = row
                self.assignment.lose(self._index[key])
                raise BrokenStyle(row) from error
            with self._mutex:
                self._kept[key] = made
                while len(self._kept) > 1 and self._held() > CACHE_BYTES:
                    self._kept.popitem(last=False)
                mended = key in self._mended
                self._mended.discard(key)
        reason = "a style that an earlier run could not read and this one can"
        return made, Row(STYLE_ROWS + key, "skipped", reason) if mended else None

    def _held(self) -> int:
        return sum(one.bytes for one in self._kept.values())

    def check_targets(self, weights_sha256: str) -> None:
        """Checks that saved targets were made with this run's settings and weights.

        Raises:
            SettingsError: names the file and what differs.
        """
        self._weights_sha256 = weights_sha256
        for file in self.listed.files:
            if is_targets(file.path):
                with suppress(ImageError):  # a broken style, which has its row later
                    saved = saved_targets.read(file.path)
                    if (error := saved_targets.differences(saved, self._settings, weights_sha256)) is not None:
                        raise SettingsError(f"the style {printable(file.path)}: {error.what}", error.remedy)

    def _decoded(self, file: StyleFile) -> Painting:
        """Decodes a style, see `style_picture.decoded`; refuses targets that were replaced during the run."""
        made = decoded(file, self._settings, self._decoders)
        saved, weights_sha256 = made.parts[0].saved, self._weights_sha256
        if saved is None or weights_sha256 is None:
            return made
        if (error := saved_targets.differences(saved, self._settings, weights_sha256)) is not None:
            raise ImageError(error.what, error.remedy)
        return made

    def masks_sha256(self, image: str | None, style: str) -> str:
        """Checksum for rows, of the masks that a photograph and its style have now; "" without masks.

        Args:
            image: key of the photograph; None for the style's row.
            style: key of its style; not read where all photographs have one.
        """
        content_masks, style_masks = self._settings.content_masks, self._settings.style_masks
        if content_masks is None or (image is None and style_masks is None):
            return ""
        content = "" if image is None else masks.checksum_of(masks.path_of(content_masks, image))
        if self.one is not None:
            return masks.checksum_of_both(content, self.one.mask_sha256)
        own = "" if style_masks is None else masks.checksum_of(masks.path_of(style_masks, style))
        return masks.checksum_of_both(content, own)


def _found(file: StyleFile) -> tuple[int, int]:
    """Length and time of a style's file; 0 if it cannot be looked at."""
    try:
        found = os.stat(file.path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
