"""Writes TIFFs of 16 bits a channel, which Pillow cannot write in colour."""

from __future__ import annotations

import zlib
from itertools import accumulate

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import TAGS_V2_GROUPS

STRIP = 2**18
"""Bytes of a strip before it is compressed, about."""
_LITTLE_ENDIAN = b"II*\0\x08\0\0\0"
"""A file's first bytes; its directory follows."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _CHANNELS, _ROWS, _STRIP_BYTES = (
    256, 257, 258, 259, 262, 273, 277, 278, 279)  # fmt: skip
_X_RESOLUTION, _Y_RESOLUTION, _PLANES, _RESOLUTION_UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_EXTRA_SAMPLES, _FORMAT, _PROFILE = 338, 339, 34675
_LONG = 4


def encode(pixels: np.ndarray, alpha: np.ndarray | None, profile: bytes = b"", exif: bytes = b"") -> bytes:
    """Encodes a TIFF of 16 bits a channel; values outside [0, 1] are clipped. Its bytes depend on the arguments alone.

    It is a baseline RGB file (TIFF 6.0, Adobe 1992, section 6) but for 16 bits instead of 8, differences along the rows
    (section 14), Deflate (Adobe's technical notes on TIFF, 2002), and alpha that colours are not multiplied by (18).

    Args:
        pixels: H x W x 3.
        alpha: H x W, or None.
        profile: ICC profile, or empty.
        exif: as `metadata.carried` returns it.
    """
    values = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], 2)
    height, width, channels = values.shape
    rows = max(1, STRIP // (2 * width * channels))
    strips = [_compressed(values[at : at + rows]) for at in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    directory = _described(exif)
    directory[_WIDTH], directory[_HEIGHT], directory[_CHANNELS] = width, height, channels
    directory[_BITS] = (16,) * channels
    directory[_COMPRESSION], directory[_PREDICTOR] = 8, 2
    directory[_PHOTOMETRIC], directory[_PLANES] = 2, 1
    directory[_RESOLUTION_UNIT], directory[_X_RESOLUTION], directory[_Y_RESOLUTION] = 1, 1, 1  # pixels are square
    if alpha is not None:
        directory[_EXTRA_SAMPLES] = 2
    if profile:
        directory[_PROFILE] = profile
    directory[_ROWS], directory[_FORMAT] = rows, (1,) * channels
    for tag in (_STRIPS, _STRIP_BYTES):
        directory.tagtype[tag] = _LONG
    directory[_STRIP_BYTES] = tuple(lengths)
    directory[_STRIPS] = (0, *accumulate(lengths[:-1]))  # Pillow adds where the first one lies
    return b"".join([_LITTLE_ENDIAN, directory.tobytes(len(_LITTLE_ENDIAN)), *strips])


def _compressed(values: np.ndarray) -> bytes:
    """A strip: each sample less the one of its channel at the left, modulo 2**16, deflated."""
    samples = np.round(np.clip(values, 0, 1).astype(np.float64) * 65535).astype("<u2")
    samples[:, 1:] -= samples[:, :-1]  # NumPy copies what overlaps
    return zlib.compress(samples.tobytes(), 6)


def _described(exif: bytes) -> ImageFileDirectory_v2:
    """A directory with the tags of EXIF, which are those of TIFF and of directories below it."""
    directory = ImageFileDirectory_v2(_LITTLE_ENDIAN)
    found = Image.Exif()
    found.load(exif)
    for tag, value in found.items():
        directory[tag] = found.get_ifd(tag) if tag in TAGS_V2_GROUPS else value
    return directory
