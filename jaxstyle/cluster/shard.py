"""One shard in a process of its own: reads its order from standard input, prints its progress on standard output.

A process of its own, since a render takes its process for itself: signals, the watchdog that ends it, JAX's settings
and the device's memory, which only the process's end frees. A crash or a kill then costs one attempt at one shard. The
process ends with its worker: standard input, which the worker keeps open, is then at its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import IO, Any

import jaxstyle
from jaxstyle.cluster.messages import Call, settings_of
from jaxstyle.data.rows import Row
from jaxstyle.engine.events import Silent, Summary
from jaxstyle.engine.stop import Quit, Stop, on_signals
from jaxstyle.errors import (
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    EXIT_OK,
    EXIT_SOME_FAILED,
    JaxstyleError,
    SettingsMismatch,
    refused_by_the_system,
)

TELL_SECONDS = 0.5
"""Least time between two lines of news."""
MOST_ROWS = 500
"""Most rows of a line."""


class Teller(Silent):
    """Prints the calls of a `Progress` as lines of JSON, one in `TELL_SECONDS` if there were any."""

    def __init__(self, file: IO[str]):
        self._file, self._calls, self._lock = file, list[Call](), threading.Lock()
        self._spent, self._loss = 0, 0.0
        threading.Thread(target=self._tell_by_and_by, daemon=True).start()

    def begin(self, evaluations: int) -> None:
        self._add("begin", evaluations)

    def inputs(self, number: int) -> None:
        self._add("inputs", number)

    def finished(self, number: int) -> None:
        self._add("finished", number)

    def advance(self, evaluations: int, loss: float) -> None:
        with self._lock:
            self._spent += evaluations
            self._loss = loss if loss == loss else self._loss  # NaN is no JSON

    def row(self, row: Row) -> None:
        self._add("row", row.as_json())

    def say(self, text: str) -> None:
        self._add("say", text)

    def end(self, summary: Summary) -> None:
        names = ("rendered", "stopped", "occupancy", "seconds", "device_seconds", "programs")
        self.tell()  # the last evaluations come before
        self._add("end", {name: getattr(summary, name) for name in names})
        self.tell()

    def error(self, error: JaxstyleError) -> None:
        self._add("error", type(error).__name__, error.what, error.remedy)
        self.tell()

    def tell(self) -> None:
        """Prints what has come together, if there is anything."""
        with self._lock:
            if self._spent:
                self._calls.append(["advance", [self._spent, self._loss]])
            calls, self._calls, self._spent = self._calls, [], 0
            if calls:
                print(json.dumps(calls), file=self._file, flush=True)

    def _tell_by_and_by(self) -> None:
        while True:
            time.sleep(TELL_SECONDS)
            self.tell()

    def _add(self, name: str, *arguments: Any) -> None:
        with self._lock:
            self._calls.append([name, list(arguments)])
        if len(self._calls) >= MOST_ROWS:
            self.tell()


def main() -> None:
    """Renders the shard that standard input names; exits with the code of a render."""
    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    news = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no news
    code = _render(told, Teller(news))
    sys.stderr.flush()
    os._exit(code)  # the thread still reads


def _end_with_the_worker() -> None:
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGKILL)  # what is on the device is rendered again: the lock must be free at once


def _render(told: dict[str, Any], teller: Teller) -> int:
    stop = Stop()
    try:
        if told["version"] != jaxstyle.__version__:
            raise SettingsMismatch(
                f"jaxstyle is {jaxstyle.__version__} here and {told['version']} where the run was started",
                "Install the same version on all machines.",
            )
        with on_signals(stop):
            from jaxstyle.engine.pipeline import render

            settings = settings_of(told, told["shard"])
            summary = render(
                told["inputs"], told["style"], told["output"], settings, progress=teller, stop=stop, own_process=True
            )
        teller.end(summary)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Quit as quit_at_once:
        return 128 + quit_at_once.signal
    except Exception as error:
        found = refused_by_the_system(error) or error
        if not isinstance(found, JaxstyleError):
            sys.excepthook(type(error), error, error.__traceback__)
            return 1
        teller.error(found)
        return found.exit_code
    if summary.stopped:
        return 128 + stop.signal if stop.signal else EXIT_LIMIT
    return EXIT_SOME_FAILED if summary.failed else EXIT_OK


if __name__ == "__main__":
    main()
