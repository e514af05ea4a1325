"""One run at a time in an output folder; shards of one partition may share it.

A run holds `.jaxstyle-lock-I-of-N` (of the whole folder: 1 of 1) as long as it lasts, with a record of who it is
beside it. Who may hold what is decided within the gate, `.jaxstyle-lock`, which is held only for that. The locks are
the kernel's (flock), so those of a killed run are free at once. Where the file system has none, the record itself is
the lock, and one of a dead process of this host counts for nothing.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from jaxstyle.data.sinks.folders import TEMPORARY, write_file
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import JaxstyleError, OutputLocked, StorageError

PREFIX = ".jaxstyle-lock"
"""How names of lock files begin."""

GATE_SECONDS = 60.0
"""How long a run waits for others to pass the gate."""

Part = tuple[int, int]
"""I and N of shard I of N; (1, 1) is the whole folder."""

_NAME = re.compile(re.escape(PREFIX) + r"-([0-9]{1,9})-of-([0-9]{1,9})(?:\.json)?")
_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_process = secrets.token_hex(8)
"""Tells this process from one of the same number in an earlier life of a container."""


@contextmanager
def locked(output: Path, part: Part = (1, 1), settle: Callable[[], None] | None = None) -> Iterator[dict[str, Any]]:
    """Holds an output folder, or a shard of it, while the block runs; yields the record that others see.

    The whole folder excludes everybody; a shard excludes the whole, itself, and shards of another N. Two threads
    exclude each other as two processes do.

    Args:
        output: the folder; it exists.
        settle: called when the lock is held and no other run can be starting or looking.

    Raises:
        OutputLocked: somebody else holds it; says who.
        StorageError: the folder cannot be written.
    """
    soft = not _has_flock(output)
    with ExitStack() as held:
        with _gate(output, soft):
            for other in sorted({*_parts(output), part}):
                if _exclude(part, other):
                    record = _holder(output, other, soft)
                    if record is not None:
                        raise _refusal(output, other, record, soft)
                    _remove(output, _files(output, other))  # a killed run's
            lock, path = _files(output, part)
            own = None if soft else _lock(FileLock, lock)
            if own is not None:
                try:
                    with _as_storage_error(output):
                        own.acquire(timeout=0)
                except Timeout:
                    raise _refusal(output, part, {}, soft) from None
            held.callback(_leave, output, part, own)
            mine = {
                "part": f"{part[0]}/{part[1]}",
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "process": _process,
                "flock": not soft,
            }
            write_file(path, json.dumps(mine).encode())
            if settle is not None:
                settle()
        yield mine


def in_peace(output: Path, do: Callable[[], None]) -> bool:
    """Calls something if nobody holds the folder or a part; whoever starts meanwhile waits. False: somebody does.

    Raises:
        OutputLocked, StorageError: see `locked`.
    """
    soft = not _has_flock(output)
    with _gate(output, soft):
        if any(_holder(output, part, soft) is not None for part in _parts(output)):
            return False
        do()
    return True


def holders(output: Path) -> list[dict[str, Any]]:
    """Who holds the folder now: part ("I/N"), host, pid and since (ISO, UTC) of each. Changes nothing, waits 1 s.

    Where the locks cannot be asked (a folder that is read-only, or busy), a record counts unless it is known to be of
    a dead process. What a lock without a legible record says is 0 or "".

    Raises:
        StorageError: the folder cannot be read.
    """
    parts = _parts(output)
    if not parts:
        return []
    try:
        soft = not _has_flock(output)
        with _gate(output, soft, seconds=1):
            found = {part: _holder(output, part, soft) for part in parts}
    except JaxstyleError:
        found = {part: _holder(output, part, soft=True) for part in parts}
    empty = {"host": "", "pid": 0, "since": ""}
    return [
        {"part": f"{i}/{n}"} | {name: record.get(name, nothing) for name, nothing in empty.items()}
        for (i, n), record in found.items()
        if record is not None
    ]


def _exclude(one: Part, other: Part) -> bool:
    return one == other or one[1] != other[1]


def _files(output: Path, part: Part) -> tuple[Path, Path]:
    """The lock and the record."""
    name = f"{PREFIX}-{part[0]}-of-{part[1]}"
    return output / name, output / f"{name}.json"


def _parts(output: Path) -> list[Part]:
    """Parts that have a file, whether or not anybody holds them."""
    with _as_storage_error(output, "read"):
        found = filter(None, map(_NAME.fullmatch, os.listdir(output)))
        return sorted({(int(match[1]), int(match[2])) for match in found})


def _has_flock(output: Path) -> bool:
    """Tried on a file of its own: older versions of filelock take a file system's refusal for a lock held."""
    try:
        import fcntl
    except ImportError:  # Windows, where filelock has another way
        return True
    with _as_storage_error(output), tempfile.TemporaryFile(dir=output, prefix=TEMPORARY) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            return False
    return True


@contextmanager
def _gate(output: Path, soft: bool, seconds: float | None = None) -> Iterator[None]:
    """Within it nobody else decides. Nothing here removes its file: two runs could then pass two gates."""
    path = output / (f"{PREFIX}.soft" if soft else PREFIX)
    seconds = GATE_SECONDS if seconds is None else seconds
    gate = _lock(SoftFileLock if soft else FileLock, path)
    try:
        with _as_storage_error(output):
            gate.acquire(timeout=seconds, poll_interval=0.02)
    except Timeout:
        raise OutputLocked(
            f"{printable(output)} is in use: others have been starting in it for {seconds:g} seconds",
            f"Wait for them, or use another output folder.{_delete(path) if soft else ''}",
        ) from None
    try:
        yield
    finally:
        gate.release()


def _lock(kind: type[BaseFileLock], path: Path) -> BaseFileLock:
    """A lock whose file may be written by whoever may write to its folder."""
    with _as_storage_error(path.parent):
        return kind(path, mode=path.parent.stat().st_mode & 0o666, thread_local=False)


def _holder(output: Path, part: Part, soft: bool) -> dict[str, Any] | None:
    """The record of who holds a part, empty if there is no legible one; None if nobody does."""
    lock, path = _files(output, part)
    record: dict[str, Any] | None = None
    if os.path.lexists(path):
        try:
            record = dict(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            record = {}
    if soft or (record and not record.get("flock")):
        return record if record is None or _alive(record) else None
    if not lock.exists():
        return None
    other = _lock(FileLock, lock)
    try:
        with _as_storage_error(output):
            other.acquire(timeout=0)
    except Timeout:
        return record or {}
    other.release()
    return None


def _alive(record: dict[str, Any]) -> bool:
    """Whether the process may still be there; of other hosts' there is no telling."""
    pid = record.get("pid")
    if record.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0 or os.name == "nt":
        return True
    if pid == os.getpid():
        return record.get("process") == _process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _leave(output: Path, part: Part, own: BaseFileLock | None) -> None:
    """Lets go of a part. Its lock's file is removed within the gate only, where nobody else can be opening it."""
    lock, record = _files(output, part)
    try:
        _remove(output, (record,))
        if own is not None and lock.exists():
            with _gate(output, soft=False):
                own.release()  # here, since some versions of filelock remove the file as well
                _remove(output, (lock,))
    except JaxstyleError:
        return  # the work is done, and the next run takes what is left for a killed run's
    finally:
        if own is not None:
            own.release()


def _remove(output: Path, paths: tuple[Path, ...]) -> None:
    with _as_storage_error(output):
        for path in paths:
            path.unlink(missing_ok=True)


def _refusal(output: Path, part: Part, record: dict[str, Any], soft: bool) -> OutputLocked:
    who = "another run"
    if record:
        host, pid, since = (printable(record.get(name, "?")) for name in ("host", "pid", "since"))
        who = f"a run on {host}, process {pid}, since {since}"
    by_record = soft or (bool(record) and not record.get("flock"))
    return OutputLocked(
        f"{printable(output)} is in use by {who}",
        f"Wait for it, or use another output folder.{_delete(_files(output, part)[1]) if by_record else ''}",
    )


def _delete(path: Path) -> str:
    return f" This file system cannot tell whether it still runs: if it does not, delete {printable(path)}."


@contextmanager
def _as_storage_error(output: Path, verb: str = "written") -> Iterator[None]:
    try:
        yield
    except Timeout:  # an OSError, but of the lock
        raise
    except OSError as error:
        raise StorageError(
            f"the output folder {printable(output)} cannot be {verb} ({error.strerror or error})",
            "Make room or mend its permissions, or choose another.",
        ) from error
