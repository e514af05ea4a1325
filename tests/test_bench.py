"""`jaxstyle bench` at tiny sizes: its figures follow from one another, nothing is left out of table, JSON and plot."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
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

SETTINGS = RenderSettings(
    workers=0, evaluations=30, content_layers=("relu2_2",), style_layers=("relu1_1", "relu2_1")
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
    assert "images of 30 evaluations;" in told and "200 evaluations" not in told  # the settings', not the default
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
        assert picture.size == (2 * plot.WIDTH, 2 * plot.HEIGHT)
    assert run("bench", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines() == report.lines()
    assert run("bench", "--precision", "float8") == 2


# The plots.


def drawn(path, colour, box=None):
    """Pixels of a colour in a picture, or in a part of it."""
    with Image.open(path) as picture:
        part = picture.convert("RGB").crop(box) if box else picture.convert("RGB")
        return sum(n for n, c in part.getcolors(10**6) if max(abs(a - b) for a, b in zip(c, colour, strict=True)) < 8)


def test_lines_are_drawn_in_their_colours_in_their_panel(tmp_path):
    rising = [(2.0**k, 10.0**k) for k in range(6)]
    panels = [
        Panel("One", "x", "y", {"a": rising, "b": [(x, 3 * y) for x, y in rising]}, log_x=True, log_y=True),
        Panel("None", "x", "y", {"a": [], "b": [(1, math.nan), (math.inf, 2)]}),
        Panel("Many", "x", "y", {str(k): [(0, k), (1, k + 1)] for k in range(9)}),
    ]
    plot.plot(tmp_path / "p.png", panels)
    below = (0, 100, plot.WIDTH, plot.HEIGHT)
    for colour in plot.COLOURS[:2]:
        assert drawn(tmp_path / "p.png", colour, below) > 200
    assert not drawn(tmp_path / "p.png", plot.COLOURS[0], (plot.WIDTH, 100, 2 * plot.WIDTH, plot.HEIGHT))
    assert all(drawn(tmp_path / "p.png", c, (0, plot.HEIGHT, plot.WIDTH, 2 * plot.HEIGHT)) > 200 for c in plot.COLOURS)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("points", [[(3, 5)], [(0, 0)], [(-1, -2), (4, 1e9)], [(1e-9, 1e-9), (2e-9, 1)]])
def test_a_panel_is_drawn_whatever_its_points(points, log, tmp_path):
    plot.plot(tmp_path / "p.png", [Panel("t", "x", "y", {"a": points}, log_x=log, log_y=log)])
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (plot.WIDTH, plot.HEIGHT) and len(picture.getcolors(10**6)) > 10


def test_bars_are_as_long_as_their_values(tmp_path):
    plot.bars(tmp_path / "b.png", [Bars("t", "x", {"one": 1.0, "three": 3.0, "none": math.nan}), Bars("u", "x", {})])
    with Image.open(tmp_path / "b.png") as picture:
        rows = [round(plot.MARGIN + 2 * plot.TITLE + (k + 0.5) * plot.BAR) for k in range(3)]
        lengths = [sum(picture.getpixel((x, y)) == plot.COLOURS[0] for x in range(picture.width)) for y in rows]
    assert lengths[1] == pytest.approx(3 * lengths[0], rel=0.02) and lengths[2] == 0 < lengths[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (0.25, "0.25"), (0.0123, "0.0123"), (12.34, "12.3"), (123.4, "123"), (98765.4, "98,765"),
     (1e-5, "1.00e-05"), (3e9, "3.00e+09"), (-2.5, "-2.5"), (100, "100")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert plot.number(value) == text


@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.3, 40), (3e-7, 2e5), (5, 5), (1, 1e30)])
def test_ticks_of_a_logarithmic_axis_enclose_its_values(low, high):
    ticks = plot.log_ticks(low, high)
    assert 1 <= len(ticks) <= 10 and ticks[0] <= low * 1.01 and ticks[-1] >= high * 0.99
