"""Locks an output folder for one run, or each shard of one partition for one run.

A run holds the lock file `.jaxstyle-lock-I-of-N` (1-of-1 for the whole folder) until it ends; a record beside the file
names the run. `.jaxstyle-lock` is a short mutex around checking the locks and taking one. `data.mutex` implements both.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from jaxstyle.data.layout import LOCK_PART, lock_name
from jaxstyle.data.mutex import as_storage_error, mutex, take
from jaxstyle.data.opening import read_regular
from jaxstyle.data.sinks.folders import write_file
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import JaxstyleError, OutputLocked

Part = tuple[int, int]
"""I and N of shard I of N; (1, 1) is the whole folder."""


@contextmanager
def locked(output: Path, part: Part = (1, 1), begin: Callable[[], None] | None = None) -> Iterator[dict[str, Any]]:
    """Locks an output folder, or a shard of it, while the block runs; yields the run's record.

    A lock of the whole folder conflicts with every other lock; a lock of a shard conflicts with the whole folder, the
    same shard, and shards of another N. Threads of one process conflict like processes.

    Args:
        output: an existing folder.
        begin: called with the lock and the mutex held, so that no other run can start meanwhile.

    Raises:
        OutputLocked: another run holds the folder or the shard; the message names it.
        StorageError: the folder cannot be written, or its file system has no locks.
    """
    with ExitStack() as held:
        with mutex(output):
            for other in sorted({*_parts(output), part}):
                if _exclude(part, other):
                    record = _holder(output, other)
                    if record is not None:
                        raise _refusal(output, other, record)
                    _remove(output, *_files(output, other))  # left by a killed run
            path, record_path = _files(output, part)
            own = take(path)
            if own is None:
                raise _refusal(output, part, {})
            held.callback(_leave, output, part, own)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            mine = {"part": f"{part[0]}/{part[1]}", "host": socket.gethostname(), "pid": os.getpid(), "since": since}
            write_file(record_path, json.dumps(mine).encode())
            if begin is not None:
                begin()
        yield mine


def if_unlocked(output: Path, do: Callable[[], None]) -> bool:
    """Calls `do` and returns True if no run holds the folder or a shard. A run that starts meanwhile waits.

    Raises:
        OutputLocked, StorageError: see `mutex`.
    """
    with mutex(output):
        if any(_holder(output, part) is not None for part in _parts(output)):
            return False
        do()
    return True


def holders(output: Path) -> list[dict[str, Any]]:
    """Lists the runs that hold the folder: part ("I/N"), host, pid and since (ISO time, UTC). Waits at most 1 s.

    If the locks cannot be tried, because the folder is read-only or busy, the list has all records, including those
    of killed runs. Values that a record lacks are 0 or "".

    Raises:
        StorageError: the folder cannot be read.
    """
    parts = _parts(output)
    if not parts:
        return []
    try:
        with mutex(output, seconds=1):
            found = {part: _holder(output, part) for part in parts}
    except JaxstyleError:
        found = {part: _record(output, part) for part in parts}
    empty = {"host": "", "pid": 0, "since": ""}
    return [
        {"part": f"{i}/{n}"} | {name: record.get(name, nothing) for name, nothing in empty.items()}
        for (i, n), record in found.items()
        if record is not None
    ]


def _exclude(one: Part, other: Part) -> bool:
    return one == other or one[1] != other[1]


def _files(output: Path, part: Part) -> tuple[Path, Path]:
    """Returns the paths of a part's lock file and record."""
    return output / lock_name(part), output / f"{lock_name(part)}.json"


def _parts(output: Path) -> list[Part]:
    """Lists the parts that have a lock file or a record, held or not."""
    with as_storage_error(output, "read"):
        found = filter(None, map(LOCK_PART.fullmatch, os.listdir(output)))
        return sorted({(int(match[1]), int(match[2])) for match in found})


def _holder(output: Path, part: Part) -> dict[str, Any] | None:
    """Returns the record of the run that holds a part, {} if unreadable, or None. The caller holds the mutex."""
    path, _ = _files(output, part)
    if not path.exists():
        return None
    lock = take(path)
    if lock is None:
        return _record(output, part) or {}
    lock.release()
    return None


def _record(output: Path, part: Part) -> dict[str, Any] | None:
    """Reads the record of a part; returns {} if it is unreadable, None if there is none."""
    try:
        return dict(json.loads(read_regular(_files(output, part)[1])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _remove(output: Path, *paths: Path) -> None:
    with as_storage_error(output):
        for path in paths:
            path.unlink(missing_ok=True)


def _leave(output: Path, part: Part, own: BaseFileLock) -> None:
    """Releases a part. Holds the mutex while removing the lock file, so that no other run can be opening it."""
    path, record = _files(output, part)
    try:
        _remove(output, record)
        if path.exists():
            with mutex(output):
                own.release()  # deletes the file if it is a marker file
                _remove(output, path)
    except JaxstyleError:
        return  # the run has finished; the next run removes the files
    finally:
        own.release()


def _refusal(output: Path, part: Part, record: dict[str, Any]) -> OutputLocked:
    holder, remedy = "another run", "Wait for it, or use another output folder."
    if record:
        host, pid, since = (printable(record.get(name, "?")) for name in ("host", "pid", "since"))
        holder = f"a run on {host}, process {pid}, since {since}"
        if host != socket.gethostname():  # a killed run there may have left a marker file
            remedy += f" If that run has ended, delete {printable(_files(output, part)[0])}."
    return OutputLocked(f"{printable(output)} is in use by {holder}", remedy)
