"""What an output's file says besides its pixels: that its colours are sRGB."""

from __future__ import annotations

from functools import cache
from typing import Any

from PIL import ImageCms, PngImagePlugin

PNG_SRGB = (b"sRGB", b"\0")
"""PNG's chunk for sRGB with perceptual intent: 13 bytes in the file (PNG specification, section 11.3.2.5)."""
_DATE = slice(24, 36)


@cache
def srgb_profile() -> bytes:
    """LittleCMS's ICC profile of sRGB, 588 bytes, without the date at which it is made: outputs must not depend on it.

    ICC.1:2022, section 7.2.1, has the fields of the header; 1 January 2000 stands for all dates.
    """
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_DATE] = b"".join(n.to_bytes(2, "big") for n in (2000, 1, 1, 0, 0, 0))
    return bytes(profile)


def colour_options(format: str) -> dict[str, Any]:
    """Options of Pillow's `save` by which a file says that it is sRGB; formats that cannot say it ignore them."""
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add(*PNG_SRGB)
        return {"pnginfo": chunks}
    return {"icc_profile": srgb_profile()}
