"""The parent's side of one worker process: sends requests, kills the worker after a timeout, checks every answer.

Answers are untrusted: a malicious image may control the decoder. A malformed answer counts as a crash.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from jaxstyle.data.image import FORMATS, Header, work_size
from jaxstyle.data.pictures.kinds import EXTRAS
from jaxstyle.data.pictures.metadata import MOST_BYTES
from jaxstyle.decode.worker import READY, Decoded, Probed, Stat, array_header
from jaxstyle.errors import ImageError, ProcessError

COMMAND = (sys.executable or "", "-P", "-c", "from jaxstyle.decode.worker import main; main()")
"""The command line of a worker."""
LONGEST_LINE = 1 << 20
"""Most bytes in an answer's line; a line with 64 problems has less than 200,000."""
START_SECONDS = 120.0
"""Timeout for a worker's imports, perhaps from a slow file system."""
END_SECONDS = 10.0
"""Timeout for the end of a killed worker; a worker that is blocked on a dead file system may never end."""

T = TypeVar("T")


class Crash(Exception):
    """A worker ended, or sent a malformed answer.

    Attributes:
        killed: whether it ended by SIGKILL, which the kernel sends when memory runs out.
    """

    def __init__(self, how: str, killed: bool = False):
        super().__init__(how)
        self.killed = killed


class TooLong(Exception):
    """A worker did not answer in time and was killed."""


class _Pipe(io.RawIOBase):
    """The read end of a pipe.

    Attributes:
        deadline: time (time.monotonic) after which a read raises `TooLong` instead of waiting.
    """

    def __init__(self, pipe: IO[bytes]):
        self.deadline = 0.0
        self._pipe, self._poll = pipe, select.poll()
        self._poll.register(pipe, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = min(max(0.0, self.deadline - time.monotonic()), 10**6)
        if not self._poll.poll(1000 * left):
            raise TooLong
        return self._pipe.readinto(buffer)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._pipe.close()
        super().close()


class Worker:
    """A process and its pipes. One thread uses it at a time; any thread may call `kill`."""

    def __init__(self, command: Sequence[str]):
        """Starts the process; raises OSError if that fails."""
        above = str(Path(__file__).parents[2])  # sys.path may have "", the working folder, in its place
        path = [entry for entry in sys.path if isinstance(entry, str) and entry]
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # otherwise NumPy starts a thread for every core
        environment = {"PYTHONPATH": os.pathsep.join([*path, above])}
        environment["PYTHONUTF8"] = str(sys.flags.utf8_mode)  # file names are decoded as in this process
        self._process = subprocess.Popen(
            list(command),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | quiet | environment,
            start_new_session=True,  # Ctrl-C reaches the run only
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in = io.BufferedWriter(self._process.stdin)
        self._limited = _Pipe(self._process.stdout), _Pipe(self._process.stderr)
        self._out, self._log = map(io.BufferedReader, self._limited)
        self._ready = False

    def ask(self, request: dict[str, Any], receive: Callable[[Worker, Any], T], seconds: float) -> T:
        """Sends a request and returns `receive(self, line)` for the answer's line; `receive` reads the arrays after it.

        Raises:
            Crash, TooLong: the caller must close the worker.
        """
        self._limit(seconds)
        try:
            self._in.write(json.dumps(request).encode("ascii") + b"\n")
            self._in.flush()
        except OSError as error:
            raise self._crash() from error
        line = self._out.readline(LONGEST_LINE)
        if len(line) < LONGEST_LINE and not line.endswith(b"\n"):
            raise self._crash()
        try:
            return receive(self, json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Crash("its answer was malformed") from error

    def _limit(self, seconds: float) -> None:
        """Sets the time at which reading its pipes ends, although a worker that hangs in the kernel holds them open."""
        for pipe in self._limited:
            pipe.deadline = time.monotonic() + seconds

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Reads the next array of the answer.

        Its .npy header must equal, byte for byte, the header that the answer's line implies. So headers are not parsed,
        and an untrusted header cannot choose how much memory is allocated.

        Raises:
            ValueError: the header differs.
            Crash: the worker ended before the last value.
        """
        expected = array_header(shape, dtype)
        if (header := self._out.read(len(expected))) != expected:
            if len(header) < len(expected):
                raise self._crash()
            raise ValueError("not the array that was announced")
        made = np.empty(shape, dtype)
        if self._out.readinto(made.data.cast("B")) < made.nbytes:
            raise self._crash()
        return made

    def start(self) -> None:
        """Waits until a new worker is ready.

        Raises:
            Crash, TooLong: it ended, or was not ready in time; the text has its last line on stderr.
        """
        if self._ready:
            return
        self._limit(START_SECONDS)
        try:
            if self._out.readline(LONGEST_LINE) != READY:
                raise self._crash()
        except (Crash, TooLong) as error:
            self.kill()
            how = str(error) or f"not ready after {START_SECONDS:g} s"
            raise type(error)(": ".join([how, *self._said()])) from error
        self._log.close()
        self._ready = True

    def _said(self) -> list[str]:
        """Returns the last line that an ended worker wrote to stderr, if any."""
        self._limit(END_SECONDS / 10)
        with suppress(TooLong):
            lines = self._log.read(LONGEST_LINE).decode(errors="replace").strip().splitlines()
            return [lines[-1][:300]] if lines else []
        return []

    def kill(self) -> None:
        """Kills the process if it is running, and waits for its end."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def close(self) -> None:
        """Kills the process and closes the pipes. Only the thread that uses the worker may call it."""
        self.kill()
        for pipe in (self._in, self._out, self._log):
            with suppress(OSError):  # the buffer may hold a request that cannot be flushed
                pipe.close()

    def _crash(self) -> Crash:
        """Makes the error for a closed pipe; it says how the process ended."""
        try:
            code = self._process.wait(END_SECONDS / 2)
        except subprocess.TimeoutExpired:
            return Crash("it closed its pipe")
        if code >= 0:
            return Crash(f"exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return Crash(f"signal {name}", killed=name == "SIGKILL")


def not_started(why: str) -> ProcessError:
    """Makes the error for a worker that does not start."""
    return ProcessError(
        f"a decoder process cannot be started ({why})",
        "Free memory, or raise the limits on it and on processes (ulimit -v, ulimit -u), and run again; or use "
        "--workers 0.",
    )


# Checks of answers. They raise ValueError, TypeError or KeyError on a malformed answer.


def _require(good: bool) -> None:
    if not good:
        raise ValueError("malformed answer")


def _text(value: Any) -> str:
    _require(isinstance(value, str))
    value.encode()
    return value


def _whole(value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    _require(type(value) is int and least <= value <= most)
    return value


def _stat(value: Any) -> Stat:
    return Stat(_whole(value["length"]), _whole(value["modified"], -(2**63)))


def _header(value: Any, max_pixels: int) -> Header:
    header = Header(
        _whole(value["width"], 1), _whole(value["height"], 1), _text(value["format"]), _whole(value["frames"], 1)
    )
    _require(header.width * header.height <= max_pixels and header.format in (*FORMATS, *EXTRAS))
    return header


def probed(line: Any, number: int, max_pixels: int) -> list[Probed]:
    """Checks the answer's line to a request to probe `number` files."""
    _require(isinstance(line, list) and len(line) == number)
    found = []
    for one in line:
        header = None if one["header"] is None else _header(one["header"], max_pixels)
        probed = Probed(_stat(one["stat"]), header, _text(one["problem"]), one["picture"] is True)
        _require((probed.header is None) == bool(probed.problem))
        found.append(probed)
    return found


def decoded(source: Worker, line: Any, size: int, max_pixels: int, full_alpha: bool) -> Decoded | ImageError:
    """Checks the answer's line to a request to read a file, and reads its arrays."""
    if "what" in line:
        return ImageError(_text(line["what"]), _text(line["remedy"]))
    header, stat, sha256 = _header(line["header"], max_pixels), _stat(line["stat"]), _text(line["sha256"])
    _require(re.fullmatch("[0-9a-f]{64}", sha256) is not None and isinstance(line["notes"], list))
    notes = tuple(map(_text, line["notes"]))
    exif = bytes.fromhex(_text(line["exif"]))
    _require(len(exif) <= MOST_BYTES)
    kinds = line["arrays"]
    _require(isinstance(kinds, list) and kinds[:1] in (["uint8"], ["float32"]) and kinds[1:] in ([], ["uint8"]))
    width, height = work_size(header.width, header.height, size)
    levels = source.array((height, width, 3), np.dtype(kinds[0]))
    _require(levels.dtype == np.uint8 or bool(((levels >= 0) & (levels <= 1)).all()))
    alpha = None
    if kinds[1:]:
        alpha = source.array((header.height, header.width) if full_alpha else (height, width), np.dtype(np.uint8))
    return Decoded(levels, alpha, header, notes, stat, sha256, exif=exif)
