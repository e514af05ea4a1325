"""Whether other users could change what lies in a folder, such as the caches, whose programs are run."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

CORRECT_CACHE = "Correct its permissions, or set JAXSTYLE_CACHE to a folder that is yours alone."
"""What a user can do about a cache that is not used."""

_LINKS = 40
"""Most symbolic links in a path, as the kernel has it."""
_told: set[str] = set()


def distrust(path: Path) -> str:
    """Returns who could change what lies at a path, or "" if only this user and root can.

    As OpenSSH does for its files, every folder from the root on must belong to root or this user, and nobody else may
    write to it. A sticky folder, such as /tmp, passes: others can add names there, but not take away those of this
    user. A symbolic link must belong to root or this user, and the folders on the way to its target are checked too.

    Args:
        path: parts that are absent are left out.
    """
    if os.name == "nt":  # its permissions are not in these modes
        return ""
    at, left, links = Path("/"), list(path.absolute().parts[1:]), 0
    while True:
        try:
            found = at.lstat()
        except OSError as error:
            return "" if isinstance(error, FileNotFoundError) else f"{at} cannot be examined ({error.strerror})"
        if found.st_uid not in (0, os.geteuid()):
            return f"{at} belongs to another user"
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS:
                return f"{at} is one of too many links"
            target = Path(os.path.join(at.parent, os.readlink(at)))
            at, left = Path("/"), [*target.parts[1:], *left]
            continue
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
            return f"others may write to {at}"
        if not left:
            return ""
        part = left.pop(0)
        at = at.parent if part == ".." else at / part


def make_private(folder: Path) -> str:
    """Makes a folder and those above it where absent, with permissions for this user only; returns `distrust` of it.

    Raises:
        OSError: it cannot be made.
    """
    for one in (*reversed(folder.absolute().parents), folder.absolute()):
        with suppress(FileExistsError):
            if not one.is_dir():
                one.mkdir(mode=0o700)
    return distrust(folder)


def private_folder(folder: Path) -> str:
    """Makes a folder for files of which each is run; returns why it cannot be used, or "".

    Everything in it must belong to this user or root: others may have been able to write to it earlier.
    """
    try:
        if problem := make_private(folder):
            return problem
        with os.scandir(folder) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                if os.name != "nt" and (about.st_uid not in (0, os.geteuid()) or stat.S_ISLNK(about.st_mode)):
                    return f"{entry.path} is a link or belongs to another user"
    except OSError as error:
        return f"{folder} cannot be used ({error.strerror or error})"
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written"


def tell_once(text: str) -> None:
    """Prints a warning on the standard error, once a process."""
    if text not in _told and sys.stderr is not None:
        _told.add(text)
        with suppress(OSError, ValueError):  # the stream is closed
            print(f"jaxstyle: {text}", file=sys.stderr)
