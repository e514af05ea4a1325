"""Opening files in an output folder that anybody may have put there: never waits, never follows a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Literal

from jaxstyle.data.sources.base import printable
from jaxstyle.errors import StorageError

_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path, mode: Literal["rb", "ab"] = "rb", buffering: int = -1) -> IO[bytes]:
    """Opens a regular file as `open` does.

    A pipe does not make the call wait, and a symbolic link as the last part of the path is not followed.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    try:
        file = open(path, mode, buffering, opener=lambda name, flags: os.open(name, flags | _FLAGS, 0o666))  # noqa: SIM115
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "Is a symbolic link", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file


def read_regular(path: Path) -> bytes:
    """The content of a regular file; raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def unreadable(path: object, error: OSError) -> StorageError:
    """The error to raise when a file or folder cannot be read."""
    return StorageError(
        f"{printable(path)} cannot be read ({error.strerror or error})", "Correct its permissions, or move it away."
    )
