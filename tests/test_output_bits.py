"""`--bits 16`: outputs keep the steps between 8-bit levels, and are read again with all their bits."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.data import audit, image
from jaxstyle.data.pictures import complete, png16, tiff16
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import SettingsError
from jaxstyle.settings import RenderSettings

LANE = (32, 24)


def decoded(data):
    """The samples of a PNG of 16 bits, H x W x channels, as the specification says, and the filters' numbers."""
    chunks, at = {}, 8
    while at < len(data):
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        chunks[name] = data[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 16 and colour in (2, 6) and rest == [0, 0, 0]
    pixel = {2: 6, 6: 8}[colour]
    length, raw = width * pixel, zlib.decompress(chunks[b"IDAT"])
    above, rows, filters = [0] * (length + pixel), [], []
    for y in range(height):
        line = raw[y * (length + 1) : (y + 1) * (length + 1)]
        filters.append(line[0])
        row = [0] * (length + pixel)
        for x in range(length):
            a, b, c = row[x], above[x + pixel], above[x]
            near = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[x + pixel] = (line[1 + x] + {1: a, 2: b, 4: near}[line[0]]) & 255
        above = row
        rows.append(bytes(row[pixel:]))
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, pixel // 2), filters


def smooth(width, height):
    """A slope of fewer than two 8-bit levels below a photograph and two equal rows of noise, for all filters."""
    slope = np.linspace(0.5, 0.506, width * height * 3).reshape(height, width, 3)
    slope[: height // 2] = photo(width, height // 2) / 255
    slope[height // 2 - 2 : height // 2] = np.random.default_rng(0).random((width, 3))
    return slope.astype(np.float32)


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (40, 30)])
def test_a_written_png_has_the_nearest_of_65536_values(size, with_alpha):
    pixels = smooth(*size) if size == (40, 30) else np.full((*size[::-1], 3), [0.1, 0.5, 0.9], np.float32)
    alpha = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size[::-1]) if with_alpha else None
    data = image.encode(pixels, alpha, "PNG", 0, bits=16)
    samples, filters = decoded(data)
    wanted = np.rint(pixels.astype(float) * 65535)
    np.testing.assert_array_equal(samples[..., :3], wanted)
    if with_alpha:
        np.testing.assert_array_equal(samples[..., 3], np.rint(alpha.astype(float) * 65535))
    if size == (40, 30):
        assert set(filters) == ({1, 4} if with_alpha else {1, 2, 4})
    assert complete.problem(io.BytesIO(data), "PNG") == ""
    with Image.open(io.BytesIO(data)) as picture:  # Pillow has the high bytes
        np.testing.assert_array_equal(np.asarray(picture)[..., :3], wanted.astype(int) >> 8)
    if not with_alpha:
        np.testing.assert_array_equal(np.rint(image.read(io.BytesIO(data), 10**6).pixels.astype(float) * 65535), wanted)


def test_values_outside_are_clipped_and_chunks_stand_before_the_pixels():
    pixels = np.array([[[-1, 0.5, 2]]], np.float32)
    data = png16.encode(pixels, None, [(b"sRGB", b"\0")])
    samples, _ = decoded(data)
    assert samples.tolist() == [[[0, 32768, 65535]]] and data.index(b"IHDR") < data.index(b"sRGB") < data.index(b"IDAT")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["srgb"] == 0


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (40, 30)])
def test_a_written_tiff_has_the_values_of_the_png_as_libtiff_reads_it(size, with_alpha, monkeypatch):
    monkeypatch.setattr(tiff16, "STRIP", 40 * 8 * 7)  # strips of 7 rows, or 9 without alpha; the last one is shorter
    pixels = smooth(*size) if size == (40, 30) else np.full((*size[::-1], 3), [-1, 0.5, 2], np.float32)
    alpha = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size[::-1]) if with_alpha else None
    data = image.encode(pixels, alpha, "TIFF", 0, bits=16)
    wanted, _ = decoded(image.encode(pixels, alpha, "PNG", 0, bits=16))
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(samples[..., [2, 1, 0, 3][: samples.shape[2]]], wanted)
    assert complete.problem(io.BytesIO(data), "TIFF") == "" and samples.dtype == np.uint16
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == ("RGBA" if with_alpha else "RGB") and len(picture.tag_v2[273]) == -(
            -size[1] // (7 if with_alpha else 9)
        )
        assert (picture.tag_v2.get(338), picture.tag_v2[339]) == ((2,) if with_alpha else None, (1,) * samples.shape[2])
        if with_alpha:
            np.testing.assert_array_equal(np.asarray(picture), wanted >> 8)
    if not with_alpha:
        read = image.read(io.BytesIO(data), 10**6).pixels
        np.testing.assert_array_equal(np.rint(read.astype(float) * 65535), wanted)


@pytest.fixture
def place(tmp_path, devices):
    """A photograph of 16 bits with fewer than two 8-bit levels, and one of 8 bits with alpha."""
    save(tmp_path / "style.png", painting())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "deep.png").write_bytes(png16.encode(smooth(*LANE), None))
    clear = np.dstack([photo(*LANE), np.full(LANE[::-1], 128, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "in" / "clear.png")
    return tmp_path


def again(place, output="out", **changes):
    return render(place / "in", place / "style.png", place / output, QUICK, **{"output_format": "png"} | changes)


def test_outputs_are_of_the_computed_values_and_not_of_their_8_bit_rounding(place):
    assert again(place, bits=16).done == 2 and audit.verify(place / "out").ok
    samples, _ = decoded((place / "out" / "deep.png").read_bytes())
    wanted = 1 - smooth(*LANE).astype(float)  # the stub's result
    assert np.abs(samples / 65535 - wanted).max() <= 1.5 / 65535  # the input was rounded, and the output
    assert len(np.unique(samples[14:22])) > 50
    samples, _ = decoded((place / "out" / "clear.png").read_bytes())
    assert samples.shape[2] == 4 and (samples[..., 3] == 128 * 257).all()


def test_runs_resume_go_on_and_start_from_outputs_of_16_bits(place, devices):
    again(place, bits=16)
    assert again(place, bits=16).rendered == 0
    again(place, bits=16, evaluations=14, existing="continue")
    again(place, "next", bits=16, init=str(place / "out"))
    for device in devices[1:]:
        starts = [inputs["init"][14:22] for _, _, inputs in device.inputs if np.ptp(inputs["content"][14:22]) < 0.01]
        assert starts and all(len(np.unique(start)) > 50 for start in starts)
    assert "continued from its output" in str(rows(place / "out")["deep.png"]["notes"])


def test_outputs_are_tiffs_and_a_run_goes_on_from_them(place, devices):
    assert again(place, bits=16, output_format="tiff").done == 2
    data = (place / "out" / "deep.png.tif").read_bytes()
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.abs(samples / 65535 - (1 - smooth(*LANE).astype(float))).max() <= 1.5 / 65535
    again(place, bits=16, evaluations=14, existing="continue", output_format="tiff")
    starts = [inputs["init"][14:22] for _, _, inputs in devices[1].inputs if np.ptp(inputs["content"][14:22]) < 0.01]
    assert starts and all(len(np.unique(start)) > 50 for start in starts)


@pytest.mark.parametrize("format", ["keep", "jpeg", "webp"])
def test_16_bits_in_another_format_are_refused_with_the_remedy(format):
    with pytest.raises(SettingsError, match="bits is 16 and output_format is .*--output-format png or tiff"):
        RenderSettings(bits=16, output_format=format)
    assert RenderSettings().bits == 8 and RenderSettings().pixels()["bits"] == 8
