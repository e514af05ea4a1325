"""Opens and decodes one file, in the calling process or in a worker process.

A worker reads requests from stdin, one JSON line each, and answers in order on stdout: a JSON line, followed after
`read` by arrays in NumPy's .npy format. Answers hold only text and numbers and are not pickled, so that a decoder
under control of a malicious image cannot make the parent run code.
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
"""Most notes of a picture; a hostile file can cause thousands of warnings."""

READY = b'{"ready": true}\n'
"""Line that a worker writes before it reads the first request."""


@dataclass(frozen=True)
class Stat:
    """A file's length in bytes and its modification time (st_mtime_ns); both are 0 if unknown."""

    length: int
    modified: int


UNKNOWN = Stat(0, 0)


@dataclass(frozen=True)
class Probed:
    """A file's header, or the problem with the file.

    Attributes:
        stat: length and modification time of the file.
        header: the header, or None if the file cannot be used.
        problem: why the file cannot be used, else "".
        picture: False if its content has no known format (image.NotAPicture).
    """

    stat: Stat
    header: image.Header | None
    problem: str = ""
    picture: bool = True


@dataclass(frozen=True)
class Decoded(image.Picture):
    """A picture at its working size, with facts about its file.

    Attributes:
        stat: length and modification time of the file.
        sha256: checksum of the file's bytes, in hexadecimal.
    """

    stat: Stat
    sha256: str


def probe(path: Path, max_pixels: int) -> Probed:
    """Reads a file's header; an error becomes a problem."""
    found = UNKNOWN
    try:
        with _steady(path) as (file, found):
            return Probed(found, image.probe(file, max_pixels))
    except ImageError as error:
        return Probed(found, None, _plain(str(error)), not isinstance(error, image.NotAPicture))


def read(
    path: Path,
    size: int,
    max_pixels: int,
    *,
    full_alpha: bool,
    white_level: float | None = None,
    metadata: str = "none",
) -> Decoded:
    """Decodes a file and reduces it to the working size. Not thread-safe, see `image.read`.

    Args:
        size: long side of the working size, in pixels.
        full_alpha: keep the alpha channel at the file's size.
        white_level, metadata: see `image.read`.

    Raises:
        ImageError: the file cannot be read or decoded, or changed while it was read.
    """
    try:
        with _steady(path) as (file, found):
            picture = image.read(file, max_pixels, size, full_alpha, white_level, metadata)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except MemoryError as error:
        raise ImageError("needs more memory to be decoded than there is") from error
    notes = tuple(map(_plain, picture.notes[:MAX_NOTES]))
    return Decoded(picture.levels, picture.alpha, picture.header, notes, found, sha256, exif=picture.exif)


@contextmanager
def _steady(path: Path) -> Iterator[tuple[io.BufferedReader, Stat]]:
    """Opens a regular file; raises an ImageError if the file cannot be read or changes inside the block."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageError("cannot be read (not a regular file)")
            before = _stat(file)
            try:
                yield file, before
            except ImageError:  # if the file is being written, that is the reason to report
                _compare(file, before)
                raise
            _compare(file, before)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a named pipe would block


def _stat(file: BinaryIO) -> Stat:
    found = os.fstat(file.fileno())
    return Stat(found.st_size, found.st_mtime_ns)


def _compare(file: BinaryIO, before: Stat) -> None:
    if _stat(file) != before:
        raise ImageError("changed while it was read")


def _plain(text: str) -> str:
    """Escapes lone surrogates, which cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()


def main() -> None:
    """Serves requests until stdin is closed, for example by the parent's death; a decoder that hangs is ended too."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent ends the worker
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # Linux: when memory runs out, the kernel kills a decoder before the run
        Path("/proc/self/oom_score_adj").write_text("1000")
    Image.init()  # imports the decoders before the parent starts its timeout
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # keeps the output of libraries out of the answers
        os.dup2(nothing, descriptor)
    answers.write(READY)
    answers.flush()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, lines), daemon=True).start()
    while True:
        line, arrays = _answer(json.loads(lines.get()))
        answers.write(json.dumps(line).encode("ascii") + b"\n")
        for array in arrays:
            write_array(answers, array)
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
        asked = {name: request[name] for name in ("full_alpha", "white_level", "metadata")}
        picture = read(Path(request["read"]), request["size"], request["max_pixels"], **asked)
    except ImageError as error:
        return {"what": _plain(error.what), "remedy": _plain(error.remedy)}, []
    arrays = [picture.levels] if picture.alpha is None else [picture.levels, picture.alpha]
    line = {
        "stat": asdict(picture.stat),
        "sha256": picture.sha256,
        "header": asdict(picture.header),
        "notes": picture.notes,
        "exif": picture.exif.hex(),
        "arrays": [array.dtype.name for array in arrays],
    }
    return line, arrays


def array_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Returns the header of an array in NumPy's .npy format, version 1.0."""
    made = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(made, described)
    return made.getvalue()


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Writes an array in the .npy format; np.lib.format.write_array cannot write to a pipe."""
    file.write(array_header(array.shape, array.dtype))
    file.write(np.ascontiguousarray(array).data)
