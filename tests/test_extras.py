"""HEIC, JPEG XL and camera RAW: photographs like others with jaxstyle's extras, failed rows that name them without.

Files are made by the extras' own packages, and a RAW byte by byte. Without a package, its tests are skipped.
"""

from __future__ import annotations

import io
import itertools
import warnings

import numpy as np
import pytest
import stub
from pictures import encoded, icc, page, painting, photo, save, tiff
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.data import image
from jaxstyle.data.pictures import kinds
from jaxstyle.data.pictures.extras import jpegxl_size
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import ImageError

LIMIT = 10**6
PHOTO = photo(60, 44)
HEADERS = {
    "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
    "a.jxl": b"\xff\x0a" + bytes(500),
    "a.cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(500),
    "a.dng": tiff((np.zeros((30, 40), np.uint16), page(np.zeros((30, 40), np.uint16), photometric=32803)[1])),
}


def heic(picture=PHOTO, **options):
    pytest.importorskip("pillow_heif", reason="pillow-heif (the extra heif) is not installed").register_heif_opener()
    return encoded(picture, "HEIF", **{"quality": 95, "chroma": 444} | options)  # halved chroma loses 6 levels here


def jxl(picture=PHOTO, **options):
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin (the extra jxl) is not installed")
    return encoded(picture, "JXL", **{"lossless": True} | options)


def packed(path):
    """A JPEG as a JPEG XL from which it can be had back."""
    with Image.open(path) as jpeg, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jxl(jpeg)


def dng(picture=PHOTO, orientation=1):
    """The values of a sensor under red, green, green, blue filters, in linear light."""
    pytest.importorskip("rawpy", reason="rawpy (the extra raw) is not installed")
    light, values = (picture / 255) ** 2.2, np.zeros(picture.shape[:2])
    for top, left, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        values[top::2, left::2] = light[top::2, left::2, channel]
    stored, tags = page((values * 60000).astype(np.uint16), photometric=32803)
    tags |= {33421: ("H", (2, 2)), 33422: ("B", (0, 1, 1, 2)), 50706: ("B", (1, 4, 0, 0)), 50717: ("L", (60000,))}
    return tiff((stored, tags | {274: ("H", (orientation,)), 50708: ("B", tuple(b"A camera\0"))}))


MADE = {"a.heic": heic, "a.jxl": jxl, "a.dng": dng}
FORMATS = {"a.heic": "HEIC", "a.jxl": "JPEG XL", "a.dng": "camera RAW"}


def read(data, **options):
    return image.read(io.BytesIO(data), LIMIT, **options)


def apart(levels, picture=PHOTO):
    return float(np.abs(levels.astype(float) - picture).mean())


# Without the extras.


@pytest.mark.parametrize("name", HEADERS)
def test_without_the_extra_a_picture_is_a_failed_row_that_names_it(tmp_path, monkeypatch, name):
    stub.install(monkeypatch.setattr)
    monkeypatch.setattr(kinds, "find_spec", lambda module: None)
    kinds.is_read.cache_clear()
    try:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / name).write_bytes(HEADERS[name])
        save(tmp_path / "in" / "b.jpg", PHOTO)
        save(tmp_path / "style.png", painting())
        render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", QUICK)
    finally:
        kinds.is_read.cache_clear()
    row = rows(tmp_path / "out")[f"{name}.png"]
    extra, package, _ = kinds.EXTRAS[kinds.by_name(name)]
    assert row["status"] == "failed" and row["image"] == name
    assert f"install jaxstyle's extra {extra!r}, which reads it: `pip install {package}`." in row["reason"]


# Names of outputs.


def test_no_two_inputs_share_an_output():
    named = {"a.heic": "a.heic.png", "a.heic.PNG": "a.heic.PNG.png", "a.NEF": "a.NEF.png", "a.jpg": "a.jpg", "a": "a"}
    assert {name: kinds.output_name(name, "keep") for name in named} == named
    parts = ["x", ".", ".heic", ".JXL", ".nef", ".png", ".PNG", ".jpg"]
    names = {"".join(chosen) for n in range(1, 5) for chosen in itertools.product(parts, repeat=n)}
    for folded in (str, str.casefold):
        outputs = {}
        for name in names:
            outputs.setdefault(folded(kinds.output_name(name, "keep")), set()).add(folded(name))
        assert all(len(inputs) == 1 for inputs in outputs.values())


def test_outputs_are_png_unless_the_name_claims_a_format():
    assert kinds.output_format("a.heic", "HEIC") == kinds.output_format("a", "camera RAW") == "PNG"
    assert kinds.output_format("IMG_1.jpg", "HEIC") == "JPEG" and kinds.output_format("a.webp", "JPEG XL") == "WEBP"
    assert kinds.naming_note("IMG_1.jpg", "HEIC") == "is HEIC in spite of its name, and its output is a JPEG"
    assert kinds.naming_note("a.heic", "HEIC") == ""


# With them.


@pytest.mark.parametrize("name", MADE)
def test_a_picture_of_an_extra_is_one_like_others(tmp_path, monkeypatch, name):
    """Read (one of them by a decoder process) within the limit of pixels, and written as PNG."""
    stub.install(monkeypatch.setattr)
    data = MADE[name]()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    save(tmp_path / "style.png", painting())
    render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", QUICK, workers=int(name == "a.heic"),
           output_size="input")  # fmt: skip
    row = rows(tmp_path / "out")[f"{name}.png"]
    assert row["status"] == "done" and row["image"] == name and row["input_size"] == [60, 44]
    with Image.open(tmp_path / "out" / f"{name}.png") as made:
        assert made.format == "PNG" and made.size == (60, 44)
    assert image.probe(tmp_path / "in" / name, LIMIT) == image.Header(60, 44, FORMATS[name], 1)
    for call in (image.probe, image.read):
        with pytest.raises(ImageError, match="claims 60 x 44 pixels, more than 2639"):
            call(tmp_path / "in" / name, 2639)


def test_pixels_are_those_that_were_saved():
    assert apart(read(heic()).levels) < 3
    assert apart(read(jxl()).levels) == 0
    # Demosaicing, and a brightness of LibRaw's own; the halves of a picture tell that nothing was turned.
    made = read(dng()).levels
    assert np.corrcoef(made[..., 1].ravel(), PHOTO[..., 1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_file_cut_short_has_failed(name, part):
    data = MADE[name]()
    with pytest.raises(ImageError):
        read(data[: int(len(data) * part)])


@pytest.mark.parametrize("name", MADE)
def test_garbage_behind_a_header_has_failed(name):
    data = MADE[name]()
    with pytest.raises(ImageError):
        read(data[:20] + bytes(reversed(data[20:])))


def test_transparency_goes_along():
    alpha = np.concatenate([PHOTO, np.full((44, 60, 1), 128, np.uint8)], -1)
    for data in (heic(alpha), jxl(alpha)):
        found = read(data)
        assert found.alpha is not None and abs(int(found.alpha.mean()) - 128) < 3
        assert "transparency composited on white" in found.notes


def test_profiles_are_converted_as_those_of_other_formats(tmp_path):
    """pillow-jxl writes no profile but that of a JPEG that it packs."""
    wide = icc(1.8, (0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
    expected = read(encoded(PHOTO, "PNG", icc_profile=wide)).levels
    assert apart(expected) > 5
    assert apart(read(heic(icc_profile=wide)).levels, expected) < 3
    path = save(tmp_path / "a.jpg", PHOTO, icc_profile=wide, quality=95)
    assert apart(read(packed(path)).levels, image.read(path, LIMIT).levels) < 2


def test_code_points_of_a_heic_are_converted():
    """Those of Display P3, as telephones write them: 12 for its primaries, 13 for sRGB's curve."""
    points = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6}
    found = read(heic(**points, save_nclx_profile=True))
    assert "declared primaries and gamma converted to sRGB" in found.notes
    red = read(heic(np.full((44, 60, 3), (200, 60, 60), np.uint8), **points, save_nclx_profile=True)).levels
    # By the matrix from linear P3 to linear sRGB: 1.2249 -0.2249 0; -0.0421 1.0421 0; -0.0196 -0.0786 1.0983.
    assert np.abs(red.reshape(-1, 3).mean(0) - (217.5, 41.6, 52.3)).max() < 3


def test_orientation_is_applied_once():
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = PHOTO.swapaxes(0, 1)[:, ::-1]
    for data, limit in ((heic(exif=turned.tobytes()), 3), (dng(orientation=6), 60)):
        found = read(data)
        assert (found.header.width, found.header.height) == (44, 60) and apart(found.levels, upright) < limit
        assert image.probe(io.BytesIO(data), LIMIT) == found.header
    assert apart(read(jxl(exif=turned.tobytes())).levels) == 0  # EXIF's does not count in a JPEG XL


def test_a_jpeg_packed_into_a_jpeg_xl_is_upright(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    path = save(tmp_path / "a.jpg", PHOTO, exif=turned, quality=95)
    data = packed(path)
    found = read(data)
    assert found.header == image.probe(io.BytesIO(data), LIMIT) == image.Header(44, 60, "JPEG XL", 1)
    assert apart(found.levels, image.read(path, LIMIT).levels) < 2


@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_is_read_without_decoding_it(container):
    for size in (
        (1, 1),
        (8, 16),
        (256, 256),
        (264, 8),
        (300, 200),
        (640, 480),
        (333, 777),
        (5000, 3),
        (1, 600),
        (160, 90),
    ):
        data = jxl(np.zeros((*size[::-1], 3), np.uint8), effort=1, use_container=container)
        assert jpegxl_size(io.BytesIO(data)) == size


def test_a_heic_of_more_bits_says_that_they_are_read_as_8():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif (the extra heif) is not installed")
    made, file = heif.from_bytes("RGB;16", (60, 44), (PHOTO.astype(np.uint16) * 257).tobytes()), io.BytesIO()
    made.save(file, quality=95, chroma=444)
    found = read(file.getvalue())
    assert "10 bits a channel read as 8" in found.notes and apart(found.levels) < 4


def test_a_style_may_be_a_heic(tmp_path):
    path = tmp_path / "style.heic"
    path.write_bytes(heic())
    with decoders_for(QUICK) as decoders:
        assert decoders.read(path, 32, full_alpha=False).levels.shape == (23, 32, 3)
