"""A pool of decoder processes: if a file crashes its decoder, hangs it or exhausts memory, only that file fails.

A worker is a separate program (`worker.main`) connected by pipes: multiprocessing would either import the caller's
script again or fork a process that runs JAX.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jaxstyle.decode import process, worker
from jaxstyle.decode.process import Crash, TooLong, Worker, not_started
from jaxstyle.decode.worker import UNKNOWN, Decoded, Probed, Stat
from jaxstyle.errors import ImageError
from jaxstyle.settings import RenderSettings

GROUP, GROUP_BYTES = 64, 60_000
"""Most files and bytes in a request to probe, so that it fits into a pipe; a single longer name is sent anyway."""
PAUSES = (0.2, 1.0, 3.0)
"""Seconds before each further try to start a worker: a machine that is out of memory or processes may recover."""
CLOSED = "the decoders are closed"

T = TypeVar("T")


class Decoders:
    """A pool of workers, which start on demand. Thread-safe: a call waits for an idle worker. A context manager.

    Attributes:
        workers: most processes; 0 decodes in the calling process, one call at a time, without protection against
            crashes or hangs.
    """

    def __init__(
        self,
        workers: int,
        *,
        max_pixels: int,
        timeout: float,
        command: Sequence[str] | None = None,
        white_level: float | None = None,
    ):
        """Args:
        max_pixels: pictures that claim more pixels are refused.
        white_level: see `image.read`.
        timeout: seconds after which a worker that has not answered a request is killed.
        command: the command line of a worker [default: process.COMMAND]
        """
        self.workers = self._most = workers
        self._white_level = white_level
        self._max_pixels, self._timeout, self._command = max_pixels, timeout, command or process.COMMAND
        self._change = threading.Condition()
        self._all: set[Worker] = set()
        self._idle: list[Worker] = []  # a stack
        self._alone = 0  # calls that need all other workers idle, running or waiting
        self._closed = False
        self._here = threading.Lock()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probe(self, paths: Sequence[Path]) -> list[Probed]:
        """Reads the headers of files, in order; `Probed.problem` reports an unusable file.

        Raises:
            ProcessError: no worker can be started.
            RuntimeError: the pool is closed.
        """
        if not self.workers:
            return [self._in_process(partial(worker.probe, path, self._max_pixels)) for path in paths]
        return [probed for group in _groups(paths) for probed in self._probe(group)]

    def read(self, path: Path, size: int, *, full_alpha: bool, metadata: str = "none") -> Decoded:
        """Decodes a picture; see `worker.read`.

        Raises:
            ImageError: the file cannot be read or decoded, crashed its decoder twice, or took too long.
            ProcessError, RuntimeError: see `probe`.
        """
        asked: dict[str, Any] = {"full_alpha": full_alpha, "white_level": self._white_level, "metadata": metadata}
        if not self.workers:
            return self._in_process(lambda: worker.read(path, size, self._max_pixels, **asked))
        request = {"read": os.fspath(path), "size": size, "max_pixels": self._max_pixels, **asked}

        def receive(source: Worker, line: Any) -> Decoded | ImageError:
            return process.decoded(source, line, size, self._max_pixels, full_alpha)

        try:
            try:
                answer = self._ask(request, receive)
            except Crash as crash:
                # After SIGKILL (out of memory), retry once with no other decoder running.
                answer = self._ask(request, receive, alone=crash.killed)
        except Crash as crash:
            raise ImageError(f"its decoder crashed twice ({crash})") from crash
        except TooLong as error:
            raise ImageError(self._late()) from error
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def close(self) -> None:
        """Kills all workers and waits for their end. Running calls of other threads raise RuntimeError."""
        with self._change:
            self._closed = True
            idle, self._idle = self._idle, []
            self._all -= set(idle)
            busy = list(self._all)  # the threads that use them drop them
            self._change.notify_all()
        for one in busy:
            one.kill()
        for one in idle:
            one.close()

    def _probe(self, paths: Sequence[Path], *, again: bool = False) -> list[Probed]:
        request = {"probe": [os.fspath(path) for path in paths], "max_pixels": self._max_pixels}
        try:
            return self._ask(request, lambda _, line: process.probed(line, len(paths), self._max_pixels))
        except (Crash, TooLong) as error:
            late = isinstance(error, TooLong)
            if not (again or (late and len(paths) == 1)):
                return [probed for path in paths for probed in self._probe([path], again=True)]
            problem = self._late() if late else f"its decoder crashed ({error})"
            return [Probed(_stat_of(paths[0]), None, problem)]

    def _late(self) -> str:
        return f"was not decoded within {self._timeout:g} s"

    def _in_process(self, work: Callable[[], T]) -> T:
        with self._here:
            if self._closed:
                raise RuntimeError(CLOSED)
            return work()

    def _ask(self, request: dict[str, Any], receive: Callable[[Worker, Any], T], *, alone: bool = False) -> T:
        with self._borrowed(alone) as one:
            return one.ask(request, receive, self._timeout)

    @contextmanager
    def _borrowed(self, alone: bool) -> Iterator[Worker]:
        """Lends a ready worker to the block; kills the worker if the block raises.

        Args:
            alone: wait until no other worker is busy, and let none start meanwhile.
        """
        with self._change:
            self._alone += alone
        try:
            one = self._started(alone)
            try:
                yield one
            except BaseException as error:
                self._drop(one)
                if self._closed and isinstance(error, Crash):
                    raise RuntimeError(CLOSED) from error
                raise
            self._give_back(one)
        finally:
            with self._change:
                self._alone -= alone
                self._change.notify_all()

    def _started(self, alone: bool) -> Worker:
        """Returns a worker that is ready. One that does not start is tried again after a pause.

        If it never starts, the pool makes do with the workers that it has.

        Raises:
            ProcessError: none can be started, and there is none.
        """
        pauses = list(PAUSES)
        while True:
            one = None
            with self._change:
                self._change.wait_for(lambda: self._closed or self._free(alone))
                try:
                    one = self._take()
                except (OSError, MemoryError) as error:  # no memory, or too many processes
                    problem: Exception = error
                    why = getattr(error, "strerror", None) or str(error) or "out of memory"
            if one is not None:
                try:
                    one.start()
                    return one
                except (Crash, TooLong) as error:
                    self._drop(one)
                    problem, why = error, str(error)
                except BaseException:
                    self._drop(one)
                    raise
            with self._change:
                if not self._closed and not pauses:
                    if not self._all:
                        raise not_started(why) from problem
                    self._most = len(self._all)
                    continue
                self._change.wait_for(lambda: self._closed, pauses.pop(0) if pauses else 0)
                if self._closed:
                    raise RuntimeError(CLOSED) from problem

    def _free(self, alone: bool) -> bool:
        busy = len(self._all) - len(self._idle)
        return not busy if alone else not self._alone and busy < self._most

    def _take(self) -> Worker:
        if self._closed:
            raise RuntimeError(CLOSED)
        while self._idle:
            one = self._idle.pop()
            if one.alive():
                return one
            self._all.discard(one)  # it was killed while idle, so no picture caused it
            one.close()
        one = Worker(self._command)
        self._all.add(one)
        return one

    def _give_back(self, one: Worker) -> None:
        with self._change:
            if not self._closed:
                self._idle.append(one)
                self._change.notify_all()
                return
        one.close()

    def _drop(self, one: Worker) -> None:
        one.close()
        with self._change:
            self._all.discard(one)
            self._change.notify_all()


def decoders_for(settings: RenderSettings) -> Decoders:
    """Makes a pool with the number of processes in the settings; "auto" is half of the CPU cores, 1 to 8."""
    half = max(1, min(8, (os.cpu_count() or 2) // 2))
    workers = half if settings.workers == "auto" else int(settings.workers)
    return Decoders(
        workers, max_pixels=settings.max_pixels, timeout=settings.stall_timeout, white_level=settings.white_level
    )


def _groups(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Divides paths, in order, into one group a request."""
    group: list[Path] = []
    size = 0
    for path in paths:
        length = len(json.dumps(os.fspath(path))) + 2
        if group and (len(group) == GROUP or size + length > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(path)
        size += length
    if group:
        yield group


def _stat_of(path: Path) -> Stat:
    try:
        found = path.stat()
    except OSError:
        return UNKNOWN
    return Stat(found.st_size, found.st_mtime_ns)
