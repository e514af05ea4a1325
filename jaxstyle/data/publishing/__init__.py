"""Copies the outputs of a folder to an object store: objects first, each checked, and a commit marker last."""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from jaxstyle.data import lock
from jaxstyle.data.fingerprint import read_about
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import MANIFEST, PUBLISHER, SETTINGS
from jaxstyle.data.packing.base import entry, opened
from jaxstyle.data.publishing.commit import MARKER, Marker, Publication, Watch
from jaxstyle.data.publishing.record import FORMAT, RECORD, Objects, Wanted, on_disk
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STYLE_ROWS
from jaxstyle.data.sources.base import printable
from jaxstyle.data.stores import Place, Store, place_of, usable
from jaxstyle.data.writing import write_file
from jaxstyle.errors import InputError, StorageError
from jaxstyle.paths import is_url


@dataclass
class Published:
    """What `publish` did.

    Attributes:
        url: where the objects are.
        objects: number of outputs there.
        bytes: their total length.
        written: number of objects that were written, the manifest and the settings among them; the others were there.
        missing: failed inputs, which have no output.
        left_over: objects of earlier publications that are no outputs any more.
    """

    url: str
    objects: int
    bytes: int
    written: int
    missing: int
    left_over: int

    def as_json(self) -> dict[str, Any]:
        """Values for a JSON file."""
        return asdict(self) | {"url": printable(self.url)}

    def lines(self) -> list[str]:
        """The place of the commit marker."""
        return [printable(f"{self.url}/{MARKER}")]

    def told(self) -> list[str]:
        """What else there is to tell, for people."""
        told = [
            f"{self.objects} outputs, {self.missing} missing: {self.written} objects written, the others were there"
        ]
        if self.left_over:
            told.append(
                f"{self.left_over} objects of earlier publications have no output any more, and were left there"
            )
        return told


def publish(output: Path, url: str, *, allow_missing: bool = False, watch: Watch = nullcontext) -> Published:
    """Copies the outputs, the manifest and the settings of a folder to an object store.

    Objects that are there already with the same content are not written again. Every object is checked after it was
    written, and the commit marker comes last. Before the first object changes, an old marker is deleted.

    Args:
        output: output folder of runs.
        url: prefix of the objects.
        allow_missing: publish although inputs have failed or a run is at work in the folder.
        watch: a context for each call of the store, given what it does.

    Raises:
        InputError: the folder is unfinished, the URL cannot be used, or an object is in the way that no publication of
            this folder wrote.
        StorageError: an output is not as its row says, or the store fails.
    """
    place = place_of(url, "the URL")
    folder, settings = opened(output)
    _refuse_inputs(folder, place)
    if not allow_missing and (at_work := lock.holders(folder)):
        raise InputError(f"{len(at_work)} runs are at work in {printable(output)}",
                         "Wait for their end, or add --allow-missing to publish what is done.")  # fmt: skip
    store = Store(place.scheme)
    with Objects() as objects, tempfile.NamedTemporaryFile() as manifest:
        missing = _take_rows(folder, objects, manifest)
        if missing and not allow_missing:
            raise InputError(f"{missing} inputs have failed in {printable(output)} and have no output",
                             "Render them (`jaxstyle status` tells why), or add --allow-missing.")  # fmt: skip
        number, length = objects.totals()
        data = settings.encode()
        own = [_wanted_file(MANIFEST, manifest), Wanted(SETTINGS, hashlib.sha256(data).hexdigest(), len(data))]
        for one in own:
            objects.want(one)
        name = _name_of(folder)
        marker: Marker = {
            "format": FORMAT, "folder": name, "objects": number, "bytes": length, "missing": missing,
            "manifest_sha256": own[0].sha256, "settings_sha256": own[1].sha256,
        }  # fmt: skip
        work = Publication(folder, store, place, objects, watch, name, {SETTINGS: data}, {MANIFEST: manifest.name})
        with _storing(place):
            work.compare()
            left_over = objects.number_left_over()
            written = work.commit(json.dumps(marker, indent=1).encode() + b"\n")
    return Published(str(place), number, length, written, missing, left_over)


def _take_rows(folder: Folder, objects: Objects, manifest: IO[bytes]) -> int:
    """Copies the last row of every key and takes in the outputs of those that are done; returns how many failed.

    Raises:
        StorageError: a ledger is damaged.
        InputError: an output cannot be an object.
    """
    missing = 0
    with on_disk(), LastRows(folder) as rows:
        if rows.malformed:
            raise StorageError(f"{rows.malformed[0][0]} has lines that are no rows", "See `jaxstyle verify`.")
        for row in rows:
            manifest.write(json.dumps(row.as_json()).encode("ascii") + b"\n")
            if row.key.startswith(STYLE_ROWS):
                continue
            missing += row.status == "failed"
            if (one := entry(row)) is None:
                continue
            if one.key in (RECORD, MARKER) or not one.key.isprintable():
                raise InputError(f"the output {printable(one.key)} cannot be an object", "Rename its input.")
            objects.want(Wanted(one.key, one.sha256, row.output_bytes))
        manifest.flush()
    return missing


def _wanted_file(key: str, file: IO[bytes]) -> Wanted:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return Wanted(key, digest, file.tell())


def _name_of(folder: Folder) -> str:
    """The name by which a folder is known again in a store; the first publication makes it."""
    try:
        return folder.read(PUBLISHER, 100).decode("ascii").strip()
    except FileNotFoundError:
        name = secrets.token_hex(16)
        write_file((folder, PUBLISHER), f"{name}\n".encode())
        return name
    except (OSError, ValueError) as error:
        raise StorageError(f"{printable(folder / PUBLISHER)} cannot be read ({error})", "Delete it.") from error


def _refuse_inputs(folder: Folder, place: Place) -> None:
    """Checks that objects would not lie among the inputs of the folder's runs."""
    places = (read_about(folder) or {}).get("places")
    inputs = places.get("inputs") if isinstance(places, dict) else None
    for one in inputs if isinstance(inputs, list) else ():
        if not is_url(one):
            continue
        other = place_of(one, "an input")
        if other.scheme == place.scheme and f"{place.path}/".startswith(f"{other.path}/"):
            raise InputError(f"the URL {printable(place)} lies among the inputs in {printable(other)}",
                             "Give a prefix outside.")  # fmt: skip


@contextmanager
def _storing(place: Place) -> Iterator[None]:
    """Turns errors of a store inside the block into errors that tell what to do."""
    with usable(place):
        try:
            yield
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:
            raise StorageError(f"the outputs cannot be copied to {printable(place)} ({error.strerror or error})",
                               "The same command again goes on.") from error  # fmt: skip
