"""Errors of the file system as errors of a run: those of a name cost one picture, those of the storage end the run."""

from __future__ import annotations

import errno
import os

from jaxstyle.data.sources.base import printable
from jaxstyle.errors import ImageError, StorageError


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


OF_A_NAME = _numbers("ENAMETOOLONG", "EISDIR", "ENOTDIR", "EEXIST", "EINVAL", "EILSEQ", "ELOOP", "ENOTEMPTY", "EBUSY",
                     "EMLINK", "ETXTBSY")  # fmt: skip
"""Error codes that another name would not have met: they cost one output."""

OF_A_SUBFOLDER = _numbers("EACCES", "EPERM", "EROFS")
"""Error codes that cost one output if the output folder itself can still be written."""

NO_ROOM = _numbers("ENOSPC", "EDQUOT")
"""Error codes of a full disk."""

READ_ONLY = NO_ROOM | OF_A_SUBFOLDER
"""Error codes of an output folder that can be read and not be written."""

_PERMISSIONS = "Correct its permissions, or choose another."
_REMEDIES = {
    "ENOSPC": "Free space, then run again.",
    "EDQUOT": "The disk quota is used up: free space in it or have it raised, then run again.",
    "EROFS": "Mount its file system for writing, or choose another output folder.",
    "EACCES": _PERMISSIONS,
    "EPERM": _PERMISSIONS,
    "EIO": "The disk or its connection fails: look into the system's log, then run again.",
    "ESTALE": "The server of its file system has lost it: mount it again, then run again.",
    "EMFILE": "Raise the limit of open files (`ulimit -n`) or lower --workers, then run again.",
    "ENFILE": "The system has too many open files: end other programs, then run again.",
    "ENOMEM": "The system is out of memory: end other programs, then run again.",
    "EFBIG": "Raise the limit of a file's size (`ulimit -f`), or choose a file system that holds larger files.",
    "ENAMETOOLONG": "Give it a shorter name.",
    "EILSEQ": "Give it a name that the file system of the output folder can hold.",
    "EINVAL": "Move away what is in its place, or give it a name that the file system can hold.",
    "EBUSY": "Unmount what is in its place.",
}
REMEDIES = {getattr(errno, name): text for name, text in _REMEDIES.items() if hasattr(errno, name)}
"""What a user can do about an error code."""

AGAIN = "Then run again with --retry-failed."
"""What brings a failed output about once its cause is gone."""

_IN_THE_WAY = "Move away what is in its place."


def remedy_for(error: OSError) -> str:
    """Returns what the user can do about an error."""
    number = error.errno or 0
    return REMEDIES.get(number, _IN_THE_WAY if number in OF_A_NAME else "Correct the cause, then run again.")


def reason(error: OSError | ValueError) -> str:
    """Returns the system's words for an error, and the path that it is about where `Folder` has named one."""
    if not isinstance(error, OSError):  # a null byte or a lone surrogate
        return "it is not a valid file name"
    text = error.strerror or str(error)
    named = isinstance(error.filename, str) and os.sep in error.filename
    return f"{printable(error.filename)}: {text}" if named and error.errno in OF_A_NAME else text


def storage_error(what: object, verb: str, error: OSError) -> StorageError:
    """Builds the error that ends a run: `what` "cannot be" `verb`."""
    return StorageError(f"{printable(what)} cannot be {verb} ({reason(error)})", remedy_for(error))


def picture_error(what: object, error: OSError | ValueError) -> ImageError:
    """Builds the error of one output that cannot be written."""
    remedy = remedy_for(error) if isinstance(error, OSError) else "Rename the input."
    return ImageError(f"its output {printable(what)} cannot be written ({reason(error)})", f"{remedy} {AGAIN}")


def disturbed(path: object, how: str = "moved, deleted or replaced") -> StorageError:
    """Builds the error for a folder or file of the run that others have disturbed."""
    return StorageError(
        f"{printable(path)} was {how} during the run", "Leave the folder alone while a run is at work, then run again."
    )


def unreadable(path: object, error: OSError) -> StorageError:
    """Builds the error for a file or folder that cannot be read."""
    return StorageError(
        f"{printable(path)} cannot be read ({error.strerror or error})", "Correct its permissions, or move it away."
    )
