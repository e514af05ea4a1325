"""Audits an output folder: `status` counts its rows, `verify` compares its files with them. Both only read."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from jaxstyle.data import image, lock
from jaxstyle.data.fingerprint import read_about
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import SETTINGS, STEPS, TEMPORARY, is_reserved
from jaxstyle.data.ledger import ledgers
from jaxstyle.data.opening import open_regular
from jaxstyle.data.problems import unreadable
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import STATUSES, Row
from jaxstyle.data.shards import Shards, ShardStatus, iso
from jaxstyle.data.sources.base import printable
from jaxstyle.errors import ImageError, InputError

REASONS = 10
"""Most reasons in a status; the most common ones are given."""

MAX_PIXELS = 178_956_970
"""An output that claims more pixels is not decoded."""

SHOWN = 20
"""Most lines of one kind in the text of a verdict."""


@dataclass
class FolderStatus:
    """The progress of the runs into an output folder.

    Attributes:
        output: the folder.
        rows: number of inputs by the status of their last row.
        reasons: the ten most common ones of failed and skipped inputs, the most common first: status, reason and
            number of inputs, which are `status`, `reason` and `inputs` in JSON.
        evaluations, seconds: totals over the rows of done inputs; the device's time in seconds.
        written: time of a ledger's last change, in seconds since 1970, in JSON as an ISO time in UTC; None without
            ledgers.
        holders: runs that hold a lock of the folder: `part`, `host`, `pid` and `since` of their records.
        about: facts about the run from settings.json; None if it cannot be read.
        torn: whether a ledger's last line is truncated: a run was killed, or is writing it now.
        malformed: number of lines that are not rows.
        shards: those with a ledger, a lock or a record of their own.
    """

    output: Path
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    reasons: list[tuple[str, str, int]] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0
    written: float | None = None
    holders: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] | None = None
    torn: bool = False
    malformed: int = 0
    shards: list[ShardStatus] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns values for a JSON file; `written` is an ISO time in UTC."""
        reasons = [{"status": status, "reason": reason, "inputs": inputs} for status, reason, inputs in self.reasons]
        written = None if self.written is None else iso(self.written)
        shards = [one.as_json() for one in self.shards]
        return _clean(asdict(self) | {"reasons": reasons, "written": written, "shards": shards})

    def lines(self, shards: bool = True) -> list[str]:
        """Returns the status as lines of text.

        Args:
            shards: whether with a line for each shard.
        """
        counts = ", ".join(f"{self.rows[status]} {status}" for status in STATUSES)
        last = "" if self.written is None else f"; last row {iso(self.written)}"
        told = [f"{printable(self.output)}: {counts}{last}"]
        if self.rows["done"]:
            told.append(f"{self.evaluations} evaluations, {self.seconds:.0f} s on the device")
        told += [f"  {n} {status}: {_shown(reason)}" for status, reason, n in self.reasons]
        if self.about is None:
            told.append(f"{SETTINGS} is absent or damaged")
        else:
            told += [f"{_shown(name)}: {_shown(value)}" for name, value in self.about.items()]
        if self.torn:
            told.append("a ledger's last line is truncated and ignored")
        if self.malformed:
            told.append(f"lines of the ledgers that are not rows: {self.malformed}")
        told += [_shown(one.line()) for one in self.shards if shards]
        return told + _at_work([one for one in self.holders if shards or one["part"] == "1/1"])


@dataclass
class Verdict:
    """The result of `verify`: differences between the files of an output folder and its rows.

    Attributes:
        output: the folder.
        checked: number of done rows; the file of each was read.
        problems: key or file name, and what is wrong with the file, which are `key` and `problem` in JSON.
        orphans: keys of files without a row. They do not count as problems, since another program or the user may
            have put them there.
        temporaries: keys of unfinished files of a run that was killed or is still running.
        torn: whether a ledger's last line is truncated, which does not count as a problem.
        holders: runs that hold a lock of the folder; a file that they are writing may be among the orphans.
    """

    output: Path
    checked: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    temporaries: list[str] = field(default_factory=list)
    torn: bool = False
    holders: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Returns values for a JSON file."""
        problems = [{"key": key, "problem": problem} for key, problem in self.problems]
        return _clean(asdict(self) | {"ok": self.ok, "problems": problems})

    def lines(self) -> list[str]:
        """Returns the verdict as lines of text, at most `SHOWN` of each kind."""
        n = len(self.problems)
        told = [f"{printable(self.output)}: {self.checked} outputs checked, {n} problem{'s' * (n != 1)}"]
        told += _some([f"  {_shown(key)}: {_shown(problem)}" for key, problem in self.problems])
        told += _some([f"without a row: {_shown(key)}" for key in self.orphans])
        told += _some([f"unfinished: {_shown(key)}" for key in self.temporaries])
        if self.torn:
            told.append("a ledger's last line is truncated and ignored")
        return told + _at_work(self.holders)


def status(output: Path) -> FolderStatus:
    """Counts the rows of an output folder, with about ten bytes of memory a row.

    Raises:
        InputError: the folder is not an output folder of jaxstyle.
        StorageError: the folder cannot be read.
    """
    folder = opened(output)
    seen = lock.survey(folder)
    found = FolderStatus(output, holders=lock.holding(seen), about=read_about(folder))
    reasons: Counter[tuple[str, str]] = Counter()
    with LastRows(folder) as rows:
        shards = Shards(seen, rows.changed)
        for row in rows:
            shards.add(rows.ledger, row)
            found.rows[row.status] += 1
            if row.status == "done":
                found.evaluations += row.evaluations
                found.seconds += row.seconds
            else:
                reasons[row.status, row.reason or "no reason given"] += 1
        found.written, found.torn, found.malformed = rows.written, bool(rows.torn), len(rows.malformed)
    found.shards = shards.found()
    order = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    found.reasons = [(status, reason, n) for (status, reason), n in order[:REASONS]]
    return found


def verify(output: Path, progress: Callable[[int], None] | None = None) -> Verdict:
    """Reads the file of every done row and checks its length, its checksum and that it decodes.

    Args:
        progress: called after each file with the number of files read so far.

    Raises:
        InputError, StorageError: see `status`.
    """
    folder = opened(output)
    verdict = Verdict(output, holders=lock.holders(folder))
    if folder.has(SETTINGS) and read_about(folder) is None:
        verdict.problems.append((SETTINGS, "is damaged"))
    with LastRows(folder) as rows:
        verdict.problems += [(name, f"line {number} is not a row of a manifest") for name, number in rows.malformed]
        verdict.torn = bool(rows.torn)
        for row in rows:
            problem = _problem(folder, row)
            if problem:
                verdict.problems.append((row.key, problem))
            if row.status == "done":
                verdict.checked += 1
                if progress is not None:
                    progress(verdict.checked)
        _look_around(folder, rows, verdict)
    return verdict


def _problem(folder: Folder, row: Row) -> str:
    """Returns what is wrong with the file of a row, or ""."""
    done = row.status == "done"
    parts = PurePosixPath(row.key).parts
    if not parts or row.key.startswith("/") or ".." in parts:
        return "leads out of the folder: not read"
    try:
        with folder.parent("/".join(parts)) as (at, name):
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                return "is, or lies behind, a link: not read"
            if not done:
                other = stat.S_ISDIR(found.st_mode) or _is_own(row.key)
                return "" if other else f"has a file although its row says {row.status}"
            if not stat.S_ISREG(found.st_mode):
                return "is not a regular file"
            if row.output_bytes and found.st_size != row.output_bytes:  # rows of version 0.1 lack length and checksum
                return f"has {found.st_size} bytes, not {row.output_bytes} as recorded"
            with open_regular(name, within=at) as opened:
                file: Any = opened
                if row.output_sha256 and hashlib.file_digest(file, "sha256").hexdigest() != row.output_sha256:
                    return "does not have the recorded checksum"
                file.seek(0)
                image.read(file, MAX_PIXELS)
    except FileNotFoundError:
        return "is missing" if done else ""
    except ImageError as error:
        return f"is not a whole picture: {error.what}"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is, or lies behind, a link: not read"
        if error.errno == errno.ENOTDIR:
            return "is missing" if done else ""
        return f"cannot be read ({error.strerror or error})"
    except ValueError:  # a null byte, a lone surrogate or an empty part
        return "is not a valid file name"
    return ""


def _look_around(output: Folder, rows: LastRows, verdict: Verdict) -> None:
    """Adds files without a row to the verdict; a link to a folder counts as a file."""

    def blocked(error: OSError) -> None:
        verdict.problems.append((os.path.normpath(error.filename), f"cannot be read ({error.strerror})"))

    for folder, folders, files, at in os.fwalk(".", onerror=blocked, dir_fd=output.handle):
        folders[:] = sorted(name for name in folders if folder != "." or name != STEPS or _is_link(at, name))
        for name in sorted(files + [name for name in folders if _is_link(at, name)]):
            key = os.path.normpath(os.path.join(folder, name))
            if name.startswith(TEMPORARY):
                verdict.temporaries.append(key)
            elif key not in rows and not _is_own(key):
                verdict.orphans.append(key)


def _is_link(at: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _is_own(key: str) -> bool:
    """Whether a file is the run's own: it lies in OUT itself and has a reserved name."""
    return "/" not in key and is_reserved(key)


def opened(output: Path) -> Folder:
    """Opens a folder with results; raises the errors of `status`."""
    folder = None
    try:
        folder = Folder(output)
        known = folder.has(SETTINGS) or bool(ledgers(folder))
    except (FileNotFoundError, NotADirectoryError):
        known = False
    except OSError as error:
        raise unreadable(output, error) from error
    if folder is None or not known:
        raise InputError(f"{printable(output)} is not an output folder of jaxstyle", "Give the --output of a run.")
    return folder


def _shown(value: object) -> str:
    """Like `printable`, but also escapes lone surrogates, which a damaged ledger may hold."""
    try:
        return printable(value)
    except UnicodeEncodeError:
        return ascii(value)


def _clean(value: Any) -> Any:
    """Escapes the strings in a value so that they can be encoded as JSON."""
    if isinstance(value, dict):
        return {_shown(name): _clean(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return _shown(value) if isinstance(value, str | Path) else value


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more"]


def _at_work(holders: list[dict[str, Any]]) -> list[str]:
    return [
        f"at work: {_part(str(one['part']))} on {_shown(one['host'])}, "
        f"process {one['pid']}, since {_shown(one['since'])}"
        for one in holders
    ]


def _part(part: str) -> str:
    """Names a part of the inputs; shard 0 is the coordinator of all, see `cluster.render`."""
    if part.startswith("0/"):
        return f"the coordinator of {part[2:]} shards"
    return "a run" if part == "1/1" else f"shard {_shown(part)}"
