"""`jaxstyle replay`: one row again, from what the folder records; what has changed since is refused, and told."""

from __future__ import annotations

import json
import shutil
import tarfile

import numpy as np
import pytest
from command import run
from pictures import painting, photo, save
from whole_runs import QUICK, rows

from jaxstyle.engine.pipeline import render
from jaxstyle.engine.replay import replay
from jaxstyle.errors import InputError, SettingsMismatch
from jaxstyle.planning.places import settings_of
from jaxstyle.settings import RenderSettings

pytestmark = pytest.mark.usefixtures("devices")


@pytest.fixture
def place(folder):
    save(folder / "in" / "c.png", photo(24, 32, 2))
    return folder


def rendered(place, **options):
    return render(place / "in", place / "style.png", place / "out", QUICK, **options)


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_row_again_is_the_same_file_and_the_folder_is_left_alone(place, devices, monkeypatch):
    monkeypatch.chdir(place)
    render("in", "style.png", "out", QUICK)  # recorded as absolute
    before = snapshot(place / "out")
    monkeypatch.chdir("/")
    found = replay(place / "out", "deep/b.png", place / "again.png")
    assert found.equal and found.recorded == found.made == rows(place / "out")["deep/b.png"]["output_sha256"]
    assert (place / "again.png").read_bytes() == (place / "out" / "deep" / "b.png").read_bytes()
    assert snapshot(place / "out") == before
    assert len(devices[-1].inputs) == 1  # only this image
    assert found.lines()[0] == "deep/b.png: the same, byte for byte"


def test_the_command_exits_with_0_and_3(place, capfd):
    rendered(place)
    assert run("replay", place / "out", "a.jpg", "--json") == 0
    assert json.loads(capfd.readouterr().out)["equal"] is True
    ledger = place / "out" / "manifest.jsonl"
    sha256 = rows(place / "out")["c.png"]["output_sha256"]
    ledger.write_text(ledger.read_text().replace(sha256, "ab" * 32))
    assert run("replay", place / "out", "c.png") == 3
    told = capfd.readouterr().out
    assert "c.png: not the recorded checksum, and the old output is not there to compare with" in told
    assert "another device, other cores or other versions" in told
    assert run("replay", place / "out", "d.png") == 2
    assert "no row has the key d.png" in capfd.readouterr().err


def test_another_picture_is_told_in_levels(place, monkeypatch):
    import stub

    rendered(place)
    image = stub.StubBatch._image
    monkeypatch.setattr(stub.StubBatch, "_image", lambda self, lane: np.clip(image(self, lane) + 2 / 255, 0, 1))
    found = replay(place / "out", "c.png", place / "again.png")
    assert not found.equal and 1 < found.difference[0] <= 2 == round(found.difference[1])
    assert found.lines()[0].startswith("c.png: different: by 2 levels of 255 on average, 2 at most") and found.lines()[
        -1
    ].endswith("again.png")


@pytest.mark.parametrize("what", ["in/c.png", "style.png"])
def test_a_changed_input_or_style_is_refused_unless_told_otherwise(place, what):
    rendered(place)
    save(place / what, photo(24, 32, 9))
    error = InputError if what == "in/c.png" else SettingsMismatch
    message = "has changed since" if what == "in/c.png" else "out holds results of other settings: style is"
    with pytest.raises(error, match=rf"{message}.*Give --anyway"):
        replay(place / "out", "c.png")
    assert replay(place / "out", "c.png", anyway=True).equal == (what == "style.png")  # the stub looks at no style


def test_inputs_and_style_that_were_moved_are_named(place):
    rendered(place)
    shutil.move(place / "in", place / "moved")
    with pytest.raises(InputError, match="does not exist"):
        replay(place / "out", "c.png")
    with pytest.raises(InputError, match=r"no input c.png in .*deep. Say where it lies: --input"):
        replay(place / "out", "c.png", inputs=[place / "moved" / "deep"])
    save(place / "other.png", painting())
    found = replay(place / "out", "c.png", inputs=[place / "moved"], style=[str(place / "other.png")])
    assert found.equal


def test_assigned_styles_formats_and_positions_come_out_again(place):
    styles = place / "styles"
    for n in range(5):
        save(styles / f"{n}.png", painting(40 + n, 40))
    options = {"assign": "cycle", "styles_per_image": 2, "output_format": "png", "balance_by": "none"}
    render(place / "in", styles, place / "out", QUICK, **options)
    every = rows(place / "out")
    assert len(every) == 6
    for key in sorted(every)[::2]:  # one of each photograph
        assert replay(place / "out", key).equal, key
    with pytest.raises(InputError, match=r"a.jpg has several outputs: a~"):
        replay(place / "out", "a.jpg")
    chosen = every["c~" + every[next(key for key in every if key.startswith("c~"))]["style"][0] + ".png"]
    save(styles / chosen["style"], painting(33, 33))
    with pytest.raises(InputError, match=r"the style .* has changed since"):
        replay(place / "out", chosen["key"])


def test_the_input_of_one_output_names_it(place):
    render(place / "in", place / "style.png", place / "out", QUICK, output_format="png")
    found = replay(place / "out", "a.jpg")
    assert found.key == "a.jpg.png" and found.equal


def test_what_cannot_come_out_the_same_says_why(place):
    rendered(place)
    render(place / "in", place / "style.png", place / "out", QUICK, existing="continue", evaluations=12)
    with pytest.raises(InputError, match="was continued from an output that is gone"):
        replay(place / "out", "c.png")
    render(place / "in", place / "style.png", place / "film", QUICK, frames=True)
    with pytest.raises(InputError, match="is a frame"):
        replay(place / "film", "c.png")
    (place / "in" / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    render(place / "in", place / "style.png", place / "film", QUICK, frames=True)
    with pytest.raises(InputError, match=r"bad.jpg is failed: .*Give the key of an output"):
        replay(place / "film", "bad.jpg")


@pytest.mark.parametrize(
    ("target", "message"),
    [("a.jpg", "is not called as the output is"), ("out/x.png", "in the output folder"), ("in/c.png", "already"),
     ("none/x.png", "does not exist")],
)  # fmt: skip
def test_files_that_would_harm_something_are_refused(place, target, message):
    rendered(place)
    with pytest.raises(InputError, match=message):
        replay(place / "out", "c.png", place / target)


def test_settings_are_those_that_were_recorded(place):
    """Also where they are recorded in other words: scales, budgets of each, files, layers."""
    save(place / "start.png", photo(20, 20))
    more = {"scales": "32,48", "evaluations": "4,6", "init": place / "start.png", "style_layers": ("relu1_1",),
            "seed": 7, "quality": 90, "batch": 3, "size": 48, "solver": "adam", "averaging": 0.5, "devices": 1,
            "preset": "gatys"}  # fmt: skip
    settings = RenderSettings(**more)
    render(place / "in", place / "style.png", place / "out", settings, workers=0)
    recorded = json.loads((place / "out" / "settings.json").read_text())
    row = type("Row", (), {"batch": 3, "input_size": (24, 32)})
    again = settings_of(recorded, row, recorded["about"]["places"])
    pixels = settings.pixels() | {"precision": "float32"}
    assert again.pixels() == pixels and (again.batch, again.devices) == (3, 1)
    assert replay(place / "out", "c.png").equal


def test_a_folder_of_an_older_version_asks_where_the_inputs_lie(place):
    rendered(place)
    path = place / "out" / "settings.json"
    recorded = json.loads(path.read_text())
    del recorded["about"]["places"]
    path.write_text(json.dumps(recorded))
    with pytest.raises(InputError, match="does not say where the input lies"):
        replay(place / "out", "c.png")
    assert replay(place / "out", "c.png", inputs=[place / "in"], style=[str(place / "style.png")]).equal


def test_the_batch_is_the_rows(place, devices):
    rendered(place, limit=1)
    rendered(place, batch=2)  # settings.json keeps the batch of the first run
    batches = {key: row["batch"] for key, row in rows(place / "out").items()}
    assert sorted(batches.values()) == [2, 2, 4]
    for key, batch in batches.items():
        assert replay(place / "out", key).equal
        assert [lanes for _, lanes in devices[-1].put] == [batch]


def test_a_row_of_an_archive_comes_out_again(place):
    with tarfile.open(place / "data.tar", "w") as archive:
        for name in ("0.a.png", "0.b.png"):
            archive.add(place / "in" / "c.png", name)
    render(place / "data.tar", place / "style.png", place / "out", QUICK, member="b.png")
    (key,) = rows(place / "out")
    assert replay(place / "out", key).equal
