"""Reads a TOML file that a user gives: a regular file of bounded size and nesting, in UTF-8."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from jaxstyle.errors import SettingsError, printable

MOST_BYTES = 64 * 1024
"""Of a file. It has a few dozen settings."""
MOST_DOTS = 200
"""Dots and brackets in a line. The time to parse a key grows with the square of its dots."""


def read(path: Path, where: str) -> dict[str, Any]:
    """Reads the tables and values of a file.

    Args:
        where: the file in messages, such as "the settings file run.toml".

    Raises:
        SettingsError: the file cannot be read or is no TOML.
    """
    return _parsed(_text(path, where), where)


def _text(path: Path, where: str) -> str:
    """Reads the file: a regular one, at most `MOST_BYTES`, in UTF-8."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SettingsError(f"{where} is not a regular file", "Give the path of a TOML file.")
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SettingsError(f"{where} does not exist", "Give the path of a TOML file.") from error
    except OSError as error:  # open() refuses a folder
        raise SettingsError(f"{where} cannot be read ({error.strerror})", "Give the path of a TOML file.") from error
    if len(data) > MOST_BYTES:
        raise SettingsError(f"{where} has more than {MOST_BYTES // 1024} KiB", "Give a file with settings only.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(f"{where} is not UTF-8 in line {line}", "Save it as UTF-8.") from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    """Parses TOML whose nesting is bounded."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") + line.count("[") + line.count("{") > MOST_DOTS:
            raise SettingsError(f"{where} has over {MOST_DOTS} dots and brackets in line {number}", "Shorten it.")
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError as error:
        raise SettingsError(f"{where} is nested too deeply", "Give a file with settings only.") from error
    except ValueError as error:  # TOMLDecodeError, and numbers of too many digits
        raise SettingsError(f"{where} is no TOML: {printable(error)}", "Correct it.") from error
