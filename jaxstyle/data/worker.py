"""A process that opens and decodes pictures for a run, so that a decoder that crashes or hangs takes nothing with it.

One JSON line on stdin is a request; its answer is one JSON line on stdout, and for a decoded picture the bytes of its
arrays behind it. Nothing is pickled: whoever takes over a decoder can send pictures and words, but no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data import image
from jaxstyle.errors import ImageError


def probe(path: Path, max_pixels: int) -> dict[str, Any]:
    """The header of a picture, or what is wrong with it."""
    try:
        before = _stat(path)
        return before | _described(image.probe(path, max_pixels))
    except image.NotAPicture as error:
        return {"problem": str(error), "picture": False}
    except ImageError as error:
        return {"problem": str(error)}
    except OSError as error:
        return {"problem": f"cannot be read ({error.strerror})"}


def read(path: Path, max_pixels: int, size: int, full_alpha: bool) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A picture at its working size, and its alpha channel at the output's; or what is wrong with it.

    Args:
        size: most pixels of the long side.
        full_alpha: the output will have the picture's own size.
    """
    try:
        before = _stat(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        picture = image.read(path, max_pixels)
        if _stat(path) != before:
            return {"problem": "changed while it was read"}, []
    except ImageError as error:
        return {"problem": str(error)}, []
    except OSError as error:
        return {"problem": f"cannot be read ({error.strerror})"}, []
    except MemoryError:
        return {"problem": "cannot be decoded (out of memory)"}, []
    header = picture.header
    work = image.work_size(header.width, header.height, size)
    arrays = [np.ascontiguousarray(image.resize(picture.pixels, *work), np.float32)]
    if picture.alpha is not None:
        out = (header.width, header.height) if full_alpha else work
        arrays.append(image.to_bytes(image.resize(picture.alpha, *out)))
    answer = before | _described(header) | {"sha256": sha256, "notes": picture.notes, "alpha": len(arrays) > 1}
    return answer, arrays


def _stat(path: Path) -> dict[str, int]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ImageError("not a regular file")
    return {"length": found.st_size, "modified": found.st_mtime_ns}


def _described(header: image.Header) -> dict[str, Any]:
    return {"width": header.width, "height": header.height, "format": header.format, "frames": header.frames}


def main() -> None:
    """Answers requests until stdin ends, as it does when the run is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not get among the answers
    for line in sys.stdin.buffer:
        request = json.loads(line)
        arrays: list[np.ndarray] = []
        if "probe" in request:
            answer: Any = [probe(Path(name), request["max_pixels"]) for name in request["probe"]]
        else:
            answer, arrays = read(Path(request["read"]), request["max_pixels"], request["size"], request["full_alpha"])
        answers.write(json.dumps(answer).encode("ascii") + b"\n")
        for array in arrays:
            answers.write(array.data)
        answers.flush()
