"""Progress and contact sheets."""

import io
import os

import numpy as np
import pytest
import stub
from command import run
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.data.rows import Row
from jaxstyle.engine import publish
from jaxstyle.errors import StorageError
from jaxstyle.report import progress as P
from jaxstyle.report import sheet as sheets
from jaxstyle.report.sheet import PAPER, contact_sheet, style_sheet


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
    assert P.duration(seconds) == text


def flat(level, width=90, height=60):
    return np.full((height, width, 3), level, np.uint8)


def colours(path):
    with Image.open(path) as sheet:
        return {colour for _, colour in sheet.getcolors(10**6)}, sheet.size


def test_a_contact_sheet_shows_every_pair_and_survives_missing_pictures(tmp_path):
    pairs = [(flat(10 * k), flat(10 * k + 5), None) for k in range(6)]
    contact_sheet(tmp_path / "sheet.png", painting(500, 400), [*pairs, (None, None, None)])
    shown, size = colours(tmp_path / "sheet.png")
    assert {(level,) * 3 for pair in pairs for level in (pair[0][0, 0, 0], pair[1][0, 0, 0])} <= shown
    assert size == (90 * 5 + 12 * 6, 72 + 3 * 60 + 12 * 5)  # the style has the results' longest side
    contact_sheet(tmp_path / "none.png", None, [(None, None, None)])
    assert colours(tmp_path / "none.png")[0] == {PAPER}


def test_a_style_sheet_has_a_row_a_style(tmp_path):
    rows = [(flat(200), [flat(1), flat(2)]), (flat(201), [flat(3), None])]
    style_sheet(tmp_path / "sheet.png", [flat(50), flat(51)], rows)
    shown, size = colours(tmp_path / "sheet.png")
    assert {(level,) * 3 for level in (200, 201, 1, 2, 3, 50, 51)} <= shown and size == (3 * 90 + 48, 3 * 60 + 48)


def test_the_sheet_of_a_run_opens_nothing_and_shows_what_the_run_made(folder, base, monkeypatch):
    """Inputs and outputs that have become pipes since the run read and wrote them would hang it."""
    stub.install(monkeypatch.setattr)
    monkeypatch.setattr(publish, "THUMBNAIL", 16)
    save(folder / "in" / "wide.png", photo(320, 80))
    drawn, draw = [], sheets.contact_sheet

    def drawing(path, style, examples):
        for one in [*folder.glob("in/*.*"), *folder.glob("out/*.??g"), folder / "style.png"]:
            one.unlink()
            os.mkfifo(one)
        drawn.append((style, examples))
        draw(path, style, examples)

    monkeypatch.setattr(sheets, "contact_sheet", drawing)
    assert run(*base) == 0
    style, examples = drawn[0]
    assert style.dtype == np.uint8 and len(examples) == 3
    assert sorted(one.content.shape for one in examples)[0] == (4, 16, 3)
    assert all(one.content.shape == one.result.shape and one.result.dtype == np.uint8 for one in examples)
    assert all(np.abs(one.content.astype(int) + one.result - 255).max() <= 12 for one in examples)  # as the stub does
    with Image.open(folder / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 12


def test_a_sheet_that_cannot_be_drawn_is_a_message(folder, base, monkeypatch, capfd):
    stub.install(monkeypatch.setattr)

    def full(*_):
        raise StorageError("No space left on device", "Free space.")

    monkeypatch.setattr(sheets, "contact_sheet", full)
    assert run(*base) == 0
    told = capfd.readouterr().err
    assert "The contact sheet was not drawn: No space left on device" in told and "Contact sheet:" not in told
