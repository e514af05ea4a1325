"""Converts a decoded picture of any mode to sRGB on white at its working size: uint8, or float32 above 8 bits."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from jaxstyle.data.pictures import colour
from jaxstyle.data.pictures.declared import Colours

Size = tuple[int, int]
"""Width and height in pixels."""
INVISIBLE = 2
"""Most alpha (of 255) of a picture in which nothing can be seen."""

_SPACES = {
    "1": "GRAY", "L": "GRAY", "LA": "GRAY", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "RGBa": "RGB",
    "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB", "CMYK": "CMYK", "LAB": "Lab",
}  # fmt: skip
"""Colour space of the values of a mode, as profiles call it."""


class Invisible(Exception):
    """Every pixel of a picture is transparent."""


def shrink(image: Image.Image, work: Size) -> Image.Image:
    """Resamples with an antialiasing Lanczos filter, in the picture's own number type."""
    return image if image.size == work else image.resize(work, Image.Resampling.LANCZOS)


def reason(error: BaseException | str) -> str:
    """Formats an error's type and message as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]


def from_deep(
    values: np.ndarray, alpha: np.ndarray | None, colours: Colours, work: Size, notes: list[str]
) -> tuple[np.ndarray, Image.Image | None]:
    """Converts and shrinks a whole, upright picture of more than 8 bits; returns as `from_eight_bit`.

    Args:
        values: H x W x 1 or 3 float32 in [0, 1].
        alpha: H x W in [0, 1], or None.
        colours: that the file declares.
        notes: notes on the conversion are appended.

    Raises:
        Invisible: every pixel is transparent.
    """
    encoding = colours if isinstance(colours, colour.Encoding) else None
    if isinstance(colours, bytes):
        try:
            _check_space(colours, "GRAY" if values.shape[-1] == 1 else "RGB")
            encoding = colour.from_profile(colours)
        except colour.Unusable as error:
            values = _through_eight_bits(values, colours, notes, error)
    if encoding is not None:
        channels = 1 if values.shape[-1] == 1 and encoding.matrix is None else 3
        values = colour.to_srgb(np.repeat(values, 3 // values.shape[-1], 2), encoding)[..., :channels]
    full = None
    if alpha is not None and alpha.min() < 1:
        full = _visible(Image.fromarray(np.round(alpha * 255).astype(np.uint8)))
        values = values * alpha[..., None] + (1 - alpha[..., None])
    planes = [np.ascontiguousarray(values[..., n], np.float32) for n in range(values.shape[-1])]
    small = [np.clip(np.asarray(shrink(Image.fromarray(plane), work)), 0, 1) for plane in planes]
    return np.stack(small * (3 // len(small)), -1), full


def _check_space(profile: bytes, own: str) -> None:
    """Raises colour.Unusable if a profile is not for values in a space."""
    space = colour.space_of(profile)
    if space != own and not (own == "GRAY" and space == "RGB"):
        raise colour.Unusable(f"it is for {space or 'nothing'}, the picture is {own}")


def _through_eight_bits(values: np.ndarray, profile: bytes, notes: list[str], why: Exception) -> np.ndarray:
    """Converts deep values by LittleCMS, which reads tables; returns them unchanged if it cannot use the profile."""
    own = "GRAY" if values.shape[-1] == 1 else "RGB"
    levels = np.round(values * 255).astype(np.uint8)
    image = Image.fromarray(levels[..., 0] if own == "GRAY" else levels)
    converted = _apply_profile(image, profile, own, notes)
    if converted is image:
        return values
    notes.append(f"ICC profile converted at 8 bits ({why})")
    return np.asarray(converted, np.float32) / 255


def from_eight_bit(
    image: Image.Image, colours: Colours, work: Size, notes: list[str], depth: int = 8
) -> tuple[np.ndarray, Image.Image | None]:
    """Converts and shrinks a whole, upright picture of 8 bits.

    Args:
        colours: that the file declares.
        work: width and height of the result.
        notes: notes on the conversion are appended.
        depth: bits of the samples in the file; Pillow has scaled lower ones to 8.

    Returns:
        H x W x 3 uint8 (float32 in [0, 1] of deep pictures); and the alpha channel (mode L) at the picture's full size,
        or None if every pixel is opaque.

    Raises:
        Invisible: every pixel is transparent.
        Exception: a hostile picture may cause any type of error.
    """
    space = _space(image)
    image, alpha = _split_alpha(image, depth)
    if alpha is not None and alpha.getextrema()[1] == 0 and _alpha_is_a_guess(image):
        notes.append("alpha is 0 throughout and taken for unused")
        alpha = None
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    if alpha is not None:
        alpha = _visible(alpha)
    if isinstance(colours, bytes):
        image = _apply_profile(image, colours, space, notes)
    elif image.mode == "CMYK":
        notes.append("CMYK without a profile: its colours are approximate")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if isinstance(colours, colour.Encoding):
        image = Image.fromarray(colour.to_srgb(np.asarray(image), colours))
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return np.asarray(shrink(image, work)), alpha


def _visible(alpha: Image.Image) -> Image.Image:
    if alpha.getextrema()[1] <= INVISIBLE:  # type: ignore[operator]
        raise Invisible
    return alpha


def _alpha_is_a_guess(image: Image.Image) -> bool:
    """Whether a fourth channel need not be alpha: in BMP, and in a TIFF that does not say so."""
    return image.info.get("guessed alpha", False)


def _space(image: Image.Image) -> str:
    """Returns the colour space of a picture's values; a palette of grays counts as gray."""
    if image.mode == "P" and (palette := image.getpalette("RGB")):
        colours = np.array(palette).reshape(-1, 3)
        if (colours[:, 0] == colours[:, 1]).all() and (colours[:, 1] == colours[:, 2]).all():
            return "GRAY"
    return _SPACES.get(image.mode, "RGB")


def _split_alpha(image: Image.Image, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """Returns the picture without transparency, in RGB, L, CMYK or LAB, and its alpha channel."""
    hidden, info = image.info.get("transparency"), dict(image.info)
    alpha = None
    if image.mode in ("1", "L") and isinstance(hidden, int):
        most = 2**depth - 1
        image = image.convert("L")
        alpha = Image.fromarray(np.where(np.asarray(image) == (hidden & most) * 255 // most, 0, 255).astype(np.uint8))
    elif image.mode == "RGB" and isinstance(hidden, tuple):
        shown = (np.asarray(image) != [value & 255 for value in hidden]).any(-1)
        alpha = Image.fromarray(np.where(shown, 255, 0).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        alpha, image = image.getchannel("A"), image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image.info = info
    return image, alpha


def _apply_profile(image: Image.Image, profile: bytes, own: str, notes: list[str]) -> Image.Image:
    """Converts from an ICC profile to sRGB; an unusable profile is ignored and noted.

    Args:
        own: colour space of the file's values.
    """
    try:
        _check_space(profile, own)
        space = colour.space_of(profile)
        wanted = {"GRAY": "L", "Lab": "LAB"}.get(space, space)
        if image.mode != wanted:  # gray with alpha or a palette is RGB by now
            image = image.convert(wanted)
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (colour.Unusable, ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"ICC profile ignored ({reason(error)})")
        return image
    return converted or image
