"""docs/formats.md describes every field that is written. Test files of the other writers compare theirs too."""

import json
import typing
from dataclasses import asdict
from pathlib import Path
from typing import NotRequired, TypedDict

import pytest
import stub
from documents import format_tables, generate
from pictures import painting, photo, save
from whole_runs import QUICK

from jaxstyle.bench import report as bench
from jaxstyle.data import audit, lock, shards, targets_file
from jaxstyle.data.packing.base import Packed
from jaxstyle.data.publishing import Published
from jaxstyle.data.recorded import FORMAT, About, Decides, Places, Recorded
from jaxstyle.doctor import Finding
from jaxstyle.engine.pipeline import render
from jaxstyle.engine.replay import Replayed
from jaxstyle.planning import forecast, saved_targets
from jaxstyle.report.gallery import Written
from jaxstyle.settings import RenderSettings

json_names = format_tables.json_names
MEASURED = bench.Report(
    bench.Machine("a CPU", "cpu", 1, 2, "", ""), "float32", 200, bench.Rates(1.0, 1.0, 1.0),
    (bench.Cell(64, 64, 1, 2, 3, 0.1, 1.0, 100, None),), bench.Start(64, 64, 1, 1.0, None), None, (), 9.0,
)  # fmt: skip


def needed(owner):
    """The fields that are never absent."""
    hints = typing.get_type_hints(owner, include_extras=True)
    return {name for name, hint in hints.items() if typing.get_origin(hint) is not NotRequired}


def test_settings_json_has_the_fields_that_are_described(tmp_path):
    save(tmp_path / "photos" / "a.png", photo(30, 24))
    save(tmp_path / "init.png", photo(30, 24, 1))
    (tmp_path / "styles.csv").write_text("image,style\na.png,style.png\n")
    save(tmp_path / "style.png", painting())
    seen: dict[type, set[str]] = {}
    assigned = {"styles": "assign", "assign": str(tmp_path / "styles.csv")}
    for number, more in enumerate(({}, {"init": str(tmp_path / "init.png")}, assigned)):
        with pytest.MonkeyPatch.context() as patch:
            stub.install(patch.setattr)
            render(tmp_path / "photos", [tmp_path / "style.png"], tmp_path / f"out{number}", QUICK, **more)
        recorded = json.loads((tmp_path / f"out{number}" / "settings.json").read_text())
        about = recorded["about"]
        for owner, part in (
            (Recorded, recorded), (Decides, recorded["decides"]), (About, about), (Places, about["places"]),
        ):  # fmt: skip
            assert needed(owner) <= part.keys() <= json_names(owner)
            seen[owner] = seen.get(owner, set()) | part.keys()
        assert recorded["format"] == FORMAT
    assert seen[Recorded] == json_names(Recorded) and seen[Decides] == json_names(Decides)
    assert {"init", "assign"} <= seen[Places] and "device" in seen[About]
    with lock.locked(tmp_path / "out0"):
        record = json.loads((tmp_path / "out0" / ".jaxstyle-lock-1-of-1.json").read_text())
    assert record.keys() == json_names(lock.LockRecord)


@pytest.mark.parametrize("loss", saved_targets.STATISTICS)
def test_a_file_of_targets_has_the_fields_and_arrays_that_are_described(loss):
    settings = RenderSettings(style_loss=loss, style_layers=("relu1_1",))
    decides = saved_targets.deciding(settings, "0" * 64)
    assert decides.keys() == json_names(saved_targets.Decides) == saved_targets._KINDS.keys()
    described = {name for name, _, meaning in format_tables.arrays() if meaning.startswith(f"`{loss}`")}
    assert {name.replace("LAYER", "block1_conv1") for name in described} == saved_targets.shapes(decides).keys()
    data = targets_file.encode({}, {})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"].keys() == json_names(targets_file.Metadata)


@pytest.mark.parametrize(
    "result",
    [
        audit.FolderStatus(Path("x")), audit.Verdict(Path("x")), shards.ShardStatus("1/2", "ended"),
        forecast.Forecast(Path("x")), Packed([], 0, 0, 0), Published("", 0, 0, 0, 0, 0), Written(Path("x")),
        Replayed("k", "r"), MEASURED,
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_results_of_commands_have_the_fields_that_are_described(result):
    assert result.as_json().keys() == json_names(type(result))


def test_the_parts_of_a_bench_have_the_fields_that_are_described():
    told = MEASURED.as_json()
    for name, part in (("machine", told["machine"]), ("rates", told["rates"]), ("start", told["start"])):
        assert part.keys() == json_names(type(getattr(MEASURED, name)))
    assert told["cells"][0].keys() == json_names(bench.Cell) | {"images_per_second", "utilisation"}


def test_a_field_without_a_description_stops_the_documentation():
    class Later(TypedDict):
        """A file.

        Attributes:
            told: described.
        """

        told: str
        untold: NotRequired[int | None]

    rows = format_tables.fields(Later, generate.attributes)
    assert next(rows) == ("told", "text", "described.")
    with pytest.raises(KeyError, match="the docstring of Later says nothing of untold"):
        next(rows)
    assert format_tables.kind(NotRequired[int | None]) == "whole number or null; may be absent"


def test_a_finding_has_the_fields_that_are_described():
    assert asdict(Finding("", "")).keys() == json_names(Finding)
