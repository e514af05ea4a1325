"""Converts a decoded picture of any mode to sRGB on white at its working size: in uint8, or float32 if it is deeper."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

Size = tuple[int, int]
"""Width and height in pixels."""


def convert(image: Image.Image, work: Size, notes: list[str]) -> tuple[np.ndarray, Image.Image | None]:
    """Converts and shrinks a whole, upright picture.

    Args:
        work: width and height of the result.
        notes: what was done is appended.

    Returns:
        H x W x 3 uint8, or float32 in [0, 1] where the picture is deeper than 8 bits; and the alpha channel of the
        whole picture (mode L), or None where everything is opaque.

    Raises:
        Exception: of any type, on a hostile picture.
    """
    deep = image.mode.startswith("I") or image.mode == "F"
    return _deep(image, work, notes) if deep else _eight_bit(image, work, notes)


def shrink(image: Image.Image, work: Size) -> Image.Image:
    """Resamples with Lanczos's filter, which averages, in the picture's own type."""
    return image if image.size == work else image.resize(work, Image.Resampling.LANCZOS)


def reason(error: BaseException | str) -> str:
    """An error's type and message on one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]


def _deep(image: Image.Image, work: Size, notes: list[str]) -> tuple[np.ndarray, Image.Image | None]:
    """A gray picture of more than 8 bits in float32 at the working size, and its whole alpha channel."""
    values = np.asarray(image)
    gray, note = _scale_deep(values, sixteen=";16" in image.mode)
    notes.append(note)
    alpha, transparent = None, image.info.get("transparency")
    if isinstance(transparent, int) and (hidden := values == transparent).any():
        gray[hidden] = 1
        alpha = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
    gray = np.clip(np.asarray(shrink(Image.fromarray(gray), work)), 0, 1)
    return np.repeat(gray[..., None], 3, axis=2), alpha


def _eight_bit(image: Image.Image, work: Size, notes: list[str]) -> tuple[np.ndarray, Image.Image | None]:
    """An 8-bit picture in uint8 at the working size, and its whole alpha channel."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha, image = image.getchannel("A"), image.convert("RGB")
    elif image.mode in ("P", "1", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "L", "CMYK", "LAB"):
        image = _apply_profile(image, profile, notes)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return np.asarray(shrink(image, work)), alpha


def _apply_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Converts from an ICC profile to sRGB; a profile that cannot be used is ignored and noted."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        wanted = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}.get(source.profile.xcolor_space)
        if wanted == "L" and image.mode == "RGB":  # _eight_bit made RGB of gray with transparency or a palette
            image = image.convert("L")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"ICC profile ignored ({reason(error)})")
        return image
    return converted or image


def _scale_deep(values: np.ndarray, *, sixteen: bool) -> tuple[np.ndarray, str]:
    """Scales the values of a gray picture deeper than 8 bits to float32 in [0, 1]; also returns a note that says how.

    16-bit values are divided by 65535. If none exceeds 255, 1023 or 4095, they are 8-, 10- or 12-bit samples of an
    instrument in 16-bit words, which would look black: they are divided by that maximum. 32-bit and float values in
    [0, 1] or [0, 255] keep that range; all others are stretched from their minimum to their maximum.
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
