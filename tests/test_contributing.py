"""The examples of CONTRIBUTING.md, executed as they stand: a term, a solver, a source, a setting."""

import json
import sys
import types
from typing import Annotated

import cyclopts
import numpy as np
import pytest
from documents import example, generate
from pictures import painting, photo, save

import jaxstyle
from jaxstyle.data.fingerprint import Fingerprint, compare, write_fingerprint
from jaxstyle.data.sources import SOURCES
from jaxstyle.errors import InputError, SettingsError, SettingsMismatch
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.solvers import SOLVERS, SolverKind
from jaxstyle.style.terms import TERMS

pytestmark = pytest.mark.usefixtures("quickly_compiled")

PHOTO, STYLE = photo(40, 33), painting()
SMALL = dict(preconditioner="none", style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))


@pytest.fixture(autouse=True)
def registries():
    """The registries as they were before."""
    before = [(registry, dict(registry)) for registry in (TERMS, SOLVERS, SOURCES)]
    yield
    for registry, content in before:
        registry.clear()
        registry.update(content)


def executed(name, **given):
    """The names that an example defines."""
    found = dict(given)
    exec(compile(example(name), f"CONTRIBUTING.md, {name}", "exec"), found)
    return found


@pytest.mark.parametrize("name", ["term", "solver", "solver entry", "source", "setting"])
def test_an_example_has_at_most_fifteen_lines_beside_its_imports(name):
    lines = [line for line in example(name).splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) <= 15


def test_a_term(network):
    executed("term")
    settings = StylizeSettings(evaluations=12, **SMALL)
    solution = jaxstyle.stylize(PHOTO, STYLE, settings)
    assert solution.terms.keys() == {"content", "style", "tv", "colour"}
    assert sum(solution.terms.values()) == pytest.approx(float(solution.loss), rel=1e-5)
    start = jaxstyle.stylize(PHOTO, STYLE, settings, evaluations=1, init="content")
    distance = ((PHOTO.mean((0, 1)) - STYLE.mean((0, 1))) / 255) ** 2
    assert float(start.terms["colour"]) == pytest.approx(50 * distance.sum(), rel=1e-3)  # without the border


@pytest.fixture
def descent(monkeypatch):
    """The solver's file in its place, its name among the choices, and its entry."""
    module = types.ModuleType("jaxstyle.style.solvers.descent")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module).update(executed("solver", __name__=module.__name__))
    monkeypatch.setitem(StylizeSettings.__annotations__, "solver", 'Literal["lbfgs", "descent"]')
    executed("solver entry", SOLVERS=SOLVERS, SolverKind=SolverKind)
    return module.Descent


def test_a_solver(network, descent):
    assert isinstance(SOLVERS["descent"].make(StylizeSettings()), descent)
    losses = [
        float(
            jaxstyle.stylize(
                PHOTO, STYLE, solver="descent", evaluations=n, init="content", style_pixels=0, **SMALL
            ).loss
        )
        for n in (1, 20)
    ]
    assert losses[1] < 0.5 * losses[0]


def test_a_solver_holds_the_arrays_that_its_entry_says(descent):
    image = np.zeros((8, 8, 3), np.float32)
    held = 3  # the lane's image and its best one, and the memory
    assert descent().memory(image).shape == image.shape
    assert SOLVERS["descent"].images(StylizeSettings()) >= held


def test_a_source(network, tmp_path):
    executed("source")
    np.save(tmp_path / "images.npy", np.stack([photo(32, 32, n) for n in range(3)]))
    style = save(tmp_path / "style.png", STYLE)
    settings = RenderSettings(size=32, evaluations=2, workers=0, **SMALL)
    summary = jaxstyle.render(tmp_path / "images.npy", style, tmp_path / "out", settings, source="arrays")
    assert (summary.done, summary.failed) == (3, 0)
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["000000.png", "000001.png", "000002.png"]
    assert all((tmp_path / "out" / row["key"]).is_file() and row["input_bytes"] == 32 * 32 * 3 for row in rows)
    assert jaxstyle.render(
        tmp_path / "images.npy", style, tmp_path / "out", settings, source="arrays"
    ).looked_at == 0  # fmt: skip
    with pytest.raises(InputError, match="is not a file"):
        jaxstyle.render(tmp_path / "none.npy", style, tmp_path / "other", settings, source="arrays")


def later_settings():
    """The example's settings, as if they stood in settings.py, whose names their annotations use."""
    return executed("setting", __name__=RenderSettings.__module__)["LaterSettings"]


def test_a_setting(tmp_path, monkeypatch):
    later = later_settings()
    assert ("`--strokes`", "a whole number", "`3`", "width of a brush stroke, in pixels.") in generate.flags(later)
    with pytest.raises(SettingsError, match=r"strokes is 0\. It must be at least 1"):
        later(strokes=0)

    def fingerprint(settings):
        return Fingerprint({"settings": settings.pixels()}, {"settings": settings.defaults()})

    write_fingerprint(tmp_path, fingerprint(RenderSettings()))  # an old folder
    compare(tmp_path, fingerprint(later()))
    compare(tmp_path, fingerprint(later(strokes=3)))
    with pytest.raises(SettingsMismatch, match=r"settings\.strokes is 5 now and 3 there"):
        compare(tmp_path, fingerprint(later(strokes=5)))
    monkeypatch.setattr("jaxstyle.settings.NO_PIXELS", ("strokes",))
    assert "strokes" not in later(strokes=5).pixels()


def test_a_setting_is_a_flag_a_variable_and_a_key(tmp_path, monkeypatch):
    later = later_settings()
    (tmp_path / "run.toml").write_text("strokes = 7\n")
    file = cyclopts.config.Toml(tmp_path / "run.toml", use_commands_as_keys=False)
    app = cyclopts.App(config=(cyclopts.config.Env("JAXSTYLE_", command=False), file), result_action="return_value")

    @app.default
    def command(*, settings: Annotated[later | None, cyclopts.Parameter(name="*")] = None):
        return settings.strokes

    assert app([]) == 7
    monkeypatch.setenv("JAXSTYLE_STROKES", "8")
    assert app([]) == 8
    assert app(["--strokes", "9"]) == 9
