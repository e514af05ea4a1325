"""bench/aot.py without an accelerator's compiler: cases, what is compiled again, the report; and the step of .ci."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def aot():
    """The module, whose import sets variables of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JAX_PLATFORMS", "TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES"):
            patch.setenv(name, os.environ.get(name, ""))
        patch.setattr(sys, "path", [str(ROOT / "bench"), *sys.path])
        import aot

        yield aot


def made_up(case, **more):
    """What is found of a case, with figures that are made up."""
    return {
        **case._asdict(), "memory": {"alive": 2**30}, "launches": 277, "bytes": 11_360_000_000, "cycles": 0,
        "parts": {"convolutions": {"launches": 22, "bytes": 3_230_000_000, "cycles": 0}}, "relu": 11,
        "convolutions": {"convForward": 22}, "copies": {"launches": 10, "bytes": 1}, "collectives": {}, "sorts": 0,
        "gathers": 8, "scatters": 3, "transposes": 27, **more,
    }  # fmt: skip


def test_a_case_is_compiled_again_only_if_its_program_has_changed(aot, tmp_path, monkeypatch):
    programs, compiled, output = {}, [], tmp_path / "compiled.json"
    one, two = aot.Case("h100", 512, 8, "bfloat16"), aot.Case("v5e", 512, 8, "bfloat16", 4, "pick")
    monkeypatch.setattr(aot, "lowered", lambda case: (case, programs.get(case, "first")))
    monkeypatch.setattr(aot, "compiled", lambda case, *_: compiled.append(case) or made_up(case))
    assert [known for _, known in aot.run([one], output)] == [False]
    assert [known for _, known in aot.run([one, two], output)] == [True, False] and compiled == [one, two]
    programs[two] = "second"
    assert [known for _, known in aot.run([two, one], output)] == [False, True] and compiled == [one, two, two]
    first, second = json.loads(output.read_text())["compiled"]
    assert (first["device"], first["digest"], second["digest"]) == ("h100", "first", "second")
    assert "model" in first["memory"] and "model" not in second["memory"]  # which is an estimate of `advance`
    monkeypatch.setattr(aot, "bytes_by_model", lambda *_, **__: 5)
    list(aot.run([one], output))
    assert json.loads(output.read_text())["compiled"][0]["memory"]["model"] == 5  # as it is today
    programs[two], compiled[:] = "third", []
    monkeypatch.setattr(aot, "find_spec", lambda _: True)
    monkeypatch.setattr(sys, "argv", ["aot.py", "--devices", "v5e", "--recorded", "-o", str(output)])
    aot.main()
    assert compiled == [two]  # and no h100


def test_a_compiler_that_is_absent_is_told_of_first(aot, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(aot, "find_spec", {"libtpu": True}.get)
    monkeypatch.setattr(sys, "argv", ["aot.py", "--devices", "v5e", "h100", "-o", str(tmp_path / "compiled.json")])
    with pytest.raises(SystemExit, match="2"):
        aot.main()
    assert "pip install 'jaxstyle[cuda]'" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_the_shares_of_several_devices_are_estimated(aot):
    one, four = (aot.estimate(aot.Case("h100", 512, 8, "bfloat16", number))["model"] for number in (1, 4))
    shared = aot.bytes_by_model((512, 384), aot.Case("h100", 512, 8, "bfloat16").all_settings, 0, "gpu", used=True)
    assert one - shared == 4 * (four - shared)


def test_settings_of_files_make_lanes_of_that_kind(aot):
    masks = aot.Case("h100", 512, 8, "bfloat16", settings='{"regions": 3, "history": 5}')
    assert masks.all_settings.lane_regions == 3 and masks.renderer.history == 5
    frames = aot.Case("h100", 512, 8, "float32", settings='{"frames": true, "temporal_weight": 2}').renderer
    assert frames.temporal_weight == 2 and frames.precision == "float32"


def test_the_report_says_that_nothing_was_run(aot, tmp_path):
    import report

    (tmp_path / "results").mkdir()
    classic = '{"preset":"classic"}'
    cases = [aot.Case("h100", 512, 8, "bfloat16", settings=classic), aot.Case("h100", 512, 8, "bfloat16", 4, "pick"),
             aot.Case("v5e", 512, 8, "bfloat16", settings='{"style_loss": "w2"}')]  # fmt: skip
    found = [made_up(case, collectives={"all-gather": 5} if case.program == "pick" else {}) for case in cases]
    for case, one in zip(cases, found, strict=True):
        one["memory"] |= aot.estimate(case)
        one |= {"date": "2026-11-30", "compiler": "made up 1.0"}
    aot.save(found, tmp_path / "results" / "compiled.json")
    text = report.write(tmp_path / "results", tmp_path).read_text().split("## Accelerators: compiled, not run")[1]
    tables = re.findall(r"\n(.*)\n\n\|", text)
    assert len(tables) == 4 and all(line.startswith("**Compiled, not run.**") for line in tables)
    assert "*made up 1.0 (2026-11-30)*" in text
    estimate = found[0]["memory"]["model"] / 2**30
    assert f"| 512 x 384 | 8 | bfloat16 | 1,024 | {estimate:.2f} | 277 | 11.36 | 3.39 |  |" in text
    assert "### h100, preset classic, by size and batch" in text
    assert "| h100, preset classic | bfloat16 | 3.23 |" in text and "| style_loss w2 |" in text
    assert "| h100 | 4 | pick | 512 x 384 | 8 | 1,024 | 277 | 11.36 | 10 | 5 all-gather |" in text


def test_the_step_that_compiles_for_a_gpu(tmp_path):
    """Its commands, with a Python that writes down what it is told: an environment, the plugin, the tests of it."""
    said = tmp_path / "said"
    stub = f'#!/bin/sh\necho "$0 $JAX_PLATFORMS $*" >> {said}\n'
    (tmp_path / "bin").mkdir()
    for path in (tmp_path / "bin" / "python", tmp_path / "venv"):
        path.write_text(stub)
        path.chmod(0o755)
    copy = tmp_path / "repository"
    (copy / ".ci").mkdir(parents=True)
    (copy / ".venv-cuda" / "bin").mkdir(parents=True)
    for name in ("pip", "python"):
        (copy / ".venv-cuda" / "bin" / name).symlink_to(tmp_path / "venv")
    script = copy / ".ci" / "compiled"
    script.write_bytes((ROOT / ".ci" / "compiled").read_bytes())
    clean = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["bash", script], env=clean, cwd=tmp_path, check=True)
    made, installed, tested = (line.split() for line in said.read_text().splitlines())
    assert made[-3:] == ["-m", "venv", ".venv-cuda"]
    assert installed[0] == ".venv-cuda/bin/pip" and installed[1] == "install" and ".[cuda]" in installed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cuda"][0].startswith("jax[cuda12]")
    assert tested[:2] == [".venv-cuda/bin/python", "cpu"] and tested[2:4] == ["-m", "pytest"]
    assert (ROOT / tested[-1]).is_file()
    run = (ROOT / ".ci" / "run").read_text()
    assert "\n    .ci/compiled\n" in run and os.access(ROOT / ".ci" / "compiled", os.X_OK)
