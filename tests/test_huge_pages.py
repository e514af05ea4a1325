"""Huge pages: when a program starts itself anew to get them, and what of it stays the same."""

import os
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxstyle import __main__ as program
from jaxstyle import cli, doctor, huge_pages
from jaxstyle.cluster import worker

ASKED = "glibc.malloc.hugetlb=1"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A Linux with glibc whose kernel gives huge pages to memory that asks; returns what changes it."""

    def set_up(mode="always [madvise] never", libc="glibc 2.36", told=None):
        monkeypatch.setattr(huge_pages, "ENABLED", tmp_path / "enabled")
        (tmp_path / "enabled").unlink(missing_ok=True)
        if mode:
            (tmp_path / "enabled").write_text(mode + "\n")
        monkeypatch.setattr(os, "confstr", lambda name: {"CS_GNU_LIBC_VERSION": libc}[name])
        if told is None:
            monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        else:
            monkeypatch.setenv("GLIBC_TUNABLES", told)

    set_up()
    return set_up


@pytest.fixture
def started(monkeypatch):
    """The programs that were started in this one's place: path, words and GLIBC_TUNABLES."""
    found = []
    monkeypatch.setattr(os, "execve", lambda path, words, env: found.append((path, words, env["GLIBC_TUNABLES"])))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "jaxstyle", "render", "a b"])
    monkeypatch.setattr(sys, "argv", ["/there/jaxstyle/__main__.py", "render", "a b"])
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(cli, "main", lambda: found.append("main"))
    return found


def test_the_program_starts_itself_anew_with_the_same_words(system, started, monkeypatch):
    program.main()
    before = [sys.executable, "-X", "jaxstyle_restarted"]
    words = [*before, "-X", "utf8", "-m", "jaxstyle", "render", "a b"]
    assert started == [(sys.executable, words, ASKED), "main"]  # the stand-in returns, which the system's does not
    started.clear()
    monkeypatch.setattr(sys, "orig_argv", ["python", "/bin/jaxstyle"])
    monkeypatch.setattr(sys, "argv", ["/bin/jaxstyle"])
    program.main()
    assert started == [(sys.executable, [*before, "/bin/jaxstyle"], ASKED), "main"]


def test_it_restarts_once_where_the_variable_is_lost(system, started, monkeypatch):
    monkeypatch.setattr(sys, "_xoptions", {huge_pages.MARK: True})
    program.main()
    assert started == ["main"]


@pytest.mark.parametrize(
    "words, argv",
    [
        (["-"], ["-"]),  # a program from standard input, which has been read
        (["-c", "import jaxstyle", "render"], ["-c", "render"]),
        (["tool.py", "render"], ["tool.py", "render"]),
        (["/bin/jaxstyle", "render"], ["/bin/jaxstyle", "status"]),  # the words are not this process's
        (["-m", "pytest", "tests"], ["jaxstyle", "tests"]),
        ([], [""]),
    ],
)
def test_another_program_is_not_started_anew(system, started, monkeypatch, words, argv):
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    monkeypatch.setattr(sys, "argv", argv)
    program.main()
    assert started == ["main"]


def test_a_program_under_a_debugger_is_not_started_anew(system, started, monkeypatch):
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    program.main()
    assert started == ["main"]


def test_the_installed_command_is_this_program():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"jaxstyle": f"{program.__name__}:{program.main.__name__}"}


@pytest.mark.parametrize(
    "unlike",
    [
        {"mode": "[always] madvise never"}, {"mode": "always madvise [never]"}, {"mode": ""},
        {"libc": "glibc 2.34"}, {"libc": "musl 1.2"}, {"libc": None}, {"libc": "glibc next"},
        {"told": ASKED}, {"told": "glibc.malloc.hugetlb=0"}, {"told": "glibc.malloc.check=1:glibc.malloc.hugetlb=2"},
    ],
)  # fmt: skip
def test_it_does_not_where_that_brings_nothing_or_the_user_has_decided(system, started, unlike):
    system(**unlike)
    program.main()
    assert started == ["main"]


def test_systems_without_the_question_go_on(system, started, monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: (_ for _ in ()).throw(ValueError("unrecognized name")))
    program.main()
    monkeypatch.delattr(os, "confstr")
    program.main()
    assert started == ["main", "main"]


def test_other_tunables_stay(system, started):
    system(told="glibc.malloc.arena_max=1")
    program.main()
    assert started[0][2] == f"glibc.malloc.arena_max=1:{ASKED}"


def test_a_program_that_cannot_be_started_anew_goes_on(system, started, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    program.main()
    monkeypatch.delattr(sys, "frozen")
    monkeypatch.setattr(sys, "executable", "")
    program.main()
    monkeypatch.setattr(sys, "executable", "python")
    monkeypatch.setattr(os, "execve", lambda *_: (_ for _ in ()).throw(OSError(7, "Argument list too long")))
    program.main()
    assert started == ["main"] * 3


def test_the_process_of_a_shard_has_them(system, monkeypatch):
    given = []

    def popen(*_, env, **__):
        given.append(env["GLIBC_TUNABLES"])
        return SimpleNamespace(kill=lambda: None, wait=lambda timeout: 0)

    monkeypatch.setattr(worker.subprocess, "Popen", popen)
    monkeypatch.setattr(worker, "_unlike", lambda told: None)
    monkeypatch.setattr(worker, "_attend", lambda *_: worker.Outcome(0, None, ""))
    worker.attend({"folder": "."}, 0, lambda calls: "")
    assert given == [ASKED]


@pytest.mark.parametrize(
    "unlike, told, state, said",
    [
        ({}, ASKED, "ok", "asked for in GLIBC_TUNABLES"),
        ({}, "glibc.malloc.check=1:glibc.malloc.hugetlb=2", "ok", "asked for in GLIBC_TUNABLES"),
        ({}, "", "note", "not asked for"),
        ({}, "glibc.malloc.hugetlb=0", "note", "not asked for"),
        ({"mode": "[always] madvise never"}, "", "ok", "every program"),
        ({"mode": "always madvise [never]"}, "", "ok", "none: the kernel's setting is never"),
        ({"mode": ""}, "", "ok", "none: they cannot be asked for"),
    ],
)
def test_doctor_tells_of_them(system, unlike, told, state, said):
    system(**unlike)
    found = doctor._huge_pages({"GLIBC_TUNABLES": told})
    assert found.state == state and said in found.value and bool(found.remedy) == (state == "note")
