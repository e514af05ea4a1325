"""Paths as users give them: empty and impossible ones are refused by name, `~` is expanded wherever it comes from."""

import os
from pathlib import Path

import pytest
from command import run

import jaxstyle
from jaxstyle import paths
from jaxstyle.cache import cache_directory, has_cache
from jaxstyle.errors import InputError, SettingsError
from jaxstyle.paths import given_path
from jaxstyle.settings import RenderSettings


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and another folder that is the working one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user without a home folder: HOME is not set, and the system knows none."""
    for name in ("HOME", "XDG_CACHE_HOME", "JAXSTYLE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["", "  ", "\t", "a\0b", "~nobody-has-this-name/x", "x" * 300, None, 3, True, ["a"]])
def test_what_is_no_path_is_refused_by_name(home, text):
    with pytest.raises(InputError, match="^the style ") as caught:
        given_path(text, "the style")
    assert caught.value.remedy


def test_a_home_folder_is_expanded_as_a_shell_does(home):
    assert given_path("~", "it") == home and given_path("~/a/b", "it") == home / "a" / "b"
    assert given_path(Path("~/a"), "it") == home / "a"
    assert given_path("~root", "it").is_absolute()
    assert given_path("./~/a", "it") == Path("~/a")
    assert given_path("a/~", "it") == Path("a/~")


def test_a_file_whose_name_begins_with_a_tilde_is_that_file(home):
    Path("~backup.jpg").touch()
    assert given_path("~backup.jpg", "it") == Path("~backup.jpg")
    with pytest.raises(InputError, match="no user 'other'"):
        given_path("~other", "it")


def test_without_a_home_folder_only_a_path_in_it_is_an_error(homeless):
    assert given_path("a", "it") == Path("a")
    with pytest.raises(InputError, match="no home folder, and HOME is not set"):
        given_path("~/a", "it")


def test_a_blank_name_of_a_file_that_exists_is_a_name(home):
    Path(" ").touch()
    assert given_path(" ", "it") == Path(" ")


def test_a_folder_that_may_not_be_looked_into_is_told(home, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(paths.os, "lstat", closed)
    with pytest.raises(SettingsError, match=r"--style 'a/b' cannot be looked at \(Permission denied\)"):
        given_path("a/b", "--style", SettingsError)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["render", "", "--style", "STYLE", "-o", "OUT"], "INPUT"),
        (["render", "IN", "", "--style", "STYLE", "-o", "OUT"], "INPUT"),
        (["render", "IN", "--style", "", "-o", "OUT"], "--style"),
        (["render", "IN", "--style", "STYLE", "-o", ""], "-o"),
        (["render", "IN", "--style", "STYLE", "--output="], "--output"),
        (["plan", "", "--style", "STYLE", "-o", "OUT"], "INPUT"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--init", ""], "--init"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--weights", ""], "--weights"),
        (["render", "IN", "--style", "STYLE", "-o", "OUT", "--config", ""], "--config"),
        (["weights", "convert", "", "OUT"], "SOURCE"),
        (["weights", "convert", "IN", ""], "DESTINATION"),
        (["weights", "verify", ""], "PATH"),
        (["status", ""], "OUTPUT"),
        (["verify", ""], "OUTPUT"),
        (["demo", "-o", ""], "-o"),
        (["bench", "-o", ""], "-o"),
    ],
)
def test_an_empty_text_is_never_the_working_folder(folder, capfd, arguments, name):
    places = {"IN": folder / "in", "STYLE": folder / "style.png", "OUT": folder / "out"}
    assert run(*(places.get(word, word) for word in arguments)) == 2
    assert f"jaxstyle: {name} is empty. Give " in capfd.readouterr().err
    assert sorted(one.name for one in folder.iterdir()) == ["in", "style.png"]


@pytest.mark.parametrize("where", range(3))
def test_an_empty_text_is_refused_from_python_too(folder, where):
    arguments = [folder / "in", folder / "style.png", folder / "out"]
    arguments[where] = ""
    with pytest.raises(InputError, match="is empty"):
        jaxstyle.render(*arguments, size=32)
    with pytest.raises(InputError, match="an input is empty"):
        jaxstyle.render([folder / "in", ""], folder / "style.png", folder / "out", size=32)


@pytest.mark.parametrize("name", ["init", "weights"])
def test_paths_among_the_settings_are_expanded_and_never_empty(home, name):
    (home / "a.png").touch()
    assert str(getattr(RenderSettings(**{name: "~/a.png"}), name)) == str(home / "a.png")
    with pytest.raises(SettingsError, match=f"{name} is empty"):
        RenderSettings(**{name: ""})


def test_a_hyphen_is_not_taken_for_standard_input(folder, capfd):
    assert run("render", "-", "--style", folder / "style.png", "-o", folder / "out") == 2
    assert "an argument is -. Standard input is not read" in capfd.readouterr().err


def test_the_cache_is_where_the_variable_says_or_at_home(home, monkeypatch):
    monkeypatch.setenv("JAXSTYLE_CACHE", "~/cache")
    assert cache_directory() == home / "cache"


def test_without_a_home_folder_there_is_no_cache_and_nobody_needs_one(homeless, capfd, monkeypatch):
    assert not has_cache() and run("weights", "list") == 0
    assert "no home folder" in capfd.readouterr().out
    with pytest.raises(SettingsError, match="Set JAXSTYLE_CACHE"):
        cache_directory()
    from jaxstyle.engine import jax_setup

    assert jax_setup.enable_cache() is None
    assert run("weights", "verify") == 0
    assert os.listdir() == []  # no folder called ~
