"""The file of style targets: plain arrays and facts about them, in the layout of safetensors, read as untrusted input.

8 bytes with the length of a JSON header, the header with each array's type, shape and place, and the arrays' bytes
(https://huggingface.co/docs/safetensors). Nothing in it is executed; lengths and shapes are bounded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from jaxstyle.data.shallow import loads

EXTENSION = ".safetensors"
"""Extension of a file of style targets."""
FORMAT = "jaxstyle style targets 1"
"""Kind and version of the layout."""
MOST_BYTES, MOST_HEADER = 64 * 2**20, 2**20
"""Of a file, and of its header. The targets of all layers of VGG19 take 10 MiB."""
TYPES = {"F64": "<f8", "F32": "<f4", "U8": "|u1"}
"""Number types by their names in the header; an array begins at a multiple of its numbers' size."""


class Metadata(TypedDict):
    """The entry `__metadata__` of the header.

    Attributes:
        format: kind and version of the layout, "jaxstyle style targets 1".
        facts: JSON of an object with `decides` and `about`.
        sha256: SHA-256 of the text of `facts` and the arrays' bytes after it, in hexadecimal.
    """

    format: str
    facts: str
    sha256: str


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        arrays: by name.
        facts: what they were computed from, as JSON values.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def is_targets(path: Path) -> bool:
    """Whether a style is a file of style targets, by its name."""
    return path.suffix.lower() == EXTENSION


def encode(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a file. Equal contents give equal bytes."""
    kinds = {np.dtype(kind): name for name, kind in TYPES.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    data, header = b"", {}  # type: bytes, dict[str, Any]
    for name in order:
        array = np.ascontiguousarray(arrays[name])
        end = len(data) + array.nbytes
        kind = kinds[array.dtype]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.astype(TYPES[kind], copy=False).tobytes()
    told = json.dumps(facts, sort_keys=True)
    metadata: Metadata = {"format": FORMAT, "facts": told, "sha256": _digest(told, data)}
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def decode(data: bytes) -> Contents:
    """Reads a file's bytes.

    Raises:
        ValueError: they are no such file, of another version, cut short, or changed; the message says how.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MOST_HEADER, len(data) - 8):
        raise ValueError("it is no file of style targets, or is cut short")
    try:
        header = loads(data[8 : 8 + length].decode())
        metadata = header.pop("__metadata__")
        found, told, digest = (metadata.get(name) for name in ("format", "facts", "sha256"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is no file of style targets") from error
    if found != FORMAT:
        other = isinstance(found, str) and found.startswith(FORMAT.rpartition(" ")[0])
        raise ValueError(f"it has the format {found!r:.60}" if other else "it is no file of style targets")
    body = memoryview(data)[8 + length :]
    arrays, at = {}, 0
    for name, about in header.items():
        arrays[name], at = _array(name, about, body, at)
    if at != len(body):
        raise ValueError(f"it has {len(body)} bytes of arrays, and its header tells of {at}")
    if not isinstance(told, str) or _digest(told, body) != digest:
        raise ValueError("it does not have the checksum that is written in it")
    facts = loads(told)
    if not isinstance(facts, dict):
        raise ValueError("its facts are no JSON object")
    return Contents(arrays, facts)


def _array(name: str, about: Any, body: memoryview, at: int) -> tuple[np.ndarray, int]:
    """Returns an array that begins at a byte of the body, and the byte where it ends."""
    try:
        kind, shape, (begin, end) = TYPES[about["dtype"]], about["shape"], about["data_offsets"]
        good = all(type(side) is int and 0 < side <= MOST_BYTES for side in shape) and len(shape) <= 8
        size = math.prod(shape) * np.dtype(kind).itemsize if good else 0
        good = good and (begin, end) == (at, at + size) and end <= len(body)
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"its array {name!r:.60} is not where its header says, or is cut short")
    found = np.frombuffer(body[begin:end], kind).reshape(shape)
    if not np.isfinite(found).all():
        raise ValueError(f"its array {name!r:.60} has values that are not finite")
    return found.astype(found.dtype.newbyteorder("=")), end


def _digest(told: str, data: bytes | memoryview) -> str:
    total = hashlib.sha256(told.encode("utf-8", "surrogatepass"))
    total.update(data)
    return total.hexdigest()
