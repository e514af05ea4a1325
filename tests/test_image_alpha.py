"""Transparency: keys at every depth, alpha that is none, pictures that show nothing, first pictures of animations."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, page, photo, png, png16, tiff

from jaxstyle.data import image
from jaxstyle.decode.pool import Decoders
from jaxstyle.errors import ImageError, InputError
from jaxstyle.planning.preflight import own_picture

LIMIT = 10**6


def read(data: bytes, **options) -> image.Picture:
    return image.read(io.BytesIO(data), LIMIT, **options)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_transparent_gray_of_a_png_is_meant_at_its_depth(depth):
    """Pillow scales the pixels to 8 bits and leaves the key as it is."""
    values = np.arange(min(8, 2**depth), dtype=np.uint8)
    row = np.packbits(np.unpackbits(values[:, None], axis=1)[:, -depth:].ravel()).tobytes()
    head = (b"IHDR", struct.pack(">IIBBBBB", len(values), 1, depth, 0, 0, 0, 0))
    for key in (0, 1, len(values) - 1):
        data = png(head, (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
        picture = read(data)
        assert (picture.alpha[0] == np.where(values == key, 0, 255)).all()
        expected = np.where(values == key, 255, values.astype(int) * 255 // (2**depth - 1))
        assert (np.round(picture.pixels[0, :, 0] * 255) == expected).all()


def test_the_transparent_colour_of_a_16_bit_png_is_exact():
    """The high byte alone would hit three of these pixels, or none."""
    values = np.array([[[256, 512, 768], [257, 512, 768], [256, 513, 768], [9, 9, 9]]], np.uint16)
    picture = read(png16(values, (b"tRNS", struct.pack(">3H", 256, 512, 768))))
    assert picture.alpha.tolist() == [[0, 255, 255, 255]] and (picture.pixels[0, 0] == 1).all()
    gray = read(png16(values[..., 0], (b"tRNS", struct.pack(">H", 257))))
    assert gray.alpha.tolist() == [[255, 0, 255, 255]]


def bmp(alpha: int) -> bytes:
    """16 colours in 32 bits, with a mask for alpha."""
    pixels = b"".join(bytes([10 * i, 20, 30, alpha]) for i in range(16))
    head = struct.pack("<IiiHHIIiiII", 108, 4, 4, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head + pixels), 0, 0, 14 + len(head)) + head + pixels


def test_alpha_of_zero_throughout_is_none_in_a_bmp():
    for alpha, transparent in ((0, False), (255, False), (100, True)):
        picture = read(bmp(alpha))
        assert (picture.alpha is not None) == transparent
        if not transparent:
            assert np.round(picture.pixels[3, 1] * 255).tolist() == [30, 20, 10]
    assert "alpha is 0 throughout and taken for unused" in read(bmp(0)).notes


def test_alpha_of_zero_throughout_is_none_in_a_tiff_that_does_not_call_it_alpha():
    rgba = np.dstack([photo(8, 6), np.zeros((6, 8), np.uint8)])
    assert np.array_equal(read(tiff(page(rgba))).levels, photo(8, 6))
    with pytest.raises(ImageError, match="shows nothing"):
        read(tiff(page(rgba, extra=2)))


INVISIBLE = {
    "PNG": encoded(np.dstack([photo(8, 6), np.zeros((6, 8), np.uint8)]), "PNG"),
    "PNG, nearly": encoded(np.dstack([photo(8, 6), np.full((6, 8), 2, np.uint8)]), "PNG"),
    "16 bits": png16(np.zeros((6, 8, 4), np.uint16)),
    "gray with alpha": encoded(np.zeros((6, 8, 2), np.uint8), "PNG"),
    "one colour, transparent": encoded(np.full((6, 8, 3), 9, np.uint8), "PNG", transparency=(9, 9, 9)),
    "WebP": encoded(np.zeros((6, 8, 4), np.uint8), "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", INVISIBLE)
def test_a_picture_that_shows_nothing_is_refused_as_input_and_as_style(tmp_path, kind):
    with pytest.raises(ImageError, match="shows nothing"):
        read(INVISIBLE[kind])
    (tmp_path / "style").write_bytes(INVISIBLE[kind])
    with pytest.raises(InputError, match=r"the style .* shows nothing"):
        own_picture(tmp_path / "style", "style", 64, Decoders(0, max_pixels=10**6, timeout=60))


def test_a_picture_with_one_visible_pixel_is_read():
    alpha = np.zeros((6, 8), np.uint8)
    alpha[2, 3] = 255
    assert (read(encoded(np.dstack([photo(8, 6), alpha]), "PNG")).alpha == alpha).all()


# The first picture of an animation covers a part of it.


def gif(transparent: int | None) -> bytes:
    """8 x 8, of which the first picture covers 4 x 4 from (2, 2) in red; colour 0 is black."""
    colours = bytes([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    codes = [code for _ in range(8) for code in (4, 1, 1)] + [5]  # clear, two pixels, ...: 3 bits a code throughout
    bits = sum(code << 3 * n for n, code in enumerate(codes))
    data = bits.to_bytes(-(-3 * len(codes) // 8), "little")
    control = b"" if transparent is None else b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    picture = b"," + struct.pack("<HHHHB", 2, 2, 4, 4, 0) + b"\2" + bytes([len(data)]) + data + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x91, 0, 0) + colours + control + picture + b";"


def webp(channels: int) -> bytes:
    """As `gif`, as an animated WebP."""
    still = encoded(
        np.full((4, 4, channels), 255, np.uint8) * np.array([1, 0, 0, 1][:channels], np.uint8), "WEBP", lossless=True
    )

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def three(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    body = chunk(b"VP8X", bytes([0x12 if channels == 4 else 2, 0, 0, 0]) + three(7, 7)) + chunk(b"ANIM", bytes(6))
    body += chunk(b"ANMF", three(1, 1, 3, 3, 100) + b"\0" + still[12:])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


FIRST = {"GIF": gif(None), "GIF of 0": gif(0), "GIF of 3": gif(3), "WebP": webp(3), "WebP with alpha": webp(4)}


@pytest.mark.parametrize("data", FIRST.values(), ids=FIRST)
def test_what_a_first_picture_leaves_out_is_transparent(data):
    picture = read(data)
    covered = np.zeros((8, 8), bool)
    covered[2:6, 2:6] = True
    assert (picture.alpha == np.where(covered, 255, 0)).all()
    assert (picture.pixels[covered] == [1, 0, 0]).all() and (picture.pixels[~covered] == 1).all()
    assert any("covers a part only" in note for note in picture.notes)


def test_a_gif_whose_first_picture_covers_all_has_no_alpha():
    assert read(encoded(photo(8, 6)[..., 0], "GIF")).alpha is None
