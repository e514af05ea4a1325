"""The worker processes that open and decode pictures, as calls: a crash or a hang there is one picture's problem."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxstyle.data import worker
from jaxstyle.data.image import Header, work_size
from jaxstyle.errors import ImageError, JaxstyleError

COMMAND = (sys.executable, "-P", "-c", "from jaxstyle.data.worker import main; main()")
"""Starts a worker. Not by multiprocessing, which would run the caller's own script again."""
GROUP = 64
"""Headers asked for at a time."""
LONGEST_LINE = 1 << 24
"""Bytes of an answer's line that are believed."""


@dataclass(frozen=True)
class Stat:
    """Length in bytes, and time of the last change in nanoseconds, of a file."""

    length: int
    modified: int


@dataclass(frozen=True)
class Probed:
    """What the header of a file says.

    Attributes:
        header: None if the file cannot be used.
        problem: why not.
        picture: False if its content is of no known format.
    """

    stat: Stat
    header: Header | None = None
    problem: str = ""
    picture: bool = True


@dataclass(frozen=True)
class Decoded:
    """A picture.

    Attributes:
        sha256: of the file.
        header: with the true upright size.
        pixels: h x w x 3 float32 in [0, 1], at the working size.
        alpha: H x W uint8 at the output's size, or None.
    """

    stat: Stat
    sha256: str
    header: Header
    notes: tuple[str, ...]
    pixels: np.ndarray
    alpha: np.ndarray | None


class _Died(Exception):
    """A worker's end, or an answer that makes no sense, which is treated as one."""


class _Late(Exception):
    """A worker did not answer in time."""


class _Worker:
    """One process. It is ended by the end of its stdin, so it does not outlive this process, however that dies."""

    def __init__(self, command: Sequence[str]):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # a Ctrl-C is the run's business
            )
        except OSError as error:
            raise JaxstyleError(f"a worker process cannot be started ({error.strerror})", "Use --workers 0.") from error
        assert self.process.stdin and self.process.stdout
        self._in, self._out = self.process.stdin, self.process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._buffer = bytearray()

    def ask(self, request: dict[str, Any], deadline: float) -> Any:
        """The line that answers a request."""
        try:
            self._in.write(json.dumps(request).encode("ascii") + b"\n")
            self._in.flush()
        except OSError as error:
            raise _Died from error
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise _Died
            self._more(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return json.loads(line)
        except ValueError as error:
            raise _Died from error

    def array(self, shape: tuple[int, ...], kind: type, deadline: float) -> np.ndarray:
        """The array that follows."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        while len(self._buffer) < size:
            self._more(deadline)
        made = np.frombuffer(bytes(self._buffer[:size]), kind).reshape(shape)
        del self._buffer[:size]
        return made

    def _more(self, deadline: float) -> None:
        if not self._selector.select(max(0.0, deadline - time.monotonic())):
            raise _Late
        data = os.read(self._out, 1 << 20)
        if not data:
            raise _Died
        self._buffer += data

    def end(self) -> str:
        """Kills the process, waits for it, and says how it ended."""
        if self.process.poll() is None and not self._selector.select(0):  # else it is ending by itself
            self.process.kill()
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe and pipe.close()
            except OSError:  # what was not written any more
                continue
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"


class Decoders:
    """A pool of workers, started when they are needed. Thread-safe; also a context manager.

    Attributes:
        workers: most processes; 0 does their work in this one, a picture at a time, with nothing in between.
    """

    def __init__(self, workers: int, *, max_pixels: int, timeout: float, command: Sequence[str] = COMMAND):
        """Args:
        timeout: seconds after which a picture is given up and its worker killed.
        """
        self.workers, self._max_pixels, self._timeout, self._command = workers, max_pixels, timeout, command
        self._free = threading.Semaphore(max(workers, 1))
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers; calls that wait for one, and later ones, raise ImageError."""
        with self._lock:
            self._closed = True
            workers, self._all = self._all, set()
        for one in workers:
            one.process.kill()
        for one in workers:
            one.process.wait()

    def probe(self, paths: Sequence[Path]) -> list[Probed]:
        """What the headers of files say. A PNG whose orientation stands behind its pixels seems unturned."""
        found: list[Probed] = []
        for at in range(0, len(paths), GROUP):
            found += self._probe(paths[at : at + GROUP])
        return found

    def read(self, path: Path, size: int, *, full_alpha: bool) -> Decoded:
        """Decodes a picture completely, and brings it to its working size.

        Args:
            size: most pixels of the long side.
            full_alpha: the alpha channel keeps the picture's own size.

        Raises:
            ImageError: it cannot be read or decoded; its decoder crashed twice, or took too long.
        """
        request = {"read": os.fspath(path), "max_pixels": self._max_pixels, "size": size, "full_alpha": full_alpha}
        try:
            return self._call(request, lambda ask, array: _decoded(request, ask, array))
        except _Died:
            try:  # memory may have been short for a moment
                return self._call(request, lambda ask, array: _decoded(request, ask, array))
            except _Died as error:
                raise ImageError(f"its decoder crashed twice ({error})") from error
        except _Late as error:
            raise ImageError(f"was not decoded within {self._timeout:g} s") from error

    def _probe(self, paths: Sequence[Path]) -> list[Probed]:
        request = {"probe": [os.fspath(path) for path in paths], "max_pixels": self._max_pixels}
        try:
            return self._call(request, lambda ask, _: [_probed(one) for one in _listed(ask(), len(paths))])
        except (_Died, _Late) as error:
            if len(paths) > 1:
                return [probed for path in paths for probed in self._probe([path])]
            late = isinstance(error, _Late)
            problem = f"was not opened within {self._timeout:g} s" if late else f"its decoder crashed ({error})"
            return [Probed(Stat(0, 0), problem=problem)]

    def _call(self, request: dict[str, Any], understand) -> Any:
        """An answer, as `understand(ask, array)` reads it: functions for its line and for the arrays behind it."""
        deadline = time.monotonic() + self._timeout
        with self._free:
            if not self.workers:
                return _in_this_process(request, understand)
            one = self._borrow()
            deadline = max(deadline, time.monotonic() + self._timeout)
            try:
                made = understand(
                    lambda: one.ask(request, deadline), lambda shape, kind: one.array(shape, kind, deadline)
                )
            except (_Died, _Late) as error:
                self._drop(one, error)
                raise
            except (KeyError, TypeError, ValueError, AttributeError) as error:  # no answer of a worker in its senses
                died = _Died()
                self._drop(one, died)
                raise died from error
            except ImageError:
                self._give_back(one)
                raise
            self._give_back(one)
            return made

    def _borrow(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise ImageError("the decoders are closed")
            if self._idle:
                return self._idle.pop()
        one = _Worker(self._command)
        with self._lock:
            self._all.add(one)
            closed = self._closed
        if closed:
            self._drop(one, _Died())
            raise ImageError("the decoders are closed")
        return one

    def _give_back(self, one: _Worker) -> None:
        with self._lock:
            self._idle.append(one)

    def _drop(self, one: _Worker, error: Exception) -> None:
        error.args = (one.end(),)
        with self._lock:
            self._all.discard(one)
            if self._closed:
                raise ImageError("the decoders are closed")


def _in_this_process(request: dict[str, Any], understand) -> Any:
    if "probe" in request:
        answers = [worker.probe(Path(name), request["max_pixels"]) for name in request["probe"]]
        return understand(lambda: answers, None)
    path, options = Path(request["read"]), (request["max_pixels"], request["size"], request["full_alpha"])
    answer, arrays = worker.read(path, *options)
    rest = iter(arrays)
    return understand(lambda: answer, lambda shape, kind: next(rest))


def _listed(answers: Any, number: int) -> list[dict[str, Any]]:
    if not isinstance(answers, list) or len(answers) != number:
        raise ValueError("another number of answers")
    return answers


def _probed(answer: dict[str, Any]) -> Probed:
    stat = Stat(int(answer.get("length", 0)), int(answer.get("modified", 0)))
    if "problem" in answer:
        return Probed(stat, None, str(answer["problem"]), bool(answer.get("picture", True)))
    return Probed(stat, _header(answer))


def _header(answer: dict[str, Any]) -> Header:
    header = Header(int(answer["width"]), int(answer["height"]), str(answer["format"]), int(answer["frames"]))
    if min(header.width, header.height) < 1:
        raise ValueError("no pixels")
    return header


def _decoded(request: dict[str, Any], ask, array) -> Decoded:
    answer = ask()
    if "problem" in answer:
        raise ImageError(str(answer["problem"]))
    header = _header(answer)
    if header.width * header.height > request["max_pixels"]:
        raise ValueError("more pixels than allowed")
    width, height = work_size(header.width, header.height, request["size"])
    sha256, notes = str(answer["sha256"]), tuple(map(str, answer["notes"]))
    stat = Stat(int(answer["length"]), int(answer["modified"]))
    pixels, alpha = array((height, width, 3), np.float32), None
    if answer["alpha"]:
        alpha = array((header.height, header.width) if request["full_alpha"] else (height, width), np.uint8)
    return Decoded(stat, sha256, header, notes, pixels, alpha)
