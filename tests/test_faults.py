"""Faults that users of batch and image tools met: FAULTS.md lists them with their tests, and the rest are here."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest
import stub
from PIL import Image
from pictures import painting, photo, save

from jaxstyle.data import worker
from jaxstyle.engine import crew, preflight
from jaxstyle.engine.crew import Crew
from jaxstyle.engine.pipeline import render
from jaxstyle.errors import StorageError
from jaxstyle.settings import RenderSettings

TESTS = Path(__file__).parent
TINY = RenderSettings(size=64, evaluations=10, batch=4, workers=0)
ALONE = ("--batch", 4, "--workers", 0)


@pytest.fixture
def style(tmp_path):
    return save(tmp_path / "style.png", painting())


@pytest.fixture
def source(tmp_path):
    """Twelve pictures, all of one bucket."""
    for k in range(12):
        save(tmp_path / "in" / f"{k:02}.png", photo(64, 60, seed=k))
    return tmp_path / "in"


@pytest.fixture
def device(monkeypatch):
    """The stub in this process."""
    return stub.install(monkeypatch.setattr)


def put_on_path(folder: Path, monkeypatch, *programs: str) -> Path:
    """Makes programs that leave a mark when they are run; returns where."""
    for program in programs:
        script = folder / "bin" / program
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {folder}/was-run\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    return folder / "was-run"


def test_the_table_names_every_fault_once_and_only_tests_that_exist():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (TESTS / "FAULTS.md").read_text().splitlines()
            if re.match(r"\| *\d", line)]  # fmt: skip
    assert [int(number) for number, *_ in rows] == list(range(1, 55))
    functions: dict[str, set[str]] = {}
    for number, fault, where in rows:
        named = re.findall(r"`tests/(\w+\.py)::(\w+)`", where)
        assert fault and (named or where.startswith("not yet")), number
        for file, name in named:
            if file not in functions:
                tree = ast.parse((TESTS / file).read_text())
                functions[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions[file], f"fault {number}: tests/{file} has no {name}"


def test_every_hostile_odd_or_oddly_named_file_gets_one_row(style, tmp_path, monkeypatch):
    source, marks = tmp_path / "in", put_on_path(tmp_path, monkeypatch, "gs", "gswin64c", "touch")
    expected = {}
    for make in (hostile.odd, hostile.broken, hostile.names):
        expected |= {f"{make.__name__}/{key}": status for key, status in make(source / make.__name__).items()}
    (source / "links" / ".hidden").mkdir(parents=True)
    (source / "links" / "loop").symlink_to("..")
    (source / "links" / "gone.jpg").symlink_to("nowhere")
    (source / "links" / "again.jpg").symlink_to("../odd/LOUD.JPEG")
    os.mkfifo(source / "links" / "pipe.png")
    (source / "links" / ".thumb.jpg").write_bytes((source / "odd" / "LOUD.JPEG").read_bytes())
    (source / "links" / os.fsdecode(b"na\xefve.jpg")).write_bytes(b"text")
    expected |= {
        "links/.hidden": "skipped", "links/loop": "skipped", "links/gone.jpg": "failed", "links/again.jpg": "done",
        "links/pipe.png": "failed", "links/.thumb.jpg": "skipped", "links/" + os.fsdecode(b"na\xefve.jpg"): "failed",
    }  # fmt: skip
    output = tmp_path / "out"
    code, said = hostile.run(hostile.command(source, style, output, "--workers", 1))
    assert code == 3, said
    found = hostile.rows(output)
    assert {key: row["status"] for key, row in found.items()} == expected
    assert all(row["reason"] for row in found.values() if row["status"] != "done")
    assert set(hostile.pictures_of(output)) == {key for key, status in expected.items() if status == "done"}
    for key, row in found.items():
        if row["status"] == "done":
            with Image.open(output / key) as image:
                image.load()
                assert list(image.size) == row["output_size"]
    assert found["odd/animated.png"]["frames"] == found["odd/pages.tif"]["frames"] == 3
    assert found["odd/turned-6.jpg"]["input_size"] == [40, 30] and found["odd/line.png"]["work_size"] == [1, 64]
    assert "na\\xefve.jpg" in said and "Traceback" not in said
    assert not marks.exists()
    assert sum(bool(row["notes"]) for key, row in found.items() if key.startswith("names/")) == 2  # case, and Unicode


def test_of_a_picture_cut_at_a_hundred_places_nothing_half_is_rendered(style, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(photo(90, 70)).save(whole, "JPEG", quality=90)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "whole.jpg").write_bytes(whole.getvalue())
    for cut, data in hostile.truncations(whole.getvalue(), 100).items():
        (tmp_path / "in" / f"cut-{cut}.jpg").write_bytes(data)
    assert hostile.run(hostile.command(tmp_path / "in", style, tmp_path / "out", *ALONE))[0] == 3
    found, made = hostile.statuses(tmp_path / "out"), hostile.pictures_of(tmp_path / "out")
    assert len(found) == 101 and set(found.values()) == {"done", "failed"}
    assert list(found.values()).count("failed") >= 95  # without its last bytes, an end mark, it may be whole
    assert all(data == made["whole.jpg"] for data in made.values())
