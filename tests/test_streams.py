"""Closed, full and narrow standard streams: the work is done, and the exit code is right."""

import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from pictures import painting, photo, save

from jaxstyle import streams
from jaxstyle.errors import JaxstyleError, LimitError, StorageError, refused_by_the_system

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def shell(tmp_path):
    """Runs lines of a shell in which $J is the program over the stub, and $R renders two pictures."""
    for k in range(2):
        save(tmp_path / "in" / f"{k}.png", photo(32, 30, k))
    style = save(tmp_path / "style.png", painting())
    line = " ".join(hostile.command(tmp_path / "in", style, tmp_path / "out", "--workers", 0, common=("--size", 32)))
    environment = os.environ | {"J": f"{sys.executable} {hostile.STUB}", "R": line}

    def ran(text, **more):
        words = ["bash", "-c", text]
        return subprocess.run(words, env=environment | more, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return ran


@pytest.mark.parametrize(
    "streams", ["2>&-", ">&-", "2>/dev/full", ">/dev/full", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"]
)
def test_a_render_needs_no_stream(shell, tmp_path, streams):
    done = shell(f"$R {streams}")
    assert done.returncode == 0, done.stderr
    assert (
        set(hostile.statuses(tmp_path / "out").values()) == {"done"} and len(hostile.pictures_of(tmp_path / "out")) == 2
    )


def test_no_file_of_a_run_takes_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys\nfrom jaxstyle.streams import lenient\n"
        "with lenient():\n opened = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n assert opened > 2, opened\n"
        " os.write(2, b'a library complains'); print('x', file=sys.stderr)\n"
    )
    shell = 'exec "$@" <&- >&- 2>&-; '
    done = subprocess.run(["bash", "-c", shell, "bash", sys.executable, "-c", code, tmp_path / "file"])
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    "words", ["--help", "--version", "render --help", "weights list", "plan in --style style.png -o out --no-measure",
              "plan in --style style.png -o out --no-measure --json"],
)  # fmt: skip
def test_a_full_standard_output_is_told_and_no_traceback(shell, words):
    done = shell(f"$J {words} >/dev/full")
    assert done.returncode == 5, done.stderr
    assert done.stderr == (
        "jaxstyle: standard output cannot be written (No space left on device). Free space, or send it elsewhere.\n"
    )
    assert shell(f"$J {words} >&-").returncode == 0
    assert shell(f"$J {words} | true; exit ${{PIPESTATUS[0]}}").returncode == 0


def test_the_exit_code_of_the_command_stands_before_that_of_the_stream(shell, tmp_path):
    assert shell("$R").returncode == 0
    (tmp_path / "out" / "0.png").write_bytes(b"short")
    assert shell("$J verify out >/dev/full").returncode == 3
    assert shell("$J verify out >&-").returncode == 3
    assert shell("$J status out >/dev/full").returncode == 5
    assert shell("$J nonsense 2>/dev/full").returncode == 2


@pytest.mark.parametrize("more", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"TERM": "dumb"}])
def test_names_are_escaped_where_the_encoding_lacks_them(shell, tmp_path, more):
    done = shell("$R; mv out $'\\303\\274\\e[31m'; $J status $'\\303\\274\\e[31m'", **more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("\\xfc\\x1b[31m: 2 done", "\xfc\\x1b[31m: 2 done"))


def test_a_name_with_escape_sequences_commands_no_terminal(shell):
    for words in (
        "$'re\\e[31mnder'",
        "render in $'--st\\e[31m' x",
        "status $'\\e[31m'",
        "render $'\\e[31m' --style x -o y",
    ):
        done = shell(f"$J {words}")
        assert done.returncode == 2 and "\x1b" not in done.stderr and "\\x1b[31m" in done.stderr


def test_a_stream_waits_for_a_slow_reader_and_drops_what_nobody_reads(monkeypatch):
    monkeypatch.setattr(streams, "WAIT_SECONDS", 0.01)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = streams.Stream(writer)
    assert stream.write(bytes(1 << 20)) == 1 << 20 and stream.problem is None
    os.close(reader)
    assert stream.write(b"x") == 1 and stream.problem is None
    os.close(writer)
    full = streams.Stream(os.open(FULL, os.O_WRONLY))
    assert full.write(b"x") == 1 and full.problem.errno == 28
    os.close(full.fileno())


@pytest.mark.parametrize("limit", ["-n 9", "-f 0"])
def test_a_limit_of_the_system_is_told_in_words(shell, tmp_path, limit):
    shell("$R")  # warm
    done = shell(f"ulimit {limit}; rm -r out; ${{R/--workers 0/--workers 2}}")
    assert done.returncode in (1, 5) and "Traceback" not in done.stderr
    assert "open no more files" in done.stderr or "File too large" in done.stderr
    assert shell("$R").returncode == 0


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (MemoryError(), "ulimit -v"), (OSError(12, "Cannot allocate memory"), "ulimit -v"),
        (OSError(24, "Too many open files"), "ulimit -n"), (OSError(23, "Too many open files in system"), "ulimit -n"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (ImportError("x.so: failed to map segment from shared object"), "ulimit -v"),
        (ImportError("x.so: cannot open: Too many open files"), "ulimit -n"),
    ],
)  # fmt: skip
def test_errors_of_libraries_are_known_for_limits(error, word):
    told = refused_by_the_system(error)
    assert isinstance(told, LimitError) and word in told.remedy and told.exit_code == 1
    try:
        raise ValueError("wrapped") from error
    except ValueError as wrapped:
        assert word in refused_by_the_system(wrapped).remedy


def test_other_errors_are_not_taken_for_limits():
    assert refused_by_the_system(ValueError("x")) is None and refused_by_the_system(OSError(28, "No space")) is None
    assert refused_by_the_system(JaxstyleError("the device is out of memory")) is None
    error = StorageError("x cannot be read (Too many open files)")
    error.__cause__ = OSError(24, "Too many open files")
    assert isinstance(refused_by_the_system(error), LimitError)
