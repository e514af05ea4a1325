"""Locks an output folder for one run, or each shard of one partition for one run.

A run holds the lock file `.jaxstyle-lock-I-of-N` (1-of-1 for the whole folder) until it ends; a record beside the file
names the run. `.jaxstyle-lock` is a short mutex around checking the locks and taking one. `data.mutex` implements both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxstyle.data import identity as processes
from jaxstyle.data.folder import Folder, identity
from jaxstyle.data.layout import LOCK_PART, is_ledger, lock_name
from jaxstyle.data.mutex import MOST_BYTES, Held, as_storage_error, is_marker, mutex, take
from jaxstyle.data.problems import NO_ROOM, READ_ONLY
from jaxstyle.data.shallow import loads
from jaxstyle.data.sources.base import printable
from jaxstyle.data.writing import write_file
from jaxstyle.errors import JaxstyleError, OutputLocked, StorageError

Part = tuple[int, int]
"""I and N of shard I of N; (1, 1) is the whole folder. I is 0 for the coordinator of N shards, see `cluster.render`."""


class LockRecord(processes.Process):
    """What a run writes beside its lock.

    Attributes:
        part: "I/N", shard I of N; "1/1" for the whole folder, "0/N" for the coordinator of N shards on a cluster.
        since: start of the run, as an ISO time in UTC.
    """

    part: str
    since: str


@contextmanager
def locked(output: Path | Folder, part: Part = (1, 1), begin: Callable[[], None] | None = None) -> Iterator[LockRecord]:
    """Locks an output folder, or a shard of it, while the block runs; yields the run's record.

    A lock of the whole folder conflicts with every other lock; a lock of a shard conflicts with the whole folder, the
    same shard, and shards of another N. Threads of one process conflict like processes.

    A folder with rows on a full or read-only disk, in which no lock can be made, is only read: `refusal` of the folder
    is set, and every later attempt to write raises it. So a finished run can be told from an unfinished one.

    Args:
        output: an existing folder.
        begin: called with the lock and the mutex held, so that no other run can start meanwhile.

    Raises:
        OutputLocked: another run holds the folder or the shard; the message names it.
        StorageError: the folder cannot be written, or its file system has no locks.
    """
    folder = _opened(output)
    with ExitStack() as held:
        try:
            mine = _take_part(folder, part, begin, held)
        except StorageError as error:
            if _number(error) not in READ_ONLY or not any(map(is_ledger, folder.names())):
                raise
            held.close()
            folder.refusal, mine = error, _describe(part)
            if begin is not None:
                begin()
        yield mine


def _take_part(folder: Folder, part: Part, begin: Callable[[], None] | None, held: ExitStack) -> LockRecord:
    """Takes a part, to be left with `held`; returns the run's record."""
    with mutex(folder):
        for other in sorted({*_parts(folder), part}):
            if _exclude(part, other):
                record = _holder(folder, other)
                if record is not None:
                    raise _refusal(folder, other, record)
                _remove(folder, *_files(other))  # left by a killed run
        name, record_name = _files(part)
        own = take(folder, name)
        if own is None:
            raise _refusal(folder, part, {})
        held.callback(_leave, folder, part, own)
        folder.expect(name, own.identity)
        mine = _describe(part)
        try:
            write_file((folder, record_name), json.dumps(mine).encode())
        except StorageError as error:
            if _number(error) not in NO_ROOM:  # a finished run needs no room: others learn less about it
                raise
        if begin is not None:
            begin()
    return mine


def if_unlocked(output: Path | Folder, do: Callable[[], None]) -> bool:
    """Calls `do` and returns True if no run holds the folder or a shard. A run that starts meanwhile waits.

    Raises:
        OutputLocked, StorageError: see `mutex`.
    """
    folder = _opened(output)
    with mutex(folder):
        if any(_holder(folder, part) is not None for part in _parts(folder)):
            return False
        do()
    return True


class Seen(NamedTuple):
    """What is seen of a run that has, or had, a part of a folder.

    Attributes:
        record: what it wrote of itself; {} if that is illegible, None if there is none.
        held: whether it holds its lock; None if the locks cannot be tried.
    """

    record: dict[str, Any] | None
    held: bool | None

    @property
    def state(self) -> str:
        """Says "at work", "killed" (it left its record), "ended" (it left none), or "unknown"."""
        if self.held or (self.held is None and self.record and processes.is_running(self.record)):
            return "at work"
        if self.record is not None and (self.held is False or processes.has_ended(self.record)):
            return "killed"
        return "ended" if self.record is None and self.held is False else "unknown"


def survey(output: Path | Folder) -> dict[Part, Seen]:
    """Looks at every part of a folder that has a lock or a record. Waits at most 1 s for the mutex.

    Raises:
        StorageError: the folder cannot be read.
    """
    folder = _opened(output, "read")
    parts = _parts(folder)
    if not parts:
        return {}
    try:
        with mutex(folder, seconds=1):
            held = {part: _holder(folder, part) for part in parts}
            return {
                part: Seen(_record(folder, part) if record is None else record, record is not None)
                for part, record in held.items()
            }
    except JaxstyleError:
        return {part: Seen(_record(folder, part), None) for part in parts}


def holders(output: Path | Folder) -> list[dict[str, Any]]:
    """Lists the runs that hold the folder: part ("I/N"), host, pid and since (ISO time, UTC). Waits at most 1 s.

    If the locks cannot be tried, because the folder is read-only or busy, the list has all records, including those
    of killed runs. Values that a record lacks are 0 or "".

    Raises:
        StorageError: the folder cannot be read.
    """
    return holding(survey(output))


def holding(seen: Mapping[Part, Seen]) -> list[dict[str, Any]]:
    """The list of `holders`, from a survey."""
    return [
        {"part": f"{i}/{n}"} | stated(one.record)
        for (i, n), one in seen.items()
        if one.record is not None and one.held is not False
    ]


def stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of a run: host, pid and since; 0 or "" for what it lacks."""
    empty = {"host": "", "pid": 0, "since": ""}
    return {name: record.get(name, nothing) for name, nothing in empty.items()}


def _opened(output: Path | Folder, verb: str = "written") -> Folder:
    if isinstance(output, Folder):
        return output
    with as_storage_error(output, verb):
        return Folder(output)


def _describe(part: Part) -> LockRecord:
    """Returns the record of this run."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"part": f"{part[0]}/{part[1]}", "since": since, **processes.own_identity()}


def _number(error: StorageError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _exclude(one: Part, other: Part) -> bool:
    return one == other or one[1] != other[1]


def _files(part: Part) -> tuple[str, str]:
    """Returns the names of a part's lock file and record."""
    return lock_name(part), f"{lock_name(part)}.json"


def _parts(folder: Folder) -> list[Part]:
    """Lists the parts that have a lock file or a record, held or not."""
    with as_storage_error(folder, "read"):
        found = filter(None, map(LOCK_PART.fullmatch, folder.names()))
        return sorted({(int(match[1]), int(match[2])) for match in found})


def _holder(folder: Folder, part: Part) -> dict[str, Any] | None:
    """Returns the record of the run that holds a part, {} if unreadable, or None. The caller holds the mutex."""
    name, _ = _files(part)
    if not folder.has(name):
        return None
    lock = take(folder, name)
    if lock is None:
        return _record(folder, part) or {}
    lock.release()
    return None


def _record(folder: Folder, part: Part) -> dict[str, Any] | None:
    """Reads the record of a part; returns {} if it is unreadable, None if there is none."""
    try:
        return dict(loads(folder.read(_files(part)[1], MOST_BYTES)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return {}


def _remove(folder: Folder, *names: str) -> None:
    for name in names:
        folder.remove(name)


def _leave(folder: Folder, part: Part, own: Held) -> None:
    """Releases a part. Holds the mutex while removing the lock file, so that no other run can be opening it."""
    name, record = _files(part)
    folder.expect(name, None)
    try:
        with suppress(OSError):
            if identity(folder.stat(name)) == own.identity:  # else it was deleted, and may be another run's
                with mutex(folder):
                    _remove(folder, record)
                    own.release(remove=True)
    except JaxstyleError:
        pass  # the run has finished; the next run removes the files
    finally:
        own.release()


def _refusal(folder: Folder, part: Part, record: dict[str, Any]) -> OutputLocked:
    holder, remedy = "another run", "Wait for it, or use another output folder."
    if record:
        host, pid, since = (printable(record.get(name, "?")) for name in ("host", "pid", "since"))
        holder = f"a run on {host}, process {pid}, since {since}"
    name = _files(part)[0]
    if is_marker(folder, name) and not (processes.is_here(record) and record):  # a killed run may have left it
        remedy += f" If that run has ended, delete {printable(folder / name)}."
    return OutputLocked(f"{printable(folder)} is in use by {holder}", remedy)
