"""A corpus of pictures made by formula, whole and damaged, with the pixels that each should give.

    python tests/fuzz.py          # all of it; prints the table of tests/README.md
    python tests/fuzz.py --wrong  # and names the files that came out wrong

The expected pixels come from the array before it was encoded and from NumPy: composition on white, the mathematics of a
profile, the turn of an orientation. A file is *right* if it gives these within the loss of its format, *refused* if it
is an `ImageError`, and *wrong* otherwise: then nothing in the file told, or it was not looked at.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import io
import warnings
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from pictures import icc, photo, png16
from PIL import Image

from jaxstyle.data import image
from jaxstyle.errors import ImageError

LIMIT = 10_000_000
WIDTH, HEIGHT = 112, 80
BLOCK = 8
"""Pixels a side of the blocks whose mean error is judged."""
ORIENTATION = 0x0112
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""Colorants of Adobe RGB (a row each) and of sRGB (a column each), under D50."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A file and what it should give.

    Attributes:
        format: row of the table.
        damage: column of the table; "whole" if there is none.
        expected: H x W x 3 in 0..255, on white.
        loss: most mean error of a block, in levels.
    """

    name: str
    format: str
    damage: str
    data: bytes
    expected: np.ndarray
    loss: float


def encode_gamma(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def adobe_to_srgb(levels: np.ndarray, most: int = 255) -> np.ndarray:
    """Levels 0..255 in sRGB of values 0..most in Adobe RGB."""
    return encode_gamma((levels / most) ** 2.2 @ np.array(ADOBE) @ np.linalg.inv(SRGB).T)


def saved(array: np.ndarray | Image.Image, format: str, **options) -> bytes:
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colours * alpha[..., None] + 255 * (1 - alpha[..., None])


def three(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, 2).astype(float)


Encoder = Callable[..., bytes]
LOSSLESS, ROUNDED, LOSSY = 0.6, 2.5, 18.0
"""Most mean error of a block: exact; one rounding and a profile; JPEG, WebP, AVIF at quality 90 on noise."""


def _with(format: str, **fixed) -> Encoder:
    return lambda array, **options: saved(array, format, **(fixed | options))


RGB_ENCODERS: dict[str, tuple[Encoder, float, bool]] = {
    "PNG": (_with("PNG"), LOSSLESS, True),
    "APNG": (_with("PNG", save_all=True, append_images=[Image.fromarray(photo(WIDTH, HEIGHT, 9))]), LOSSLESS, False),
    "JPEG": (_with("JPEG", quality=90, subsampling=0), LOSSY, True),
    "JPEG, progressive": (_with("JPEG", quality=90, subsampling=0, progressive=True), LOSSY, True),
    "JPEG, own tables": (_with("JPEG", quality=90, subsampling=0, optimize=True), LOSSY, True),
    "JPEG, restarts": (_with("JPEG", quality=90, subsampling=0, restart_marker_rows=1), LOSSY, True),
    "WebP, lossy": (_with("WEBP", quality=95), LOSSY, True),
    "WebP, lossless": (_with("WEBP", lossless=True, quality=20), LOSSLESS, True),
    "TIFF": (_with("TIFF"), LOSSLESS, True),
    "TIFF, deflate": (_with("TIFF", compression="tiff_adobe_deflate"), LOSSLESS, True),
    "TIFF, LZW": (_with("TIFF", compression="tiff_lzw"), LOSSLESS, True),
    "TIFF, PackBits": (_with("TIFF", compression="packbits"), LOSSLESS, True),
    "TIFF, JPEG": (_with("TIFF", compression="jpeg", quality=95), LOSSY, False),
    "AVIF": (_with("AVIF", quality=95, speed=10), LOSSY, True),
    "JPEG 2000": (_with("JPEG2000"), LOSSLESS, False),
    "JPEG 2000, codestream": (_with("JPEG2000", no_jp2=True), LOSSLESS, False),
    "BMP": (_with("BMP"), LOSSLESS, False),
    "PPM": (_with("PPM"), LOSSLESS, False),
}
"""An encoder of RGB, its loss, and whether it takes EXIF and ICC."""


def whole() -> Iterator[Case]:
    """Whole files: every format, mode, profile and orientation that Pillow writes, and 16 bits."""
    for seed in (1, 2, 3):
        yield from _colour(photo(WIDTH, HEIGHT, seed), seed)
        yield from _gray(photo(WIDTH, HEIGHT, seed)[..., 1], seed)
        yield from _alpha(photo(WIDTH, HEIGHT, seed), seed)
        yield from _deep(photo(WIDTH, HEIGHT, seed), seed)


def _colour(rgb: np.ndarray, seed: int) -> Iterator[Case]:
    wide, gray = icc(2.2, *ADOBE), icc(1.0)
    for name, (encode, loss, metadata) in RGB_ENCODERS.items():
        yield Case(f"{name} {seed}", name, "whole", encode(rgb), rgb, loss)
        if not metadata:
            continue
        converted = adobe_to_srgb(rgb)
        yield Case(f"{name} {seed} Adobe RGB", name, "whole", encode(rgb, icc_profile=wide), converted, loss + ROUNDED)
        yield Case(f"{name} {seed} gray profile", name, "whole", encode(rgb, icc_profile=gray), rgb, loss)
        sideways = rgb.swapaxes(0, 1)
        for orientation, stored in ((3, rgb[::-1, ::-1]), (6, sideways[::-1]), (8, sideways[:, ::-1])):
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            data = encode(np.ascontiguousarray(stored), exif=exif)
            yield Case(f"{name} {seed} orientation {orientation}", name, "whole", data, rgb, loss)
    indexed = Image.fromarray(rgb).quantize(32)
    shown = np.asarray(indexed.convert("RGB"))
    for format in ("PNG", "GIF", "TIFF", "BMP"):
        yield Case(f"{format} {seed} palette", f"{format}, palette", "whole", saved(indexed, format), shown, LOSSLESS)
    cmyk = 255 - np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])  # no black: the colours are its complement
    for format, options in (("TIFF", {}), ("JPEG", {"quality": 95, "subsampling": 0})):
        data = saved(Image.fromarray(cmyk, "CMYK"), format, **options)
        yield Case(f"{format} {seed} CMYK", f"{format}, CMYK", "whole", data, rgb, LOSSY if options else LOSSLESS)


def _gray(gray: np.ndarray, seed: int) -> Iterator[Case]:
    linear = three(encode_gamma(gray / 255))
    losses = {"PNG": 0, "TIFF": 0, "JPEG": 10, "WEBP": 18, "BMP": 0, "PPM": 0, "GIF": 0, "JPEG2000": 0}
    for format, loss in losses.items():
        data = saved(gray, format)
        yield Case(f"{format} {seed} gray", f"{format}, gray", "whole", data, three(gray), LOSSLESS + loss)
    for format in ("PNG", "TIFF"):
        data = saved(gray, format, icc_profile=icc(1.0))
        yield Case(f"{format} {seed} linear gray", f"{format}, gray", "whole", data, linear, ROUNDED)
    bits = gray > 128
    for format in ("PNG", "TIFF", "BMP", "PPM", "GIF"):
        data = saved(Image.fromarray(bits), format)
        yield Case(f"{format} {seed} 1 bit", f"{format}, 1 bit", "whole", data, three(bits * 255), LOSSLESS)


def _alpha(rgb: np.ndarray, seed: int) -> Iterator[Case]:
    opacity = np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)).round().astype(np.uint8)
    rgba, alpha = np.dstack([rgb, opacity]), opacity / 255
    formats = (("PNG", {}, LOSSLESS), ("TIFF", {}, LOSSLESS), ("WEBP", {"lossless": True, "exact": True}, LOSSLESS),
               ("AVIF", {"quality": 95, "speed": 10}, LOSSY), ("JPEG2000", {}, LOSSLESS))  # fmt: skip
    for format, options, loss in formats:
        data = saved(rgba, format, **options)
        yield Case(f"{format} {seed} alpha", f"{format}, alpha", "whole", data, on_white(rgb, alpha), loss)
    la = np.dstack([rgb[..., 1], opacity])
    expected = on_white(three(rgb[..., 1]), alpha)
    yield Case(f"PNG {seed} gray alpha", "PNG, alpha", "whole", saved(la, "PNG"), expected, LOSSLESS)
    wide = saved(rgba, "PNG", icc_profile=icc(2.2, *ADOBE))
    yield Case(f"PNG {seed} wide alpha", "PNG, alpha", "whole", wide, on_white(adobe_to_srgb(rgb), alpha), ROUNDED)
    key = tuple(int(v) for v in rgb[40, 50])
    keyed = np.where((rgb == key).all(-1)[..., None], 255, rgb)
    yield Case(f"PNG {seed} colour key", "PNG, alpha", "whole", saved(rgb, "PNG", transparency=key), keyed, LOSSLESS)
    bmp = saved(np.dstack([rgb, np.zeros_like(opacity)]), "BMP")
    yield Case(f"BMP {seed} unused alpha", "BMP, alpha", "whole", bmp, rgb, LOSSLESS)


def _deep(rgb: np.ndarray, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    deep = rgb.astype(np.uint16) * 257 - rng.integers(0, 200, rgb.shape).astype(np.uint16) * (rgb > 0)
    levels = deep / 257
    gray = deep[..., 0]
    opacity = np.tile(np.linspace(0, 65535, WIDTH), (HEIGHT, 1)).round().astype(np.uint16)
    alpha = opacity / 65535
    made = {
        "RGB": (png16(deep), levels),
        "RGBA": (png16(np.dstack([deep, opacity])), on_white(levels, alpha)),
        "gray alpha": (png16(np.dstack([gray, opacity])), on_white(three(gray / 257), alpha)),
        "gray": (saved(gray, "PNG"), three(gray / 257)),
        "colour key": (
            png16(deep, (b"tRNS", deep[40, 50].astype(">u2").tobytes())),
            np.where((deep == deep[40, 50]).all(-1)[..., None], 255, levels),
        ),
        "gray key": (
            png16(gray, (b"tRNS", int(gray[40, 50]).to_bytes(2, "big"))),
            three(np.where(gray == gray[40, 50], 255, gray / 257)),
        ),
        "linear": (
            png16(deep // 40, (b"iCCP", b"x\0\0" + zlib.compress(icc(1.0, *SRGB.T)))),
            encode_gamma((deep // 40) / 65535),
        ),
        "wide": (png16(deep, (b"iCCP", b"x\0\0" + zlib.compress(icc(2.2, *ADOBE)))), adobe_to_srgb(deep, 65535)),
        "linear gray": (
            png16(gray, (b"iCCP", b"x\0\0" + zlib.compress(icc(1.0)))),
            three(encode_gamma(gray / 65535)),
        ),
    }  # fmt: skip
    for name, (data, expected) in made.items():
        yield Case(f"PNG {seed} 16 bit {name}", "PNG, 16 bit", "whole", data, expected, 0.3)
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        data = saved(gray, "TIFF", compression=compression)
        yield Case(f"TIFF {seed} 16 bit {compression}", "TIFF, 16 bit", "whole", data, three(gray / 257), 0.3)
    real = (gray / np.float32(65535)).astype(np.float32)
    yield Case(f"TIFF {seed} float", "TIFF, float", "whole", saved(real, "TIFF"), three(gray / 257), 0.3)
    yield Case(f"PFM {seed}", "PFM", "whole", saved(real, "PPM"), three(gray / 257), 0.3)


CUTS = (0.3, 0.5, 0.7, 0.9, 0.99)
TAILS = (0.4, 0.6, 0.8, 0.95)
HOLES = ((0.3, 0.1), (0.5, 0.3), (0.6, 0.05), (0.85, 0.1))
FLIPS = 6


def damaged(case: Case) -> Iterator[Case]:
    """The file cut short, with zeros for its end or for a part of it, and with a bit flipped."""
    data = case.data
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))

    def made(damage: str, n: int, changed: bytes) -> Case:
        return dataclasses.replace(case, name=f"{case.name}, {damage} {n}", damage=damage, data=changed)

    for n, share in enumerate(CUTS):
        yield made("cut", n, data[: int(share * len(data))])
    for n, share in enumerate(TAILS):
        start = int(share * len(data))
        yield made("zero tail", n, data[:start] + bytes(len(data) - start))
    for n, (share, part) in enumerate(HOLES):
        start, length = int(share * len(data)), max(64, int(part * len(data)))
        yield made("hole", n, data[:start] + bytes(len(data[start : start + length])) + data[start + length :])
    for n in range(FLIPS):
        at = int(rng.integers(len(data) // 4, len(data)))  # behind the headers, mostly
        yield made("bit flip", n, data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :])
    if case.format.startswith("JPEG") and "2000" not in case.format:
        for n, share in enumerate(CUTS):
            yield made("cut and closed", n, data[: int(share * len(data))] + b"\xff\xd9")


def corpus() -> Iterator[Case]:
    """The whole corpus: whole files, and one of each format and kind damaged."""
    seen = collections.Counter()
    for case in whole():
        yield case
        kind = " ".join(word for word in case.name.split() if not word.isdigit())
        seen[kind] += 1
        if seen[kind] <= 2 and "orientation" not in kind and "profile" not in kind:
            yield from damaged(case)


def block_error(shown: np.ndarray, expected: np.ndarray) -> float:
    """The largest mean error of a block, in levels."""
    error = np.abs(shown - expected).mean(-1)
    height, width = (side // BLOCK * BLOCK for side in error.shape)
    blocks = error[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return float(blocks.mean((1, 3)).max())


def judge(case: Case) -> str:
    """Reads a file: "right", "refused" or "wrong"."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shown = image.read(io.BytesIO(case.data), LIMIT).pixels * 255
    except ImageError:
        return "refused"
    right = shown.shape == case.expected.shape and block_error(shown, case.expected) <= case.loss
    return "right" if right else "wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads the corpus and prints the table of tests/README.md.")
    parser.add_argument("--wrong", action="store_true", help="name the files that came out wrong")
    options = parser.parse_args()
    counts: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    number = 0
    for case in corpus():
        verdict = judge(case)
        number += 1
        counts[case.format, case.damage][verdict] += 1
        if options.wrong and (verdict == "wrong" or (verdict == "refused" and case.damage == "whole")):
            print(f"{verdict}: {case.name}")
    print(f"{number} files; in each cell right / refused / wrong.\n")
    damages = ("whole", "cut", "cut and closed", "zero tail", "hole", "bit flip")
    print("| format | " + " | ".join(damages) + " |\n|" + "---|" * (len(damages) + 1))
    for format in dict.fromkeys(format for format, _ in counts):
        cells = [counts.get((format, damage)) for damage in damages]
        shown = [" / ".join(str(cell[v]) for v in ("right", "refused", "wrong")) if cell else "" for cell in cells]
        print(f"| {format} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main()
