"""Compiled programs are kept between processes, in a folder that is the user's alone."""

import os
import subprocess
import sys

import jax
import pytest

from jaxstyle.engine import jax_setup
from jaxstyle.errors import SettingsError

SCRIPT = """
import json, sys
import jax
from jax import monitoring
counts = {}
monitoring.register_event_listener(lambda name, **_: counts.__setitem__(name, counts.get(name, 0) + 1))
from jaxstyle.engine import jax_setup
jax.numpy.ones(3).sum()  # JAX has looked for a cache before it is told of one
folder = jax_setup.enable_cache()
assert jax_setup.enable_cache() == folder
value = float(jax.jit(lambda x: (x @ x).sum() + 1)(jax.numpy.ones((64, 64))))
assert value == 64**3 + 1
print(json.dumps([str(folder) if folder else None, counts.get("/jax/compilation_cache/cache_hits", 0)]))
"""


def kept(cache, said="", **environment):
    import json

    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True,
        env=os.environ | {"JAXSTYLE_CACHE": str(cache)} | environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("not cached") == bool(said) and said in run.stderr
    assert "cpu_aot_loader" not in run.stderr  # which says that a program from the cache was not used
    return json.loads(run.stdout)


@pytest.fixture
def untold():
    """JAX as it is before a cache is enabled."""
    before = {name: getattr(jax.config, name) for name in CONFIGURED}
    jax_setup.configure({"jax_compilation_cache_dir": None})
    yield
    jax_setup.configure(before)


def test_a_cpu_is_divided_by_its_cores():
    expected = {1: 1, 2: 2, 3: 2, 4: 2, 8: 2, 11: 2, 12: 3, 16: 4, 32: 8, 64: 16, 256: 16}
    assert {number: jax_setup.cpu_devices_of(number) for number in expected} == expected


@pytest.mark.parametrize("asked, expected", [("auto", 16), (3, 3), (1, 1)])
def test_the_number_of_devices_that_is_asked_for_is_set_before_jax_is_initialised(asked, expected, monkeypatch):
    told = []
    monkeypatch.setattr(jax_setup, "cores", lambda: 64)
    monkeypatch.setattr(jax_setup.jax.config, "update", lambda *of: told.append(of))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    jax_setup.divide_cpu(asked)
    assert told == [("jax_num_cpu_devices", expected)]


@pytest.mark.parametrize("flags", ["", "--xla_force_host_platform_device_count=1"])
def test_a_number_of_devices_that_cannot_be_had_is_refused(flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    jax_setup.divide_cpu()  # JAX is initialised with one device, which auto leaves
    jax_setup.divide_cpu(1)
    with pytest.raises(SettingsError, match="cpu_devices is 3, and JAX divides the CPU into 1"):
        jax_setup.divide_cpu(3)


CONFIGURED = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size",
              "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_folder_is_the_users_alone_or_is_not_used(tmp_path, untold, monkeypatch, capsys):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(tmp_path))
    folder = jax_setup.enable_cache()
    assert os.stat(folder).st_mode & 0o777 == 0o700
    for path, mode in ((folder, 0o770), (os.path.dirname(folder), 0o702), (tmp_path, 0o777)):
        before = os.stat(path).st_mode
        jax_setup.configure({"jax_compilation_cache_dir": None})
        os.chmod(path, mode)
        assert jax_setup.enable_cache() is None and jax.config.jax_compilation_cache_dir is None
        assert f"compiled programs are not cached: others may write to {path}." in capsys.readouterr().err
        os.chmod(path, before)
    assert jax_setup.enable_cache() == folder == tmp_path / "compiled" / folder.name
    assert jax.config.jax_compilation_cache_dir == str(folder) and not capsys.readouterr().err


def test_what_jax_was_told_is_left_alone(tmp_path):
    assert kept(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))[0] is None
    assert kept(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")[0] is None
    assert not (tmp_path / "compiled").exists()


def test_another_process_finds_a_program_and_compiles_one_whose_writing_was_cut_off_again(tmp_path):
    folder, _ = kept(tmp_path)
    programs = [name for name in os.listdir(folder) if name.endswith("-cache")]
    assert folder.startswith(str(tmp_path)) and programs
    for name in programs:
        os.truncate(os.path.join(folder, name), 10)
        os.unlink(os.path.join(folder, name.removesuffix("cache") + "atime"))
    assert kept(tmp_path)[1] == 0
    assert all(os.path.getsize(os.path.join(folder, name)) > 10 for name in programs)
    again, hits = kept(tmp_path)
    assert again == folder and hits >= 1


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "compiled").write_text("a file")
    assert kept(tmp_path, said="compiled programs are not cached")[0] is None
