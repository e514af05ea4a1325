"""A row comes back from JSON as it was; what is not a row is refused with the field named."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jaxstyle.data.rows import Row, parse

FULL = Row(
    "sub/a.jpg", "done", "reason", image="sub/a.png",
    style="s.png",
    style_sha256="cd" * 32,
    style_bytes=99,
    style_modified=12, masks_sha256="ef" * 32, seed=7, ended="budget", loss={"content": 1.5, "total": 2.25},
    evaluations=200, precision="bfloat16", seconds=1.25, start_loss=9.5, input_bytes=812,
    input_modified=1_700_000_000_123_456_789, input_sha256="ab" * 32, input_size=(640, 480), work_size=(512, 384),
    output_size=(512, 384), output_bytes=4321, output_sha256="cd" * 32, frames=3, notes=("first of 3",), run=4,
    batch=8, judgement={"fall": 0.5}, occupancy=0.75, lane_seconds=64.0,
    curve={"content": (2.5, 1.5), "evaluations": (1, 200)},
)  # fmt: skip


def line(**fields) -> bytes:
    return json.dumps({"key": "a.jpg", "status": "done"} | fields).encode() + b"\n"


def test_every_field_comes_back_from_json():
    assert not [f.name for f in dataclasses.fields(Row) if getattr(FULL, f.name) == f.default]
    values = FULL.as_json()
    assert list(values) == [field.name for field in dataclasses.fields(Row)]
    assert values["work_size"] == [512, 384] and values["notes"] == ["first of 3"]
    assert parse(json.dumps(values).encode()) == FULL == Row.from_json(values)


def test_the_loss_has_whatever_terms_there_are():
    row = parse(line(loss={"masks": 1, "histogram": 0.5}))
    assert row.loss == {"masks": 1, "histogram": 0.5}


def test_absent_fields_take_their_defaults():
    assert parse(line()) == Row("a.jpg", "done")
    assert parse(line()).as_json() == Row("a.jpg", "done").as_json()


def test_names_of_a_later_version_are_ignored():
    row = parse(line(as_json="shadows nothing", stages=[[256, 100]], evaluations=3))
    assert row == Row("a.jpg", "done", evaluations=3) and row.as_json()["evaluations"] == 3


def test_a_row_read_can_be_changed_as_one_made():
    assert dataclasses.replace(parse(line()), seed=3) == Row("a.jpg", "done", seed=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(line()).seed = 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 7) for name in ("key", "status", "reason", "style", "ended", "precision", "input_sha256")),
        ("status", "lost"), ("status", []), ("output_sha256", None),
        *((name, value) for name in ("seed", "evaluations", "input_bytes", "input_modified", "output_bytes", "frames")
          for value in ("7", 1.5, None, True, 2**63, -(2**63))),
        *((name, value) for name in ("seconds", "start_loss") for value in ("7", None, True, float("nan"), [])),
        ("seconds", float("inf")), ("seconds", -float("inf")),
        ("input_sha256", "not hexadecimal"), ("input_sha256", "-f"), ("output_sha256", "ab" * 31),
        *((name, value) for name in ("input_size", "work_size", "output_size")
          for value in (7, "ab", [1], [1, 2, 3], [1.5, 2], [True, 2])),
        ("loss", [1]), ("loss", {"total": "1"}), ("loss", {"total": float("nan")}), ("loss", None),
        *(("curve", value) for value in (None, [1], {"a": 1}, {"a": "12"}, {"a": [True]}, {"a": [1, float("nan")]},
                                         {"a": [[1]]}, {"a": [10**400, 0.5]})),
        ("notes", "text"), ("notes", [1]), ("notes", None),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_by_its_fields_name(name, value):
    with pytest.raises(ValueError, match=f"^its {name} is not valid$"):
        parse(line(**{name: value}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is not JSON"), (b"{", "it is not JSON"), (b"\xff\0", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"), (b'{"key": "x", "seed": ' + b"9" * 5000 + b"}", "it is not JSON"),
        (b"[1]", "it is not a JSON object"), (b"7", "it is not a JSON object"), (b"null", "it is not a JSON object"),
        (b'{"status": "done"}', "it has no key or no status"), (b'{"key": "a"}', "it has no key or no status"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_line_that_is_not_a_row_is_refused(content, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        parse(content)
