"""Whole pictures are read upright, in sRGB, unclipped, on white; written pictures and resized ones."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz import ADOBE, LIMIT, adobe_to_srgb, encode_gamma
from pictures import icc
from PIL import Image, PngImagePlugin, TiffImagePlugin

from jaxstyle.data import image

ORIENTATION = 0x0112
UPRIGHT = np.kron(
    np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [128, 128, 128], [255, 255, 255]]], np.uint8),
    np.ones((16, 16, 1), np.uint8),
)
"""Six blocks of 16 x 16 pixels, all different: no turn or mirroring of it equals another. 48 x 32."""
STORED_AS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}
"""The stored array that each EXIF orientation turns into the upright one."""


@pytest.fixture
def read(tmp_path):
    """Reads what Pillow makes of a picture and the options."""

    def read(picture, format: str = "PNG", **options) -> image.Picture:
        path = tmp_path / "file"
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture.save(path, format, **options)
        picture = image.read(path, LIMIT)
        header = image.probe(path, LIMIT)
        assert header == picture.header  # what the plan reserved is what comes, for every file of these tests
        assert picture.pixels.shape == (header.height, header.width, 3) and picture.pixels.dtype == np.float32
        assert np.isfinite(picture.pixels).all() and picture.pixels.min() >= 0 and picture.pixels.max() <= 1
        return picture

    return read


def in_bytes(picture: image.Picture) -> np.ndarray:
    return np.round(picture.pixels * 255).astype(int)


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(("format", "tolerance"), [("PNG", 0), ("TIFF", 0), ("JPEG", 3)])  # JPEG is lossy
def test_exif_orientations_give_one_upright_picture(read, format, tolerance, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    picture = read(np.ascontiguousarray(STORED_AS[orientation](UPRIGHT)), format, exif=exif, **options)
    assert np.abs(in_bytes(picture) - UPRIGHT).max() <= tolerance


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_orientation_in_xmp_alone_counts(read, format):
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text, tags = PngImagePlugin.PngInfo(), TiffImagePlugin.ImageFileDirectory_v2()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    tags[700] = xmp.encode()
    options = {"pnginfo": text} if format == "PNG" else {"tiffinfo": tags}
    assert (in_bytes(read(np.ascontiguousarray(STORED_AS[6](UPRIGHT)), format, **options)) == UPRIGHT).all()


def test_transparent_value_of_a_16_bit_png_becomes_white(read):
    values = np.array([[1000, 30000], [60000, 1000]], np.uint16)
    picture = read(values, transparency=1000)
    assert (picture.alpha == [[0, 255], [255, 0]]).all()
    assert (picture.pixels[values == 1000] == 1).all()
    assert np.allclose(picture.pixels[0, 1], 30000 / 65535)


def palette(transparency: bytes | None = None) -> Image.Image:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    if transparency:
        picture.info["transparency"] = transparency
    return picture


@pytest.mark.parametrize(
    ("picture", "pixels", "alpha"),
    [
        (Image.fromarray(np.array([[True, False]])), [[255] * 3, [0] * 3], None),
        (Image.fromarray(np.array([[9, 200]], np.uint8)), [[9] * 3, [200] * 3], None),
        (Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8), "LA"), [[255] * 3, [9] * 3], [0, 255]),
        (palette(), [[255, 0, 0], [0, 255, 0], [0, 0, 255]], None),
        (palette(b"\x00\xff\x33"), [[255] * 3, [0, 255, 0], [204, 204, 255]], [0, 255, 51]),
        (
            Image.fromarray(np.array([[[255, 0, 9, 0], [255, 0, 0, 51], [1, 2, 3, 255]]], np.uint8)),
            [[255] * 3, [255, 204, 204], [1, 2, 3]],
            [0, 51, 255],
        ),
        (Image.fromarray(np.array([[[255, 0, 9, 255]]], np.uint8)), [[255, 0, 9]], None),
    ],
    ids=["1", "L", "LA", "P", "P+tRNS", "RGBA", "opaque RGBA"],
)
def test_every_mode_becomes_rgb_on_white(read, picture, pixels, alpha):
    result = read(picture)
    assert in_bytes(result)[0].tolist() == pixels
    assert result.levels.dtype == np.uint8
    assert ("transparency composited on white" in result.notes) == (alpha is not None)
    assert result.alpha is alpha or (result.alpha[0].tolist() == alpha and result.alpha.dtype == np.uint8)


def test_colour_key_of_an_rgb_png_becomes_white(read):
    result = read(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8), transparency=(1, 2, 3))
    assert in_bytes(result)[0].tolist() == [[255] * 3, [9] * 3] and result.alpha.tolist() == [[0, 255]]


def test_cmyk_jpeg_is_not_inverted(read):
    picture = read(Image.fromarray(UPRIGHT).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    assert np.abs(in_bytes(picture) - UPRIGHT).max() <= 4  # JPEG at its best quality, over four channels


def test_lab_tiff_becomes_srgb(read):
    lab = np.array([[[255, 0, 0], [0, 0, 0], [138, 81, 70]]], np.uint8)  # white, black, sRGB's red under D50
    picture = read(Image.fromarray(lab, "LAB"), "TIFF")
    expected = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]])
    assert np.abs(in_bytes(picture)[0] - expected).max() <= 6  # a step of L, a or b is up to 4 of red


@pytest.mark.parametrize(("format", "tolerance"), [("PNG", 2), ("TIFF", 2), ("JPEG", 4)])  # 8 bits; JPEG's own error
@pytest.mark.parametrize("colour", [[255] * 3, [0] * 3, [128] * 3, [200, 100, 100], [90, 160, 120], [0, 255, 0]])
def test_a_wide_profile_is_converted_to_srgb(read, format, tolerance, colour):
    patch = np.full((8, 8, 3), colour, np.uint8)
    picture = read(patch, format, icc_profile=icc(2.2, *ADOBE), **({"quality": 100} if format == "JPEG" else {}))
    assert np.abs(in_bytes(picture)[4, 4] - adobe_to_srgb(np.array(colour))).max() <= tolerance
    assert not picture.notes


def test_a_profile_reaches_transparent_and_palette_pictures(read):
    profile = icc(2.2, *ADOBE)
    rgba = np.array([[[200, 100, 100, 255], [200, 100, 100, 0]]], np.uint8)
    expected = adobe_to_srgb(np.array([200, 100, 100]))
    result = in_bytes(read(rgba, icc_profile=profile))
    assert np.abs(result[0, 0] - expected).max() <= 2 and (result[0, 1] == 255).all()
    indexed = Image.fromarray(rgba[..., :3]).quantize(4)
    assert np.abs(in_bytes(read(indexed, icc_profile=profile))[0, 0] - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "P"])
def test_a_gray_profile_is_converted_to_srgb(read, mode):
    gray = Image.fromarray(np.array([[0, 60, 128, 255]], np.uint8)).convert(mode)
    picture = read(gray, icc_profile=icc(1.0))
    assert np.abs(in_bytes(picture)[0, :, 1] - encode_gamma(np.array([0, 60, 128, 255]) / 255)).max() <= 2  # 8 bits
    assert not picture.notes


@pytest.mark.parametrize("profile", [b"garbage", icc(2.2, *ADOBE)[:200], icc(2.2, *ADOBE).replace(b"RGB ", b"CMYK")])
def test_an_unusable_profile_is_ignored_and_noted(read, profile):
    picture = read(UPRIGHT, icc_profile=profile)
    assert (in_bytes(picture) == UPRIGHT).all()
    assert any("ICC profile ignored" in note for note in picture.notes)


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_counts(read, format):
    first, *others = (Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue"))
    options = {"lossless": True} if format == "WEBP" else {}
    picture = read(first, format, save_all=True, append_images=others, **options)
    assert (in_bytes(picture) == [255, 0, 0]).all()
    assert picture.header.frames == 3 and "first of 3 pictures" in picture.notes


ALPHA = np.linspace(0, 1, 48 * 32).reshape(32, 48)


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize(
    ("format", "tolerance", "keeps_alpha"),  # the lossy formats' error at quality 100; GIF has 256 colours, enough here
    [
        ("PNG", 0, True),
        ("TIFF", 0, True),
        ("WEBP", 8, True),
        ("JPEG", 3, False),
        ("MPO", 3, False),
        ("BMP", 0, False),
        ("GIF", 0, False),
        ("PPM", 0, False),
        ("JPEG2000", 0, False),
    ],
)
def test_what_is_encoded_is_read_again(tmp_path, format, tolerance, keeps_alpha, alpha):
    path = tmp_path / "file"
    path.write_bytes(image.encode(UPRIGHT / 255, alpha, format, 100))
    with Image.open(path) as stored:
        assert stored.format == ("JPEG" if format == "MPO" else format)
        assert not {"exif", "icc_profile", "xmp", "XML:com.adobe.xmp"} & stored.info.keys()
        assert np.abs(np.asarray(stored.convert("RGB"), int)[24, 40] - 255).max() <= tolerance
    again = image.read(path, LIMIT)
    if alpha is not None and keeps_alpha:
        assert (again.alpha == image.to_bytes(alpha)).all()
    else:
        assert again.alpha is None
        assert np.abs(in_bytes(again) - UPRIGHT)[8::16, 8::16].max() <= tolerance  # of WebP's borders nothing is said


def test_jpeg_keeps_the_colour_of_single_pixels(tmp_path):
    stripes = np.tile(np.array([[[200, 60, 60], [60, 60, 200]]], np.uint8), (32, 16, 1))
    (tmp_path / "a.jpg").write_bytes(image.encode(stripes / 255, None, "JPEG", 95))
    # Halved chroma would mix neighbours, an error of about 70.
    assert np.abs(in_bytes(image.read(tmp_path / "a.jpg", LIMIT)) - stripes).max() <= 12


def test_values_outside_0_to_1_are_clipped_and_others_rounded():
    assert image.to_bytes(np.array([-1, 0, 0.4999 / 255, 0.5001 / 255, 1, 7])).tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1000, 3), (1000, 1, 3), (37, 53, 3), (20, 30)])
@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (45, 31)])
def test_resizing_keeps_constants_and_the_range(shape, size):
    width, height = size
    constant = image.resize(np.full(shape, 0.3, np.float32), width, height)
    assert constant.shape == (height, width, *shape[2:]) and constant.dtype == np.float32
    assert np.allclose(constant, 0.3, atol=1e-6)  # float32; the filter's weights add up to 1
    edges = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)  # Lanczos overshoots at these
    resized = image.resize(edges, width, height)
    assert resized.min() >= 0 and resized.max() <= 1


def test_resizing_to_the_same_size_changes_nothing():
    pixels = np.random.default_rng(0).random((20, 30, 3), np.float32)
    assert np.array_equal(image.resize(pixels, 30, 20), pixels)


def test_the_middle_of_a_picture_is_the_largest_square_at_equal_distances_from_its_ends():
    wide, high = np.arange(35).reshape(5, 7), np.arange(7 * 4 * 3).reshape(7, 4, 3)
    np.testing.assert_array_equal(image.middle(wide), wide[:, 1:6])
    np.testing.assert_array_equal(image.middle(high), high[1:5])
