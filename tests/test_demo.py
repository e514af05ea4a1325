"""The demo: its photographs have their provenance, its styles are always the same, its run ends in a sheet."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxstyle.demo import demo
from jaxstyle.demo.styles import SIZE, STYLES
from jaxstyle.engine.pipeline import Silent


def test_every_photograph_has_its_provenance():
    photographs = sorted(p.name for p in demo.PHOTOS.glob("*.jpg"))
    assert len(photographs) == 3
    provenance = (demo.PHOTOS / "PROVENANCE.md").read_text()
    assert all(f"`{name}`" in provenance for name in photographs)


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_drawn_the_same_every_time(name):
    one, other = STYLES[name](), STYLES[name]()
    assert one.shape == (SIZE, SIZE, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)
    assert one.std() > 40  # it has contrast: something is drawn


def test_the_demo_ends_in_a_sheet(tmp_path, monkeypatch):
    short = dataclasses.replace(demo.SETTINGS, size=32, evaluations=2)
    monkeypatch.setattr(demo, "SETTINGS", short)
    sheet = demo.run(tmp_path / "demo", Silent())
    with Image.open(sheet) as image:
        assert min(image.size) > 100
    for style in STYLES:
        assert len(list((tmp_path / "demo" / style).glob("*.jpg"))) == 3
