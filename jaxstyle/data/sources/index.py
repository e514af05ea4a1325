"""The index of a source that lists its inputs before the run: a line of JSON for each, in a temporary file."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from jaxstyle.errors import StorageError

IN_MEMORY = 2**20
"""Bytes of an index that stay in memory; a longer one is moved to a temporary file."""
AT_A_TIME = 2**16
"""Bytes of an index that are read at a time."""


class Indexed:
    """Part of a source whose `prepare` lists the inputs. Several threads may call its methods."""

    def __init__(self, what: str):
        """Args:
        what: the index in messages, such as "the index of the archives".
        """
        self._what = what
        self._lock = threading.RLock()
        self._index: IO[bytes] | None = None

    def prepare(self) -> Iterator[None]:
        """Lists the inputs and keeps `_index`, in steps."""
        raise NotImplementedError

    def close(self) -> None:
        """Forgets the index; a later call lists the inputs again."""
        with self._lock:
            if self._index is not None:
                self._index.close()
            self._index = None

    @contextmanager
    def _new_index(self) -> Iterator[IO[bytes]]:
        """Yields an empty index, which is closed if the listing fails."""
        index = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        try:
            yield index
        except BaseException:
            index.close()
            raise

    def _add(self, index: IO[bytes], line: Sequence[str]) -> None:
        with in_a_temporary_file(self._what):
            index.write(json.dumps(line).encode("ascii") + b"\n")

    def _listed(self) -> IO[bytes]:
        """The index. Lists the inputs if `prepare` has not."""
        if self._index is None:
            for _ in self.prepare():
                pass
        assert self._index is not None
        return self._index

    def _lines(self) -> Iterator[list[Any]]:
        """Yields the lines of the index."""
        at = 0
        while True:
            with self._lock, in_a_temporary_file(self._what):
                index = self._listed()
                index.seek(at)
                lines = index.readlines(AT_A_TIME)
            if not lines:
                return
            for line in lines:
                at += len(line)
                yield json.loads(line)


@contextmanager
def in_a_temporary_file(what: str) -> Iterator[None]:
    """Turns errors of a temporary file into a `StorageError`; `what` is kept in it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{what} cannot be kept in a temporary file ({error.strerror or error})",
            "Free space for temporary files, or set TMPDIR to a folder that has some.",
        ) from error
