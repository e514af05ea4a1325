"""What outputs say besides their pixels: `--color-profile`."""

import io

import numpy as np
import pytest
from pictures import painting, photo, save
from PIL import Image, ImageCms
from whole_runs import QUICK, files

from jaxstyle.data import image
from jaxstyle.data.pictures import tags
from jaxstyle.engine.pipeline import render

LANE = (32, 24)
PIXELS = photo(*LANE).astype(np.float32) / 255
WITH_PROFILE = ("JPEG", "WEBP", "TIFF", "AVIF")


def encoded(format, **options):
    if format in image.absent():
        pytest.skip(f"this Pillow lacks {format}")
    return image.encode(PIXELS, None, format, 95, **options)


@pytest.mark.parametrize("format", ["PNG", *WITH_PROFILE, "BMP", "GIF", "JPEG2000", "PPM"])
def test_a_tag_changes_no_pixel_as_pillow_and_we_read_them(format):
    plain, tagged = encoded(format), encoded(format, tagged=True)
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(tagged)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert not one.info.get("icc_profile") and "srgb" not in one.info
        if format in WITH_PROFILE:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(other.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert other.info.get("srgb") == (0 if format == "PNG" else None)
    before, after = (image.read(io.BytesIO(data), 10**6) for data in (plain, tagged))
    np.testing.assert_array_equal(before.levels, after.levels)
    assert before.notes == after.notes
    assert len(tagged) - len(plain) == 13 if format == "PNG" else len(tagged) - len(plain) < 800
    assert (plain == tagged) == (format in ("BMP", "GIF", "JPEG2000", "PPM"))


def test_16_bits_are_tagged_too():
    plain, tagged = (image.encode(PIXELS, None, "PNG", 95, bits=16, tagged=on) for on in (False, True))
    assert len(tagged) == len(plain) + 13
    assert [Image.open(io.BytesIO(data)).info.get("srgb") for data in (plain, tagged)] == [None, 0]


def test_a_tiff_of_16_bits_has_the_profile_and_the_same_pixels():
    plain, tagged = (image.encode(PIXELS, None, "TIFF", 95, bits=16, tagged=on) for on in (False, True))
    profiles = [Image.open(io.BytesIO(data)).info.get("icc_profile") for data in (plain, tagged)]
    assert profiles == [None, tags.srgb_profile()]
    one, other = (image.read(io.BytesIO(data), 10**6).pixels for data in (plain, tagged))
    np.testing.assert_array_equal(one, other)


def test_the_profile_does_not_tell_when_it_was_made():
    profile = tags.srgb_profile()
    assert profile[24:36] == bytes([0x07, 0xD0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]) and profile[36:40] == b"acsp"
    with Image.open(io.BytesIO(encoded("JPEG", tagged=True))) as picture:
        assert picture.info["icc_profile"] == profile


def test_runs_tag_their_outputs_if_asked(tmp_path, devices):
    save(tmp_path / "style.png", painting())
    for name in ("a.jpg", "b.png"):
        save(tmp_path / "in" / name, photo(*LANE))
    for chosen in ("none", "srgb"):
        render(tmp_path / "in", tmp_path / "style.png", tmp_path / chosen, QUICK, color_profile=chosen)
    plain, tagged = files(tmp_path / "none"), files(tmp_path / "srgb")
    assert b"ICC_PROFILE" in tagged["a.jpg"] and b"ICC_PROFILE" not in plain["a.jpg"]
    assert b"sRGB" in tagged["b.png"] and b"sRGB" not in plain["b.png"]
