"""The demo: its photographs have their provenance, its styles are always the same, its run ends in a sheet."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import stub
from pictures import painting
from PIL import Image

from jaxstyle.demo import demo
from jaxstyle.demo.styles import SIZE, STYLES
from jaxstyle.engine.events import Silent


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


@pytest.fixture
def short(monkeypatch):
    """The demo without network or workers, and with styles that are drawn at once."""
    monkeypatch.setattr(demo, "STYLES", {name: partial(painting, 32 + k) for k, name in enumerate(STYLES)})
    monkeypatch.setattr(demo, "SETTINGS", dataclasses.replace(demo.SETTINGS, size=32, evaluations=2, workers=0))
    return stub.install(monkeypatch.setattr)


def test_the_demo_ends_in_a_sheet(tmp_path, short):
    sheet = demo.run(tmp_path / "demo", Silent())
    with Image.open(sheet) as image:
        assert min(image.size) > 100
    for style in STYLES:
        assert len(list((tmp_path / "demo" / style).glob("*.jpg"))) == 3
    assert len(short) == len(STYLES)
    demo.run(tmp_path / "demo", Silent())
    assert len(short) == len(STYLES)  # all was there


def test_a_demo_of_an_earlier_version_is_made_again(tmp_path, short, monkeypatch):
    demo.run(tmp_path / "demo", Silent())
    monkeypatch.setattr(demo, "SETTINGS", dataclasses.replace(demo.SETTINGS, evaluations=3))
    demo.run(tmp_path / "demo", Silent())
    assert len(short) == 2 * len(STYLES)
