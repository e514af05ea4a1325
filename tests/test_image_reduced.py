"""Pictures that are read at a working size: within rounding of shrinking in float32, whatever kind they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from fuzz import ADOBE, LIMIT
from pictures import encoded, icc, photo
from PIL import Image
from test_image import ORIENTATION

from jaxstyle.data import image
from jaxstyle.errors import ImageError

SIZE = 40
PHOTO = photo(150, 110)
GRAY = PHOTO[..., 0]
ALPHA = np.linspace(0, 255, GRAY.size).astype(np.uint8).reshape(GRAY.shape)


def read(data: bytes, *arguments) -> image.Picture:
    return image.read(io.BytesIO(data), LIMIT, *arguments)


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif


KINDS = {
    "PNG": encoded(PHOTO, "PNG"),
    "gray": encoded(GRAY, "PNG"),
    "black and white": encoded(Image.fromarray(GRAY).convert("1"), "PNG"),
    "palette": encoded(Image.fromarray(PHOTO).quantize(64), "PNG"),
    "RGBA": encoded(np.dstack([PHOTO, ALPHA]), "PNG"),
    "RGBA, Adobe RGB": encoded(np.dstack([PHOTO, ALPHA]), "PNG", icc_profile=icc(2.2, *ADOBE)),
    "gray with alpha": encoded(np.dstack([GRAY, ALPHA]), "PNG"),
    "JPEG": encoded(PHOTO, "JPEG"),
    "JPEG, CMYK": encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    "JPEG, turned": encoded(PHOTO, "JPEG", exif=orientation(6)),
    "TIFF, turned": encoded(PHOTO, "TIFF", tiffinfo={ORIENTATION: 8}),
    "PNG, turned": encoded(PHOTO, "PNG", exif=orientation(7)),
    "linear light": encoded(PHOTO, "PNG", icc_profile=icc(1.0, *ADOBE)),
    "GIF": encoded(PHOTO, "GIF"),
    "WEBP": encoded(np.dstack([PHOTO, ALPHA]), "WEBP"),
    "16 bit": encoded(GRAY.astype(np.uint16) * 250, "PNG"),
    "16 bit with a transparent value": encoded((GRAY // 50).astype(np.uint16) * 12000, "PNG", transparency=24000),
    "float": encoded(GRAY.astype(np.float32) / 255, "TIFF"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_reduced_picture_is_the_whole_one_shrunk_in_float32(kind):
    whole, reduced = read(KINDS[kind]), read(KINDS[kind], SIZE)
    assert reduced.header == whole.header == image.probe(io.BytesIO(KINDS[kind]), LIMIT)
    assert reduced.notes == whole.notes
    width, height = image.work_size(whole.header.width, whole.header.height, SIZE)
    deep = kind.startswith(("16 bit", "float"))
    assert reduced.levels.shape == (height, width, 3)
    assert reduced.levels.dtype == whole.levels.dtype == (np.float32 if deep else np.uint8)
    difference = 255 * np.abs(reduced.pixels - image.resize(whole.pixels, width, height))
    # Two roundings to a level; Lanczos's overshoot is clipped after each direction, most where all pixels are extremes.
    mean, most = (1e-4, 1e-3) if deep else (1, 30) if kind == "black and white" else (0.5, 12)
    assert difference.mean() <= mean and difference.max() <= most
    assert (reduced.alpha is None) == (whole.alpha is None)
    if whole.alpha is not None:
        assert reduced.alpha.shape == (height, width) and reduced.alpha.dtype == np.uint8
        shrunk = 255 * image.resize(whole.alpha.astype(np.float32) / 255, width, height)
        assert np.abs(reduced.alpha - shrunk).mean() <= 0.6
        assert np.array_equal(read(KINDS[kind], SIZE, True).alpha, whole.alpha)


def test_a_size_that_the_picture_does_not_exceed_changes_nothing():
    for size in (150, 151, 10_000):
        assert np.array_equal(read(KINDS["RGBA"], size).levels, read(KINDS["RGBA"]).levels)


def test_the_colour_of_transparent_pixels_does_not_bleed():
    """Blue at alpha 0 beside opaque red would make purple."""
    stripes = np.zeros((120, 120, 4), np.uint8)
    stripes[:, ::2] = (255, 0, 0, 255)
    stripes[:, 1::2] = (0, 0, 255, 0)
    reduced = read(encoded(stripes, "PNG"), SIZE)
    inner = reduced.levels[5:-5, 5:-5].astype(int)
    assert np.abs(inner - [255, 127.5, 127.5]).max() <= 3 and np.abs(reduced.alpha[5:-5, 5:-5] - 127.5).max() <= 3


def test_a_profile_is_converted_before_pixels_are_averaged():
    """Black and white stay what they are in every profile; their mean, 128, would become 188 from linear light."""
    chequered = (255 * (np.indices((120, 120)).sum(0) % 2)).astype(np.uint8)
    reduced = read(encoded(np.dstack([chequered] * 3), "PNG", icc_profile=icc(1.0, *ADOBE)), SIZE)
    assert np.abs(reduced.levels[5:-5, 5:-5] - 127.5).max() <= 3


@pytest.fixture
def decoded_at(monkeypatch) -> list[tuple[int, int]]:
    """Width and height of every JPEG that is decoded."""
    sizes = []
    decode = simplejpeg.decode_jpeg

    def noting(*arguments, **options):
        made = decode(*arguments, **options)
        sizes.append(made.shape[1::-1])
        return made

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noting)
    return sizes


@pytest.mark.parametrize(
    ("width", "height", "decoded"),
    [
        (6 * SIZE, 160, (120, 80)),
        (6 * SIZE - 1, 160, (239, 160)),
        (501, 502, (251, 251)),  # which of its sides is the longer one, the halved picture no longer tells
        (160 * SIZE, 3, (3200, 2)),  # a sixteenth would do for the working size
        (500, 1, (250, 1)),
    ],
)
@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_of_six_times_the_working_size_is_decoded_at_half(decoded_at, width, height, decoded, turn):
    data = encoded(photo(width, height), "JPEG", quality=95, exif=orientation(turn))
    reduced = read(data, SIZE)
    assert set(decoded_at) == {decoded}
    decoded_at.clear()
    whole = read(data)
    assert set(decoded_at) == {(width, height)}
    assert reduced.header == whole.header
    assert (reduced.header.width, reduced.header.height) == ((height, width) if turn == 6 else (width, height))
    size = image.work_size(reduced.header.width, reduced.header.height, SIZE)
    assert reduced.levels.shape == (*size[::-1], 3)
    assert 255 * np.abs(reduced.pixels - image.resize(whole.pixels, *size)).mean() <= 1


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_an_error_also_at_half_its_size(decoded_at, progressive):
    data = encoded(photo(300, 200), "JPEG", progressive=progressive)
    assert read(data, SIZE).levels.shape == (27, 40, 3) and decoded_at == [(150, 100)]
    for length in (len(data) // 4, len(data) // 2, len(data) - 100, len(data) - 3):
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(ImageError, match=r"end marker|libjpeg says|lacks the scans"):
                read(data[:length] + end, SIZE)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}], ids=str)
def test_a_jpeg_has_the_pixels_that_pillow_decodes(mode, options):
    data = encoded(Image.fromarray(PHOTO).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as whole:
        assert np.array_equal(read(data).levels, np.asarray(whole.convert("RGB")))
    with Image.open(io.BytesIO(data)) as half:
        half.draft(None, (75, 55))
        shrunk = half.convert("RGB").resize((12, 9), Image.Resampling.LANCZOS)
        assert np.abs(read(data, 12).levels.astype(int) - np.asarray(shrunk)).max() <= 1  # CMYK differs by a rounding


def test_a_large_jpeg_keeps_its_pixels_when_the_next_one_is_decoded():
    """Their memory is used again."""
    first, second = (encoded(photo(1400, 1100, seed), "JPEG") for seed in (1, 2))
    shown = read(first)
    before = shown.levels.copy()
    assert not np.array_equal(read(second).levels, before)
    assert np.array_equal(shown.levels, before)
