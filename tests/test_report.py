"""Progress and contact sheets."""

import io

import numpy as np
import pytest
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.data.manifest import Row
from jaxstyle.report import progress as P
from jaxstyle.report.sheet import CELL, contact_sheet, style_sheet


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_progress_tells_images_rate_loss_and_failures(stream):
    out = stream()
    with P.progress(out) as watcher:
        watcher.begin(4, 400, 3)
        watcher.advance(100, 2.5)
        watcher.row(Row("a.jpg", "done"))
        watcher.row(Row("caf\udce9.png", "failed", "cut short"))
        watcher.advance(100, float("nan"))
        state = watcher.state()
    assert state.startswith("1/4 images") and "images/s" in state and "loss 2.5" in state and state.endswith("left")
    text = out.getvalue()
    assert "3 inputs finished before" in text and "caf\\xe9.png: cut short" in text
    assert text.encode("utf-8")  # printable wherever it goes


def test_a_log_is_bounded(monkeypatch):
    out, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(P.time, "monotonic", lambda: clock[0])
    with P.progress(out) as watcher:
        watcher.begin(10, 100_000, 0)
        for _ in range(1000):
            clock[0] += 1
            watcher.advance(100, 1.0)
        for k in range(500):
            watcher.row(Row(f"{k}.jpg", "failed", "bad"))
    lines = out.getvalue().splitlines()
    assert 1000 / P.LINE_SECONDS - 2 < sum("images/s" in line for line in lines) <= 1000 / P.LINE_SECONDS + 1
    assert sum(line.startswith("failed") for line in lines) == P.NOTABLE


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
    contact_sheet(tmp_path / "sheet.png", style, pairs)
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {c for _, c in sheet.getcolors(10**6)}
        assert sheet.width < 6 * CELL
    for k in range(6):
        assert (10 * k,) * 3 in colours and (10 * k + 5,) * 3 in colours


def test_a_style_sheet_has_a_row_a_style(tmp_path):
    photos = [save(tmp_path / f"{k}.png", photo(90, 60, k)) for k in range(3)]
    rows = [(save(tmp_path / "s.png", painting()), photos), (save(tmp_path / "t.png", painting()), photos)]
    style_sheet(tmp_path / "sheet.png", photos, rows)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 90 and sheet.height > 3 * 60
