"""Colours that a file declares: profiles against the file's own colour space, depth, and colours without a profile."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from fuzz import ADOBE, SRGB, adobe_to_srgb, encode_gamma
from pictures import encoded, icc, page, photo, png, png16, tiff
from PIL import Image

from jaxstyle.data import image
from jaxstyle.data.pictures import colour

LIMIT = 10**6
PATCH = np.array([[[200, 100, 100], [90, 160, 120], [0, 255, 0], [128, 128, 128]]], np.uint8)


def read(data: bytes, **options) -> image.Picture:
    return image.read(io.BytesIO(data), LIMIT, **options)


def shown(data: bytes) -> np.ndarray:
    return read(data).pixels * 255


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """`PATCH` as a PNG with chunks before its pixels."""
    head = (b"IHDR", struct.pack(">IIBBBBB", 4, 1, 8, 2, 0, 0, 0))
    return png(head, *chunks, (b"IDAT", zlib.compress(b"\0" + PATCH.tobytes())), (b"IEND", b""))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_gray_profile_leaves_an_rgb_picture_its_colours(format, mode):
    if (format, mode) == ("JPEG", "RGBA"):
        mode = "RGB"
    options = {"lossless": True} if format == "WEBP" else {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    patch = np.kron(PATCH, np.ones((8, 8, 1), np.uint8))
    picture = read(encoded(Image.fromarray(patch).convert(mode), format, icc_profile=icc(1.0), **options))
    assert np.abs(picture.pixels * 255 - patch).max() <= (3 if format == "JPEG" else 0.01)  # JPEG is lossy
    assert any("ICC profile ignored" in note and "GRAY" in note for note in picture.notes)


def test_a_palette_of_colours_ignores_a_gray_profile():
    indexed = Image.fromarray(PATCH).quantize(4)
    picture = read(encoded(indexed, "PNG", icc_profile=icc(1.0)))
    assert (np.round(picture.pixels * 255) == np.asarray(indexed.convert("RGB"))).all()
    assert any("ICC profile ignored" in note for note in picture.notes)


def test_an_rgb_profile_of_a_gray_picture_counts():
    gray = np.array([[0, 60, 128, 255]], np.uint8)
    expected = encode_gamma((gray / 255) ** 1.0)
    for format in ("PNG", "TIFF"):
        assert np.abs(shown(encoded(gray, format, icc_profile=icc(1.0, *SRGB.T)))[..., 1] - expected).max() <= 2


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_an_rgb_profile_of_another_space_is_ignored_and_noted(mode):
    values = np.full((4, 4, 4 if mode == "CMYK" else 3), 100, np.uint8)
    data = encoded(Image.fromarray(values, mode), "TIFF", icc_profile=icc(2.2, *ADOBE))
    plain = encoded(Image.fromarray(values, mode), "TIFF")
    assert np.array_equal(shown(data), shown(plain))
    assert any("ICC profile ignored" in note for note in read(data).notes)
    assert ("CMYK without a profile" in " ".join(read(plain).notes)) == (mode == "CMYK")


# 16 bits: all levels of a linear profile, in light of sRGB.


def test_a_linear_profile_of_16_bits_keeps_its_levels():
    """At 8 bits, 16 of 71 levels were left."""
    values = np.repeat((np.arange(0, 4000, 20, dtype=np.uint16))[None, :, None], 3, 2)
    expected = encode_gamma(values / 65535)
    chunk = (b"iCCP", b"x\0\0" + zlib.compress(icc(1.0, *SRGB.T)))
    picture = read(png16(values, chunk))
    assert np.abs(picture.pixels * 255 - expected).max() <= 0.1
    assert len(np.unique(np.round(picture.pixels * 255)[..., 1])) == len(np.unique(np.round(expected)[..., 1])) > 65
    assert not any("ignored" in note for note in picture.notes)


def test_profiles_of_16_bit_pictures_count_in_every_format():
    deep = photo(20, 12).astype(np.uint16) * 257
    wide, profile = adobe_to_srgb(deep, 65535), icc(2.2, *ADOBE)
    values, tags = page(deep)
    data = tiff((values, tags | {34675: ("B", tuple(profile))}))
    assert np.abs(shown(data) - wide).max() <= 0.3
    gray = encoded(deep[..., 0], "PNG", icc_profile=icc(1.0))
    assert np.abs(shown(gray)[..., 0] - encode_gamma(deep[..., 0] / 65535)).max() <= 0.1
    assert "ICC profile" not in " ".join(read(gray).notes)


def test_a_profile_of_tables_is_converted_at_8_bits_and_noted():
    deep = photo(20, 12).astype(np.uint16) * 257
    tagged = icc(2.2, *ADOBE).replace(b"cprt", b"A2B0")  # LittleCMS refuses this table, and so it is ignored
    picture = read(png16(deep, (b"iCCP", b"x\0\0" + zlib.compress(tagged))))
    assert any("ICC profile" in note for note in picture.notes)
    assert picture.levels.dtype == np.float32


@pytest.mark.parametrize("kind", range(5))
def test_parametric_curves_of_profiles(kind):
    """Against the formulas of ICC.1, tables 67 and 68."""
    g, a, b, c, d, e, f = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.01, 0.02
    given = [(g,), (g, a, b), (g, a, b, 0.01), (g, a, b, c, d), (g, a, b, c, d, e, f)][kind]
    data = b"para" + bytes(4) + struct.pack(">HH", kind, 0)
    data += b"".join(struct.pack(">i", round(value * 65536)) for value in given)
    x = np.linspace(0, 1, colour.STEPS)
    power = np.maximum(a * x + b, 0) ** g
    linear = x / 12.92
    expected = [x**g, power, power + 0.01, np.where(x >= d, power, linear), np.where(x >= d, power + e, linear + f)]
    assert np.abs(colour._curve(data) - expected[kind]).max() <= 1e-4  # numbers of 16.16 bits


# Colours without a profile.


def primaries(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in values))


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


WIDE = primaries(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)  # Adobe RGB's
NOT_SRGB = (b"iCCP", b"x\0\0" + zlib.compress(icc(1.8, *SRGB.T)))


def test_gamma_and_chromaticities_of_a_png_count():
    """Adobe RGB by chunks is Adobe RGB by profile; linear light by chunks is brighter."""
    assert np.abs(shown(chunked(gamma(256 / 563), WIDE)) - adobe_to_srgb(PATCH)).max() <= 2
    linear = encode_gamma(PATCH / 255)
    assert np.abs(shown(chunked(gamma(1.0))) - linear).max() <= 1
    assert any("converted to sRGB" in note for note in read(chunked(gamma(1.0))).notes)
    own = primaries(*colour.SRGB_PRIMARIES)
    for chunks in ((gamma(0.45455),), (gamma(0.45455), own), (own,)):
        assert np.array_equal(np.round(shown(chunked(*chunks))), PATCH) and not read(chunked(*chunks)).notes


def test_gamma_of_gray_and_of_16_bits_counts():
    gray = np.array([[0, 9000, 40000, 65535]], np.uint16)
    expected = encode_gamma(gray / 65535)
    assert np.abs(shown(png16(gray, gamma(1.0), WIDE))[..., 0] - expected).max() <= 0.1
    assert np.abs(shown(png16(np.dstack([gray] * 3), gamma(1.0)))[..., 0] - expected).max() <= 0.1


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (((b"sRGB", b"\0"), gamma(1.0)), PATCH),
        ((NOT_SRGB, gamma(1.0)), encode_gamma((PATCH / 255) ** 1.8)),
        (((b"cICP", b"\1\x08\0\1"), NOT_SRGB), encode_gamma(PATCH / 255)),
        (((b"cICP", b"\1\x0d\0\1"), NOT_SRGB), PATCH),
    ],
    ids=["sRGB before gAMA", "profile before gAMA", "cICP before profile", "cICP of sRGB before profile"],
)
def test_the_order_of_chunks_is_that_of_browsers(chunks, expected):
    assert np.abs(shown(chunked(*chunks)) - expected).max() <= 2


def test_code_points_of_wide_colours_count_and_those_of_hdr_are_noted():
    p3 = colour.from_primaries((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
    linear = colour.srgb_curve(PATCH / 255) @ p3.T @ np.linalg.inv(SRGB).T
    assert np.abs(shown(chunked((b"cICP", b"\x0c\x0d\0\1"))) - encode_gamma(linear)).max() <= 2
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        picture = read(chunked((b"cICP", bytes([9, transfer, 0, 1]))))
        assert np.array_equal(np.round(picture.pixels * 255), PATCH)
        assert any(name in note for note in picture.notes)


@pytest.mark.parametrize(
    "chunk", [gamma(0.0), primaries(0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), (b"cICP", b"\xff\xff\0\1")]
)
def test_a_description_that_makes_no_sense_is_noted(chunk):
    picture = read(chunked(chunk))
    assert np.array_equal(np.round(picture.pixels * 255), PATCH)
    assert chunk[0] == b"gAMA" or any("declared colours ignored" in note for note in picture.notes)


def test_colours_of_other_formats_without_a_profile():
    large = np.kron(PATCH, np.ones((8, 8, 1), np.uint8))
    for tags in ({0xA001: 2}, {0xA001: 65535, 0xA005: {1: "R03"}}):
        exif = Image.Exif()
        exif.get_ifd(0x8769).update(tags)
        noted = read(encoded(large, "JPEG", exif=exif)).notes
        assert any("EXIF says Adobe RGB" in note for note in noted)
    assert not read(encoded(large, "JPEG")).notes
    rational = {318: (0.3127, 0.329), 319: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)}
    tiff_data = encoded(PATCH, "TIFF", tiffinfo=rational)
    wide = colour.from_primaries((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06))
    linear = colour.srgb_curve(PATCH / 255) @ wide.T @ np.linalg.inv(SRGB).T
    assert np.abs(shown(tiff_data) - encode_gamma(linear)).max() <= 2


def bmp(profile: bytes = b"", kind: bytes = b"DEBM", bits: int = 24) -> bytes:
    """`PATCH` as a BMP of version 5."""
    rows = PATCH[..., ::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, 4, 1, 1, bits, 0, len(rows), 0, 0, 0, 0) + bytes(16) + kind
    head += bytes(36 + 12) + struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(head + rows + profile), 0, 0, 14 + len(head)) + head + rows + profile


def test_the_profile_in_a_bmp_counts_and_one_elsewhere_is_noted():
    assert np.abs(shown(bmp(icc(2.2, *ADOBE))) - adobe_to_srgb(PATCH)).max() <= 2
    assert any("another file" in note for note in read(bmp(kind=b"KNIL")).notes)
    assert np.array_equal(np.round(shown(bmp(kind=b"BGRs"))), PATCH) and not read(bmp(kind=b"BGRs")).notes


def test_the_profile_in_a_jpeg_2000_counts():
    data = encoded(PATCH, "JPEG2000")
    start = data.index(b"jp2h") - 4
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    box = b"colr\2\0\0" + icc(2.2, *ADOBE)
    box = struct.pack(">I", len(box) + 4) + box
    whole = int.from_bytes(data[start : start + 4], "big") + len(box) - length
    changed = data[:start] + struct.pack(">I", whole) + data[start + 4 : at] + box + data[at + length :]
    assert np.abs(shown(changed) - adobe_to_srgb(PATCH)).max() <= 2


def test_the_code_points_of_an_avif_count():
    large = np.kron(PATCH, np.ones((8, 8, 1), np.uint8))
    data = encoded(large, "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"nclx") + 4
    changed = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    p3 = colour.from_primaries((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
    linear = colour.srgb_curve(large / 255) @ p3.T @ np.linalg.inv(SRGB).T
    assert np.abs(shown(changed) - encode_gamma(linear)).max() <= 6  # AVIF's own loss
    hdr = read(data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :])
    assert any("PQ" in note for note in hdr.notes)
