"""Pictures made by formula, for tests: no file of anybody's is needed."""

import struct
import zlib

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """H x W x 3 uint8: a smooth scene with edges and a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    phase = rng.uniform(0, 6, 3)
    sky = 0.5 + 0.4 * np.sin(5 * x[..., None] + phase) * np.cos(4 * y[..., None] - phase)
    sky[(x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.04] = rng.uniform(0, 1, 3)
    return (np.clip(sky + rng.normal(0, 0.03, sky.shape), 0, 1) * 255).astype(np.uint8)


def painting(width: int = 64, height: int = 64) -> np.ndarray:
    """H x W x 3 uint8: coloured stripes that bend."""
    y, x = np.mgrid[0:height, 0:width] / 64
    bands = np.sin(40 * x + 6 * np.sin(9 * y))
    return (np.stack([bands > 0, np.abs(bands) > 0.5, bands < 0.3], -1) * np.array([230, 180, 140])).astype(np.uint8)


def save(path, array, **options):
    """Writes a picture and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def icc(gamma: float, *colorants: tuple[float, float, float]) -> bytes:
    """A profile of the second version with one gamma: RGB of three colorants, as XYZ under D50, or gray without."""
    fixed = lambda *values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)  # noqa: E731
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(79), b"cprt": b"text" + bytes(8)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249)
    tags |= {n + b"XYZ": b"XYZ " + bytes(4) + fixed(*v) for n, v in zip((b"r", b"g", b"b"), colorants, strict=False)}
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags |= {n + b"TRC": curve for n in ((b"r", b"g", b"b") if colorants else (b"k",))}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    space = b"RGB " if colorants else b"GRAY"
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
