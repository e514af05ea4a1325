"""Opens untrusted files in an output folder: never blocks on a pipe, never follows a symbolic link."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from pathlib import Path
from typing import IO, cast

CLOSED = getattr(os, "O_CLOEXEC", 0)
NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)
_UNBLOCKED = CLOSED | getattr(os, "O_NONBLOCK", 0)

_MODES = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL}


def open_regular(
    path: Path | str,
    mode: str = "rb",
    buffering: int = -1,
    *,
    within: int | None = None,
    extra: int = 0,
    follow: bool = False,
) -> IO[bytes]:
    """Opens a regular file like `open`.

    The call does not block on a pipe and does not follow a symbolic link as the last part of the path.

    Args:
        mode: rb, r+b, or xb for a file that must not exist.
        within: descriptor of the folder that a relative path begins in.
        extra: more flags of `os.open`, such as O_CREAT.
        follow: follow a symbolic link, as for a file that the user has given.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    flags = _MODES[mode] | _UNBLOCKED | extra | (0 if follow else NOT_THROUGH_LINKS)
    try:
        handle = os.open(path, flags, 0o666, dir_fd=within)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "Is a symbolic link", str(path)) from error
        raise
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return os.fdopen(handle, mode.replace("x", "w"), buffering)
    except BaseException:
        os.close(handle)
        raise


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a regular file, behind links too, in hexadecimal; raises the errors of `open_regular`."""
    with open_regular(path, follow=True) as file:
        return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


def read_regular(path: Path | str, most: int | None = None, *, within: int | None = None) -> bytes:
    """Reads a regular file; raises the errors of `open_regular`.

    Args:
        most: bytes that the file may have.

    Raises:
        ValueError: the file is longer.
    """
    with open_regular(path, within=within) as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data
