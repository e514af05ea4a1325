"""Progress and contact sheets."""

import io

import numpy as np
import pytest
import stub
from command import run
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.data.rows import Row
from jaxstyle.report import progress as P
from jaxstyle.report import sheet as sheets
from jaxstyle.report.sheet import CELL, PAPER, contact_sheet, style_sheet

LIMIT = 10**6


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list, that only the test moves on."""
    now = [100.0]
    monkeypatch.setattr(P.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_tells_images_rate_loss_and_failures(stream, clock):
    out = stream()
    with P.progress(out) as listener:
        listener.begin(100)
        listener.finished(3)
        listener.inputs(7)
        listener.advance(100, 2.5)
        listener.row(Row("a.jpg", "done", evaluations=100))
        listener.row(Row("caf\udce9.png", "failed", "cut short"))
        listener.advance(50, float("nan"))
        listener.say("The device is out of memory.")
        clock[0] += 30
        state = listener.state()
    # 2.5 of 4 inputs in 30 s
    assert state == "1 images, 2 of 4 inputs (1 failed), 0.05 images/s, loss 2.5, 0:18 left"
    text = out.getvalue()
    assert "7 inputs, 3 finished before" in text and "caf\\xe9.png: cut short" in text and "out of memory" in text
    assert text.encode("utf-8")  # printable wherever it goes


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_while_the_inputs_are_being_counted_nothing_is_said_of_the_rest(stream, clock):
    with P.progress(stream()) as listener:
        listener.begin(10)
        clock[0] += 2
        assert listener.state() == "0 images, 0" and listener.part() == 0
        listener.advance(10, 1.5)
        listener.row(Row("a.jpg", "done", evaluations=10))
        assert listener.state() == "1 images, 1, 0.5 images/s, loss 1.5" and listener.part() == 0
        listener.inputs(4)
        assert listener.part() == 0.25 and listener.state().endswith("0:06 left")


def test_what_second_tries_take_back_no_longer_counts(clock):
    """Four images of two lanes: both lanes of the first two begin again after their whole budget."""
    with P.progress(io.StringIO()) as listener:
        listener.begin(100)
        listener.inputs(4)
        listener.advance(200, 2.0)
        clock[0] += 10
        assert listener.part() == 0.5
        listener.advance(-200, float("nan"))
        assert listener.part() == 0 and listener.loss == 2.0 and "left" not in listener.state()
        listener.advance(100, 3.0)
        assert listener.part() == 0.25 and listener.state().endswith("0.1 images/s, loss 3, 0:30 left")
        listener.advance(100, 3.0)
        for name in "ab":
            listener.row(Row(f"{name}.jpg", "done", evaluations=100))
        assert listener.part() == 0.5 and listener.state().endswith("0:10 left")


def test_the_part_that_is_done_never_exceeds_the_whole():
    with P.progress(io.StringIO()) as listener:
        listener.begin(10)
        listener.inputs(2)
        parts = [listener.part()]
        for k in range(3):  # one came while the others were counted
            listener.advance(10, 1.0)
            parts.append(listener.part())
            listener.row(Row(f"{k}.jpg", "done", evaluations=10))
            parts.append(listener.part())
        listener.inputs(0)
        assert parts == [0, 0.5, 0.5, 1, 1, 1, 1] and listener.part() == 0
        assert "left" in listener.state()


def test_a_second_run_begins_at_nothing(clock):
    with P.progress(io.StringIO()) as listener:
        listener.begin(10)
        listener.finished(1)
        listener.inputs(3)
        listener.advance(10, 1.0)
        listener.row(Row("a.jpg", "failed", "bad", evaluations=10))
        clock[0] += 50
        listener.begin(20)
        assert listener.state() == "0 images, 0" and listener.part() == 0
        listener.inputs(1)
        listener.advance(10, 2.0)
        clock[0] += 2
        assert listener.state() == "0 images, 0 of 1 inputs, 0.25 images/s, loss 2, 0:02 left"


def test_a_log_is_bounded(clock):
    out = io.StringIO()
    with P.progress(out) as listener:
        listener.begin(100)
        listener.inputs(100_000)
        for _ in range(1000):
            clock[0] += 1
            listener.advance(100, 1.0)
        for k in range(500):
            listener.row(Row(f"{k}.jpg", "failed", "bad"))
            listener.row(Row(f"{k}.txt", "skipped", "no picture"))
    lines = out.getvalue().splitlines()
    assert 1000 / P.LINE_SECONDS - 2 < sum("images/s" in line for line in lines) <= 1000 / P.LINE_SECONDS + 1
    assert sum(line.startswith("failed: ") for line in lines) == P.NOTABLE + 1
    assert "further ones are counted here" in lines[-1]


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3661, "1:01:01"), (360000, "100:00:00")])
def test_durations(seconds, text):
    assert P._duration(seconds) == text


def test_a_contact_sheet_shows_every_pair_and_survives_missing_files(tmp_path):
    style = save(tmp_path / "style.png", painting(500, 400))
    pairs = [
        (save(tmp_path / f"{k}.png", np.full((60, 90, 3), 10 * k, np.uint8)),
         save(tmp_path / f"{k}r.png", np.full((60, 90, 3), 10 * k + 5, np.uint8)))
        for k in range(6)
    ]  # fmt: skip
    pairs.append((tmp_path / "gone.png", tmp_path / "gone-too.png"))
    contact_sheet(tmp_path / "sheet.png", style, pairs, LIMIT)
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {c for _, c in sheet.getcolors(10**6)}
        assert sheet.width < 6 * CELL
    for k in range(6):
        assert (10 * k,) * 3 in colours and (10 * k + 5,) * 3 in colours


def test_a_style_sheet_has_a_row_a_style(tmp_path):
    photos = [save(tmp_path / f"{k}.png", photo(90, 60, k)) for k in range(3)]
    rows = [(save(tmp_path / "s.png", painting()), photos), (save(tmp_path / "t.png", painting()), photos)]
    style_sheet(tmp_path / "sheet.png", photos, rows, LIMIT)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 90 and sheet.height > 3 * 60


def test_a_sheet_leaves_out_pictures_over_the_limit_of_pixels(tmp_path):
    photos = [save(tmp_path / f"{k}.png", np.full((60, 90, 3), 50 + k, np.uint8)) for k in range(2)]
    style = save(tmp_path / "style.png", np.full((61, 90, 3), 200, np.uint8))
    for limit, shown in ((90 * 61, True), (90 * 60, False)):
        contact_sheet(tmp_path / "contact.png", style, [(photos[0], photos[1])], limit)
        style_sheet(tmp_path / "style_sheet.png", photos[:1], [(style, photos[1:])], limit)
        for name in ("contact.png", "style_sheet.png"):
            with Image.open(tmp_path / name) as sheet:
                colours = {c for _, c in sheet.getcolors(10**6)}
            assert {(50,) * 3, (51,) * 3} <= colours and ((200,) * 3 in colours) == shown
    contact_sheet(tmp_path / "contact.png", style, [(photos[0], photos[1])], 90 * 60 - 1)
    with Image.open(tmp_path / "contact.png") as sheet:
        assert sheet.getcolors() == [(sheet.width * sheet.height, PAPER)]


def test_the_sheet_of_a_run_has_the_run_s_limit_of_pixels(folder, base, monkeypatch):
    stub.install(monkeypatch.setattr)
    asked = []
    monkeypatch.setattr(sheets, "contact_sheet", lambda *arguments: asked.append(arguments[-1]))
    assert run(*base, "--max-pixels", 99_000_000) == 0
    assert asked == [99_000_000]


@pytest.mark.parametrize(
    ("photograph", "result", "size"),
    [
        ((1000, 500), (800, 400), (64 + 320 + 36, 160 + 160 + 36)),  # both are reduced
        ((100, 50), (60, 30), (60 + 60 + 36, 60 + 30 + 36)),  # the photograph and the style shrink to the result
    ],
)
def test_pictures_of_a_contact_sheet_are_as_large_as_the_result_and_fit_a_cell(tmp_path, photograph, result, size):
    paths = [save(tmp_path / f"{k}.png", photo(*pixels)) for k, pixels in enumerate((photograph, result))]
    contact_sheet(tmp_path / "sheet.png", save(tmp_path / "style.png", painting()), [tuple(paths)], LIMIT)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == size
