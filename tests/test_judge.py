"""Every ending is judged by the same rules: beside its own start, its input and the style."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import painting, photo, save

from jaxstyle.engine.judge import judgement, picture_of, problem, remark
from jaxstyle.engine.lanes import Ended
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import SettingsError
from jaxstyle.planning.contract import Result
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings
from jaxstyle.style.status import Status

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = RenderSettings(size=32)
PHOTO, STYLE = photo(32, 32).astype(np.float32) / 255, painting().astype(np.float32) / 255
FLAT = np.full((32, 32, 3), 0.4, np.float32)
INK = np.round(np.random.default_rng(0).random((32, 32, 1))).repeat(3, 2).astype(np.float32)
"""A drawing in black on white."""


def ended(
    loss, status=Status.BUDGET, evaluations=10, start=4.0, image=None, init=None, content=PHOTO, budget=10, style=STYLE
):
    height, width = content.shape[:2]
    task = SimpleNamespace(job=SimpleNamespace(work=(width, height), stage=0, continued=None), evaluations=budget)
    task.style = Painting.of(style)
    task.inputs = {"content": content, "init": content if init is None else init}
    shown = content[::-1] * 0.9 if image is None else image
    terms = {"content": loss / 4, "style": loss * 3 / 4 - 1e-7}  # whose sum is rounded another way
    return Ended(task, Result(np.asarray(shown, np.float32), loss, terms, start, "float32"), evaluations, status, 0.1)


def test_a_frame_that_starts_from_a_result_need_not_gain():
    for loss, status, image in ((4.0, Status.BUDGET, None), (3.99, Status.STALLED, None), (3.0, Status.BUDGET, PHOTO)):
        one = ended(loss, status, image=image)
        assert problem(one, SETTINGS)
        one.task.inputs["before"] = PHOTO
        assert problem(one, SETTINGS) == ""
    for loss, image, words in ((float("nan"), None, "diverged"), (3.0, FLAT * 0, "black")):
        one = ended(loss, image=image)
        one.task.inputs["before"] = PHOTO
        assert words in problem(one, SETTINGS)


@pytest.mark.parametrize("status", [Status.BUDGET, Status.CONVERGED])
@pytest.mark.parametrize(
    ("case", "words"),
    [
        (dict(loss=3.9), ""),
        (dict(loss=3.9999), ""),
        (dict(loss=4.0), "came out no better: its loss went from 4 to 4"),
        (dict(loss=4 - 1e-7), "no better"),
        (dict(loss=400.0), "no better: its loss went from 4 to 400"),
        (dict(loss=5e11, evaluations=1), "no better"),
        (dict(loss=4.0, evaluations=1), "no better"),  # of ten
        (dict(loss=4.0, evaluations=1, budget=1), ""),
        (dict(loss=4.0, evaluations=1, budget=1, image=FLAT * 0), ""),  # its start was asked for
        (dict(loss=1e-6, start=1e-6), ""),  # the photograph is the style image: there is nothing to gain
        (dict(loss=0.0, start=0.0), ""),
        (dict(loss=2e-5, start=2e-5), "no better"),
        (dict(loss=float("nan")), "diverged"),
        (dict(loss=3.0, image=FLAT * np.nan), "diverged"),
        (dict(loss=3.0, image=PHOTO), "came out as it began"),
        (dict(loss=3.0, image=PHOTO + 1e-6), "came out as it began: a value changed by 0.0002"),
        (dict(loss=3.0, image=FLAT * 0), "came out nearly black: mean level 0; the input has"),
        (dict(loss=3.0, image=PHOTO / 25), "nearly black"),  # no level above 10
        (dict(loss=3.0, image=PHOTO - 5), "nearly black"),
        (dict(loss=3.0, image=FLAT + 5), "nearly white"),
        (dict(loss=3.0, image=1 - PHOTO / 25), "nearly white"),
        (dict(loss=3.0, image=FLAT), "nearly flat: the spread of its levels is 0"),
        (dict(loss=3.0, image=FLAT + PHOTO / 25), "nearly flat"),
        (dict(loss=3.0, image=INK), "saturated: 100% of its values"),
        (dict(loss=3.0, image=(PHOTO - PHOTO.mean()) * 1e9), "saturated"),
    ],
)
def test_an_image_that_came_out_wrong_is_a_problem_whatever_its_status(status, case, words):
    found = problem(ended(status=status, **case), SETTINGS)
    assert words in found and bool(found) == bool(words)


@pytest.mark.parametrize(
    ("content", "style", "image"),
    [
        (FLAT * 2.5, STYLE, FLAT * 3),  # a white page
        (FLAT * 0, STYLE, FLAT * 0 - 0.1),  # a black frame
        (FLAT, STYLE, FLAT * 1.1),  # a gray card
        (PHOTO / 25, STYLE, PHOTO[::-1] / 25),  # a night photograph
        (PHOTO, FLAT * 0, PHOTO[::-1] / 50),  # a black style
        (PHOTO, FLAT, FLAT),  # a style of one colour
        (INK, STYLE, INK[::-1]),  # a drawing
        (PHOTO, INK, INK),
        (PHOTO[:1, :1], STYLE, PHOTO[5:6, 5:6]),  # a single pixel
        (PHOTO[:1], STYLE, PHOTO[1:2]),
    ],
)
def test_what_its_input_or_style_explains_is_no_problem(content, style, image):
    assert problem(ended(3.0, image=image, content=content, init=content * 0.99 + 0.003, style=style), SETTINGS) == ""


def test_a_lane_without_an_acceptable_step_must_show_more():
    assert "stalled: no step lowered its loss" in problem(ended(3.97, Status.STALLED), SETTINGS)
    assert problem(ended(3.95, Status.STALLED), SETTINGS) == ""
    assert problem(ended(0.0, Status.STALLED, start=0.0), SETTINGS) == ""
    assert "diverged" in problem(ended(3.0, Status.DIVERGED), SETTINGS)


def test_an_optimum_is_measured_by_the_weights():
    small = RenderSettings(size=32, content_weight=1e-10, style_weight=1e-10, tv_weight=1e-10)
    assert "no better" in problem(ended(1e-9, start=1e-9), small)
    assert "no better" not in problem(ended(1e-9, start=1e-9), SETTINGS)


def test_the_precision_decides_what_is_rounding():
    case = ended(4 * (1 - 2e-4))
    assert problem(case, SETTINGS) == ""
    coarse = Ended(case.task, case.result._replace(precision="bfloat16"), 10, Status.BUDGET, 0.1)
    assert "no better" in problem(coarse, SETTINGS)


def test_the_border_does_not_count():
    case = ended(3.0, content=PHOTO[:20, :24], image=PHOTO)
    assert picture_of(case).shape == (20, 24, 3)
    assert judgement(case)["moved"] == 0 and "as it began" in problem(case, SETTINGS)


def test_a_lane_without_a_result_gets_no_second_try():
    none = Ended(SimpleNamespace(job=None), None, 0, Status.RUNNING, 0.0)
    assert problem(none, SETTINGS) == "" and judgement(none) == {}


def test_figures_are_numbers_that_json_knows():
    for case in (
        dict(loss=3.0),
        dict(loss=3e38, start=1e-30),
        dict(loss=0.0, start=0.0),
        dict(loss=3.0, image=FLAT * 1e30),
    ):
        found = judgement(ended(**case))
        assert set(found) == {"fall", "moved", "brightness", "spread", "saturated"}
        assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert judgement(ended(float("inf"))) == {}
    half = judgement(ended(1.0, image=np.where(np.arange(32)[:, None, None] < 16, 2.0, 0.5) * np.ones((32, 32, 3))))
    assert half == {"fall": 0.75, "moved": half["moved"], "brightness": 191.2, "spread": 63.75, "saturated": 0.5}


FEW = dict(preconditioner="none", style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
BAD = {
    "adam, far too fast": (dict(solver="adam", learning_rate=1e6), "no better"),
    "adam, far too slow": (dict(solver="adam", learning_rate=1e-30), "no better"),
    "adam, too slow": (dict(solver="adam", learning_rate=1e-7), "no better"),
    "adam, past every number": (dict(solver="adam", learning_rate=1e30), "diverged"),
}


@pytest.mark.parametrize(("settings", "words"), BAD.values(), ids=BAD)
def test_settings_that_lead_nowhere_are_failed_rows(network, tmp_path, settings, words):
    row = only_row(tmp_path, evaluations=12, **settings)
    assert row["status"] == "failed" and words in row["reason"]
    assert row["judgement"]["moved"] < 0.01


def test_one_evaluation_is_legitimate_and_its_row_says_so(network, tmp_path):
    row = only_row(tmp_path, evaluations=1)
    assert row["status"] == "done" and row["notes"] == ["one evaluation: the result is the start"]
    assert row["judgement"]["moved"] == row["judgement"]["fall"] == 0


def test_a_usual_row_has_figures_and_no_remark(network, tmp_path):
    row = only_row(tmp_path, evaluations=12)
    assert row["status"] == "done" and row["notes"] == [] and row["judgement"]["fall"] > 0.1
    assert remark(ended(3.0), SETTINGS) == ""


def only_row(root, **settings):
    save(root / "in" / "a.png", photo(32, 32))
    save(root / "style.png", painting())
    render(
        root / "in", root / "style.png", root / "out", RenderSettings(size=32, workers=0, batch=1, **FEW, **settings)
    )
    return json.loads((root / "out" / "manifest.jsonl").read_text())


@pytest.mark.parametrize(
    "settings",
    [
        dict(feature_gain=1e-20), dict(feature_gain=1e-8), dict(feature_gain=1e20), dict(feature_gain=float("nan")),
        dict(content_weight=1e-42), dict(style_weight=1e38), dict(tv_weight=float("inf")),
        dict(style_weight=float("nan")), dict(learning_rate=float("nan")),
        dict(style_layers=("relu1_1",), style_layer_weights=(float("nan"),)),
    ],
)  # fmt: skip
def test_numbers_that_float32_cannot_work_with_are_refused_before_anything_is_computed(settings):
    with pytest.raises(SettingsError):
        RenderSettings(**settings)
