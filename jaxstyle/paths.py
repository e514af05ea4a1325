"""Paths and URLs as a user gives them: empty ones are refused, and `~` is expanded wherever they come from."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jaxstyle.errors import InputError, JaxstyleError

STORES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "memory": "fsspec",
}
"""Schemes of object stores, and the packages that read them."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")
_MERGED = re.compile(rf"({'|'.join(STORES)}):/(?!/)")


def is_url(value: object) -> bool:
    """Whether an input is a URL: a text that begins with a scheme and `://`."""
    return isinstance(value, str) and _URL.match(value) is not None


def given_input(value: object, name: str, error: type[JaxstyleError] = InputError) -> Path | str:
    """Checks an input, which is a URL or a path; see `given_path`."""
    return str(value) if is_url(value) else given_path(value, name, error)


def given_path(value: object, name: str, error: type[JaxstyleError] = InputError) -> Path:
    """Checks a path that a user has given, and expands a leading `~` or `~user` as a shell does.

    A shell expands neither in variables, in files nor in `--output=~/x`, and a folder with the name `~` endangers the
    home folder of whoever wants to delete it. `./~` names such a folder. An existing file with a name such as
    `~backup.jpg`, which a shell's `*` finds, is that file.

    Args:
        name: name of the path in messages.
        error: class of the error.

    Raises:
        JaxstyleError: of the class `error`: the value is no path, is empty or blank, has a null byte, is a URL, begins
            with `~` where no home folder is known, or the system refuses to look at it.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"{name} is {value!r}", "Give a path as a text or a pathlib.Path.")
    text = os.fspath(value)
    if not isinstance(text, str):
        text = os.fsdecode(text)
    if not text:
        raise error(f"{name} is empty", "Give a path. Is a variable unset?")
    if "\0" in text:
        raise error(f"{name} is {text!r}, with a null byte", "Give a path without it.")
    if not text.strip() and not os.path.lexists(text):
        raise error(f"{name} is {text!r}, which is blank", "Give a path. Is a variable unset?")
    if (is_url(text) or _MERGED.match(text)) and not os.path.lexists(text):
        raise error(  # without the text, which may have a password
            f"{name} is a URL" + ("" if is_url(text) else " whose slashes are merged, as by pathlib.Path"),
            "Only inputs lie in object stores, given as texts: give a path. `jaxstyle publish` copies outputs there.",
        )
    text = _at_home(text, name, error)
    try:
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as problem:  # ValueError: a lone surrogate
        reason = getattr(problem, "strerror", None) or "not a valid name"
        raise error(
            f"{name} {text!r} cannot be looked at ({reason})", "Correct it, or its folders' permissions."
        ) from problem
    return Path(text)


def _at_home(text: str, name: str, error: type[JaxstyleError]) -> str:
    """Expands a leading `~`."""
    if not text.startswith("~"):
        return text
    user = text[1:].partition(os.sep)[0]
    if user and os.path.lexists(text):
        return text
    expanded = os.path.expanduser(text)
    if expanded == text or not os.path.isabs(expanded):
        whose = f"no user {user!r} with a home folder" if user else "no home folder, and HOME is not set"
        raise error(
            f"{name} is {text!r}, and there is {whose}", f"Give the whole path, or ./{text} for that very name."
        )
    return expanded
