"""Errors that a caller can correct. Each says what is wrong, with the value, and the remedy."""

from __future__ import annotations

import errno

EXIT_OK, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_LIMIT, EXIT_INTERRUPTED = 0, 2, 3, 4, 130
"""Exit codes of commands that end without an error of this module; each of those has its own."""


class JaxstyleError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: what is wrong, with the offending value.
        remedy: what the caller can do about it; empty only if there is no remedy.
    """

    exit_code = 2

    def __init__(self, what: str, remedy: str = ""):
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}" if remedy else what)


class SettingsError(JaxstyleError):
    """A setting has an invalid value, or two settings contradict each other."""


class SettingsMismatch(JaxstyleError):
    """The output folder belongs to a run with other settings."""


class OutputLocked(JaxstyleError):
    """Another run is writing to the output folder."""


class InputError(JaxstyleError):
    """An input or the style image cannot be used."""


class ImageError(JaxstyleError):
    """One picture cannot be read. A run records it as a row of the manifest and goes on."""


class WeightsError(JaxstyleError):
    """Network weights are absent, damaged or of an unknown format."""


class StorageError(JaxstyleError):
    """The output folder cannot be written."""

    exit_code = 5


class ProcessError(JaxstyleError):
    """The system starts no further process or thread for the run."""

    exit_code = 1


class DeviceError(JaxstyleError):
    """JAX finds no usable device, the device stops answering, or it has no memory for the network."""

    exit_code = 1


class ClusterError(JaxstyleError):
    """A cluster cannot be reached, or shards have not been finished on it."""

    exit_code = 1


class LimitError(JaxstyleError):
    """The system refuses this process memory, open files, processes or threads."""

    exit_code = 1


def refused_by_the_system(error: BaseException) -> LimitError | None:
    """Returns the `LimitError` that an exception stands for, or None.

    Running out of memory, files, processes or threads may raise anywhere: in an import, a thread or a library.
    """
    text, seen = "", set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:  # a library may have wrapped it
        seen.add(id(cause))
        number, text = getattr(cause, "errno", None), f"{text}\n{cause}"
        if isinstance(cause, MemoryError) or number == errno.ENOMEM:
            return _no_memory()
        if number in (errno.EMFILE, errno.ENFILE):
            return _no_files()
        if isinstance(cause, BlockingIOError):  # of fork
            return _no_processes()
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, JaxstyleError):  # it has its own words
        return None
    told = [make for make, words in _WORDS.items() if any(word in text for word in words)]
    return told[0]() if told else None


def _no_memory() -> LimitError:
    return LimitError(
        "the system gives this process no more memory",
        "Raise its limit (`ulimit -v`, or that of its container or job), or lower --batch and --workers.",
    )


def _no_files() -> LimitError:
    return LimitError("this process may open no more files", "Raise its limit (`ulimit -n`), or lower --workers.")


def _no_processes() -> LimitError:
    return LimitError(
        "the system starts no more processes or threads for this user",
        "Raise the limit (`ulimit -u`, `ulimit -v`, or that of the container), or end other programs.",
    )


_WORDS = {
    _no_processes: ("can't start new thread", "Resource temporarily unavailable", "pthread_create"),
    _no_files: ("Too many open files",),
    _no_memory: ("Cannot allocate memory", "failed to map segment", "Out of memory", "out of memory", "bad_alloc"),
}
"""What libraries say of an error of the system that has lost its code, such as a failed import of theirs."""


def printable(name: object) -> str:
    """Escapes control characters and bytes that are not UTF-8, so that a name can be printed."""
    text = str(name)
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate, which a damaged ledger may hold
        data = text.encode("utf-8", "backslashreplace")
    shown = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
