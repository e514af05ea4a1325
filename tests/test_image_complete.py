"""Files that are not whole, as far as their formats and decoders tell; and whole ones that look as if they were not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, page, photo, png, tiff
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.pictures import ifd
from jaxstyle.data.pictures.complete import png as png_check
from jaxstyle.errors import ImageError

LIMIT = 10**7
PHOTO = photo(160, 120)


def read(data: bytes) -> image.Picture:
    return image.read(io.BytesIO(data), LIMIT)


def others() -> dict:
    """Options for a file of two pictures."""
    return {"save_all": True, "append_images": [Image.fromarray(photo(160, 120, 5))]}


KINDS = {
    "JPEG": encoded(PHOTO, "JPEG"),
    "JPEG, progressive": encoded(PHOTO, "JPEG", progressive=True),
    "JPEG, own tables": encoded(PHOTO, "JPEG", optimize=True),
    "JPEG, restarts": encoded(PHOTO, "JPEG", restart_marker_rows=1),
    "MPO": encoded(PHOTO, "MPO", **others()),
    "PNG": encoded(PHOTO, "PNG"),
    "GIF": encoded(PHOTO, "GIF"),
    "GIF, animated": encoded(PHOTO, "GIF", **others()),
    "WebP": encoded(PHOTO, "WEBP"),
    "WebP, lossless": encoded(PHOTO, "WEBP", lossless=True),
    "WebP, animated": encoded(PHOTO, "WEBP", **others()),
    "WebP, alpha": encoded(np.dstack([PHOTO, PHOTO[..., 0]]), "WEBP"),
    "AVIF": encoded(PHOTO, "AVIF", speed=10),
    "JPEG 2000": encoded(PHOTO, "JPEG2000"),
    "JPEG 2000, codestream": encoded(PHOTO, "JPEG2000", no_jp2=True),
    "JPEG 2000, tiles": encoded(PHOTO, "JPEG2000", tile_size=(64, 64)),
    "TIFF": encoded(PHOTO, "TIFF"),
    "TIFF, LZW": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, PackBits": encoded(PHOTO, "TIFF", compression="packbits"),
    "TIFF, JPEG": encoded(PHOTO, "TIFF", compression="jpeg"),
    "TIFF, two pages": encoded(PHOTO, "TIFF", **others()),
    "BMP": encoded(PHOTO, "BMP"),
    "PPM": encoded(PHOTO, "PPM"),
}


FIRST_ONLY = ("MPO", "TIFF, two pages", "GIF, animated", "WebP, animated")
"""Files of several pictures: the first one may be whole though the file is not."""


def check_refused(kind: str, damaged: bytes) -> None:
    try:
        picture = read(damaged)
    except ImageError:
        return
    assert kind in FIRST_ONLY and np.array_equal(picture.levels, read(KINDS[kind]).levels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_whose_end_is_zeros_is_refused(kind):
    """An interrupted copy: full length, and zeros from some place on."""
    data = KINDS[kind]
    for share in (0.2, 0.41, 0.63, 0.87):
        start = int(share * len(data))
        check_refused(kind, data[:start] + bytes(len(data) - start))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_hole_of_zeros_is_refused(kind):
    data = KINDS[kind]
    for share in (0.31, 0.52, 0.73):
        start, length = int(share * len(data)), max(1500, len(data) // 20)
        check_refused(kind, data[:start] + bytes(len(data[start : start + length])) + data[start + length :])


def test_an_mpo_lacks_none_of_the_pictures_that_it_lists():
    data = KINDS["MPO"]
    second = data.rindex(b"\xff\xd8\xff")
    for damaged in (data[:-1000], data[:second] + bytes(len(data) - second)):
        with pytest.raises(ImageError, match="of the pictures that it lists"):
            read(damaged)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("JPEG") and "2000" not in kind])
def test_half_a_jpeg_closed_by_an_end_marker_is_refused(kind):
    """libjpeg fills the rest with gray, and Pillow hides its warning."""
    data = KINDS[kind]
    for share in (0.3, 0.5, 0.8, 0.97):
        with pytest.raises(ImageError, match="libjpeg says|lacks the scans|end marker"):
            read(data[: int(share * len(data))] + b"\xff\xd9")


def segments(data: bytes) -> list[bytes]:
    """A JPEG, divided before every marker of a table or scan."""
    found, at, start = [], 2, 0
    while at < len(data):
        following = data.find(b"\xff", at)
        if following < 0:
            break
        code = data[following + 1] if following + 1 < len(data) else 0
        if code in (0xC4, 0xDA, 0xD9, 0xC0, 0xC2, 0xDB):
            found.append(data[start:following])
            start = following
            at = following + 2 + (0 if code == 0xD9 else int.from_bytes(data[following + 2 : following + 4], "big"))
        else:
            at = following + 2
    return [*found, data[start:]]


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    """Cut between two scans and closed, nothing in its data is short."""
    parts = segments(KINDS["JPEG, progressive"])
    scans = [n for n, part in enumerate(parts) if part[:2] == b"\xff\xda"]
    assert len(scans) >= 6
    for last in (scans[1], scans[-2]):
        with pytest.raises(ImageError, match=r"lacks the scans of \d+ of 192 coefficients"):
            read(b"".join(parts[: last + 1]) + b"\xff\xd9")


def test_no_harmless_warning_of_libjpeg_hides_another():
    whole, half = KINDS["JPEG"], KINDS["JPEG"][:-1000] + b"\xff\xd9"
    at = whole.index(b"JFIF\0") + 5
    odd = [data[:at] + b"\x09" + data[at + 1 :] for data in (whole, half)]  # a version that libjpeg warns of
    junk = [data[:20] + b"junk!" + data[20:] for data in (whole, half)]  # behind the first segment
    for good, bad in (odd, junk):
        assert np.array_equal(read(good).levels, read(whole).levels)
        with pytest.raises(ImageError, match="premature end"):
            read(bad)
    assert any("extraneous bytes" in note for note in read(junk[0]).notes)
    with pytest.raises(ImageError, match="extraneous bytes"):
        read(whole[:-2] + bytes(range(1, 100)) + whole[-2:])


def test_what_follows_a_jpeg_is_its_own_affair():
    """Videos of motion photographs, and other pictures, lie behind the end marker."""
    assert np.array_equal(read(KINDS["JPEG"] + b"ftypmp42" + bytes(3000)).levels, read(KINDS["JPEG"]).levels)


def test_the_checksum_of_every_chunk_of_a_png_counts():
    head = (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    data = png(head, (b"IDAT", zlib.compress(b"\0ab")), (b"tEXt", b"Title\0a title"), (b"IEND", b""))
    assert not png_check.problem(io.BytesIO(data))
    place = data.index(b"a title")
    for at in range(8 + 12, len(data)):
        if data[at - 4 : at] != b"IEND" and not place - 30 < at < place - 4:  # lengths lead to other chunks
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            assert png_check.problem(io.BytesIO(changed)), at
    with pytest.raises(ImageError, match="checksum"):
        read(data.replace(b"a title", b"b title"))


def test_strips_and_tags_of_a_tiff_lie_within_it():
    data = tiff(page(PHOTO))
    assert np.array_equal(read(data).levels, PHOTO)
    lengths = struct.pack("<HHLL", 279, 4, 1, PHOTO.nbytes)
    for length, what in ((2 * PHOTO.nbytes, "beyond its end"), (0, "without data")):
        with pytest.raises(ImageError, match=what):
            read(data.replace(lengths, struct.pack("<HHLL", 279, 4, 1, length)))
    profiled = encoded(PHOTO, "TIFF", compression="tiff_lzw", icc_profile=bytes(range(256)) * 20)
    with pytest.raises(ImageError, match="beyond its end"):
        read(profiled[:-100])


def test_a_deflated_strip_has_its_checksum_compared():
    data = tiff(page(PHOTO, compression=8))
    at = data.index(zlib.compress(PHOTO.tobytes())) + len(zlib.compress(PHOTO.tobytes())) - 1
    with pytest.raises(ImageError, match="damaged"):
        read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_tile_part_of_jpeg_2000_has_the_length_that_it_says():
    data = KINDS["JPEG 2000, codestream"]
    with pytest.raises(ImageError, match="end marker"):
        read(data[: len(data) // 2] + b"\xff\xd9")


def test_a_tiff_of_endless_directories_is_refused_at_once():
    """Millions of values of entries that all lie in one place."""
    count, values = 65535, 1 << 16
    body = struct.pack("<HHLL", 273, 4, values, 8) * count
    data = b"II*\0" + struct.pack("<L", 8 + 4 * values) + bytes(4 * values) + struct.pack("<H", count) + body + bytes(4)
    with pytest.raises(ImageError):
        image.probe(io.BytesIO(data), LIMIT)
    with pytest.raises(ifd.Broken, match="millions of values"):
        ifd.pages(io.BytesIO(data))


# Whole files that look as if something were missing.


def with_black(height: int, slope: float) -> np.ndarray:
    """The photograph with black from a row on; the border falls by `slope` rows over its width."""
    y, x = np.mgrid[: PHOTO.shape[0], : PHOTO.shape[1]]
    return np.where((y + slope * x / PHOTO.shape[1] < height)[..., None], np.maximum(PHOTO, 1), 0).astype(np.uint8)


@pytest.mark.parametrize("slope", [0, 3, 20, -20, 100])
@pytest.mark.parametrize("format", ["BMP", "PPM", "TIFF", "JPEG", "WEBP", "PNG", "GIF", "JPEG2000", "AVIF"])
def test_black_areas_are_no_missing_data(format, slope):
    for array in (with_black(70, slope), with_black(70, slope)[::-1].copy(), with_black(70, slope)[..., 0].copy()):
        read(encoded(array, format))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_of_any_compression_are_whole(level):
    half = np.vstack([np.full((300, 500, 3), level, np.uint8), photo(500, 100)])
    for array in (half, half[..., 0].copy(), np.full_like(half, level)):
        options = [("JPEG", {"optimize": True}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("JPEG2000", {})]
        options += [("WEBP", {"lossless": True}), ("GIF", {}), ("AVIF", {"speed": 10})]
        options += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "packbits", "jpeg")]
        for format, given in options:
            read(encoded(array, format, **given))


def with_sampling(data: bytes, *factors: int) -> bytes:
    """A JPEG with other sampling factors of its three components."""
    at = data.index(b"\xff\xc0")
    changed = bytearray(data)
    for n, factor in enumerate(factors):
        changed[at + 11 + 3 * n] = factor
    return bytes(changed)


def test_a_jpeg_of_odd_sampling_is_read_and_its_end_looked_at():
    """simplejpeg knows six samplings; all others are decoded by Pillow, which hides libjpeg's warnings."""
    data = with_sampling(encoded(PHOTO, "JPEG", subsampling=2), 0x12, 0x11, 0x12)
    with Image.open(io.BytesIO(data)) as stored:
        size, blocks = stored.size, stored.layer
    with pytest.raises(ImageError):  # the scan has too few blocks for this sampling
        read(data)
    assert size == (160, 120) and blocks[0][1:3] == (1, 2)
    for height in (64, 48):  # now it has enough
        at = data.index(b"\xff\xc0") + 5
        smaller = data[:at] + struct.pack(">H", height) + data[at + 2 :]
        with Image.open(io.BytesIO(smaller)) as stored:
            assert np.array_equal(read(smaller).levels, np.asarray(stored))
