"""Annotations of pictures, COCO files and lists: checked before a run, and copied into the output folder at its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import annotations_name
from jaxstyle.data.lists import ListFile
from jaxstyle.data.opening import open_regular
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STYLE_ROWS, Row
from jaxstyle.data.sources.base import is_list, printable
from jaxstyle.data.writing import writing
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.settings import RenderSettings

MOST_BYTES = 2**30
"""Of a COCO file, which is read whole."""
LOOKED_FOR = 1000
"""Pictures of a COCO file of which at least one must be among the inputs."""
SHOWN = 5

Size = tuple[int, int]


@dataclass
class Carried:
    """What of the annotations went into the output folder.

    Attributes:
        name: of the file in it.
        entries: pictures of a COCO file, or rows of a list, that were copied.
        without: number of those that have no output.
        unfit: names of those whose output has another size than a COCO file says, the first of them.
        number_unfit: how many these are.
    """

    name: str
    entries: int = 0
    without: int = 0
    unfit: list[str] = field(default_factory=list)
    number_unfit: int = 0

    def told(self) -> str:
        """What there is to tell, in a line."""
        left = f", {self.without} without an output left out" if self.without else ""
        if self.number_unfit:
            left += f", {self.number_unfit} of another size left out ({', '.join(map(printable, self.unfit))})"
        return f"Annotations of {self.entries} entries in {self.name}{left}."


class Annotations(Protocol):
    """A file of annotations."""

    def check(self, roots: Sequence[Path], several: bool) -> None:
        """Checks what can be wrong before a run.

        Args:
            roots: files and folders of the inputs.
            several: whether pictures may have several outputs.

        Raises:
            InputError, SettingsError: they cannot be used, or would not fit the outputs.
        """

    def misfit(self, image: str, size: Size) -> str:
        """Why an input of this width and height cannot be rendered with its annotations, or ""."""

    def carry(self, folder: Folder) -> Carried:
        """Writes the annotations of the outputs that are done into their folder, unless they are there already.

        Raises:
            InputError, StorageError: they cannot be read any more, or the folder cannot be written.
        """


def annotations_for(settings: RenderSettings) -> Annotations | None:
    """The annotations that the settings name, or None."""
    if settings.annotations is None:
        return None
    return (_Rows if is_list(settings.annotations) else _Coco)(settings.annotations, settings)


class _Rows:
    """A list, whose rows are kept where they name an output that is done. See `Annotations`."""

    def __init__(self, path: Path, settings: RenderSettings):
        self._path, self._column = path, settings.path_column

    def check(self, roots: Sequence[Path], several: bool) -> None:
        if next(ListFile(self._path, self._column).entries(), None) is None:
            raise InputError(f"the annotations {printable(self._path)} have no rows", "Give a list with rows.")

    def misfit(self, image: str, size: Size) -> str:
        return ""

    def carry(self, folder: Folder) -> Carried:
        """Memory: 100 bytes for each output, and more where its name is not its input's."""
        same, others = set[int](), dict[str, list[str]]()
        for row in _done(folder):
            if row.image:
                others.setdefault(row.image, []).append(row.key)
            else:
                same.add(hash(row.key))
        found = Carried(annotations_name(self._path.suffix))

        def lines() -> Iterator[bytes]:
            of = ListFile(self._path, self._column)
            found.entries = found.without = 0
            for number, entry in enumerate(of.entries()):
                if not number:
                    yield of.begin()
                keys = sorted(others.get(entry.key, ())) + [entry.key] * (hash(entry.key) in same)
                found.entries += bool(keys)
                found.without += not keys
                yield from (of.with_key(entry, key) for key in keys)

        _write(folder, found.name, lines)
        return found


class _Coco:
    """A COCO file: pictures with `file_name`, `width` and `height`, and annotations in pixels. See `Annotations`."""

    def __init__(self, path: Path, settings: RenderSettings):
        self._path, self._settings = path, settings
        self._sizes: dict[str, Size] = {}

    def check(self, roots: Sequence[Path], several: bool) -> None:
        where = f"the annotations {printable(self._path)}"
        if self._settings.output_size != "input":
            raise SettingsError(
                f"output_size is {self._settings.output_size!r}, and {where} are in pixels of the inputs",
                "Give --output-size input, so that they fit the outputs.",
            )
        if several:
            raise SettingsError(
                f"{where} describe each picture once, and pictures may get several styles",
                "Give each photograph one style, or make a run and an output folder for each style.",
            )
        self._sizes = {one["file_name"]: (one["width"], one["height"]) for one in self._read()["images"]}
        folders = [root for root in roots if root.is_dir()]
        names = list(islice(self._sizes, LOOKED_FOR))
        if folders and not any((folder / name).exists() for name in names for folder in folders):
            raise InputError(
                f"none of the pictures that {where} name first, such as {printable(names[0])}, is below "
                f"{', '.join(map(printable, folders))}",
                "Give the folder that their file_name begins in.",
            )

    def misfit(self, image: str, size: Size) -> str:
        said = self._sizes.get(image, size)
        if said == size:
            return ""
        return (
            f"is {size[0]} x {size[1]} pixels, upright, and its annotations are for {said[0]} x {said[1]}: correct "
            f"{printable(self._path.name)}, or render it without annotations"
        )

    def carry(self, folder: Folder) -> Carried:
        """Memory: the file is read whole again."""
        content = self._read()
        sizes = {one["file_name"]: (one["width"], one["height"]) for one in content["images"]}
        keys: dict[str, str] = {}
        found = Carried(annotations_name(".json"))
        for row in _done(folder):
            name = row.image or row.key
            if name in sizes:
                keys[name] = row.key
                if row.output_size != sizes[name]:
                    del keys[name]
                    found.number_unfit += 1
                    found.unfit = sorted([*found.unfit, name])[:SHOWN]
        kept = [one for one in content["images"] if one["file_name"] in keys]
        numbers = {one["id"] for one in kept}
        found.entries, found.without = len(kept), len(sizes) - len(kept) - found.number_unfit
        content["images"] = [one | {"file_name": keys[one["file_name"]]} for one in kept]
        if "annotations" in content:
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] in numbers]
        _write(folder, found.name, lambda: iter([json.dumps(content).encode()]))
        return found

    def _read(self) -> dict[str, Any]:
        """The content of the file, of which what `carry` needs has been checked.

        Raises:
            InputError: it is none of COCO's.
        """
        try:
            with open_regular(self._path, follow=True) as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            content = json.loads(data)
            del data
            _check_coco(content)
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"the annotations {printable(self._path)} cannot be used ({printable(reason)})",
                             "Give a COCO file (.json), or a list (.csv, .tsv, .jsonl).") from error  # fmt: skip
        return content


def _check_coco(content: Any) -> None:
    """Raises a ValueError unless this is a COCO file with pictures, each name and each number once."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise ValueError("it has no list of images")
    names, numbers = set[str](), set[int]()
    for n, one in enumerate(images):
        kinds = {"file_name": str, "id": int, "width": int, "height": int}
        if not isinstance(one, dict) or any(type(one.get(name)) is not kind for name, kind in kinds.items()):
            raise ValueError(f"entry {n} of images lacks one of {', '.join(kinds)}, or has one of another type")
        if one["file_name"] in names or one["id"] in numbers:
            raise ValueError(f"the file_name {one['file_name']!r} or the id {one['id']} is in images twice")
        names.add(one["file_name"])
        numbers.add(one["id"])
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list) or any(
        not isinstance(one, dict) or type(one.get("image_id")) is not int for one in annotations
    ):
        raise ValueError("an entry of annotations has no image_id that is a whole number")


def _done(folder: Folder) -> Iterator[Row]:
    with LastRows(folder) as rows:
        yield from (row for row in rows if row.status == "done" and not row.key.startswith(STYLE_ROWS))


def _write(folder: Folder, name: str, pieces: Callable[[], Iterator[bytes]]) -> None:
    """Writes a file in pieces, in one step, unless it has this content: a finished folder may be read-only."""
    digest = hashlib.sha256()
    for piece in pieces():
        digest.update(piece)
    try:
        with folder.open(name) as file:
            if hashlib.file_digest(file, "sha256").digest() == digest.digest():  # type: ignore[arg-type]
                return
    except OSError:  # it is not there, or no regular file, which writing replaces or says
        pass
    with writing((folder, name)) as file:
        for piece in pieces():
            file.write(piece)
