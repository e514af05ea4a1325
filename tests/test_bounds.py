"""The size of a picture: too many pixels and too long a side are refused by the header."""

import zlib

import pytest
from test_image_broken import ihdr, png

from jaxstyle.data import image
from jaxstyle.data.bounds import LONGEST_SIDE, check_size
from jaxstyle.errors import ImageError


def test_a_picture_may_have_so_many_pixels_and_such_a_side():
    check_size(LONGEST_SIDE, 1, LONGEST_SIDE)
    with pytest.raises(ImageError, match="claims 10 x 11 pixels, more than 109"):
        check_size(10, 11, 109)
    for width, height in ((LONGEST_SIDE + 1, 1), (1, LONGEST_SIDE + 1)):
        with pytest.raises(ImageError, match=f"is {width} x {height} pixels, and a side may have 40000000 at most"):
            check_size(width, height, 10**9)


@pytest.mark.parametrize("size", [(80_000_000, 1), (1, 80_000_000)])
def test_a_picture_of_a_line_is_refused_for_its_shape_not_for_memory(tmp_path, size):
    path = tmp_path / "line.png"
    path.write_bytes(png(ihdr(*size), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")))
    for read in (image.probe, image.read):
        with pytest.raises(ImageError, match="and a side may have"):
            read(path, 89_478_485)
