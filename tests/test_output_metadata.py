"""`--metadata`: the EXIF of a photograph in its output, without what describes the old file, and the place if asked."""

import io

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.data import image
from jaxstyle.data.pictures.metadata import MOST_BYTES
from jaxstyle.engine.pipeline import render

LANE = (32, 24)
CAMERA, GPS, ORIENTATION = 0x8769, 0x8825, 0x0112
PLACE = {1: "N", 2: (48.0, 51.0, 30.0)}
ABOUT = {0x010E: "a bridge", 0x010F: "Maker", 0x8298: "someone"}
EXPOSED = {0x829D: 2.8, 0x9003: "2020:01:02 03:04:05"}
WRITTEN = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def exif(**more):
    made = Image.Exif()
    made.update(ABOUT | {ORIENTATION: 6, CAMERA: EXPOSED | {0x927C: b"maker's own", 0xA001: 2, 0xA002: 99}, GPS: PLACE})
    made.update({int(tag[1:], 16): value for tag, value in more.items()})
    return made.tobytes()


def stored(data, format="JPEG"):
    file = io.BytesIO()
    Image.fromarray(photo(*LANE)).save(file, format, exif=data)
    return file.getvalue()


def told(data):
    """What Pillow reads: (about, camera, place, orientation)."""
    with Image.open(io.BytesIO(data)) as picture:
        found = picture.getexif()
        about = {tag: found[tag] for tag in ABOUT if tag in found}
        return about, found.get_ifd(CAMERA), found.get_ifd(GPS), found.get(ORIENTATION), found.get_ifd(0x0201)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("metadata", ["none", "copy", "copy-with-gps"])
def test_what_describes_the_photograph_is_carried_and_the_place_if_asked(format, metadata):
    data = stored(exif(), format)
    picture = image.read(io.BytesIO(data), 10**6, metadata=metadata)
    assert picture.notes == image.read(io.BytesIO(data), 10**6).notes
    if metadata == "none":
        assert picture.exif == b""
        return
    for bits, output in [(8, one) for one in WRITTEN if one not in image.absent()] + [(16, "PNG"), (16, "TIFF")]:
        made = image.encode(picture.pixels, None, output, 95, bits=bits, exif=picture.exif)
        about, camera, place, orientation, _ = told(made)
        assert about == ABOUT and camera == EXPOSED and place == (PLACE if metadata == "copy-with-gps" else {})
        assert orientation in (1, None if output == "AVIF" else 1)
        if output == "PNG":
            assert made[made.index(b"eXIf") + 4 :][:2] in (b"MM", b"II")
        again = image.read(io.BytesIO(made), 10**6)
        assert again.levels.shape == picture.levels.shape and "orientation applied" not in again.notes
    for output in ("BMP", "GIF", "PPM"):
        plain = image.encode(picture.pixels, None, output, 95)
        assert image.encode(picture.pixels, None, output, 95, exif=picture.exif) == plain


def test_a_file_without_exif_gives_none_and_a_place_alone_is_nothing_to_copy():
    assert image.read(io.BytesIO(stored(b"")), 10**6, metadata="copy").exif == b""
    only = Image.Exif()
    only[GPS] = PLACE
    assert image.read(io.BytesIO(stored(only.tobytes())), 10**6, metadata="copy").exif == b""


def test_damaged_and_large_exif_is_left_out_with_a_note(monkeypatch):
    large = image.read(io.BytesIO(stored(exif(x010E="x" * (MOST_BYTES + 1)), "PNG")), 10**6, metadata="copy")
    assert large.exif == b"" and any(note.startswith("metadata left out (") for note in large.notes)
    header = b"Exif\0\0MM\0*\0\0\0\x08"
    for damaged in (b"Exif\0\0nonsense", header + b"\xff\xff" + bytes(20), exif()[:60]):
        picture = image.read(io.BytesIO(stored(damaged)), 10**6, metadata="copy")
        assert picture.levels.shape[2] == 3

    def broken(self):
        raise ValueError("cannot be written")

    monkeypatch.setattr(Image.Exif, "tobytes", lambda self, offset=8: broken(self))
    data = stored(b"Exif\0\0" + exif_bytes()[6:])
    picture = image.read(io.BytesIO(data), 10**6, metadata="copy")
    assert picture.exif == b"" and "metadata left out (ValueError: cannot be written)" in picture.notes


def exif_bytes(_made=exif()):  # noqa: B008
    return _made


@pytest.mark.parametrize("workers", [0, 1])
def test_runs_copy_it_also_from_a_decoder_process(tmp_path, monkeypatch, workers):
    stub.install(monkeypatch.setattr)
    save(tmp_path / "style.png", painting())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(stored(exif()))
    options = {"workers": workers, "output_format": "png", "metadata": "copy"}
    assert render(tmp_path / "in", tmp_path / "style.png", tmp_path / "out", QUICK, **options).done == 1
    about, camera, place, orientation, _ = told((tmp_path / "out" / "a.jpg.png").read_bytes())
    assert (about, camera, place, orientation) == (ABOUT, EXPOSED, {}, 1)
    assert Image.open(tmp_path / "out" / "a.jpg.png").size == LANE[::-1]  # turned once
    assert rows(tmp_path / "out")["a.jpg.png"]["notes"][0] == "orientation applied"
    if not workers:
        render(tmp_path / "in", tmp_path / "style.png", tmp_path / "plain", QUICK, workers=0, output_format="png")
        assert told((tmp_path / "plain" / "a.jpg.png").read_bytes())[:2] == ({}, {})


def test_pixels_are_the_same_with_and_without():
    data = stored(exif())
    one, other = (image.read(io.BytesIO(data), 10**6, metadata=chosen) for chosen in ("none", "copy"))
    np.testing.assert_array_equal(one.levels, other.levels)
