"""The colours of outputs: Oklab, the photograph's colours in the result or in the style, and the strength."""

from types import SimpleNamespace

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, rows

from jaxstyle.engine import device
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import SettingsError
from jaxstyle.planning import preflight
from jaxstyle.style import colour

PHOTO, STYLE = (one.astype(np.float32) / 255 for one in (photo(32, 32), painting(40, 30)))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [((1, 1, 1), (1, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (0.62796, 0.22486, 0.12585)),
     ((0, 1, 0), (0.86644, -0.23389, 0.17950)), ((0, 0, 1), (0.45201, -0.03246, -0.31153))],
)  # fmt: skip
def test_oklab_has_the_published_values(rgb, lab):
    np.testing.assert_allclose(colour.to_oklab(np.array([[rgb]])), [[lab]], atol=2e-5)
    np.testing.assert_allclose(colour.from_oklab(np.array([[lab]], float)), [[rgb]], atol=2e-3)


def test_colours_come_back_and_those_outside_keep_their_lightness():
    np.testing.assert_allclose(colour.from_oklab(colour.to_oklab(PHOTO)), PHOTO, atol=1e-5)
    strong = colour.to_oklab(PHOTO) * (1, 4, 4)
    made = colour.to_oklab(colour.from_oklab(strong))
    assert (abs(strong[..., 1:]) > abs(made[..., 1:]) + 0.05).any()
    np.testing.assert_allclose(made[..., 0], strong[..., 0], atol=2e-3)


def test_gray_and_the_colours_of_another_picture():
    gray = colour.luminance(PHOTO)
    assert np.ptp(gray, axis=-1).max() < 1e-4
    np.testing.assert_allclose(colour.to_oklab(gray)[..., 0], colour.to_oklab(PHOTO)[..., 0], atol=1e-5)
    np.testing.assert_allclose(colour.with_colours_of(gray, PHOTO), PHOTO, atol=1e-4)
    style = colour.to_oklab(colour.matched_luminance(STYLE * 0.2 + 0.4, PHOTO))[..., 0]
    wanted = colour.to_oklab(PHOTO)[..., 0]
    assert abs(style.mean() - wanted.mean()) < 0.02 and abs(style.std() - wanted.std()) < 0.03
    assert np.isfinite(colour.matched_luminance(STYLE * 0 + 0.5, PHOTO)).all()  # of one colour


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Renders a photograph with the stand-in, which turns its colours round; returns the output and what was put."""
    save(tmp_path / "in" / "a.png", photo(32, 32))
    style = save(tmp_path / "style.png", painting(40, 30))
    devices = stub.install(monkeypatch.setattr, record=True)

    def run(**options):
        output = tmp_path / str(len(devices))
        assert render(tmp_path / "in", style, output, QUICK, **options).done == 1
        assert rows(output)["a.png"]["style"] == "style.png"
        return np.asarray(Image.open(output / "a.png"), np.float32) / 255, devices[-1]

    return run


def test_content_keeps_the_photographs_colours_and_the_results_lightness(run):
    plain, _ = run()
    made, device = run(colors="content")
    lab, photograph, result = map(colour.to_oklab, (made, PHOTO, plain))
    np.testing.assert_allclose(lab[..., 0], result[..., 0], atol=0.02)
    assert np.corrcoef(lab[..., 1].ravel(), photograph[..., 1].ravel())[0, 1] > 0.8
    assert np.corrcoef(result[..., 1].ravel(), photograph[..., 1].ravel())[0, 1] < 0
    np.testing.assert_array_equal(device.inputs[0][2]["content"], PHOTO)


def test_luminance_computes_in_gray_and_gives_the_photographs_colours(run):
    made, device = run(colors="luminance")
    (_, _, inputs), style = device.inputs[0], device.styles[0].picture
    assert all(np.ptp(one, axis=-1).max() < 1e-4 for one in (inputs["content"], inputs["init"], style))
    lab, wanted = colour.to_oklab(made), colour.to_oklab(1 - colour.luminance(PHOTO))
    np.testing.assert_allclose(lab[..., 0], wanted[..., 0], atol=0.02)
    assert np.corrcoef(lab[..., 2].ravel(), colour.to_oklab(PHOTO)[..., 2].ravel())[0, 1] > 0.8


def test_matched_gives_each_style_image_the_photographs_colours(run):
    _, device = run(colors="matched")
    style = device.styles[0].picture
    np.testing.assert_allclose(style.mean((0, 1)), PHOTO.mean((0, 1)), atol=0.03)
    assert style.shape == (24, 32, 3) and device.styles[0].sha256 != run()[1].styles[0].sha256


@pytest.mark.parametrize("strength", [0.0, 0.25])
def test_strength_mixes_the_photograph_in(run, strength):
    made, _ = run(strength=strength)
    np.testing.assert_allclose(made, PHOTO * (1 - strength) + (1 - PHOTO) * strength, atol=0.5 / 255 + 1e-5)


def test_strengths_outside_are_refused(run):
    with pytest.raises(SettingsError, match="strength is 1.5. It must be 0 to 1"):
        run(strength=1.5)


@pytest.mark.parametrize(
    ("colors", "shared"), [("style", True), ("content", True), ("matched", False), ("luminance", False)]
)
def test_targets_are_shared_only_where_all_images_have_the_same(tmp_path, monkeypatch, colors, shared):
    seen = []
    monkeypatch.setattr(device, "JaxDevice", lambda *arguments: seen.append(arguments[2]) or stub.StubDevice())
    monkeypatch.setattr(preflight.weights, "load", lambda *_: SimpleNamespace(digest="stub", source="stub"))
    save(tmp_path / "in" / "a.png", photo(32, 32))
    render(tmp_path / "in", save(tmp_path / "style.png", painting()), tmp_path / "out", QUICK, colors=colors)
    assert [one is not None for one in seen] == [shared]
