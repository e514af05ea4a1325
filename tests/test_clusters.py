"""The files for clusters (docs/clusters): Slurm's and Kubernetes's run as plain processes, with the variables set."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
import yaml
from pictures import painting, photo, save

ROOT = Path(__file__).parent.parent
CLUSTERS = ROOT / "docs" / "clusters"
SMALL = ("--size", "32", "--evaluations", "20", "--workers", "0")


@pytest.fixture
def place(tmp_path):
    """Photographs, one of them broken, a painting, and a folder with a `jaxstyle` that has the stub's renderer."""
    for k in range(8):
        save(tmp_path / "data" / "photos" / f"{k}.png", photo(32, 32, k))
    (tmp_path / "data" / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    save(tmp_path / "data" / "paintings" / "a.png", painting())
    program = tmp_path / "bin" / "jaxstyle"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(hostile.STUB))} "$@"\n')
    program.chmod(0o755)
    return tmp_path


def job(place):
    data = place / "data"
    return [str(data / "photos"), "--style", str(data / "paintings"), "-o", str(data / "stylized"), *SMALL]


def environment(place, **more):
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path} | {name: str(value) for name, value in more.items()}


def finish(processes):
    for process in processes:
        said = process.communicate(timeout=hostile.WAIT)[1]
        assert process.returncode == 0, said


def is_whole(place):
    """Whether every photograph has its row in one manifest."""
    output = place / "data" / "stylized"
    found = hostile.statuses(output)
    assert not [*output.glob("manifest-*")]
    assert found == {f"{k}.png": "done" for k in range(8)} | {"broken.jpg": "failed"}


def test_the_tasks_of_a_slurm_array_share_the_photographs(place):
    scripts = place / "scripts"
    shutil.copytree(CLUSTERS, scripts)
    finish(
        subprocess.Popen(
            ["bash", scripts / "slurm.sh", *job(place)], stderr=subprocess.PIPE, text=True,
            env=environment(place, SLURM_ARRAY_TASK_ID=k, SLURM_ARRAY_TASK_COUNT=2, SLURM_SUBMIT_DIR=scripts),
        )
        for k in range(2)
    )  # fmt: skip
    is_whole(place)


def test_slurm_numbers_its_tasks_from_0_and_warns_before_the_end():
    lines = (CLUSTERS / "slurm.sh").read_text().splitlines()
    assert {"#SBATCH --array=0-7", "#SBATCH --requeue", "#SBATCH --signal=B:TERM@300"} <= set(lines)


def test_the_pods_of_a_kubernetes_job_share_the_photographs(place):
    spec = yaml.safe_load((CLUSTERS / "kubernetes.yaml").read_text())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["SHARDS"] == str(spec["completions"]) and spec["completionMode"] == "Indexed"
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert mounts == {"/data", "/cache"}
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in spec["template"]["spec"]["volumes"]
    }
    interpreter, script = container["command"]
    assert script == "/opt/jaxstyle/shard.sh"
    words = [word.replace("/data", str(place / "data")) for word in container["args"]]
    finish(
        subprocess.Popen(
            [interpreter, CLUSTERS / "shard.sh", *words, *SMALL], stderr=subprocess.PIPE, text=True,
            env=environment(place, SHARDS=2, JOB_COMPLETION_INDEX=k),
        )
        for k in range(2)
    )  # fmt: skip
    is_whole(place)


def test_a_signal_is_passed_on_and_the_same_command_goes_on(place):
    line = ["sh", str(CLUSTERS / "shard.sh"), *job(place), "--batch", "1"]
    slow = environment(place, SHARDS=1, JOB_COMPLETION_INDEX=0, STUB_SECONDS=0.2)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(line, stderr=log, env=slow)
    hostile.wait_for(lambda: [*(place / "data").glob("stylized/manifest*.jsonl")])
    process.terminate()
    assert process.wait(hostile.WAIT) == 143
    said = (place / "log").read_text()  # all of it: the script ends after jaxstyle
    assert "finishing the images on the device" in said and "Stopped" in said
    finished = sum(status == "done" for status in hostile.statuses(place / "data" / "stylized").values())
    assert finished < 8
    finish([subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=slow | {"STUB_SECONDS": "0.001"})])
    is_whole(place)


@pytest.mark.parametrize(
    ("variables", "missing"), [({"SHARDS": 2}, "JOB_COMPLETION_INDEX"), ({"JOB_COMPLETION_INDEX": 1}, "SHARDS")]
)
def test_a_variable_that_is_not_set_is_named(place, variables, missing):
    line = ["sh", str(CLUSTERS / "shard.sh"), *job(place)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(place, **variables))
    assert done.returncode not in (0, 3) and missing in done.stderr


def test_wrong_usage_ends_with_its_own_code(place):
    line = ["sh", str(CLUSTERS / "shard.sh"), *job(place), "--size", "7"]
    done = subprocess.run(
        line, capture_output=True, text=True, env=environment(place, SHARDS=1, JOB_COMPLETION_INDEX=0)
    )
    assert done.returncode == 2 and "size" in done.stderr


def instructions():
    """The Dockerfile's instructions: (name, arguments)."""
    text = (CLUSTERS / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_dockerfile_has_what_an_image_needs(tmp_path):
    """Its steps run here: files are copied to a folder, and pip installs from there, without the dependencies."""
    work = image = tmp_path / "image"
    for name, arguments in instructions():
        if name == "WORKDIR":
            work = image / arguments.lstrip("/")
            work.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, work / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, work / target)
        elif name == "RUN" and arguments.startswith("pip install"):
            here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "EXTRA": ""}
            line = f"{arguments} --no-deps -q --target {shlex.quote(str(tmp_path / 'site'))}"
            done = subprocess.run(
                ["sh", "-c", line], cwd=work, capture_output=True, text=True, env=os.environ | here
            )  # fmt: skip
            if "hatchling" in done.stderr and "No matching distribution" in done.stderr:
                pytest.skip("the package index cannot be reached, which pip needs to build")
            assert done.returncode == 0, done.stderr
    assert (image / "opt" / "jaxstyle" / "shard.sh").is_file()
    told = dict(instructions())
    assert (told["ENTRYPOINT"], told["CMD"]) == ('["jaxstyle"]', '["--help"]')
    done = subprocess.run(
        [sys.executable, tmp_path / "site" / "bin" / "jaxstyle", "--help"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and "render" in done.stdout


def test_the_dockerfile_is_linted():
    if not shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"):
        pytest.skip("hadolint is not installed")
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run([program, CLUSTERS / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout
