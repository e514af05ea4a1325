"""The EXIF of an input that its output may carry: what describes the photograph, and nothing about the old file."""

from __future__ import annotations

from PIL import Image

from jaxstyle.data.pictures.srgb import reason

MOST_BYTES = 65_000
"""Most bytes of EXIF: a JPEG's segment has 65,533 at most."""
HEADER = b"Exif\0\0"
"""What Pillow's EXIF begins with; PNG's chunk leaves it out."""
_ORIENTATION, _EXIF, _GPS = 0x0112, 0x8769, 0x8825
_ABOUT = (
    0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x4746, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
)  # fmt: skip
"""Description, make, model, software, date, artist, copyright, rating, and Windows' five texts. Others describe the
file, such as a TIFF's strips."""
_LEFT_OUT = (0x927C, 0xA001, 0xA002, 0xA003, 0xA005)
"""Of the camera's directory: maker's notes, which have offsets into the old file and may have a place or a thumbnail;
colour space, width, height and interoperability, which are the old file's."""


def carried(image: Image.Image, gps: bool, notes: list[str]) -> bytes:
    """The EXIF for the output of a decoded picture, upright, without thumbnail; empty if it has none.

    The place (GPS) is in one directory, which is left out as a whole; texts that name a place stay.

    Args:
        gps: keep the place.
        notes: why none is carried is appended.
    """
    try:
        found = image.getexif()
        made = Image.Exif()
        made.update({tag: found[tag] for tag in _ABOUT if tag in found})
        camera = {tag: value for tag, value in found.get_ifd(_EXIF).items() if tag not in _LEFT_OUT}
        place = dict(found.get_ifd(_GPS)) if gps else {}
        made.update({tag: values for tag, values in ((_EXIF, camera), (_GPS, place)) if values})
        if not made:
            return b""
        made[_ORIENTATION] = 1
        data = made.tobytes()
    except Exception as error:  # damaged EXIF in a whole picture
        notes.append(f"metadata left out ({reason(error)})")
        return b""
    if len(data) > MOST_BYTES:
        notes.append(f"metadata left out ({len(data)} bytes, more than {MOST_BYTES})")
        return b""
    return data
