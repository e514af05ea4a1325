"""Picture files to arrays of gamma-encoded sRGB and back. The policy for every odd kind of picture is here.

- Orientation (EXIF or XMP) is applied, so arrays are upright.
- An ICC profile is converted to sRGB; one that cannot be used is ignored and noted.
- Transparency is composited on white; the alpha channel goes back into outputs whose format has one.
- 16-bit, 32-bit and float pictures are scaled, never clipped (`_scale_deep` says how).
- Of an animation or a file of many pages the first one counts; the number is noted.
- Files are recognised by content, from a list of formats; a truncated one is an error, not a half-grey picture.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from jaxstyle.errors import ImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
"""Formats that are opened. Not on the list: those that run programs (EPS), and those that no camera writes."""

_ORIENTATION = 0x0112
_ALPHA_FORMATS = ("PNG", "WEBP", "TIFF", "AVIF")
_AS_JPEG = {"MPO": "JPEG"}
"""Opened and written as."""


Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Header:
    """What a picture's header says.

    Attributes:
        width, height: in pixels, upright.
        format: Pillow's name of the format, by content.
        frames: pictures in the file.
    """

    width: int
    height: int
    format: str
    frames: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: H x W x 3 float32, gamma-encoded sRGB in [0, 1], transparency composited on white.
        alpha: H x W float32 in [0, 1], or None where everything is opaque.
        header: of the file.
        notes: what was done that its owner might not expect.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    header: Header
    notes: tuple[str, ...] = field(default=())


class NotAPicture(ImageError):
    """The content is of no format on the list."""


def _reason(error: BaseException | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]


@cache
def _formats() -> tuple[str, ...]:
    Image.init()  # registers what Pillow was built with; AVIF may be missing
    return tuple(name for name in FORMATS if name in Image.OPEN)


def absent() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow does not open."""
    return tuple(name for name in FORMATS if _AS_JPEG.get(name, name) not in _formats())


def _open(source: Path | BinaryIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        what = "is no picture of a known format" if size else "is empty"
        raise NotAPicture(f"the file {what}") from error
    except Exception as error:  # decoders of hostile files raise anything; here every kind means "cannot be opened"
        raise ImageError(f"cannot be opened ({_reason(error)})") from error
    width, height = image.size
    if width * height > max_pixels:
        image.__exit__()  # close() would close a caller's file as well
        raise ImageError(
            f"claims {width} x {height} pixels, more than {max_pixels}", "Raise --max-pixels if it is true."
        )
    return image


def _header(image: Image.Image) -> Header:
    """Of an open picture, whether or not it is loaded."""
    try:
        exif = Image.Image.getexif(image)  # PngImageFile's own decodes the picture, to look for EXIF behind the pixels
        turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
        turned = turned and _ORIENTATION not in getattr(image, "tag_v2", ())  # Pillow has turned a TIFF with this tag
    except Exception:  # damaged EXIF: the picture itself may be whole
        turned = False
    try:
        frames = getattr(image, "n_frames", 1)  # looks for them, in GIF and TIFF
    except Exception as error:  # as above
        raise ImageError(f"cannot be opened ({_reason(error)})") from error
    width, height = image.size[::-1] if turned else image.size
    return Header(width, height, format=image.format or "", frames=frames)


def probe(source: Path | BinaryIO, max_pixels: int) -> Header:
    """The header of a picture, by path or as an open file, without decoding it.

    Only `read` sees the orientation of a PNG whose EXIF stands behind its pixels: it then has width and height
    the other way round.

    Raises:
        NotAPicture: content of no known format.
        ImageError: it cannot be opened, or claims too many pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `read` notes them
        with _open(source, max_pixels) as image:
            return _header(image)


def read(source: Path | BinaryIO, max_pixels: int) -> Picture:
    """Decodes a picture completely, by path or as an open file. Not thread-safe: it catches warnings.

    Raises:
        NotAPicture, ImageError: as `probe`; also where the pixels are cut short or damaged.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _open(source, max_pixels) as image:
            try:
                image.load()  # before anything else: a PNG that was decoded in passing no longer tells that it is cut
            except Exception as error:  # as above
                raise ImageError(f"cannot be decoded ({_reason(error)})") from error
            header = _header(image)
            notes = [f"first of {header.frames} pictures"] if header.frames > 1 else []
            try:
                pixels, alpha = _to_srgb(image, notes)
            except Exception as error:  # as above: colour conversion reads profiles and tags of the file
                raise ImageError(f"cannot be converted to sRGB ({_reason(error)})") from error
    notes += [f"warning: {message}" for message in dict.fromkeys(_reason(w.message) for w in caught)]
    if alpha is not None:
        if (alpha == 1).all():
            alpha = None
        else:
            pixels = pixels * alpha[..., None] + (1 - alpha[..., None])
            notes.append("transparency composited on white")
    header = Header(pixels.shape[1], pixels.shape[0], header.format, header.frames)
    return Picture(pixels, alpha, header, tuple(notes))


def _to_srgb(image: Image.Image, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    profile = image.info.get("icc_profile")
    transparent = image.info.get("transparency")
    try:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            notes.append("orientation applied")
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged EXIF in a whole picture
        notes.append(f"orientation ignored ({_reason(error)})")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        gray, note = _scale_deep(values, sixteen=";16" in image.mode)
        notes.append(note)
        alpha = (values != transparent).astype(np.float32) if isinstance(transparent, int) else None
        return np.repeat(gray[..., None], 3, axis=2), alpha

    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        image = image.convert("RGB")
    elif image.mode in ("P", "1", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "L", "CMYK", "LAB"):
        image = _apply_profile(image, profile, notes)
    return np.asarray(image.convert("RGB"), np.float32) / 255, alpha


def _apply_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        wanted = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}.get(source.profile.xcolor_space)
        if wanted == "L" and image.mode == "RGB":  # gray picture made RGB above, for its transparency or palette
            image = image.convert("L")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"ICC profile ignored ({_reason(error)})")
        return image
    return converted or image


def _scale_deep(values: np.ndarray, *, sixteen: bool) -> tuple[np.ndarray, str]:
    """Values of a gray picture deeper than 8 bits, scaled to [0, 1], and a note that says how.

    16-bit values are divided by 65535, unless none exceeds 255, 1023 or 4095: then they are 8-, 10- or 12-bit
    samples of an instrument in 16-bit words, which would all look black. 32-bit and float values in [0, 1] or
    [0, 255] are taken so; any others are stretched from their minimum to their maximum.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("no pixel has a finite value")
        values = np.nan_to_num(values, nan=finite.min(), posinf=finite.max(), neginf=finite.min())
    low, high = float(values.min()), float(values.max())
    if sixteen or (low >= 0 and 255 < high <= 65535 and (values == np.round(values)).all()):
        bits = next((bits for bits in (8, 10, 12) if high < 2**bits), 16)
        return (values / (2**bits - 1)).astype(np.float32), f"16-bit values to {high:.0f}, read as {bits}-bit"
    if low >= 0 and high <= 255:
        top = 1 if high <= 1 else 255
        return (values / top).astype(np.float32), f"values {low:g} to {high:g}, read as 0 to {top}"
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return scaled.astype(np.float32), f"values {low:g} to {high:g} stretched to 0 to 1"


def work_size(width: int, height: int, size: int) -> Size:
    """The picture's size with its long side brought down to `size`; never enlarged, no side under 1 pixel."""
    long = max(width, height)
    if long <= size:
        return width, height
    return max(1, round(width * size / long)), max(1, round(height * size / long))


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """H x W or H x W x C floats in [0, 1], resampled with Lanczos's filter (which averages when it shrinks)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., c])).resize((width, height), Image.Resampling.LANCZOS)
        )
        for c in range(planes.shape[-1])
    ]
    return np.clip(np.stack(resized, -1), 0, 1).reshape((height, width, *pixels.shape[2:])).astype(np.float32)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as rounded uint8; values outside are clipped."""
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def encode(pixels: np.ndarray, alpha: np.ndarray | None, format: str, quality: int) -> bytes:
    """A picture file's bytes, without metadata.

    Args:
        pixels: H x W x 3 in [0, 1].
        alpha: H x W in [0, 1]; left out where the format has no alpha channel.
        format: Pillow's name, as in `Header.format`.
        quality: of the lossy formats, 1 to 100.

    Raises:
        ImageError: the format's encoder refused.
    """
    format = _AS_JPEG.get(format, format)
    array = to_bytes(pixels)
    if alpha is not None and format in _ALPHA_FORMATS:
        array = np.concatenate([array, to_bytes(alpha)[..., None]], axis=2)
    known: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
        "AVIF": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
    }
    buffer = io.BytesIO()
    try:
        Image.fromarray(array).save(buffer, format, **known.get(format, {}))
    except Exception as error:  # an encoder that is missing, out of memory, or has a limit of its own
        raise ImageError(f"the result cannot be written as {format} ({_reason(error)})") from error
    return buffer.getvalue()


def claims_to_be_a_picture(path: Path) -> bool:
    """Whether the file's name has an extension of a picture format, known here or not."""
    Image.init()
    return path.suffix.lower() in Image.registered_extensions()


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Pixels clipped to [0, 1]."""
    return np.clip(pixels, 0, 1)
