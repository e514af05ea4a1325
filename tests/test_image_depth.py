"""More than 8 bits a channel: all levels are kept, and white is what the format or the caller says."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import encoded, page, png, png16, tiff

from jaxstyle.data import image
from jaxstyle.errors import ImageError

LIMIT = 10**6
DEEP = np.random.default_rng(0).integers(0, 65536, (12, 20, 4), dtype=np.uint16)
RGB, GRAY, ALPHA = DEEP[..., :3], DEEP[..., 0], DEEP[..., 3]


def read(data: bytes, **options) -> image.Picture:
    return image.read(io.BytesIO(data), LIMIT, **options)


def on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return values / 65535 * (alpha / 65535) + 1 - alpha / 65535


FILES = {
    "PNG": (png16(RGB), RGB / 65535),
    "PNG with alpha": (png16(DEEP), on_white(RGB, ALPHA[..., None])),
    "PNG, gray with alpha": (png16(np.dstack([GRAY, ALPHA])), on_white(GRAY[..., None], ALPHA[..., None])),
    "PNG, gray": (png16(GRAY), GRAY[..., None] / 65535),
    "TIFF": (tiff(page(RGB)), RGB / 65535),
    "TIFF, big-endian": (tiff(page(RGB), order=">"), RGB / 65535),
    "TIFF, deflated": (tiff(page(RGB, compression=8)), RGB / 65535),
    "TIFF, deflated, big-endian": (tiff(page(RGB, compression=8), order=">"), RGB / 65535),
    "TIFF with alpha": (tiff(page(DEEP, extra=2)), on_white(RGB, ALPHA[..., None])),
    "TIFF, unused fourth": (tiff(page(DEEP, extra=0)), RGB / 65535),
    "TIFF, gray": (tiff(page(GRAY)), GRAY[..., None] / 65535),
    "TIFF, white is zero": (tiff(page(GRAY, photometric=0)), 1 - GRAY[..., None] / 65535),
    "TIFF, signed": (tiff(page((GRAY // 2).astype(np.int16))), (GRAY // 2)[..., None] / 32767),
    "TIFF, signed, deflated, big-endian": (
        tiff(page((GRAY // 2).astype(np.int16), compression=8), order=">"), (GRAY // 2)[..., None] / 32767
    ),
    "TIFF, float": (tiff(page((GRAY / 65535).astype(np.float32))), GRAY[..., None] / 65535),
    "TIFF, float, deflated, big-endian": (
        tiff(page((GRAY / 65535).astype(np.float32), compression=8), order=">"), GRAY[..., None] / 65535
    ),
    "TIFF, float, white is zero": (
        tiff(page((GRAY / 65535).astype(np.float32), photometric=0)), 1 - GRAY[..., None] / 65535
    ),
    "PPM": (b"P6 20 12 65535\n" + RGB.astype(">u2").tobytes(), RGB / 65535),
    "PPM to 1000": (b"P6 20 12 1000\n" + (RGB % 1001).astype(">u2").tobytes(), (RGB % 1001) / 1000),
    "PGM": (b"P5 20 12 65535\n" + GRAY.astype(">u2").tobytes(), GRAY[..., None] / 65535),
    "JPEG 2000, gray": (encoded(GRAY, "JPEG2000"), GRAY[..., None] / 65535),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_every_level_of_16_bits_is_kept(kind):
    data, expected = FILES[kind]
    picture = read(data)
    assert picture.levels.dtype == np.float32
    assert np.abs(picture.levels - expected).max() <= 1e-6  # float32
    assert any(note.startswith("values ") for note in picture.notes)


def test_alpha_that_is_multiplied_in_is_taken_out_at_full_depth():
    alpha = np.maximum(ALPHA, 3000)
    stored = np.dstack([(RGB.astype(np.int64) * alpha[..., None] // 65535).astype(np.uint16), alpha])
    picture = read(tiff(page(stored, extra=1)))
    assert np.abs(picture.levels - on_white(RGB, alpha[..., None])).max() <= 2 / 65535  # the stored product's rounding


def test_a_sequence_keeps_its_brightness():
    """One white for all frames: the format's, or the caller's; a dark one says so."""
    frames = [np.full((4, 4), top, np.uint16) for top in (250, 1000, 4000, 64000)]
    for format in ("PNG", "TIFF"):
        shown = [read(encoded(frame, format)) for frame in frames]
        assert [p.levels.max() for p in shown] == pytest.approx(
            [250 / 65535, 1000 / 65535, 4000 / 65535, 64000 / 65535]
        )
        assert ["dark" in " ".join(p.notes) for p in shown] == [True, True, True, False]
        shown = [read(encoded(frame, format), white_level=4095) for frame in frames]
        assert [p.levels.max() for p in shown] == pytest.approx([250 / 4095, 1000 / 4095, 4000 / 4095, 1])
        assert "16 values outside black and white clipped" in shown[3].notes


def test_twelve_bits_of_a_tiff_are_white_at_4095():
    packed = bytes([0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF])  # 4095, 0, 2048, 4095
    data = bytearray(tiff(page(np.frombuffer(packed, np.uint8).reshape(2, 3))))
    for tag, value in ((256, 2), (258, 12)):
        at = data.index(struct.pack("<HHL", tag, 3, 1))
        data[at + 8 : at + 10] = struct.pack("<H", value)
    assert np.allclose(read(bytes(data)).levels[..., 0], [[1, 0], [2048 / 4095, 1]])


@pytest.mark.parametrize(
    "values", [[-3.0, 3.0], [0.0, 1.5], [0.0, 255.0], [0, 100_000]], ids=["signed", "over 1", "to 255", "32 bits"]
)
def test_values_without_a_known_white_are_refused_until_it_is_given(values):
    array = np.array([values] * 2, np.int32 if values[1] == 100_000 else np.float32)
    with pytest.raises(ImageError, match=r"does not say which of them is white.*--white-level"):
        read(encoded(array, "TIFF"))
    white = float(max(values))
    assert np.allclose(read(encoded(array, "TIFF"), white_level=white).levels[0, :, 1], [0, 1])


def test_a_value_that_is_not_finite_is_noted():
    picture = read(encoded(np.array([[np.nan, 0.5, np.inf]], np.float32), "TIFF"))
    assert (picture.levels == 0.5).all() and "2 values that are not finite replaced" in " ".join(picture.notes)


def test_depth_that_the_decoder_cuts_is_noted():
    cmyk = tiff(page(DEEP, photometric=5))
    assert "16 bits a channel read as 8" in read(cmyk).notes
    head = (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    plain = png(head, (b"IDAT", zlib.compress(b"\0ab\0cd")), (b"IEND", b""))
    assert not read(plain).notes and read(plain).levels.dtype == np.uint8


@pytest.mark.parametrize("values", [RGB, DEEP])
def test_a_reduced_deep_picture_is_the_whole_one_shrunk(values):
    whole = read(png16(values)).levels
    small = read(png16(values), size=10)
    assert small.levels.shape == (6, 10, 3) and small.levels.dtype == np.float32
    assert np.abs(small.levels - image.resize(whole, 10, 6)).max() <= 1e-5


def test_separate_planes_of_16_bits_are_refused():
    """Pillow takes their bytes for pixels of 8 bits."""
    values, tags = page(RGB)
    for order in "<>":
        with pytest.raises(ImageError, match="separate planes"):
            read(tiff((values, tags | {284: ("H", (2,))}), order=order))
