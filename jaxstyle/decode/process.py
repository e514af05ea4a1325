"""One worker process as its parent sees it: asks, waits no longer than told, believes only answers that make sense."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxstyle.data.image import FORMATS, Header, work_size
from jaxstyle.decode.worker import READY, Decoded, Probed, Stat
from jaxstyle.errors import ImageError, JaxstyleError

COMMAND = (sys.executable or "", "-P", "-c", "from jaxstyle.decode.worker import main; main()")
"""Starts a worker."""
LONGEST_LINE = 1 << 20
"""Bytes of an answer's line; those of 64 files with problems stay under 200 000."""
START_SECONDS = 120.0
"""What a worker gets to import what it needs, from a slow file system perhaps."""
END_SECONDS = 10.0
"""What a killed one gets to be gone; one that waits for a dead file system may never be."""

T = TypeVar("T")


class Crash(Exception):
    """A worker ended, or answered nonsense; says which. `killed`: by SIGKILL, as it is when memory runs out."""

    def __init__(self, how: str, killed: bool = False):
        super().__init__(how)
        self.killed = killed


class TooLong(Exception):
    """A worker had to be killed for not answering in time."""


class Worker:
    """A process and its pipes, used by one thread at a time; `kill` may come from any."""

    def __init__(self, command: Sequence[str]):
        """Raises OSError where it cannot be started."""
        above = str(Path(__file__).parents[2])  # sys.path may name it as "", the working folder
        path = [entry for entry in sys.path if isinstance(entry, str) and entry]
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # numpy starts one for each core otherwise
        environment = {"PYTHONPATH": os.pathsep.join([*path, above])}
        environment["PYTHONUTF8"] = str(sys.flags.utf8_mode)  # names are decoded as here
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | quiet | environment,
            start_new_session=True,  # Ctrl-C is for the run
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._log = self._process.stdin, self._process.stdout, self._process.stderr
        self._ready = False

    def ask(self, request: dict[str, Any], receive: Callable[[Worker, Any], T], seconds: float) -> T:
        """Sends a request and has its answer received; `receive` gets the line and reads the arrays behind it.

        Raises:
            Crash, TooLong: the worker is of no more use then.
        """
        with self._within(seconds):
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
                raise Crash("it gave a senseless answer") from error

    def array(self, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """The array that follows."""
        made: np.ndarray = np.empty(shape, kind)
        if self._out.readinto(made.data.cast("B")) < made.nbytes:  # type: ignore[attr-defined]
            raise self._crash()
        return made

    def start(self) -> None:
        """Waits for a new worker's first word.

        Raises:
            JaxstyleError: it has none.
        """
        if self._ready:
            return
        try:
            with self._within(START_SECONDS):
                if self._out.readline(LONGEST_LINE) != READY:
                    raise self._crash()
        except (Crash, TooLong) as error:
            self.kill()
            said = self._log.read(LONGEST_LINE).decode(errors="replace").strip().splitlines()
            how = str(error) or f"not ready after {START_SECONDS:g} s"
            raise not_started(f"{how}: {said[-1][:300]}" if said else how) from error
        self._log.close()
        self._ready = True

    def kill(self) -> None:
        """Ends the process, if it has not, and waits for it."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process and closes the pipes: for the thread that uses it."""
        self.kill()
        for pipe in (self._in, self._out, self._log):
            with suppress(OSError):  # of a request that was not sent
                pipe.close()

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Kills the process when the block takes longer, which ends all waiting in it."""
        lock, over, late = threading.Lock(), False, False

        def end() -> None:
            nonlocal late
            with lock:
                if not over:
                    late = True
                    self._process.kill()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Crash as error:
            if late:
                raise TooLong from error
            raise
        finally:
            timer.cancel()
            with lock:
                over = True
        if late:  # it answered, and was killed nevertheless
            raise TooLong

    def _crash(self) -> Crash:
        """How a process ended whose pipe did."""
        try:
            code = self._process.wait(END_SECONDS / 2)
        except subprocess.TimeoutExpired:
            return Crash("it broke off")
        if code >= 0:
            return Crash(f"exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return Crash(f"signal {name}", killed=name == "SIGKILL")


def not_started(why: str) -> JaxstyleError:
    """The error of a run whose workers do not start."""
    return JaxstyleError(f"a worker process cannot be started ({why})", "Use --workers 0.")


# What a worker says may come from whoever made the file. ValueError, TypeError and KeyError mean that it is no answer.


def _require(good: bool) -> None:
    if not good:
        raise ValueError("not an answer")


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
    _require(header.width * header.height <= max_pixels and header.format in FORMATS)
    return header


def probed(line: Any, number: int, max_pixels: int) -> list[Probed]:
    _require(isinstance(line, list) and len(line) == number)
    found = []
    for one in line:
        header = None if one["header"] is None else _header(one["header"], max_pixels)
        probed = Probed(_stat(one["stat"]), header, _text(one["problem"]), one["picture"] is True)
        _require((probed.header is None) == bool(probed.problem))
        found.append(probed)
    return found


def decoded(source: Worker, line: Any, size: int, max_pixels: int, full_alpha: bool) -> Decoded | ImageError:
    if "what" in line:
        return ImageError(_text(line["what"]), _text(line["remedy"]))
    header, stat, sha256 = _header(line["header"], max_pixels), _stat(line["stat"]), _text(line["sha256"])
    _require(re.fullmatch("[0-9a-f]{64}", sha256) is not None and isinstance(line["notes"], list))
    notes = tuple(map(_text, line["notes"]))
    width, height = work_size(header.width, header.height, size)
    shapes = [(height, width, 3), (header.height, header.width) if full_alpha else (height, width)]
    lengths = [4 * math.prod(shapes[0]), math.prod(shapes[1])]
    _require(line["lengths"] in (lengths, lengths[:1]))
    pixels = source.array(shapes[0], np.float32)
    alpha = source.array(shapes[1], np.uint8) if len(line["lengths"]) == 2 else None
    return Decoded(stat, sha256, header, notes, pixels, alpha)
