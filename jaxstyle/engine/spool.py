"""A list that one thread writes while another reads behind it. A long one lies in a file, so that memory stays flat."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from jaxstyle.data.sources.base import Input
from jaxstyle.data.sources.index import in_a_temporary_file

IN_MEMORY = 2**20
"""Bytes of a list that stays in memory; a longer one is moved to a temporary file."""
WHAT = "the list of inputs"
"""In messages."""
LOOK_SECONDS = 0.2
"""Between two looks of a waiting reader at whether the run has stopped."""


class Spool:
    """Inputs, in their order. The file has no name, so that it goes with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._change = threading.Condition()
        self._end = self._position = 0
        self._complete = False

    def write(self, one: Input) -> None:
        """Adds an input.

        Raises:
            StorageError: the temporary file cannot be written.
        """
        told = {name: value for name, value in asdict(one).items() if value != ""}  # the default of a text
        fields = told | {"locator": str(one.locator), "path": isinstance(one.locator, Path)}
        line = json.dumps(fields).encode("ascii") + b"\n"
        with self._change:
            with in_a_temporary_file(WHAT):
                if self._position != self._end:
                    self._file.seek(self._end)
                self._file.write(line)
            self._end += len(line)
            self._position = self._end
            self._change.notify_all()

    def complete(self) -> None:
        """Says that there are no more."""
        with self._change:
            self._complete = True
            self._change.notify_all()

    def read(self, stopped: Callable[[], bool]) -> Iterator[Input]:
        """All inputs; blocks for each that is not written yet, until the run has stopped."""
        at = 0
        while (line := self._line(at, stopped)) is not None:
            at += len(line)
            fields = json.loads(line)
            if fields.pop("path"):
                fields["locator"] = Path(fields["locator"])
            yield Input(**fields)

    def _line(self, at: int, stopped: Callable[[], bool]) -> bytes | None:
        with self._change:
            while at == self._end:
                if self._complete or stopped():
                    return None
                self._change.wait(LOOK_SECONDS)
            with in_a_temporary_file(WHAT):  # reading writes what is still in the buffer
                if self._position != at:
                    self._file.seek(at)
                line = self._file.readline()
            self._position = at + len(line)
            return line

    def close(self) -> None:
        """Deletes the file."""
        with self._change, suppress(OSError):  # of a buffer that finds no room, which `write` has told
            self._file.close()
