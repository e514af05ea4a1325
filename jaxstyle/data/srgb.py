"""Converts a decoded picture of any mode to sRGB on white at its working size: uint8, or float32 above 8 bits."""

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
        notes: notes on the conversion are appended.

    Returns:
        H x W x 3 uint8, or float32 in [0, 1] if the picture has more than 8 bits; and the alpha channel (mode L) at the
        picture's full size, or None if every pixel is opaque.

    Raises:
        Exception: a hostile picture may cause any type of error.
    """
    deep = image.mode.startswith("I") or image.mode == "F"
    return _deep(image, work, notes) if deep else _eight_bit(image, work, notes)


def shrink(image: Image.Image, work: Size) -> Image.Image:
    """Resamples with an antialiasing Lanczos filter, in the picture's own number type."""
    return image if image.size == work else image.resize(work, Image.Resampling.LANCZOS)


def reason(error: BaseException | str) -> str:
    """Formats an error's type and message as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]


def _deep(image: Image.Image, work: Size, notes: list[str]) -> tuple[np.ndarray, Image.Image | None]:
    """Converts a gray picture of more than 8 bits to float32 at the working size; returns its alpha channel as well."""
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
    """Converts an 8-bit picture to uint8 RGB at the working size; returns its full alpha channel too."""
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
    """Converts from an ICC profile to sRGB; an unusable profile is ignored and noted."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        wanted = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}.get(source.profile.xcolor_space)
        if wanted == "L" and image.mode == "RGB":  # _eight_bit has converted gray with alpha or a palette to RGB
            image = image.convert("L")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"ICC profile ignored ({reason(error)})")
        return image
    return converted or image


def _scale_deep(values: np.ndarray, *, sixteen: bool) -> tuple[np.ndarray, str]:
    """Scales the values of a gray picture of more than 8 bits to float32 in [0, 1]; also returns a note on the scale.

    16-bit values are divided by 65535. If no value exceeds 255, 1023 or 4095, they are taken for 8-, 10- or 12-bit
    samples of an instrument, which would otherwise look black, and divided by that maximum. 32-bit and float values in
    [0, 1] or [0, 255] are divided by 1 or 255; all others are stretched from their minimum to their maximum.
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
