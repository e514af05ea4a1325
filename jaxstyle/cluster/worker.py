"""A worker's part: it starts the process of one shard, passes its news on, and ends it if it hangs."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from jaxstyle import huge_pages
from jaxstyle.cluster.messages import HOLD, LOST, STOP, Call, Failure, Outcome
from jaxstyle.errors import printable

PROGRAM = (sys.executable, "-m", "jaxstyle.cluster.shard")
SEEN_SECONDS = 10.0
"""Time within which a file that the coordinator has made must be seen here."""
KILL_SECONDS = 10.0
"""Time that a killed process has to be gone."""
LINES_KEPT = 20
"""Last lines of standard error that a failure quotes."""


def attend(
    told: Mapping[str, Any],
    shard: int,
    tell: Callable[[list[Call]], str],
    program: Sequence[str] = PROGRAM,
) -> Outcome:
    """Renders one shard in a process of its own and returns how that ended; the process never outlives the call.

    Args:
        told: see `messages.order`.
        tell: passes news on and returns an answer to them; called every `told["interval"]` seconds, also without any.
    """
    node = socket.gethostname()
    if failure := _unlike(told):
        return Outcome(2, failure, node)
    if tell([]) == STOP:  # the run was ended while this shard waited for a machine
        return Outcome(128 + signal.SIGTERM, None, node)
    process = subprocess.Popen(
        program, cwd=told["folder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | huge_pages.variables_to_add(),
        start_new_session=True,  # signals to the worker's group are not for it
    )  # fmt: skip
    try:
        return _attend(process, told, shard, tell)._replace(node=node)
    finally:  # the task may have been cancelled
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # it hangs in the system, which kills it when that returns
            process.wait(KILL_SECONDS)


def _unlike(told: Mapping[str, Any]) -> Failure | None:
    """Says what this machine has otherwise than the one where the run was started."""
    if not os.path.isdir(told["folder"]):
        return Failure(
            "InputError", f"the working folder {printable(told['folder'])} is not there",
            "Start the command from a folder that all machines have.",
        )  # fmt: skip
    path, until = os.path.join(told["folder"], told["output"], told["token"]), time.monotonic() + SEEN_SECONDS
    while not os.path.exists(path):
        if time.monotonic() >= until:
            return Failure(
                "InputError", f"the output folder {printable(told['output'])} is not the one where the run was started",
                "Give an --output on a file system that all machines share.",
            )  # fmt: skip
        time.sleep(0.1)
    return None


def _attend(
    process: subprocess.Popen[str], told: Mapping[str, Any], shard: int, tell: Callable[[list[Call]], str]
) -> Outcome:
    assert process.stdin and process.stdout and process.stderr
    lines: queue.Queue[str | None] = queue.Queue(64)  # full, it makes the shard wait
    said: deque[str] = deque(maxlen=LINES_KEPT)
    threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True).start()
    errors = threading.Thread(target=_read, args=(process.stderr, _keeper(said)), daemon=True)
    errors.start()
    try:
        process.stdin.write(json.dumps({**told, "shard": shard}) + "\n")
        process.stdin.flush()  # and it stays open: its end is the shard's end
    except OSError:
        pass  # it has ended already, and says why
    heard, calls, failure, open_, stopping = time.monotonic(), list[Call](), None, True, False
    while open_ or calls:
        open_, news = _gathered(lines, told["interval"]) if open_ else (False, [])
        heard = time.monotonic() if news else heard
        calls += news
        failure = next((Failure(*call[1]) for call in news if call[0] == "error"), failure)
        answer = tell(calls)
        calls = calls if answer == HOLD else []
        if answer == HOLD:
            time.sleep(told["interval"])
        elif answer == STOP and not stopping:
            stopping = True
            process.terminate()
        if time.monotonic() - heard > told["silence"]:
            what = f"it has told nothing for {told['silence']:g} s"
            return Outcome(None, Failure(LOST, what, "Look after that machine, or raise --stall-timeout."))
    code = process.wait()
    errors.join(1)
    if failure is None and (code < 0 or code == 1):
        failure = Failure(LOST, _ending(code, said))
    return Outcome(code, failure)


def _gathered(lines: queue.Queue[str | None], seconds: float) -> tuple[bool, list[Call]]:
    """Takes the news of some seconds; returns whether more may come, and the news."""
    until, calls = time.monotonic() + seconds, list[Call]()
    while (left := until - time.monotonic()) > 0 and len(calls) < 5000:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            break
        if line is None:
            return False, calls
        calls += json.loads(line)
    return True, calls


def _read(file: IO[str], put: Callable[[str | None], None]) -> None:
    for line in file:
        put(line)
    put(None)


def _keeper(said: deque[str]) -> Callable[[str | None], None]:
    def keep(line: str | None) -> None:
        if line is not None:
            said.append(line)
            print(line, end="", file=sys.stderr, flush=True)  # into Ray's log of the worker

    return keep


def _ending(code: int, said: Sequence[str]) -> str:
    how = f"its process was ended by signal {-code}" if code < 0 else "its process failed"
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    return f"{how}: {printable(last)}" if last else how
