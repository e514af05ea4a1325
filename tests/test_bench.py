"""`jaxstyle bench` at tiny sizes: its figures follow from one another, nothing is left out of table, JSON and plot."""

import dataclasses
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import run
from PIL import Image

from jaxstyle.bench import measure, rates
from jaxstyle.bench.measure import Sweep, choose
from jaxstyle.bench.report import Report
from jaxstyle.planning import cost
from jaxstyle.report import plot
from jaxstyle.report.plot import Bars, Panel
from jaxstyle.settings import RenderSettings

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = RenderSettings(
    preset="classic", workers=0, evaluations=30, content_layers=("relu2_2",), style_layers=("relu1_1", "relu2_1")
)  # a shallow objective, which compiles fast
TINY = Sweep(sizes=(32,), batches=(1, 2), timing=0.01, whole=0.1)
CACHE = "jax_compilation_cache_dir"


@pytest.fixture(scope="module")
def report() -> Report:
    """One run of the bench, and what it said on the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rates.SIDE, "cpu", 64)
        patch.setitem(rates.COPIED, "cpu", 2**20)
        before = getattr(jax.config, CACHE)
        found = measure.measure(SETTINGS, sweep=TINY, tell=lambda _: None)
        assert getattr(jax.config, CACHE) == before
    return found


def test_every_cell_is_measured_and_its_figures_follow_from_its_times(report):
    assert [(c.width, c.height, c.batch) for c in report.cells] == [(32, 32, 1), (32, 32, 2)]
    assert report.left_out == () and report.precision == "float32" and report.evaluations == 30
    for cell in report.cells:
        assert cell.seconds_tick > 0 and cell.compile_seconds > 0 and cell.repeats >= 3
        assert report.images_per_second(cell) == pytest.approx(cell.batch / (30 * cell.seconds_tick))
        assert cell.flops == cost.evaluation_flops((32, 32), SETTINGS.objective())
        rate = cell.flops * cell.batch / cell.seconds_tick
        assert report.utilisation(cell) == pytest.approx(rate / report.rates.float32)
    first, second = (cell.peak_bytes for cell in report.cells)
    assert first is None or 2**26 < first <= second


def test_utilisation_is_of_all_devices_and_of_the_same_precision(report):
    cell = report.cells[0]
    for backend, count, chips in (("gpu", 4, 4), ("cpu", 2, 1)):  # the parts of a CPU share its cores
        several = dataclasses.replace(
            report, precision="bfloat16", machine=dataclasses.replace(report.machine, backend=backend, count=count),
            rates=dataclasses.replace(report.rates, bfloat16=1e12),
        )  # fmt: skip
        assert several.utilisation(cell) == pytest.approx(cell.rate / (chips * 1e12))
        assert f"{chips} x " in several.lines()[0] and ("divided in 2" in several.lines()[0]) == (backend == "cpu")


def test_batches_come_in_multiples_of_the_devices(monkeypatch):
    assert measure._multiples((1, 2, 4), 1) == {1, 2, 4} and measure._multiples((1, 2, 4), 2) == {2, 4}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert measure._multiples((1, 2, 4), 2) == {2, 4, 8}


def test_a_start_with_programs_kept_and_a_whole_run_are_measured(report):
    assert report.start.compiled > 0 and report.start.kept is not None and report.start.kept > 0
    whole = report.whole
    assert (whole.images, whole.programs) == (6, 0)
    assert 10 <= whole.evaluations <= 30
    assert 0 < whole.device_seconds <= whole.seconds


def test_json_holds_every_figure(report):
    values = json.loads(json.dumps(report.as_json()))
    assert set(values) == {field.name for field in dataclasses.fields(Report)}
    for cell, stated in zip(report.cells, values["cells"], strict=True):
        assert stated["utilisation"] == report.utilisation(cell)
        assert stated["images_per_second"] == report.images_per_second(cell)
        assert stated["seconds_tick"] == cell.seconds_tick
    assert values["rates"] == dataclasses.asdict(report.rates)
    assert all(math.isfinite(v) and v > 0 for v in values["rates"].values())


def test_the_table_has_a_line_for_everything(report):
    told = "\n".join(dataclasses.replace(report, left_out=("512 x 384, batch 64: no time",)).lines())
    assert told.count("32 x 32  ") == 2
    for words in ("matrix product", "GB/s", "to the first tick", "whole run of 6 files", "left out: 512 x 384"):
        assert words in told, words
    assert "images of 30 evaluations;" in told  # the settings', and neither the default nor the preset's
    assert "80 evaluations" not in told and "200 evaluations" not in told
    bare = dataclasses.replace(
        report, whole=None, start=dataclasses.replace(report.start, kept=None),
        cells=(dataclasses.replace(report.cells[0], peak_bytes=None),),
    )  # fmt: skip
    told = "\n".join(bare.lines())
    assert "whole run" not in told and "JAX may not keep programs" in told and told.count("?") == 1


def test_what_there_is_no_time_or_no_room_for_is_told(monkeypatch):
    class Device:
        count, memory, settings = 1, 2**30, SETTINGS

        def max_batch(self, _):
            return 4

    class Bench:
        device, objective = Device(), SETTINGS.objective()

        def __init__(self, *_): ...

        def start(self, kept, size):
            return measure.Start(size, size, 1, 1.0, 0.5), 1e12

        def cell(self, shape, batch, timing):
            if batch == 2:
                raise measure.OutOfMemory("all gone")
            return measure.Cell(*shape, batch, 1, 3, 0.1, 0.5, 1, None)

    monkeypatch.setattr(measure, "_Bench", Bench)
    monkeypatch.setattr(measure.rates, "product", lambda *_: 1e12)
    monkeypatch.setattr(measure.rates, "copy", lambda: 1e10)
    sweep = Sweep((32, 4096), (1, 2, 8), 0.1, 0)
    found = measure.measure(SETTINGS, sweep=sweep, seconds=30, tell=lambda _: None)
    assert [(c.width, c.batch) for c in found.cells] == [(32, 1)]
    assert [words.split(": ")[1].split()[:2] for words in found.left_out] == [
        ["the", "device"], ["no", "room"], ["no", "time"], ["no", "time"], ["no", "room"],
    ]  # fmt: skip


def test_faster_devices_get_larger_sweeps():
    slowest, slow, fast = (choose(flops, full=False) for flops in (1e9, 2e11, 5e13))
    assert max(slowest.sizes) < max(slow.sizes) < max(fast.sizes) and max(slow.batches) < max(fast.batches)
    for flops in (2e11, 5e13):
        assert set(choose(flops, full=False).sizes) < set(choose(flops, full=True).sizes)


def test_rates_are_of_the_work_that_is_done(monkeypatch):
    monkeypatch.setattr(rates, "median_seconds", lambda call: float(call().size) and 0.5)
    assert rates.product(jnp.float32, side=32) == rates.CHAIN * 2 * 32**3 / 0.5
    assert rates.product(jnp.bfloat16, side=32) == rates.CHAIN * 2 * 32**3 / 0.5
    assert rates.copy(4096) == 2 * 4096 / 0.5


def test_the_command_writes_both_files_and_prints_one_line_of_json(report, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(measure, "measure", lambda settings, **how: asked.append((settings, how)) or report)
    assert run("bench", "-o", tmp_path / "out", "--json", "--full", "--precision", "float32") == 0
    (settings, how), *others = asked
    assert not others and settings.precision == "float32" and how["full"]
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "out" / "bench.json").read_text()) == report.as_json()
    assert out.count("\n") == 1 and "bench.png" in err
    with Image.open(tmp_path / "out" / "bench.png") as picture:
        assert picture.size == (2 * 720, 2 * 480)
    assert run("bench", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines() == report.lines()
    assert run("bench", "--precision", "float8") == 2


def test_without_matplotlib_the_command_writes_json_and_says_how_to_get_plots(report, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "measure", lambda *_, **__: report)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("bench", "-o", tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert "pip install 'jaxstyle[plots]'" in capsys.readouterr().err
    for draw in (plot.plot, plot.bars):
        with pytest.raises(plot.NoMatplotlib, match="needs matplotlib"):
            draw(tmp_path / "p.png", [])


# The plots.


RISING = [(2.0**k, 10.0**k) for k in range(6)]


def ticks(axis) -> list[str]:
    """The labels of the ticks within an axis's view."""
    low, high = sorted(axis.get_view_interval())
    return [text.get_text() for tick, text in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
            if low <= tick <= high]  # fmt: skip


def test_every_panel_has_its_lines_names_and_axes():
    panels = [
        Panel("One", "x", "y", {"a": RISING, "b": [(x, 3 * y) for x, y in RISING]}, log_x=True, log_y=True),
        Panel("None", "x", "y", {"a": [], "b": [(1, math.nan), (math.inf, 2)]}),
        Panel("Below", "u", "v", {"a": [(0, -1), (2, math.nan), (5, 4)]}),
    ]
    one, none, below = plot.lines_figure(panels, 2).axes
    for axes, panel in zip((one, none, below), panels, strict=True):
        assert (axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()) == (
            panel.title, panel.x_label, panel.y_label
        )  # fmt: skip
    assert [line.get_xydata().tolist() for line in one.lines] == [
        [[x, factor * y] for x, y in RISING] for factor in (1, 3)
    ]  # fmt: skip
    assert [text.get_text() for text in one.get_legend().get_texts()] == ["a", "b"]
    assert (one.get_xscale(), one.get_yscale()) == ("log", "log") and below.get_xscale() == "linear"
    assert not none.lines and [text.get_text() for text in none.texts] == ["not measured"]
    assert below.lines[0].get_xydata().tolist() == [[0, -1], [5, 4]] and below.get_ylim()[0] < -1


def test_a_linear_axis_begins_at_0_and_has_room_above():
    (axes,) = plot.lines_figure([Panel("t", "x", "y", {"a": [(1, 7), (2, 8)]})], 1).axes
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 8


def test_few_values_along_a_logarithmic_axis_are_its_ticks():
    def drawn(points):
        (axes,) = plot.lines_figure([Panel("t", "x", "y", {"a": points}, log_x=True, log_y=True)], 1).axes
        return ticks(axes.xaxis), ticks(axes.yaxis)

    assert drawn([(x, 10 * x) for x in (1, 3, 7, 16)]) == (["1", "3", "7", "16"], ["10", "20", "50", "100"])
    assert drawn([(x, 10.0 ** (x - 1)) for x in range(1, 13)])[0] == ["1", "2", "5", "10"]
    y = drawn([(1, 1), (2, 1e12)])[1]
    powers = [math.log10(float(text.replace(",", ""))) for text in y]
    assert 3 <= len(y) <= 13 and all(power == round(power) for power in powers)


def test_series_differ_in_colour_or_marker_and_long_ones_have_none():
    series = {str(k): [(0, k), (1, k + 1)] for k in range(9)} | {"long": [(k, k) for k in range(plot.MARKED + 1)]}
    (axes,) = plot.lines_figure([Panel("t", "x", "y", series)], 1).axes
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks) == 10 and looks[-1][1] == "" and all(marker for _, marker in looks[:-1])


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points", [[(3, 5)], [(0, 0)], [(-1, -2), (4, 1e9)], [(1e-9, 1e-9), (2e-9, 1)]])
def test_a_panel_is_drawn_whatever_its_points(points, log, tmp_path):
    plot.plot(tmp_path / "p.png", [Panel("t", "x", "y", {"a": points}, log_x=log, log_y=log)])
    with Image.open(tmp_path / "p.png") as picture:
        assert "Software" not in picture.info  # matplotlib's version, which would change the file
        assert picture.size == (720, 480) and np.asarray(picture.convert("L")).min() < 50


def test_bars_are_as_long_as_their_values_from_top_to_bottom():
    first, second = plot.bars_figure(
        [Bars("t", "x", {"one": 1.0, "three": 3.0, "none": math.nan}), Bars("u", "x", {})]
    ).axes  # fmt: skip
    assert [bar.get_width() for bar in first.patches] == [1, 3, 0]
    assert [text.get_text() for text in first.texts] == ["1", "3", "not measured"]
    assert ticks(first.yaxis) == ["one", "three", "none"] and first.yaxis_inverted()
    assert (first.get_title("left"), first.get_xlabel(), second.get_title("left")) == ("t", "x", "u")
    assert first.get_xlim() == (0, pytest.approx(3.3)) and not second.patches  # with room for the longest bar's value


def test_a_plot_is_the_same_whatever_the_user_s_configuration(tmp_path):
    import matplotlib

    panels, values = [Panel("t", "x", "y", {"a": RISING})], [Bars("t", "x", {"a": 1.0})]
    for k, changed in enumerate([{}, {"figure.facecolor": "red", "lines.linewidth": 9, "font.size": 20}]):
        with matplotlib.rc_context(changed):
            before = dict(matplotlib.rcParams)
            plot.plot(tmp_path / f"{k}.png", panels)
            plot.bars(tmp_path / f"bars-{k}.png", values)
            assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert (tmp_path / "bars-0.png").read_bytes() == (tmp_path / "bars-1.png").read_bytes()


def test_matplotlib_is_imported_for_a_plot_only_and_pyplot_never(tmp_path):
    code = """
import sys
from pathlib import Path
import jaxstyle.bench.report
from jaxstyle.report import plot
print("matplotlib" in sys.modules)
plot.plot(Path(sys.argv[1]), [plot.Panel("t", "x", "y", {"a": [(1, 2)]})])
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    asked = subprocess.run([sys.executable, "-c", code, tmp_path / "p.png"], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["False", "True", "False"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (0.25, "0.25"), (0.0123, "0.0123"), (12.34, "12.3"), (123.4, "123"), (98765.4, "98,765"),
     (1e-5, "1.00e-05"), (3e9, "3.00e+09"), (-2.5, "-2.5"), (100, "100")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert plot.number(value) == text
