"""Broken and hostile files: an ImageError, or a whole picture; never another exception, half a picture or a program."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import png
from PIL import Image

from jaxstyle.data import image
from jaxstyle.errors import ImageError

LIMIT = 1_000_000
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
PROPERTY = settings(
    derandomize=True, database=None, deadline=None, max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture
def look(tmp_path):
    """Probes and reads bytes: a picture, or None where both or the second say ImageError."""

    def look(data: bytes, name: str = "file") -> image.Picture | None:
        path = tmp_path / name
        path.write_bytes(data)
        try:
            header = image.probe(path, LIMIT)
        except ImageError:
            with pytest.raises(ImageError):
                image.read(path, LIMIT)
            return None
        try:
            picture = image.read(path, LIMIT)
        except ImageError:
            return None
        assert picture.header == header
        assert np.isfinite(picture.pixels).all() and 0 <= picture.pixels.min() <= picture.pixels.max() <= 1
        return picture

    return look


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


SMALL = [
    ihdr(4, 3),
    (b"gAMA", struct.pack(">I", 45455)),
    (b"tRNS", bytes(6)),
    (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    (b"zTXt", b"Title\0\0" + zlib.compress(b"a title")),
    (b"iCCP", b"name\0\0" + zlib.compress(b"no profile")),
    (b"IDAT", zlib.compress((b"\0\1" + bytes(11)) * 3)),
    (b"IEND", b""),
]
"""A whole picture of 4 x 3 pixels with a chunk of every kind that is looked at."""


def encoded(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format, **options)
    return buffer.getvalue()


OTHERS = {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1])] * 2}
TRUNCATED = {
    "PNG": encoded("PNG"),
    "APNG": encoded("PNG", **OTHERS),
    "JPEG": encoded("JPEG"),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "GIF": encoded("GIF", **OTHERS),
    "TIFF": encoded("TIFF", **OTHERS),
    "deflated TIFF": encoded("TIFF", compression="tiff_deflate"),
    "WEBP": encoded("WEBP"),
    "BMP": encoded("BMP"),
    "PPM": encoded("PPM"),
    "JPEG2000": encoded("JPEG2000"),
}


@pytest.mark.parametrize("kind", TRUNCATED)
def test_a_truncated_file_is_an_error_or_whole(look, kind):
    data = TRUNCATED[kind]
    whole = look(data)
    assert whole is not None
    refused = 0
    for length in {*range(0, len(data), max(1, len(data) // 120)), *range(len(data) - 8, len(data))}:
        picture = look(data[:length])
        refused += picture is None
        assert picture is None or np.array_equal(picture.pixels, whole.pixels)
    assert refused >= (30 if kind in ("APNG", "GIF", "TIFF") else 120)  # later frames may be cut


def test_a_png_cut_in_a_chunk_behind_its_pixels_is_an_error(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)).save(buffer, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(buffer.getvalue()[:-12] + struct.pack(">I4s", 1000, b"tEXt") + b"key\0" + b"x" * 50)
    with pytest.raises(ImageError, match="ends within a chunk"):
        image.read(path, 10**6)


@pytest.mark.parametrize("data", [b"", b"Dear diary,\n" * 9, b"\0" * 500])
def test_what_is_no_picture_is_called_so(tmp_path, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for function in (image.probe, image.read):
        with pytest.raises(image.NotAPicture, match="no picture of a known format" if data else "is empty"):
            function(path, LIMIT)


def test_a_folder_or_a_missing_file_is_an_image_error(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ImageError, match="cannot be opened"):
            image.read(path, LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        png(ihdr(20_000, 20_000), (b"IDAT", b""), (b"IEND", b"")),
        png(ihdr(2**31 - 1, 2**31 - 1), (b"IDAT", b""), (b"IEND", b"")),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        b"P6 30000 30000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["PNG 20000 x 20000", "PNG of the largest", "GIF 65535 x 65535", "PPM", "BMP"],
)
def test_a_header_that_claims_too_much_is_refused_without_decoding(tmp_path, monkeypatch, data):
    path = tmp_path / "bomb"
    path.write_bytes(data)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for function in (image.probe, image.read):
        with pytest.raises(ImageError):
            function(path, LIMIT)


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path):
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    assert image.read(tmp_path / "a.png", 110).header.width == 11
    for look in (image.probe, image.read):
        with pytest.raises(ImageError, match="claims 11 x 10 pixels, more than 109"):
            look(tmp_path / "a.png", 109)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_chunk_that_inflates_enormously_is_survived(look, kind):
    bomb = zlib.compress(bytes(80 << 20), 9)  # Pillow stops at 1 MiB a chunk
    head = {b"zTXt": b"Comment\0\0", b"iCCP": b"name\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0"}[kind]
    picture = look(png(SMALL[0], (kind, head + bomb), *SMALL[-2:]))
    assert picture is None or (picture.levels <= 1).all()


def test_many_small_text_chunks_are_survived(look):
    chunk = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000)))
    picture = look(png(SMALL[0], *[chunk] * 100, *SMALL[-2:]))  # 90 MB; Pillow stops at 64 MiB
    assert picture is None or (picture.levels <= 1).all()


@pytest.mark.parametrize("name", ["a.eps", "a.jpg", "a.png"])
def test_postscript_is_never_run(look, tmp_path, monkeypatch, name):
    canary = tmp_path / "canary"
    for program in ("gs", "gswin64c"):
        script = tmp_path / program
        script.write_text(f"#!/bin/sh\ntouch {canary}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    assert look(postscript, name) is None
    assert not canary.exists()


@PROPERTY
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", *(data[:24] for data in TRUNCATED.values())]))
def test_random_bytes_raise_nothing_but_image_errors(look, data, start):
    look(start + data)


@PROPERTY
@given(
    which=st.integers(0, len(SMALL) - 1),
    change=st.tuples(st.integers(0, 60), st.integers(0, 60), st.binary(max_size=8)),
    repeat=st.integers(1, 2),
)
def test_a_png_with_a_changed_chunk_raises_nothing_but_image_errors(look, which, change, repeat):
    """The chunks' checksums are right, so the decoder looks at what was changed."""
    start, length, new = change
    name, data = SMALL[which]
    chunks = [*SMALL[:which], *[(name, data[:start] + new + data[start + length :])] * repeat, *SMALL[which + 1 :]]
    look(png(*chunks))


@PROPERTY
@given(kind=st.sampled_from(sorted(TRUNCATED)), place=st.floats(0, 1), new=st.binary(min_size=1, max_size=6))
def test_changed_bytes_raise_nothing_but_image_errors(look, kind, place, new):
    data = TRUNCATED[kind]
    start = int(place**3 * len(data))  # mostly in the headers
    look(data[:start] + new + data[start + len(new) :])


def test_the_small_png_of_these_tests_is_whole(look):
    picture = look(png(*SMALL))
    assert picture is not None and (picture.header.width, picture.header.height) == (3, 4)  # turned
    assert (picture.pixels[1:] == 1).all() and (picture.alpha[1:] == 0).all() and (picture.alpha[0] == 255).all()


@pytest.mark.parametrize(
    "chunks",
    [SMALL, [SMALL[0], *SMALL[-2:]], [SMALL[0], SMALL[-2], SMALL[3], SMALL[-1]]],
    ids=["EXIF before the pixels", "no EXIF", "EXIF behind the pixels"],
)
def test_probing_a_png_does_not_decode_it(tmp_path, monkeypatch, chunks):
    path = tmp_path / "a.png"
    path.write_bytes(png(*chunks))
    turned = SMALL[3] in chunks
    whole = image.read(path, LIMIT).header
    assert (whole.width, whole.height) == ((3, 4) if turned else (4, 3))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    header = image.probe(path, LIMIT)
    late = turned and chunks is not SMALL  # only `read` comes upon it
    assert (header.width, header.height) == ((4, 3) if late else (whole.width, whole.height))


def test_damaged_exif_does_not_spoil_the_picture(look):
    picture = look(encoded("PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert picture is not None and np.allclose(picture.pixels * 255, NOISE, atol=1e-3)  # float32


def test_a_float_picture_without_a_finite_value_is_refused(tmp_path):
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="finite"):
        image.read(tmp_path / "a.tif", LIMIT)


def test_what_pillow_warns_of_becomes_a_note(look):
    picture = look(png(SMALL[0], (b"acTL", bytes(8)), *SMALL[-2:]))  # an animation of no frames
    assert picture is not None and (picture.levels <= 1).all()
    assert any("warning" in note and "APNG" in note for note in picture.notes)
