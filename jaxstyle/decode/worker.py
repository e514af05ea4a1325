"""Opening and decoding one file: in the calling process, or as the main function of a worker process.

A worker answers requests, one JSON line each on its stdin, in order, on its stdout: a JSON line, and for `read` the
bytes of the arrays behind it. Everything in it is plain text and numbers, so that a decoder taken over by a hostile
file has no way to make the parent run code (as unpickling would be).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jaxstyle.data import image
from jaxstyle.errors import ImageError

MAX_NOTES = 32
"""Notes of a picture that are kept: a hostile file can have thousands of warnings."""

READY = b'{"ready": true}\n'
"""What a worker says before it reads the first request."""


@dataclass(frozen=True)
class Stat:
    """A file's length in bytes and its modification time (st_mtime_ns); both 0 where they are unknown."""

    length: int
    modified: int


UNKNOWN = Stat(0, 0)


@dataclass(frozen=True)
class Probed:
    """What a look at a file's header brought.

    Attributes:
        header: None where the file cannot be used.
        problem: why it cannot; else "".
        picture: False where its content is of no format on the list (image.NotAPicture).
    """

    stat: Stat
    header: image.Header | None
    problem: str = ""
    picture: bool = True


@dataclass(frozen=True)
class Decoded:
    """A picture ready to be worked on.

    Attributes:
        sha256: of the file's bytes, in hexadecimal.
        header: of the file; width and height are what was decoded, upright.
        notes: what was done that its owner might not expect.
        pixels: h x w x 3 float32 in [0, 1], of `image.work_size`.
        alpha: uint8, h x w, or as large as the header says where asked for; None where everything is opaque.
    """

    stat: Stat
    sha256: str
    header: image.Header
    notes: tuple[str, ...]
    pixels: np.ndarray
    alpha: np.ndarray | None


def probe(path: Path, max_pixels: int) -> Probed:
    """Reads a file's header; everything that is wrong with it becomes a problem."""
    found = UNKNOWN
    try:
        with _steady(path) as (file, found):
            return Probed(found, image.probe(file, max_pixels))
    except ImageError as error:
        return Probed(found, None, _plain(str(error)), not isinstance(error, image.NotAPicture))


def read(path: Path, size: int, max_pixels: int, *, full_alpha: bool) -> Decoded:
    """Decodes a file and brings it to the working size. Not thread-safe, see `image.read`.

    Args:
        size: long side of the working size, in pixels.
        full_alpha: leave the alpha channel as large as the picture.

    Raises:
        ImageError: it cannot be read or decoded, or changed in the meantime.
    """
    try:
        with _steady(path) as (file, found):
            picture = image.read(file, max_pixels)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        header = picture.header
        work = image.work_size(header.width, header.height, size)
        pixels = np.ascontiguousarray(image.resize(picture.pixels, *work), np.float32)
        alpha = picture.alpha
        if alpha is not None:
            alpha = np.ascontiguousarray(image.to_bytes(alpha if full_alpha else image.resize(alpha, *work)))
        return Decoded(found, sha256, header, tuple(map(_plain, picture.notes[:MAX_NOTES])), pixels, alpha)
    except MemoryError as error:
        raise ImageError("needs more memory to be decoded than there is") from error


@contextmanager
def _steady(path: Path) -> Iterator[tuple[io.BufferedReader, Stat]]:
    """An open regular file that must not change meanwhile; whatever goes wrong with it is an ImageError."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageError("cannot be read (not a regular file)")
            before = _stat(file)
            try:
                yield file, before
            except ImageError:  # of half a file, perhaps
                _compare(file, before)
                raise
            _compare(file, before)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for its other end


def _stat(file: BinaryIO) -> Stat:
    found = os.fstat(file.fileno())
    return Stat(found.st_size, found.st_mtime_ns)


def _compare(file: BinaryIO, before: Stat) -> None:
    if _stat(file) != before:
        raise ImageError("changed while it was read")


def _plain(text: str) -> str:
    """Without lone surrogates, which nobody could encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def main() -> None:
    """Serves requests until stdin ends, as it does when the parent dies, even if a decoder hangs then."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whether to end is the parent's decision
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # Linux alone: where memory runs out, a decoder ends and not the run
        Path("/proc/self/oom_score_adj").write_text("1000")
    Image.init()  # imports the decoders before the parent looks at the clock
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # whatever a library prints must not get among the answers
        os.dup2(nothing, descriptor)
    answers.write(READY)
    answers.flush()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, lines), daemon=True).start()
    while True:
        line, arrays = _answer(json.loads(lines.get()))
        answers.write(json.dumps(line).encode("ascii") + b"\n")
        for array in arrays:
            answers.write(array.data)
        answers.flush()


def _listen(requests: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)


def _answer(request: dict[str, Any]) -> tuple[Any, list[np.ndarray]]:
    if "probe" in request:
        found = [probe(Path(name), request["max_pixels"]) for name in request["probe"]]
        return [asdict(one) for one in found], []
    try:
        picture = read(Path(request["read"]), request["size"], request["max_pixels"], full_alpha=request["full_alpha"])
    except ImageError as error:
        return {"what": _plain(error.what), "remedy": _plain(error.remedy)}, []
    arrays = [picture.pixels] if picture.alpha is None else [picture.pixels, picture.alpha]
    line = {
        "stat": asdict(picture.stat),
        "sha256": picture.sha256,
        "header": asdict(picture.header),
        "notes": picture.notes,
        "lengths": [array.nbytes for array in arrays],
    }
    return line, arrays
