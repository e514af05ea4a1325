"""Publishing files: a file under its final name is whole, whatever happens while it is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from jaxstyle.data.source import printable
from jaxstyle.errors import InputError, StorageError

TEMPORARY = ".jaxstyle-partial-"
"""How names of unfinished files begin."""


def publish(path: Path, data: bytes) -> None:
    """Writes a file: under a temporary name beside it, synced to the disk, renamed, the rename synced.

    Raises:
        StorageError: the file system refused.
    """
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{printable(path)} cannot be written ({error.strerror or error})",
            "Make room or mend the permissions, then run again.",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Protects the inputs from their outputs.

    Raises:
        InputError: the output folder is, contains, or lies in one of the input folders.
    """
    resolved = output.resolve()
    for given in inputs:
        target = given.resolve()
        if given.is_dir():
            overlap = resolved.is_relative_to(target) or target.is_relative_to(resolved)
        else:
            overlap = resolved in (target.parent, given.parent.resolve())
        if overlap:
            raise InputError(
                f"the output folder {printable(output)} overlaps the input {printable(given)}",
                "Choose a folder apart from the inputs.",
            )


def prepare(output: Path, inputs: Iterable[Path]) -> None:
    """Makes the output folder, checks that it can be written, and sweeps what a killed run left unfinished.

    Raises:
        InputError: see `refuse_overlap`.
        StorageError: it cannot be made or written.
    """
    refuse_overlap(output, inputs)
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f"{TEMPORARY}{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        for folder, _, files in os.walk(output):
            for name in files:
                if name.startswith(TEMPORARY):
                    Path(folder, name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"the output folder {printable(output)} cannot be written ({error.strerror})",
            "Mend its permissions or choose another.",
        ) from error
