"""Kills `pack` in the middle, again and again: a program for tests, run in a folder with `in` and `out`.

    python packing_kills.py PATTERN ROUNDS KILLS LEAST

Each round packs the inputs `in/PATTERN` into a new folder, is killed KILLS times at a random change of the file system,
and then lets the same command finish. No file may be short at any time, and the end must be the undisturbed packing's.
It fails if fewer than LEAST processes were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from jaxstyle.data import writing
from jaxstyle.data.packing import pack, parquet_file, tar, tar_file  # noqa: F401  imported before any process is forked

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "images")
MANY = 10**6


def child(sources: list[Path], target: Path, left: int) -> int | None:
    """Packs, and is killed before one change too many; returns the number of changes, None if it was killed."""
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == -signal.SIGKILL or code > 1, code
        return None if code < 0 else code
    writing._own = f"{os.getpid()}-x"

    def count(event, *_):
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    images = parquet_file._images  # a Parquet file is killed between its row groups too
    parquet_file._images = lambda *given: count("images") or images(*given)
    pack(Path("out"), target, source=sources)
    os._exit(min(MANY - left, 255))


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def main(pattern: str, rounds: int, kills: int, least: int) -> None:
    sources, chance, killed = sorted(Path("in").glob(pattern)), random.Random(0), 0
    parquet_file.GROUP = 2000
    pack(Path("out"), Path("warm"), source=sources)  # imports what there is to import
    total = child(sources, Path("whole"), MANY)
    whole = everything(Path("whole"))
    assert whole == everything(Path("warm"))
    for n in range(rounds):
        target = Path(f"killed-{n}")
        for _ in range(kills):
            killed += child(sources, target, chance.randrange(total)) is None
            for name, data in everything(target).items():
                assert name.startswith(".jaxstyle-partial-") or data == whole[name], name
        assert child(sources, target, MANY) is not None and everything(target) == whole
    assert killed >= least, killed


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
