"""`jaxstyle.render` as a library call: what it leaves alone, what it calls at the end, and under which lock."""

import dataclasses
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import stub
from command import run
from pictures import painting, photo, save

import jaxstyle
from jaxstyle.data import lock
from jaxstyle.engine import device, jax_setup, pipeline, stages
from jaxstyle.errors import DeviceError, OutputLocked, StorageError
from jaxstyle.planning.contract import OutOfMemory
from jaxstyle.settings import RenderSettings

QUICK = RenderSettings(size=32, evaluations=10, batch=2, workers=0)


@pytest.fixture
def place(tmp_path):
    """A folder with four photographs in `in`, and a style."""
    for k in range(4):
        save(tmp_path / "in" / f"{k}.png", photo(32, 32, seed=k))
    return SimpleNamespace(inputs=tmp_path / "in", style=save(tmp_path / "style.png", painting()), out=tmp_path / "out")


def render(place, **options):
    return pipeline.render(place.inputs, place.style, place.out, QUICK, **options)


def test_at_the_end_the_summary_is_complete_and_the_folder_still_locked(place, devices):
    heard = []

    def at_end(summary):
        with pytest.raises(OutputLocked), lock.locked(place.out):
            pass
        heard.append((summary.done, summary.rendered, len(summary.examples), summary.stopped))

    assert render(place, at_end=at_end).done == 4
    assert heard == [(4, 4, 4, "")]
    with lock.locked(place.out):
        pass


def test_an_error_at_the_end_is_raised_with_all_rows_kept(place, devices):
    def full(summary):
        raise StorageError("no room for the sheet", "Make some.")

    with pytest.raises(StorageError, match="no room for the sheet"):
        render(place, at_end=full)
    heard = []
    assert render(place, at_end=heard.append).rendered == 0 and heard[0].done == 4


def test_a_run_that_fails_has_no_end(place, devices, monkeypatch):
    monkeypatch.setattr(stub.StubBatch, "advance", lambda *_: {}["nothing"])
    with pytest.raises(KeyError):
        render(place, at_end=lambda summary: pytest.fail("called"))


def test_the_command_draws_its_sheet_under_the_lock(place, devices, monkeypatch):
    drawn = []

    def draw(path, style, pairs):
        with pytest.raises(OutputLocked), lock.locked(place.out):
            pass
        drawn.append((path, len(pairs)))

    monkeypatch.setattr("jaxstyle.report.sheet.contact_sheet", draw)
    line = ["render", place.inputs, "--style", place.style, "-o", place.out, "--size", 32, "--workers", 0]
    assert run(*line) == 0 and drawn == [(place.out / "contact_sheet.png", 4)]
    assert run(*line) == 0 and len(drawn) == 1  # nothing new to show


@pytest.mark.parametrize("own_process", [False, True])
def test_only_a_command_changes_jax(monkeypatch, tmp_path, own_process):
    quick = dataclasses.replace(QUICK, cpu_devices=3)
    ready = SimpleNamespace(settings=quick, network="weights", styles=SimpleNamespace(shared="style"), folder=tmp_path)
    calls = []
    monkeypatch.setattr(jax_setup, "set_up", calls.append)
    monkeypatch.setattr(device, "JaxDevice", lambda *arguments: calls.append(arguments) or "the device")
    assert pipeline.device_for(ready, own_process=own_process) == "the device"
    assert calls == [3] * own_process + [(quick, "weights", "style", None)]


@pytest.mark.parametrize(
    ("command", "owned"), [("render", True), ("plan", True), ("library", False)]
)  # fmt: skip
def test_render_and_plan_own_their_process_and_a_call_does_not(place, devices, monkeypatch, command, owned):
    asked, device_for = [], pipeline.device_for

    def noting(ready, own_process=False):
        asked.append(own_process)
        return device_for(ready)

    monkeypatch.setattr(pipeline, "device_for", noting)
    if command == "library":
        render(place)
    else:
        assert run(command, place.inputs, "--style", place.style, "-o", place.out, "--size", 32, "--workers", 0) == 0
    assert asked == [owned]


def test_a_device_without_room_for_the_network_is_a_device_error(place, monkeypatch):
    stub.install(monkeypatch.setattr)
    monkeypatch.undo()

    def full(*_):
        raise OutOfMemory("RESOURCE_EXHAUSTED: 58 MB")

    monkeypatch.setattr(device, "JaxDevice", full)
    monkeypatch.setattr(
        pipeline.preflight.weights, "load", lambda path=None, network=None: SimpleNamespace(digest="", source="")
    )
    with pytest.raises(DeviceError, match=r"no room for the network \(RESOURCE_EXHAUSTED: 58 MB\)") as caught:
        render(place)
    assert caught.value.remedy and caught.value.exit_code == 1
    line = ["plan", place.inputs, "--style", place.style, "-o", place.out.with_name("other")]
    monkeypatch.setattr(jax_setup, "set_up", lambda _: None)
    assert run(*line) == 1


def test_a_device_that_hangs_while_it_is_made_is_given_up(place, monkeypatch):
    stub.install(monkeypatch.setattr)
    over = threading.Event()
    monkeypatch.setattr(pipeline, "device_for", lambda ready, own_process=False: over.wait(60))
    with pytest.raises(DeviceError, match="not answered for 0.5 s"):
        render(place, stall_timeout=0.5)
    over.set()


def test_a_batch_that_is_compiled_for_long_is_no_hang(place, devices, monkeypatch):
    batch, slept = stub.StubDevice.batch, threading.Event()

    def slowly(self, *arguments):
        slept.wait(1.5)  # three times the limit
        return batch(self, *arguments)

    monkeypatch.setattr(stub.StubDevice, "batch", slowly)
    assert render(place, stall_timeout=0.5).done == 4


def test_all_lanes_of_a_batch_can_end_while_no_output_can_be_written(place, devices, monkeypatch):
    for k in range(4, 16):
        save(place.inputs / f"{k}.png", photo(32, 32, seed=k))
    second, publish, put = threading.Event(), stages.publish, stub.StubBatch.put

    def counted(self, *arguments):
        put(self, *arguments)
        if self.device.put.total() > 8:  # the batch of 8 has ended and is refilled
            second.set()

    def waiting(*arguments):
        assert second.wait(60), "the device stands still"
        return publish(*arguments)

    monkeypatch.setattr(stub.StubBatch, "put", counted)
    monkeypatch.setattr(stages, "publish", waiting)
    assert render(place, batch="auto").done == 16


NOT_INSTALLED = """
import importlib.metadata as metadata, sys
found = metadata.version
def version(name):
    if name == "jaxstyle":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
import stub
from pathlib import Path
from types import SimpleNamespace
from jaxstyle.planning.preflight import describe
from jaxstyle.settings import RenderSettings
styles, network = SimpleNamespace(name="", fingerprint=""), SimpleNamespace(digest="", source="")
print(describe(styles, RenderSettings(), network).about["jaxstyle"])
from jaxstyle import cli
cli.main(["--version"])
"""


def test_a_checkout_that_is_not_installed_knows_its_version(place):
    command = [sys.executable, "-c", NOT_INSTALLED, str(place.style)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.stdout.split() == [jaxstyle.__version__] * 2, done.stderr


def test_the_package_has_the_version_of_the_code():
    text = Path(__file__).parent.parent.joinpath("pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text and not re.search(r'^version = "', text, re.MULTILINE)
    assert '[tool.hatch.version]\npath = "jaxstyle/__init__.py"' in text
    assert re.fullmatch(r"\d+\.\d+\.\d+", jaxstyle.__version__)


def test_set_up_jax_is_offered():
    assert jaxstyle.set_up_jax is jax_setup.set_up and "set_up_jax" in jaxstyle.__all__
