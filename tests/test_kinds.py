"""What a user calls a picture, by name or content: read, or failed with a remedy; what nobody does is skipped."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, page, photo, tiff

from jaxstyle.data import image
from jaxstyle.data.pictures import kinds
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import Input
from jaxstyle.decode import worker
from jaxstyle.errors import ImageError
from jaxstyle.planning.plan import Job, _judge, skipped_kind
from jaxstyle.settings import RenderSettings

LIMIT = 10**6
PHOTO = photo(20, 16)


@pytest.fixture(autouse=True)
def no_extras(monkeypatch):
    """As if no package of `kinds.EXTRAS` were installed."""
    monkeypatch.setattr(kinds, "is_read", lambda kind: kind in kinds.FORMATS)


def judged(folder: Path, name: str, data: bytes) -> Job | Row:
    """What the plan makes of a file."""
    path = folder / name
    path.write_bytes(data)
    return _judge(Input(name, path), worker.probe(path, LIMIT), RenderSettings())


JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")
TEXT = b"some text, nothing else\n" * 20
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)


@pytest.mark.parametrize(
    "name",
    ["IMG_1.HEIC", "a.heif", "a.jxl", "a.dng", "a.NEF", "a.CR3", "a.arw", "a.psd", "a.svg", "a.exr", "a.tga", "a.jxr",
     "a.hdr", "a.jpg", "a.tiff", "a.avif", "a.ico", "a.xcf"],
)  # fmt: skip
def test_what_is_called_a_picture_and_cannot_be_read_has_failed(tmp_path, name):
    row = judged(tmp_path, name, TEXT)
    assert isinstance(row, Row) and row.status == "failed"
    assert name.endswith((".jpg", ".tiff", ".avif")) or "which is not read. " in row.reason
    assert any(word in row.reason for word in ("Convert", "Develop", "Export", "no picture of a known format"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1" + bytes(500), "HEIC"),
        (b"\xff\x0a" + bytes(500), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(500), "JPEG XL"),
        (b"8BPS\0\1" + bytes(500), "a layered file of an editor"),
        (b"\x76\x2f\x31\x01" + bytes(500), "OpenEXR"),
        (b"\0\0\0\x18ftypcrx " + bytes(500), "camera RAW"),
        (b"FUJIFILMCCD-RAW " + bytes(500), "camera RAW"),
        (b"IIU\0" + bytes(500), "camera RAW"),
        (b"II\xbc\x01" + bytes(500), "JPEG XR"),
        (b"#?RADIANCE\n" + bytes(500), "Radiance HDR"),
        (b"qoif" + bytes(500), "a picture format that is not read"),
    ],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.bin", "a"])
def test_what_is_a_picture_by_content_has_failed_under_any_name(tmp_path, name, data, kind):
    row = judged(tmp_path, name, data)
    assert row.status == "failed" and row.reason.startswith(f"is {kind}, which is not read. ")


@pytest.mark.parametrize(
    "start", [JPEG[:30], PNG[:20], b"II*\0\x08\0\0\0\0\0", b"GIF89a\1", b"RIFF\0\0\0\0WEBPxxxx", b"\0\0\0 ftypavif"]
)
def test_a_damaged_picture_has_failed_under_any_name(tmp_path, start):
    assert judged(tmp_path, "data.bin", start + bytes(40)).status == "failed"


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.json", "a.xmp", "a.aae", "Thumbs.db", "a.zip", "a.mov", "a.mp4", "a.html", "README", "a.h5", "a.mpg"],
)
def test_what_nobody_calls_a_picture_is_skipped_and_counted_by_kind(tmp_path, name):
    row = judged(tmp_path, name, TEXT)
    assert row.status == "skipped" and row.reason.startswith("not a picture: ")
    assert skipped_kind(row) == (name[name.rindex(".") :] if "." in name else "without an extension")
    assert skipped_kind(Row("a", "skipped", "hidden file")) == "hidden file"


def test_an_unsupported_tiff_is_called_one(tmp_path):
    row = judged(tmp_path, "a.tif", tiff(page(np.zeros((4, 5, 3), np.float32))))
    assert row.status == "failed"
    assert row.reason.startswith("is a TIFF that is damaged, or of a kind that is not read. ")


# RAW in a TIFF's coat.

THUMBNAIL, SENSOR = page(photo(8, 6), subfile=1), page(np.zeros((30, 40), np.uint16), photometric=32803)
FULL = page(photo(40, 30))
FULL_TIFF = tiff(FULL)
RAWS = {
    "NEF": tiff(THUMBNAIL, below=(SENSOR,)),
    "CR2": tiff(FULL, THUMBNAIL, SENSOR),
    "sensor's values first": tiff(SENSOR),
    "CR2 by its magic": FULL_TIFF[:8] + b"CR\2\0" + FULL_TIFF[12:],
    "colour filters": tiff((FULL[0], FULL[1] | {33422: ("B", (0, 1, 1, 2))})),
    "DNG": tiff((FULL[0], FULL[1] | {50706: ("B", (1, 4, 0, 0))})),
    "linear DNG": tiff(THUMBNAIL, below=(page(photo(40, 30), photometric=34892),)),
    "NEF of a big-endian camera": tiff(THUMBNAIL, below=(SENSOR,), order=">"),
}


@pytest.mark.parametrize("kind", RAWS)
@pytest.mark.parametrize("name", ["a.nef", "a.tif", "a.bin"])
def test_camera_raw_is_refused_and_its_thumbnail_never_rendered(tmp_path, kind, name):
    row = judged(tmp_path, name, RAWS[kind])
    assert row.status == "failed" and "RAW" in row.reason and kinds.DEVELOP in row.reason
    with pytest.raises(ImageError, match="RAW"):
        image.read(tmp_path / name, LIMIT)


@pytest.mark.parametrize("data", [JPEG, tiff(page(photo(8, 6)))], ids=["JPEG", "TIFF"])
def test_whatever_has_the_name_of_raw_is_refused(tmp_path, data):
    """No picture may be written under such a name."""
    for name in ("a.NEF", "b.dng", "c.cr2"):
        row = judged(tmp_path, name, data)
        assert row.status == "failed" and "camera RAW by its name" in row.reason and kinds.DEVELOP in row.reason


def test_a_reduced_picture_alone_is_refused_and_before_a_full_one_passed_over(tmp_path):
    assert "reduced picture only" in judged(tmp_path, "a.tif", tiff(THUMBNAIL)).reason
    assert "SubIFD" in judged(tmp_path, "b.tif", tiff(page(photo(8, 6)), below=(FULL,))).reason
    path = tmp_path / "c.tif"
    path.write_bytes(tiff(THUMBNAIL, FULL))
    picture = image.read(path, LIMIT)
    assert np.array_equal(picture.levels, FULL[0]) and picture.header == image.probe(path, LIMIT)
    assert "picture 2 of 2: those before it are reduced ones" in picture.notes
    path.write_bytes(tiff(FULL, page(photo(20, 15), subfile=1), page(photo(10, 8), subfile=1)))  # a pyramid
    assert np.array_equal(image.read(path, LIMIT).levels, FULL[0])


# What an output is called, and is.


@pytest.mark.parametrize(
    ("name", "data", "starts", "note"),
    [
        ("a.ppm", encoded(PHOTO, "PPM"), b"P6", ""),
        ("a.pnm", encoded(PHOTO, "PPM"), b"P6", ""),
        ("a.pgm", encoded(PHOTO[..., 0], "PPM"), b"P5", "the output is gray"),
        ("a.pgm", encoded(PHOTO, "PPM"), b"P5", "the output is gray"),
        ("a.pfm", encoded((PHOTO[..., 0] / 255).astype(np.float32), "PPM"), b"Pf", "the output is gray"),
        ("a.jpg", JPEG, b"\xff\xd8", ""),
        ("a.mpo", JPEG, b"\xff\xd8", ""),
        ("a.jpg", PNG, b"\x89PNG", "is a PNG in spite of its name"),
        ("a.pgm", PNG, b"\x89PNG", "is a PNG in spite of its name"),
        ("a.dat", PNG, b"\x89PNG", ""),
    ],
)
def test_an_output_is_what_its_name_says_or_a_note_says_what_it_is(tmp_path, name, data, starts, note):
    job = judged(tmp_path, name, data)
    assert note in job.note and bool(note) == bool(job.note)
    made = image.encode(PHOTO / 255, None, job.header.format, 95, name)
    assert made.startswith(starts)
    again = image.read(io.BytesIO(made), LIMIT)
    if starts in (b"P5", b"Pf"):
        expected = PHOTO / 255 @ np.array([0.299, 0.587, 0.114])
        assert np.abs(again.pixels - expected[..., None]).max() <= 0.51 / 255
    elif starts != b"\xff\xd8":
        assert np.array_equal(again.levels, PHOTO)


def test_names_that_promise_what_no_output_can_be_have_failed(tmp_path):
    bitmap = encoded(np.asarray(PHOTO[..., 0] > 100), "PPM")
    assert "a .pbm holds black and white only" in judged(tmp_path, "a.pbm", bitmap).reason
    assert "is HEIC by its name, and a JPEG by its content. Rename it." in judged(tmp_path, "a.heic", JPEG).reason
    assert judged(tmp_path, "b.psd", PNG).status == "failed"


def test_extensions_have_one_meaning():
    names = [name for names in kinds._OWN.values() for name in names.split()]
    names += [name for names, _ in kinds._FOREIGN.values() for name in names.split()]
    assert len(names) == len(set(names)) and all(name == name.lower() for name in names)
    assert set(kinds._OWN) == set(kinds.FORMATS) - {"MPO"}
