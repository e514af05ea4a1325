"""Caches are used only if nobody but the user and root could change them: every folder from the root on is checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaxstyle import trust
from jaxstyle.model import packages, weights
from jaxstyle.trust import distrust, make_private, private_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
SOMEBODY = 12345
"""Another user."""


@pytest.fixture
def deep(tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    assert distrust(folder) == ""  # pytest's folders are the user's, in a sticky one
    return folder


@pytest.fixture
def owned(monkeypatch):
    """Has paths belong to another user, as `os.lstat` and `os.scandir` tell it."""
    theirs, lstat = set(), Path.lstat

    def told(path):
        found = lstat(path)
        return os.stat_result([*found[:4], SOMEBODY, *found[5:]]) if path in theirs else found

    monkeypatch.setattr(Path, "lstat", told)
    return theirs


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o777, 0o702])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_folder_on_the_way_that_others_may_write_to(deep, above, mode):
    (deep, *deep.parents)[above].chmod(mode)
    assert distrust(deep) == distrust(deep / "new" / "file") == f"others may write to {(deep, *deep.parents)[above]}"
    assert private_folder(deep / "new") == distrust(deep)


def test_in_a_sticky_folder_others_cannot_take_away_what_is_the_users(deep, owned):
    deep.parent.chmod(0o1777)
    assert distrust(deep) == ""
    owned.add(deep)  # but they can be there first
    assert distrust(deep) == f"{deep} belongs to another user"


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_folder_of_another_user(deep, owned, above):
    owned.add((deep, *deep.parents)[above])
    assert distrust(deep) == f"{(deep, *deep.parents)[above]} belongs to another user"


def test_links_are_trusted_as_far_as_their_owner_and_both_ways_to_their_target(deep, tmp_path, owned):
    link = tmp_path / "link"
    for target in (deep, Path("a/b/c"), Path("a/../a/b/c")):
        link.symlink_to(target)
        assert distrust(link / "new") == ""
        deep.parent.chmod(0o777)
        assert distrust(link / "new") == f"others may write to {deep.parent}"
        deep.parent.chmod(0o700)
        link.unlink()
    link.symlink_to(deep)
    owned.add(link)
    assert distrust(link) == f"{link} belongs to another user"
    (tmp_path / "loop").symlink_to("loop")
    assert "too many links" in distrust(tmp_path / "loop" / "x")


def test_a_relative_path_begins_in_the_working_folder(deep, monkeypatch):
    monkeypatch.chdir(deep)
    deep.chmod(0o777)
    assert distrust(Path("new")) == f"others may write to {deep}"


def test_what_is_made_is_the_users_alone_whatever_the_umask(deep):
    before = os.umask(0)
    try:
        assert make_private(deep / "x" / "y") == ""
    finally:
        os.umask(before)
    assert [(deep / name).stat().st_mode & 0o777 for name in ("x", "x/y")] == [0o700, 0o700]


@pytest.mark.skipif(os.geteuid() != 0, reason="files of another user cannot be made")
def test_a_file_that_another_user_left_in_the_folder_is_not_run(deep):
    assert private_folder(deep) == ""
    (deep / "program").touch()
    os.chown(deep / "program", SOMEBODY, SOMEBODY)
    assert private_folder(deep) == f"{deep / 'program'} is a link or belongs to another user"


def test_a_link_in_the_folder_is_not_run(deep):
    (deep / "program").symlink_to("elsewhere")
    assert private_folder(deep) == f"{deep / 'program'} is a link or belongs to another user"


def test_weights_are_converted_anew_where_others_could_change_them(deep, network, monkeypatch, capsys):
    monkeypatch.setenv("JAXSTYLE_CACHE", str(deep))
    monkeypatch.setattr(packages.Package, "read", lambda package, path: network)
    monkeypatch.setattr(weights, "read", lambda path: pytest.fail("it was read"))
    weights._remembered.cache_clear()
    trust._told.clear()
    weights.default_path().write_bytes(b"planted")
    deep.parent.chmod(0o777)
    for _ in range(2):
        assert weights.load() is network
    assert os.listdir(deep) == [weights.default_path().name] and weights.default_path().read_bytes() == b"planted"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and f"others may write to {deep.parent}" in said[0] and "JAXSTYLE_CACHE" in said[0]
    weights._remembered.cache_clear()
