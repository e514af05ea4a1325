"""Measures the coordinator of a cluster without a cluster: what a thousand shards and millions of rows cost it.

    python bench/coordinator.py [SHARDS] [ROWS ...]

Shards that only pretend tell rows as fast as the coordinator takes them, and their ledgers lie on this machine's disk.
For each number of rows it prints microseconds a row and MiB by which the process grew: of the coordinator with its
board, of a shard that reads the folder's ledgers at its start and lists the inputs, and of uniting and counting at the
end. The folders are deleted afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxstyle.cluster.board import Board
from jaxstyle.cluster.coordinator import Coordinator
from jaxstyle.cluster.messages import Call, News, Outcome
from jaxstyle.data import ledger
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import ledger_name
from jaxstyle.data.lock import locked
from jaxstyle.data.reading import LastRows
from jaxstyle.data.rows import Row
from jaxstyle.data.sources import source_for
from jaxstyle.engine.events import Silent
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.planning.shots import in_shard
from jaxstyle.settings import RenderSettings

MOST_FILES = 100_000
"""Most files that are made to be listed."""
ROWS_A_SECOND = 10
"""Rows that a shard tells at a time."""


class Cost(NamedTuple):
    """What a step costs: microseconds a row, and MiB by which its process grew at most."""

    microseconds: float
    mib: float


class Pretended:
    """A cluster whose shards are all at work from the beginning and tell `ROWS_A_SECOND` rows in each look."""

    def __init__(self, rows: int, shards: int):
        self._left = dict.fromkeys(range(1, shards + 1), rows // shards)
        self._row = row(0, "photos/0000/00000000.jpg").as_json()
        self._board = Board()

    def begin(self, shard: int, attempt: int, avoid: frozenset[str]) -> None:
        self._board.tell(shard, attempt, [["begin", [200]], ["inputs", [self._left[shard]]]])

    def ended(self, seconds: float) -> list[tuple[int, int, Outcome]]:
        over = []
        for shard, left in [*self._left.items()]:
            number = min(left, ROWS_A_SECOND)
            calls: list[Call] = [["row", [dict(self._row)]] for _ in range(number)]
            self._board.tell(shard, 1, [["advance", [200 * number, 1.5]], *calls])
            self._left[shard] -= number
            if not self._left[shard]:
                del self._left[shard]
                over.append((shard, 1, Outcome(0)))
        return over

    def news(self, stop: bool) -> list[News]:
        return [News(*one) for one in json.loads(json.dumps(self._board.take(stop)))]  # as if it had travelled

    def cancel(self, shard: int, attempt: int) -> None:
        raise AssertionError("no shard is lost")


def row(shard: int, key: str) -> Row:
    """A row as a render writes it."""
    checksum = f"{hash(key) & (2**256 - 1):064x}"
    return Row(
        key, "done", style="starry_night.jpg", style_sha256=checksum, style_bytes=1, style_modified=1, seed=1,
        ended="budget", loss={"content": 0.5, "style": 0.25, "tv": 0.125, "total": 0.875}, evaluations=200,
        precision="bfloat16", batch=16, seconds=3.25, start_loss=9.5, input_bytes=123456,
        input_modified=1_700_000_000_000_000_000, input_sha256=checksum, input_size=(500, 375), work_size=(500, 375),
        output_size=(500, 375), output_bytes=65432, output_sha256=checksum, run=1,
    )  # fmt: skip


def keys(rows: int) -> Iterator[str]:
    """Names of inputs, a thousand in a folder, as ImageNet has them."""
    return (f"photos/{n // 1000:05}/{n:08}.jpg" for n in range(rows))


def write_ledgers(output: Path, rows: int, shards: int) -> None:
    """Writes a ledger for each shard."""
    lines: dict[int, list[str]] = {shard: [] for shard in range(1, shards + 1)}
    for n, key in enumerate(keys(rows)):
        lines[n % shards + 1].append(json.dumps(row(0, key).as_json()) + "\n")
        if n % 200_000 == 199_999 or n == rows - 1:
            for shard, some in lines.items():
                with (output / ledger_name((shard, shards))).open("a") as file:
                    file.writelines(some)
                some.clear()


def measured(work: Callable[[], Any], rows: int) -> Cost:
    """Runs something in a process of its own, whose memory is its alone."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        before, began = _memory("VmRSS"), time.perf_counter()
        work()
        seconds, grown = time.perf_counter() - began, max(0, _memory("VmHWM") - before)
        os.write(writing, json.dumps([seconds / rows * 1e6, grown / 2**20]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(child, 0)
    return Cost(*json.loads(told))


def _memory(name: str) -> int:
    """Bytes of memory of this process, as Linux counts them."""
    if name == "VmHWM":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def coordinate(rows: int, shards: int) -> None:
    """The coordinator's work for a whole run."""
    one = Coordinator(Pretended(rows, shards), shards, Silent(), Stop(), Limits(RenderSettings()), tries=3, silence=1e9)
    totals = one.run(200)
    assert totals.rows == rows // shards * shards and not totals.unfinished


def measure(rows: int, shards: int) -> dict[str, Cost]:
    """Measures every step for one number of rows."""
    found = {"coordinator": measured(lambda: coordinate(rows, shards), rows)}
    with tempfile.TemporaryDirectory() as name:
        measured(lambda: write_ledgers(Path(name), rows, shards), rows)  # in a process, whose heap is not inherited
        folder = Folder(Path(name))

        def count() -> None:
            with LastRows(folder) as last:
                assert sum(1 for _ in last) == rows

        found["a shard reads the ledgers"] = measured(lambda: ledger.Ledger(folder, ledger.ledgers(folder)), rows)
        found["uniting the ledgers"] = measured(lambda: ledger.compact(folder), rows)
        found["counting at the end"] = measured(count, rows)
    files, locks = min(rows, MOST_FILES), min(shards, 100)
    with tempfile.TemporaryDirectory() as name:

        def lock() -> None:
            for shard in range(1, locks + 1):
                with locked(Path(name), (shard, shards)):
                    pass

        found["a shard takes and leaves its lock (us a lock)"] = measured(lock, locks)
    with tempfile.TemporaryDirectory() as name:
        for key in keys(files):
            path = Path(name, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

        def list_inputs() -> None:
            source = source_for("folders", [Path(name)], RenderSettings(), case_insensitive=False)
            assert sum(in_shard(one.key, (1, shards)) for one in source.inputs()) <= files

        found[f"a shard lists {files} files"] = measured(list_inputs, files)
    return found


def main(words: list[str]) -> None:
    shards, *numbers = map(int, words or ["1000", "100000", "300000", "600000"])
    for rows in numbers:
        for name, cost in measure(rows, shards).items():
            told = f"{cost.microseconds:.2f} us a row, {cost.mib:.1f} MiB"
            print(f"{shards} shards, {rows} rows, {name}: {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
