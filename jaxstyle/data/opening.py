"""Opens untrusted files in an output folder: never blocks on a pipe, never follows a symbolic link."""

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
    """Opens a regular file like `open`.

    The call does not block on a pipe and does not follow a symbolic link as the last part of the path.

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
    """Reads a regular file; raises the errors of `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def unreadable(path: object, error: OSError) -> StorageError:
    """Builds the error for a file or folder that cannot be read."""
    return StorageError(
        f"{printable(path)} cannot be read ({error.strerror or error})", "Correct its permissions, or move it away."
    )
