"""Standard streams that never end a command: closed ones are replaced, and what cannot be written is dropped."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

WAIT_SECONDS = 1.0
"""How long a write waits for the reader of a stream that does not block."""
_NOBODY = (errno.EPIPE, errno.EBADF)
"""Error codes of a reader that has gone, as of `| head`, and of a stream that was closed on purpose."""


class Stream(io.RawIOBase):
    """Writes to a file descriptor and drops what cannot be written.

    Attributes:
        problem: the first error that lost something which somebody may be waiting for; None without one.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.problem: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                if not select.select([], [self._descriptor], [], WAIT_SECONDS)[1]:
                    break
            except OSError as error:
                if error.errno not in _NOBODY:
                    self.problem = self.problem or error
                break
        return memoryview(data).nbytes


def reopen_closed() -> None:
    """Opens /dev/null in the place of each standard descriptor that is closed.

    Otherwise the next file that is opened takes its number, and a library that writes an error message to the standard
    error writes it into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number, which is this one


@contextmanager
def lenient() -> Iterator[Stream | None]:
    """Replaces sys.stdout and sys.stderr by `Stream`s, and yields that of the standard output.

    A character that the stream's encoding lacks is escaped. Streams without a file descriptor are left as they are;
    None is yielded then.
    """
    reopen_closed()
    before, found = (sys.stdout, sys.stderr), []
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = _stream(getattr(sys, name), descriptor)
        found.append(raw)
        if raw is not None:
            setattr(sys, name, _text(raw, getattr(sys, name)))
    try:
        yield found[0]
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _stream(stream: TextIO | None, descriptor: int) -> Stream | None:
    if stream is None:  # it was closed when Python began
        return Stream(descriptor)
    try:
        stream.flush()
        return Stream(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def _text(raw: Stream, stream: TextIO | None) -> TextIO:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    at_once = raw.fileno() == 2 or raw.isatty() or stream is sys.stderr
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=at_once)
