"""Frames of films: whole runs with the stand-in renderer. Each frame starts from the one before, whatever happens."""

import json
from collections import Counter

import numpy as np
import pytest
import stub
from pictures import painting, photo, save
from PIL import Image
from whole_runs import QUICK, Ear, files, rows

from jaxstyle import film as film_settings
from jaxstyle.decode.reader import Reader
from jaxstyle.engine import flow
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.stop import Stop
from jaxstyle.errors import ImageError, InputError, SettingsError, SettingsMismatch
from jaxstyle.planning.forecast import forecast
from jaxstyle.planning.shots import numbered
from jaxstyle.settings import RenderSettings, StylizeSettings

NUMBER = 4
SHOTS = {"a/f#.png": "a/f{}.png", "a/g#.png": "a/g{:02}.png", "b/#.png": "b/{}.png"}
"""Shots by their names, and how their frames are called; 10 comes after 9."""


def names(shot, first=8):
    return [SHOTS[shot].format(n) for n in range(first, first + NUMBER)]


@pytest.fixture
def devices(monkeypatch, spoilt):
    """Stubs whose results depend on their starts as well: a chain of frames tells where it began."""
    put, result = stub.StubBatch.put, stub.StubBatch.result

    def mixed(self, lane, inputs, evaluations, style=None):
        put(self, lane, inputs, evaluations, style)
        self.__dict__.setdefault("contents", {})[lane] = inputs["content"]
        self.images[lane] = (inputs["content"] + 2 * inputs["init"]) / 3

    def black(self, lane):
        found = result(self, lane)
        wrong = spoilt.get(self.contents[lane][:30].tobytes(), 0) > self.group.careful
        return found._replace(image=0 * found.image) if wrong else found

    monkeypatch.setattr(stub.StubBatch, "put", mixed)
    monkeypatch.setattr(stub.StubBatch, "result", black)
    return stub.install(monkeypatch.setattr, record=True)


@pytest.fixture
def spoilt():
    """How many tries of a photograph come out black, by its pixels."""
    return {}


@pytest.fixture
def unmoved(monkeypatch):
    """As if OpenCV were not installed."""
    monkeypatch.setattr(flow, "opencv", lambda: None)


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def film(tmp_path):
    for seed, shot in enumerate(SHOTS):
        whole = photo(48, 40, seed)
        for n, name in enumerate(names(shot)):
            save(tmp_path / "in" / name, whole[n : n + 30, 2 * n : 2 * n + 32])
    return tmp_path / "in"


def run(film, style, output, **changes):
    return render(film, style, output, QUICK, frames=True, init="content", **changes)


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image, np.float32) / 255


def starts(output):
    """Which frame each output started from, by its row; "" for none."""
    found = {}
    for key, row in rows(output).items():
        told = [note for note in row["notes"] if note.startswith("started from the result of ")]
        found[key] = told[0].removeprefix("started from the result of ").split(",")[0] if told else ""
    return found


def chained(*keys):
    return dict(zip(keys, ("", *keys), strict=False))


def test_the_name_of_a_shot_has_a_sign_for_the_number():
    assert numbered("x/take2_007.png") == ("x/take2_#.png", 7) and numbered("x/12") == ("x/#", 12)
    assert numbered("x/12.jpg") != numbered("x/12.png") and numbered("portrait.v2.png") == ("portrait.v#.png", 2)
    assert numbered("7/a b.png") == ("7/a b.png", 0)  # a shot of one frame


def test_every_frame_starts_from_the_result_of_the_one_before(film, style, tmp_path, devices, unmoved):
    ear = Ear()
    summary = run(film, style, tmp_path / "out", batch=8, progress=ear)
    assert (summary.done, summary.failed, ear.number) == (12, 0, 12)
    assert starts(tmp_path / "out") == {k: v for shot in SHOTS for k, v in chained(*names(shot)).items()}
    order = [row.key for row in ear.rows]
    for shot in SHOTS:
        assert [key for key in order if key in names(shot)] == names(shot)
    by_content = {inputs["content"][:30].tobytes(): inputs for _, _, inputs in devices[0].inputs}
    for shot in SHOTS:
        first, *later = (by_content[levels(film / name).tobytes()] for name in names(shot))
        assert "before" not in first
        for name, inputs in zip(names(shot), later, strict=False):
            np.testing.assert_array_equal(inputs["before"][:30], levels(tmp_path / "out" / name))  # in 8 bits
            shows = inputs["weights"][:30] > 0
            np.testing.assert_array_equal(inputs["init"][:30][shows], inputs["before"][:30][shows])
            np.testing.assert_array_equal(inputs["init"][:30][~shows], inputs["content"][:30][~shows])  # begun afresh
            assert 0 < shows.mean() < 1
    assert {size for _, size in devices[0].put} == {3}  # a lane for each shot, though 8 were allowed


def test_lanes_of_several_shots_are_busy_side_by_side(film, style, tmp_path, devices, monkeypatch):
    monkeypatch.setenv("STUB_SECONDS", "0.02")  # far longer than preparing a frame
    assert run(film, style, tmp_path / "out").occupancy > 0.5


def test_one_shot_has_a_batch_of_one(film, style, tmp_path, devices):
    assert run(film / "b", style, tmp_path / "out").done == NUMBER
    assert dict(devices[0].put) == {(next(iter(devices[0].put))[0], 1): NUMBER}


def test_a_frame_starts_from_the_moved_result(film, style, tmp_path, devices):
    pytest.importorskip("cv2")
    run(film / "a", style, tmp_path / "out")
    inputs = {one["content"][:30].tobytes(): one for _, _, one in devices[0].inputs}
    now = inputs[levels(film / "a" / "f9.png").tobytes()]
    before = levels(tmp_path / "out" / "f8.png")
    middle = (slice(8, 22), slice(8, 22))
    moved = np.roll(before, (-1, -2), (0, 1))  # the picture went up by one pixel and left by two
    assert np.abs(now["before"][:30] - moved)[middle].mean() < 0.3 * np.abs(now["before"][:30] - before)[middle].mean()
    assert now["weights"].shape == (32, 32) and now["weights"][middle].mean() > 0.5
    assert not now["weights"][30:].any()  # the border


def test_without_opencv_a_run_says_so_once_and_compares_photographs(film, style, tmp_path, devices, monkeypatch):
    monkeypatch.setattr(flow.importlib, "import_module", lambda name: exec("raise ImportError(name)", {"name": name}))
    still = levels(film / "b" / "8.png")
    still[:, 16:] = 0.5
    save(film / "b" / "9.png", (still * 255).round().astype(np.uint8))
    ear = Ear()
    run(film / "b", style, tmp_path / "out", progress=ear)
    assert sum("OpenCV is not installed" in text and "jaxstyle[frames]" in text for text in ear.said) == 1
    second = devices[0].inputs[1][2]
    np.testing.assert_array_equal(second["weights"][:30, :16], 1)
    assert second["weights"][:30, 16:].mean() < 0.5
    assert "not moved along" in rows(tmp_path / "out")["9.png"]["notes"][0]


def test_a_run_with_opencv_says_nothing_of_it(film, style, tmp_path, devices, monkeypatch):
    pytest.importorskip("cv2")
    ear = Ear()
    run(film / "b", style, tmp_path / "out", progress=ear)
    assert not any("OpenCV" in text for text in ear.said)


@pytest.mark.parametrize("broken", ["header", "pixels", "results"])
def test_a_broken_frame_is_a_failed_row_and_the_next_starts_from_the_last_good_one(
    film, style, tmp_path, devices, unmoved, spoilt, broken
):
    path = film / "b" / "9.png"
    if broken == "results":
        spoilt[levels(path).tobytes()] = 2
    else:
        path.write_bytes(path.read_bytes()[: 20 if broken == "header" else -30])
    summary = run(film / "b", style, tmp_path / "out")
    assert (summary.done, summary.failed) == (NUMBER - 1, 1)
    assert rows(tmp_path / "out")["9.png"]["status"] == "failed"
    found = starts(tmp_path / "out")
    assert (found["8.png"], found["10.png"], found["11.png"]) == ("", "8.png", "10.png")


def test_a_broken_first_frame_lets_the_second_begin_afresh(film, style, tmp_path, devices, unmoved):
    (film / "b" / "8.png").write_bytes(b"no picture")
    assert run(film / "b", style, tmp_path / "out").done == NUMBER - 1
    assert starts(tmp_path / "out") | {"8.png": ""} == chained("9.png", "10.png", "11.png") | {"8.png": ""}


def test_a_second_try_holds_its_shot_up_and_no_other(film, style, tmp_path, devices, unmoved, spoilt):
    spoilt[levels(film / "b" / "9.png").tobytes()] = 1
    run(film, style, tmp_path / "out")
    assert "second try" in " ".join(rows(tmp_path / "out")["b/9.png"]["notes"])
    assert starts(tmp_path / "out") == {k: v for shot in SHOTS for k, v in chained(*names(shot)).items()}


def test_a_frame_of_another_shape_begins_afresh(film, style, tmp_path, devices, unmoved):
    save(film / "b" / "10.png", photo(20, 32, 5))
    save(film / "b" / "11.png", photo(20, 32, 5))
    run(film / "b", style, tmp_path / "out")
    assert starts(tmp_path / "out") == {"8.png": "", "9.png": "8.png", "10.png": "", "11.png": "10.png"}
    assert "begun afresh: the frame before, 9.png, has another shape" in rows(tmp_path / "out")["10.png"]["notes"]


def test_a_frame_begins_afresh_where_the_one_before_cannot_be_read(film, style, tmp_path, devices, monkeypatch):
    def gone(self, folder, key, size):
        raise ImageError("cannot be read")

    monkeypatch.setattr(Reader, "result", gone)
    assert run(film / "b", style, tmp_path / "out").done == NUMBER
    assert set(starts(tmp_path / "out").values()) == {""}
    assert "begun afresh: the frame before, 8.png, cannot be read" in rows(tmp_path / "out")["9.png"]["notes"]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(film, style, tmp_path, devices, unmoved):
    """A kill leaves outputs and a beginning of the manifest's rows, at every length."""
    whole = tmp_path / "whole"
    run(film, style, whole)
    lines = (whole / "manifest.jsonl").read_text().splitlines(keepends=True)
    for kept in (0, 5, 11):
        (whole / "manifest.jsonl").write_text("".join(lines[:kept]))
        before = files(whole)
        assert run(film, style, whole).rendered == len(lines) - kept
        assert files(whole) == before and len(rows(whole)) == 12


def test_a_stopped_run_and_the_next_make_what_one_run_makes(film, style, tmp_path, devices, unmoved, monkeypatch):
    run(film, style, tmp_path / "whole")
    monkeypatch.setenv("STUB_SECONDS", "0.3")
    stop = Stop()
    summary = run(film, style, tmp_path / "out", stop=stop, progress=Ear(1, lambda: stop.request("enough")))
    assert summary.stopped == "enough" and 1 <= summary.rendered < 12
    assert len(rows(tmp_path / "out")) == summary.rendered
    monkeypatch.delenv("STUB_SECONDS")
    assert run(film, style, tmp_path / "out").rendered == 12 - summary.rendered
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_frames_after_a_changed_one_are_rendered_again(film, style, tmp_path, devices, unmoved):
    run(film, style, tmp_path / "out")
    before = files(tmp_path / "out")
    save(film / "a" / "f10.png", photo(32, 30, 9))
    assert run(film, style, tmp_path / "out").rendered == 2
    after = files(tmp_path / "out")
    assert {key for key in before if before[key] != after[key]} == {"a/f10.png", "a/f11.png"}


def test_a_limit_counts_frames(film, style, tmp_path, devices, unmoved):
    assert run(film, style, tmp_path / "out", limit=6).rendered == 6
    assert set(rows(tmp_path / "out")) == {*names("a/f#.png"), *names("a/g#.png")[:2]}
    run(film, style, tmp_path / "out"), run(film, style, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_shards_keep_shots_whole(film, style, tmp_path, devices, unmoved):
    run(film, style, tmp_path / "whole")
    parts = [set(rows_of_shard(film, style, tmp_path / "out", f"{n}/3")) for n in (1, 2, 3)]
    for shot in SHOTS:
        assert sum(not part.isdisjoint(names(shot)) for part in parts) == 1
    assert sum(map(len, parts)) == 12 and files(tmp_path / "out") == files(tmp_path / "whole")


def rows_of_shard(film, style, output, shard):
    ear = Ear()
    run(film, style, output, shard=shard, progress=ear)
    return [row.key for row in ear.rows]


def test_a_plan_counts_frames_and_shots(film, style, tmp_path, devices):
    (film / "b" / "9.png").write_bytes(b"no picture")
    (film / "b" / "notes1.txt").write_text("no picture either")
    settings = RenderSettings(size=32, evaluations=10, batch=8, workers=0, frames=True)
    found = forecast(film, style, tmp_path / "out", settings, lambda ready: stub.StubDevice(), measure=False)
    assert (found.render, found.failed, found.skipped, found.shots) == (11, 1, 1, 3)
    assert [(one.images, one.batch) for one in found.buckets] == [(11, 3)]
    assert any("3 shots" in line for line in found.lines())


@pytest.mark.parametrize("rule", ["random", "cycle"])
def test_a_shot_has_one_style(film, style, tmp_path, devices, unmoved, rule):
    for n in range(3):
        save(tmp_path / "styles" / f"{n}.png", painting() ^ np.uint8(16 * n))
    run(film, tmp_path / "styles", tmp_path / "out", assign=rule)
    found = {shot: {rows(tmp_path / "out")[name]["style"] for name in names(shot)} for shot in SHOTS}
    assert all(len(styles) == 1 for styles in found.values())
    assert rule == "random" or found["a/f#.png"] != found["a/g#.png"]  # the next shot of a folder has the next style
    assert run(film, tmp_path / "styles", tmp_path / "out", assign=rule).rendered == 0


def test_a_shot_whose_style_is_broken_gets_another_one_as_a_whole(film, style, tmp_path, devices, unmoved):
    for n in range(3):
        save(tmp_path / "styles" / f"{n}.png", painting() ^ np.uint8(16 * n))
    (tmp_path / "styles" / "1.png").write_bytes(b"broken")
    run(film, tmp_path / "styles", tmp_path / "out")
    done = {key: row["style"] for key, row in rows(tmp_path / "out").items() if row["status"] == "done"}
    assert len(done) == 12 and "1.png" not in done.values()
    assert all(len({done[name] for name in names(shot)}) == 1 for shot in SHOTS)
    assert run(film, tmp_path / "styles", tmp_path / "out").rendered == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(scales="auto"), "scales is 'auto' with frames"),
        (dict(preset="painterly"), "Give scales none"),
        (dict(colors="content"), "colors is 'content'"),
        (dict(existing="continue"), "existing is 'continue'"),
        (dict(colors="luminance"), "colors is 'luminance'"),
        (dict(strength=0.5), "strength is 0.5"),
        (dict(styles_per_image=2), "styles_per_image is 2"),
        (dict(assign="each"), "Give assign random or cycle"),
        (dict(assign="balanced"), "Give assign random or cycle"),
        (dict(preset="gatys"), "Give a temporal_weight"),
        (dict(frames=False, temporal_weight=3.0), "temporal_weight is 3 without frames. Give frames"),
    ],
)
def test_what_frames_cannot_have_is_refused(fields, words):
    with pytest.raises(SettingsError) as error:
        RenderSettings(**{"size": 64, "frames": True, **fields})
    assert words in str(error.value)


def test_masks_and_the_start_of_a_folder_are_refused(film):
    for fields in (dict(content_masks=film, keep="black"), dict(init=str(film))):
        with pytest.raises(SettingsError, match="with frames"):
            RenderSettings(frames=True, **fields)


def test_the_temporal_weight_has_its_default_with_frames_only():
    assert RenderSettings(frames=True).objective().temporal_weight == film_settings.TEMPORAL_WEIGHT
    assert f"[default: {film_settings.TEMPORAL_WEIGHT:g} with frames]" in StylizeSettings.__doc__
    assert RenderSettings(frames=True, temporal_weight=0).objective().temporal_weight == 0
    assert RenderSettings().objective().temporal_weight == 0 == RenderSettings().pixels()["temporal_weight"]
    assert RenderSettings(frames=True, preset="gatys", temporal_weight=2).objective().temporal_weight == 2


def test_outputs_elsewhere_than_in_a_folder_are_refused(film, style, tmp_path, devices):
    with pytest.raises(InputError, match="sink folders"):
        run(film, style, tmp_path / "out", sink="memory")


def test_an_old_folder_goes_on_and_one_of_frames_is_another_run(film, style, tmp_path, devices):
    render(film, style, tmp_path / "out", QUICK)
    path = tmp_path / "out" / "settings.json"
    known = json.loads(path.read_text())
    assert not known["decides"]["settings"].pop("frames") and not known["decides"]["settings"].pop("temporal_weight")
    path.write_text(json.dumps(known))
    assert render(film, style, tmp_path / "out", QUICK).rendered == 0
    with pytest.raises(SettingsMismatch, match="frames"):
        run(film, style, tmp_path / "out")


def test_pictures_without_frames_are_what_they_were(film, style, tmp_path, devices):
    render(film, style, tmp_path / "out", QUICK)
    assert all("before" not in inputs for _, _, inputs in devices[0].inputs)
    assert {size for _, size in devices[0].put} == {QUICK.batch}
    assert Counter(row["status"] for row in rows(tmp_path / "out").values()) == {"done": 12}
    assert not any(row["notes"] for row in rows(tmp_path / "out").values())
