"""Pictures made by formula, for tests: no file of anybody's is needed."""

import io
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


def encoded(picture: np.ndarray | Image.Image, format: str, **options) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, format, **options)
    return buffer.getvalue()


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


def png16(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits, which Pillow does not write: H x W or H x W x 2, 3 or 4."""
    height, width = values.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return png(head, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


Page = tuple[np.ndarray, dict[int, tuple[str, tuple[int, ...]]]]
"""Pixels H x W x channels in the number type of the file, and tags: number -> (struct's code, values)."""


def page(values: np.ndarray, **tags: int) -> Page:
    """A directory for `tiff`: of uncompressed pixels, or of deflated ones with compression=8.

    Args:
        tags: values of photometric, compression, subfile; others keep their defaults.
    """
    height, width = values.shape[:2]
    channels = values.size // (height * width)
    kinds = {"u": 1, "i": 2, "f": 3}
    short = {
        256: (width,), 257: (height,), 258: (8 * values.itemsize,) * channels, 259: (tags.get("compression", 1),),
        262: (tags.get("photometric", 2 if channels > 2 else 1),), 277: (channels,), 278: (height,),
        339: (kinds[values.dtype.kind],) * channels,
    }  # fmt: skip
    found = {tag: ("H", value) for tag, value in short.items()}
    if "subfile" in tags:
        found[254] = ("L", (tags["subfile"],))
    if "extra" in tags:
        found[338] = ("H", (tags["extra"],))
    return values, found


def tiff(*pages: Page, below: tuple[Page, ...] = (), order: str = "<") -> bytes:
    """A TIFF of one directory a page, written byte by byte.

    Args:
        below: SubIFDs of the first page.
        order: "<" or ">", of its bytes.
    """
    code = {"B": 1, "H": 3, "L": 4}
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))

    def write(pages: tuple[Page, ...], at: int, chained: bool) -> list[int]:
        """Writes directories; each one's offset goes to `at`, the end of the one before, or is returned only."""
        places = []
        for number, (values, tags) in enumerate(pages):
            planes = values.shape[2] if tags.get(284) == ("H", (2,)) else 1
            stored = values.transpose(2, 0, 1) if planes > 1 else values
            data = stored.astype(values.dtype.newbyteorder(order)).tobytes()
            data = zlib.compress(data) if tags[259][1] == (8,) else data
            each = len(data) // planes
            tags = tags | {273: ("L", tuple(len(out) + n * each for n in range(planes))), 279: ("L", (each,) * planes)}
            out.extend(data + bytes(len(data) % 2))
            if chained and number == 0 and below:
                tags = tags | {330: ("L", tuple(write(below, 0, False)))}
            entries = b""
            for tag, (kind, given) in sorted(tags.items()):
                packed = struct.pack(f"{order}{len(given)}{kind}", *given)
                if len(packed) > 4:
                    packed, place = struct.pack(order + "L", len(out)), packed
                    out.extend(place + bytes(len(place) % 2))
                entries += struct.pack(order + "HHL", tag, code[kind], len(given)) + packed.ljust(4, b"\0")
            places.append(len(out))
            if chained:
                out[at : at + 4] = struct.pack(order + "L", len(out))
            out.extend(struct.pack(order + "H", len(tags)) + entries + bytes(4))
            at = len(out) - 4
        return places

    write(pages, 4, True)
    return bytes(out)
