"""The outputs of a folder by the file of inputs that they were made from, in a temporary file."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxstyle.data import shallow
from jaxstyle.data.folder import Folder
from jaxstyle.data.packing import base
from jaxstyle.data.packing.base import Entry, Origin
from jaxstyle.data.sources.index import in_a_temporary_file

WHAT = "the list of outputs"
"""In messages."""


class Output(NamedTuple):
    """An output, and the input that it was made from."""

    entry: Entry
    origin: Origin


class Outputs:
    """The outputs of files of inputs. They lie in a temporary file; memory holds 8 bytes an output."""

    def __init__(self, folder: Folder, prefixes: Sequence[str]):
        """Reads the rows.

        Args:
            prefixes: first parts of the keys of each file's images.
        """
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._places = {prefix: array("Q") for prefix in prefixes}
        at = 0
        for row in base.last_rows(folder):
            found = base.entry(row)
            places = self._places.get((row.image or row.key).partition("/")[0])
            if found is not None and places is not None:
                line = json.dumps([found, Origin.of(row)]).encode("ascii") + b"\n"
                with in_a_temporary_file(WHAT):
                    self._file.write(line)
                places.append(at)
                at += len(line)

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()

    def of(self, prefix: str) -> dict[str, list[Output]]:
        """The outputs of each image of a file, by the image's key."""
        outputs: dict[str, list[Output]] = {}
        for place in self._places[prefix]:
            with in_a_temporary_file(WHAT):
                self._file.seek(place)
                entry, origin = json.loads(self._file.readline())
            one = Output(Entry(*entry), Origin(*origin))
            outputs.setdefault(one.entry.image, []).append(one)
        for found in outputs.values():
            found.sort()
        return outputs


def settings_of(text: str) -> Any:
    """settings.json as a value, or its text if it is damaged."""
    try:
        return shallow.loads(text)
    except ValueError:
        return text
