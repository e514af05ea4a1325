"""Kills runs by random signals and at system calls, resumes them, and compares them with undisturbed ones.

    python tests/kill_loop.py --signals 200 --calls 100 --real 60 --seed 0 --jobs 2

A series disturbs up to five runs into one folder, then runs to the end. It takes the stub, or for `--real` of the
disturbances the real network on pictures of 64 pixels; every third series runs two shards at the same time. Calls need
strace. Tests run a short sample; see tests/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import hostile
from pictures import painting, photo, save
from test_kill import check, told

from jaxstyle.engine.stop import APART

CALLS = ("fsync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "ftruncate", "openat",
         "write")  # fmt: skip
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGTERM twice", "SIGSTOP and SIGCONT")
DISTURBANCES = 5
"""Most disturbances of a series."""
ENDED = {"SIGKILL": {-9}, "SIGTERM": {-15, 143}, "SIGINT": {-2, 130}, "SIGTERM twice": {-15, 143},
         "SIGSTOP and SIGCONT": set()}  # fmt: skip
"""Exit codes of a run that a signal has ended. -15 and -2 are those of a signal before the program's own start."""
MUTEX = ".jaxstyle-lock"
"""A file that stays, see `data/mutex.py`."""
UNREPEATED = ("seconds", "occupancy", "lane_seconds", "curve", "run")
"""Fields of a row that an undisturbed run need not share."""


@dataclass
class Found:
    """What a loop has done and found.

    Attributes:
        counts: series, disturbances that met a living run, and those that came too late, by kind.
        faults: descriptions of what was not as it must be.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Loop:
    """Series of disturbed runs in a folder of their own."""

    def __init__(self, root: Path, *, real: bool):
        self.root, self.real = root, real
        self.code = 3  # of the inputs one is broken
        number = 5 if real else 24
        for k in range(number):
            name = f"{'abc'[k % 3]}/{k}.{('png', 'jpg', 'webp')[k % 3]}"
            save(root / "in" / name, photo(*((40, 30), (64, 64), (30, 48))[k % 3], seed=k))
        (root / "in" / "a" / "cut.png").write_bytes((root / "in" / "a" / "0.png").read_bytes()[:-40])
        save(root / "style.png", painting())
        self.warm = {"JAXSTYLE_CACHE": os.environ.get("JAXSTYLE_CACHE") or str(root / "cache")}
        self.warm |= {} if real else {"STUB_SECONDS": "0.05"}
        began = time.monotonic()
        self.reference = self.finish(root / "undisturbed", shards=1)
        self.seconds = time.monotonic() - began
        self.points: dict[int, list[tuple[str, int]]] = {}

    def lines(self, output: Path, shards: int) -> list[list[str]]:
        """The commands of a run, or of its shards."""
        flags = (
            "--size",
            64,
            "--evaluations",
            6 if self.real else 10,
            "--batch",
            "auto" if self.real else 4,
            "--workers",
            0,
        )
        program = ("-m", "jaxstyle") if self.real else (hostile.STUB,)
        common = hostile.command(self.root / "in", self.root / "style.png", output, *flags, program=program, common=())
        return [[*common, "--shard", f"{k + 1}/{shards}"] if shards > 1 else common for k in range(shards)]

    def finish(self, output: Path, shards: int) -> tuple[dict, dict]:
        """Runs to the end; returns the rows and the pictures."""
        for attempt in range(3):  # a shard is refused while the other one unites the manifests
            running = [hostile.start(line, **self.warm) for line in self.lines(output, shards)]
            said = [process.communicate(timeout=hostile.WAIT)[1].decode() for process in running]
            if all(process.returncode in (0, self.code) for process in running):
                break
            assert attempt < 2, "\n".join(said)
        rows = {key: {n: v for n, v in row.items() if n not in UNREPEATED} for key, row in told(output).items()}
        return rows, hostile.pictures_of(output)

    def series(self, how: list[tuple[str, object]], seed: int, found: Found) -> None:
        """Disturbs runs into a new folder in these ways, finishes it, and compares."""
        chance, shards = random.Random(seed), 1 if seed % 3 else 2
        output = self.root / f"{seed}"
        name = f"series {seed} ({'real' if self.real else 'stub'}, {shards} at once)"
        try:
            for one in how:
                self._disturbed(output, shards, one, chance, found, name)
            self._compare(output, self.finish(output, shards), found, name)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            found.faults.append(f"{name}: {how}: {error}"[:3000])
        else:
            shutil.rmtree(output)
        found.counts["series"] += 1
        print(f"{name}: {len(found.faults)} faults so far", file=sys.stderr, flush=True)

    def _disturbed(self, output, shards, how, chance, found, name) -> None:
        kind, point = how
        tag = f"{os.getpid()}-{output.name}-{time.monotonic_ns()}"
        lines = self.lines(output, shards)
        victim = chance.randrange(shards)
        if kind == "call":
            call, number = point or chance.choice(self._points(shards))
            # not --seccomp-bpf: it does not inject in other threads
            tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                      f"inject={call}:signal=SIGKILL:when={number}"]  # fmt: skip
            lines[victim] = [*tracer, *lines[victim]]
            kind = f"kill at {call}"
        running = [hostile.start(line, **self.warm, KILL_LOOP=tag) for line in lines]
        process = running[victim]
        if not kind.startswith("kill at"):
            self._wait(process, output, chance)
            self._signal(process, kind)
        codes = []
        for one in running:
            said = one.communicate(timeout=hostile.WAIT)[1].decode(errors="replace")
            codes.append(one.returncode)
            expected = {0, self.code} | (ENDED.get(kind, {-9, 137}) if one is process else set())
            expected |= {2} if shards > 1 and "in use by" in said else set()
            early = one.returncode == -2 or (kind == "SIGINT" and "numpy" in said and "ImportError" in said)
            quiet = "Traceback" not in said or early  # Python's own, while the stub imports NumPy
            if not (one.returncode in expected or early) or not quiet:
                found.faults.append(f"{name}: {kind} ended with {one.returncode}: {said[-1500:]}")
        hit = codes[victim] not in (0, self.code)
        found.counts[f"{kind}{'' if hit or kind.startswith('SIGSTOP') else ' (too late)'}"] += 1
        hostile.wait_for(lambda: not hostile.processes(tag))
        check(output)

    def _wait(self, process: subprocess.Popen, output: Path, chance: random.Random) -> None:
        """Waits for a random moment of the start, or of the work in the folder."""
        if chance.random() > 0.2:
            until = time.monotonic() + hostile.WAIT
            while process.poll() is None and not list(output.glob(".jaxstyle-lock-*")) and time.monotonic() < until:
                time.sleep(0.005)
        try:
            process.wait(chance.uniform(0, self.seconds * 0.4))
        except subprocess.TimeoutExpired:
            return

    def _signal(self, process: subprocess.Popen, kind: str) -> None:
        names = {"SIGTERM twice": ("SIGTERM", "SIGTERM"), "SIGSTOP and SIGCONT": ("SIGSTOP", "SIGCONT")}
        for number, name in enumerate(names.get(kind, (kind,))):
            if number:
                time.sleep(APART + 0.05)
            if process.poll() is None:
                process.send_signal(signal.Signals[name])

    def _points(self, shards: int) -> list[tuple[str, int]]:
        """Calls of an undisturbed run that touch its folder: (name, number of the call in its thread)."""
        if shards not in self.points:
            output, log = self.root / f"traced-{shards}", self.root / f"trace-{shards}"
            line = self.lines(output, shards)[-1]
            tracer = ["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-o", log, "-e", f"trace={','.join(CALLS)}"]
            code, said = hostile.run([*map(str, tracer), *line], **self.warm)
            assert code in (0, self.code), said
            counts, found = Counter(), {("ftruncate", 1), ("unlink", 1)}
            for thread, call, rest in re.findall(r"^(\d+) +(\w+)\((.*)", log.read_text(errors="replace"), re.MULTILINE):
                counts[thread, call] += 1
                if output.name in rest:
                    found.add((call, counts[thread, call]))
            self.points[shards] = sorted(found)
            shutil.rmtree(output)
        return self.points[shards]

    def _compare(self, output: Path, ended: tuple[dict, dict], found: Found, name: str) -> None:
        check(output)
        rows, pictures = ended
        faults = []
        if rows != self.reference[0]:
            keys = rows.keys() | self.reference[0].keys()
            faults.append(f"rows differ: {[key for key in keys if rows.get(key) != self.reference[0].get(key)]}")
        if pictures != self.reference[1]:
            faults.append(f"pictures differ: {sorted(pictures.keys() ^ self.reference[1].keys())}")
        orphans = pictures.keys() - {key for key, row in rows.items() if row["status"] == "done"}
        left = [str(one.relative_to(output)) for one in output.rglob(".jaxstyle-*") if one.name != MUTEX]
        left += [one.name for one in output.glob("manifest-*")]
        faults += [f"orphans: {sorted(orphans)}"] if orphans else []
        faults += [f"left behind: {left}"] if left else []
        found.faults += [f"{name}: {fault}" for fault in faults]


def shares(kinds: list[tuple[str, object]], chance: random.Random) -> list[list[tuple[str, object]]]:
    """Divides disturbances among series of one to `DISTURBANCES`."""
    chance.shuffle(kinds)
    divided = []
    while kinds:
        number = chance.randint(1, DISTURBANCES)
        divided.append([kinds.pop() for _ in range(min(number, len(kinds)))])
    return divided


def run(root: Path, *, signals: int, calls: int, real: int, seed: int = 0, jobs: int = 2) -> Found:
    """Disturbs runs: `real` of the disturbances are of the real network. Returns what was found."""
    chance, found = random.Random(seed), Found()
    kinds: list[tuple[str, object]] = [(SIGNALS[k % len(SIGNALS)], None) for k in range(signals)]
    kinds += [("call", None)] * calls
    chance.shuffle(kinds)
    for part, is_real in ((kinds[:real], True), (kinds[real:], False)):
        if not part:
            continue
        (root / ("real" if is_real else "stub")).mkdir(parents=True)
        loop = Loop(root / ("real" if is_real else "stub"), real=is_real)
        if any(kind == "call" for kind, _ in part):
            loop._points(1), loop._points(2)
        with ThreadPoolExecutor(jobs) as pool:
            number = 1000 * seed
            list(pool.map(lambda one: loop.series(one[1], number + one[0], found), enumerate(shares(part, chance))))  # noqa: B023
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("signals", 200), ("calls", 100), ("real", 60), ("seed", 0), ("jobs", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), **vars(given))
    print(json.dumps({"counts": dict(sorted(found.counts.items())), "faults": len(found.faults),
                      "minutes": round((time.monotonic() - began) / 60, 1)}, indent=2))  # fmt: skip
    print("\n".join(found.faults))
    raise SystemExit(bool(found.faults))


if __name__ == "__main__":
    main()
