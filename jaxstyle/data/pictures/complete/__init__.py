"""Whether a file is whole, as far as its format tells: end markers, lengths, checksums, and runs of zeros.

An interrupted copy leaves a file that is too short, or one of full length whose missing part is zeros. Decoders fill
such a part with gray or with garbage and report nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from jaxstyle.data.pictures.complete import boxes, gif, jpeg, plain, png, riff, tiff

_CHECKS: dict[str, Callable[[BinaryIO], str]] = {
    "JPEG": jpeg.problem,
    "MPO": jpeg.problem,
    "PNG": png.problem,
    "GIF": gif.problem,
    "WEBP": riff.problem,
    "AVIF": boxes.avif_problem,
    "JPEG2000": boxes.jpeg2000_problem,
    "TIFF": tiff.problem,
    "BMP": plain.bmp_problem,
    "PPM": plain.ppm_problem,
    "HEIC": boxes.avif_problem,
    "JPEG XL": boxes.jpegxl_problem,
    "camera RAW": lambda file: "",  # as far as LibRaw tells when it reads the sensor's values
}


def problem(file: BinaryIO, format: str) -> str:
    """Returns what shows that a file of a format is not whole; "" if nothing does.

    Args:
        file: at its start; its position changes.

    Raises:
        Exception: a hostile file may cause any type of error.
    """
    return _CHECKS[format](file)
