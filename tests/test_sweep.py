"""`jaxstyle sweep`: combinations of settings, a run for each, and one labelled sheet."""

import json

import numpy as np
import pytest
import stub
from command import run
from pictures import painting, photo, save
from PIL import Image

from jaxstyle.arguments import ALTERNATIVES
from jaxstyle.errors import SettingsError
from jaxstyle.report.sheet import PAPER, labelled
from jaxstyle.variants import variants


def told(line):
    return [dict(one.values) for one in variants(line.split(), ALTERNATIVES)]


def test_values_with_commas_are_alternatives_and_the_last_flag_changes_fastest():
    line = "sweep in --style a.jpg,b.jpg --size 64 --style-weight=10,40 --init matched,content"
    found = variants(line.split(), ALTERNATIVES)
    assert [one.name for one in found] == [
        "style-weight=10_init=matched", "style-weight=10_init=content",
        "style-weight=40_init=matched", "style-weight=40_init=content",
    ]  # fmt: skip
    one = "sweep in --style a.jpg,b.jpg --size 64 --style-weight 10 --init content"
    assert found[1].words == (*one.split(),)
    assert found[0].label == "style-weight=10\ninit=matched"


def test_a_single_value_is_no_alternative_and_lists_are_separated_by_semicolons():
    assert told("sweep in --size 64") == [{}] and variants(["sweep"], ALTERNATIVES)[0].name == "result"
    assert told("sweep --evaluations 8;4,2 in") == [{"--evaluations": "8"}, {"--evaluations": "4,2"}]
    assert told("sweep --evaluations 4,2 in") == [{}]
    assert told("sweep --style-layers relu1_1,relu2_1 in") == [{}]  # takes several words
    assert told("sweep --seed 1,1,2 in") == [{"--seed": "1"}, {"--seed": "2"}]


def test_too_many_combinations_are_refused():
    many = ",".join(map(str, range(21)))
    with pytest.raises(SettingsError, match="has 441 combinations. Give at most 400"):
        told(f"sweep in --seed {many} --style-weight {many}")


@pytest.fixture
def place(tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", photo(64, 32))
    save(tmp_path / "style.png", painting())
    stub.install(monkeypatch.setattr)
    return tmp_path


def swept(place, *more):
    line = ("sweep", place / "in", "--style", place / "style.png", "-o", place / "out", "--size", "64")
    return run(*line, "--evaluations", "4", "--workers", "0", *more)


def test_every_combination_is_a_run_of_its_own_and_the_sheet_has_all(place, capsys):
    assert swept(place, "--seed", "1,2,3", "--colors", "style,content") == 0
    folders = sorted(path.name for path in (place / "out").iterdir())
    assert len(folders) == 7 and "contact_sheet.png" in folders
    settings = json.loads((place / "out" / "seed=2_colors=content" / "settings.json").read_text())["decides"][
        "settings"
    ]
    assert (settings["seed"], settings["colors"], settings["size"]) == (2, "content", 64)
    with Image.open(place / "out" / "contact_sheet.png") as sheet:
        assert sheet.width == 12 + 2 * (64 + 12) and sheet.height > 3 * (32 + 12)
    out, err = capsys.readouterr()
    assert out.strip() == str(place / "out" / "contact_sheet.png") and "6 combinations: 6 results done, 0 failed" in err
    assert swept(place, "--seed", "1,2,3", "--colors", "style,content") == 0
    assert "\n0 rendered" not in capsys.readouterr().err


def test_many_values_of_one_flag_fill_rows(place):
    assert swept(place, "--seed", "1,2,3,4,5") == 0
    with Image.open(place / "out" / "contact_sheet.png") as sheet:
        assert sheet.width == 12 + 3 * (64 + 12) and 2 * (32 + 12) < sheet.height < 3 * (32 + 12) + 60


def test_a_wrong_value_is_refused_before_anything_is_rendered(place, capsys):
    assert swept(place, "--style-weight", "10,heavy") == 2
    assert "heavy" in capsys.readouterr().err and not (place / "out").exists()


def test_a_photograph_that_cannot_be_read_leaves_its_place_empty(place):
    (place / "in" / "b.png").write_bytes((place / "in" / "a.png").read_bytes()[:60])
    assert swept(place, "--seed", "1,2") == 3
    assert (place / "out" / "contact_sheet.png").exists()


def test_a_label_stands_above_its_picture_and_wraps():
    cell = np.zeros((30, 60, 3), np.uint8)
    short, long = labelled(cell, "a=1"), labelled(cell, "style-weight=10000000\na=1")
    assert short.shape[1] == long.shape[1] == 60 and 30 < short.shape[0] < long.shape[0]
    np.testing.assert_array_equal(long[-30:], cell)
    strip = long[:-30].reshape(-1, 3)
    assert (strip == PAPER).all(1).any() and (strip < 100).all(1).any()
