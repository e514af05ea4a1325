"""Names that a run writes into its output folder are reserved, in any case, and no others are."""

from __future__ import annotations

import os

import pytest

from jaxstyle.data.layout import LEDGER, LOCK, LOCK_PART, TEMPORARY, is_reserved, ledger_name, lock_name
from jaxstyle.data.opening import open_regular, read_regular


@pytest.mark.parametrize(
    "key",
    [
        "manifest.jsonl", "settings.json", "contact_sheet.png", "Manifest.JSONL", "CONTACT_SHEET.png",
        "settings.json/a.png", ledger_name((2, 8)), "MANIFEST-2-OF-8.jsonl", LOCK, f"{LOCK}/a.png", lock_name((1, 1)),
        f"{lock_name((2, 3))}.json", LOCK.upper(), f"{TEMPORARY}1.png", f"sub/{TEMPORARY}1.png",
        f"{TEMPORARY}x/a.png", "annotations.json", "Annotations.CSV", ".jaxstyle-publisher",
        f"sub/{TEMPORARY.upper()}1.png",
    ],
)  # fmt: skip
def test_names_of_the_run_are_reserved(key):
    assert is_reserved(key)


@pytest.mark.parametrize(
    "key",
    [
        "a.png", "", "manifest", "sub/settings.json", "sub/contact_sheet.png", f"sub/{LOCK}", "manifest-of-.jsonl",
        "manifest-a-of-b.jsonl", "manifest-1-of-2.jsonl.png", "a-manifest-1-of-2.jsonl", ".jaxstyle",
        "annotations.png", "sub/annotations.json",
    ],
)  # fmt: skip
def test_other_names_are_free(key):
    assert not is_reserved(key)


@pytest.mark.parametrize("part", [(1, 1), (2, 3), (123456, 999999)])
def test_names_of_parts_are_recognised(part):
    assert ledger_name(part) == "manifest.jsonl" if part == (1, 1) else LEDGER.fullmatch(ledger_name(part))
    for name in (lock_name(part), f"{lock_name(part)}.json"):
        assert tuple(map(int, LOCK_PART.fullmatch(name).groups())) == part
    assert not LOCK_PART.fullmatch(LOCK)


def test_a_regular_file_is_read_and_appended_to(tmp_path):
    for text in (b"one", b"two"):
        with open_regular(tmp_path / "a", "r+b", buffering=0, extra=os.O_CREAT | os.O_APPEND) as file:
            file.write(text)
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "a", 6) == b"onetwo"
    with pytest.raises(ValueError, match="more than 5 bytes"):
        read_regular(tmp_path / "a", 5)


def test_a_new_file_takes_the_place_of_nothing(tmp_path):
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("absent")
    for name in ("target", "link", "dangling"):
        with pytest.raises(FileExistsError):
            open_regular(tmp_path / name, "xb")
    assert (tmp_path / "target").read_bytes() == b"kept" and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "device"])
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, kind, mode):
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "target").write_bytes(b"")
        path.symlink_to("target")
    else:
        path = "/dev/null"
    with pytest.raises(OSError, match=r"(?i)regular file|directory|symbolic link|No such device"):
        open_regular(path, mode)
