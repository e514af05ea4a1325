"""Kills whatever writes files, again and again, and compares what is there with an undisturbed writer's.

    python tests/writer_kills.py --writer tar --kills 40

Writers are those of WRITERS. Every second kill is at a change of the file system, spread over all of them; the others
are at random times. No file may be short under its final name at any time, whether it is new or replaces an older one;
two kills are followed by a writer that ends, and then all must be as if no one had been killed. `s3` needs moto.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import h5py
import numpy as np
import stores
import stub
from pictures import encoded, painting, photo, save
from tars import archive
from test_kill import check as check_folder
from whole_runs import QUICK

from jaxstyle.data import table, writing
from jaxstyle.data.packing import hdf5_file, pack, parquet_file, tar, tar_file  # noqa: F401  before a process is forked
from jaxstyle.data.publishing import publish
from jaxstyle.data.publishing.commit import MARKER
from jaxstyle.data.publishing.record import RECORD
from jaxstyle.engine.pipeline import render

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "step")
"""Events of `sys.audit` at which a writer is killed; `step` is between the row groups of Parquet and images of HDF5."""
NUMBER = 12
"""Pictures."""
MANY = 10**6
UNREPEATED = ("seconds", "occupancy", "lane_seconds", "curve", "run")
"""Fields of a row that two runs need not share."""
MAY_DIFFER = (RECORD, "settings.json", ".jaxstyle-lock", "contact_sheet.png")


class Writer:
    """A writer and its inputs, in the folder `root`."""

    def __init__(self, root: Path):
        self.root = root
        jpegs = [encoded(photo(32, 24, n), "JPEG") for n in range(NUMBER)]
        save(root / "style.png", painting())
        self.inputs = self.written(root / "in", jpegs)
        self.render(root / "out")

    def written(self, folder: Path, jpegs: list[bytes]) -> list[Path]:
        """Writes the inputs."""
        for n, data in enumerate(jpegs):
            (folder / f"deep{n % 2}").mkdir(parents=True, exist_ok=True)
            (folder / f"deep{n % 2}/{n:02}.jpg").write_bytes(data)
        return [folder]

    def render(self, output: Path) -> None:
        render(self.inputs, self.root / "style.png", output, QUICK, tail="same")

    def begin(self, place: Path, older: bool) -> None:
        """Makes a place for the writer, with what an older writer left if asked for."""
        place.mkdir()

    def write(self, place: Path) -> None:
        """Writes; it is this that is killed."""
        raise NotImplementedError

    def found(self, place: Path) -> dict[str, bytes]:
        """What there is, with all temporary files."""
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def check(self, place: Path, whole: dict[str, bytes]) -> None:
        """What must hold at any time."""
        for name, data in self.found(place).items():
            assert name.startswith(".jaxstyle-partial-") or data == whole[name], name


class Tar(Writer):
    def written(self, folder, jpegs):
        half = NUMBER // 2
        parts = [{f"{n:02}.{end}": data for n in range(first, first + half)
                  for end, data in (("jpg", jpegs[n]), ("cls", b"%d" % n))} for first in (0, half)]  # fmt: skip
        return [archive(folder / f"train-{n}.tar", part) for n, part in enumerate(parts)]

    def write(self, place):
        pack(self.root / "out", place, source=self.inputs)


class Parquet(Tar):
    def written(self, folder, jpegs):
        import pyarrow
        from pyarrow import parquet

        folder.mkdir()
        paths, half = [folder / f"train-{n}.parquet" for n in range(2)], NUMBER // 2
        for path, first in zip(paths, (0, half), strict=True):
            images = [{"bytes": data, "path": None} for data in jpegs[first : first + half]]
            parquet.write_table(pyarrow.table({"image": images, "label": [*range(first, first + half)]}), path)
        return paths

    def write(self, place):
        parquet_file.GROUP = 2000
        super().write(place)


class Hdf5(Writer):
    def written(self, folder, jpegs):
        folder.mkdir()
        with h5py.File(folder / "data.h5", "w") as file:
            file["images"], file["label"] = np.stack([photo(32, 24, n) for n in range(NUMBER)]), np.arange(NUMBER)
        return [folder / "data.h5"]

    def write(self, place):
        pack(self.root / "out", place / "new.h5", source=self.inputs, per_file=5)


class Manifest(Writer):
    """`jaxstyle manifest` in every format, over an older file."""

    def begin(self, place, older):
        place.mkdir()
        if older:
            for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
                (place / name).write_bytes(b"older")

    def write(self, place):
        for format in ("csv", "jsonl", "parquet"):
            table.write(self.root / "out", place / f"rows.{format}", format)

    def check(self, place, whole):
        super().check(place, whole | {n: d for n, d in self.found(place).items() if d == b"older"})


class Folder(Writer):
    """A run's own outputs and ledger."""

    def write(self, place):
        self.render(place)

    def found(self, place):
        found = {name: data for name, data in super().found(place).items() if not name.startswith(MAY_DIFFER)}
        for name, data in found.items():
            if name.endswith(".jsonl"):
                rows = [json.loads(line) for line in data.splitlines() if line.endswith(b"}")]
                told = [{key: value for key, value in row.items() if key not in UNREPEATED} for row in rows]
                found[name] = json.dumps(sorted(told, key=lambda row: row["key"])).encode()
        return found

    def check(self, place, whole):
        check_folder(place)
        for name, data in self.found(place).items():
            assert not name.endswith(".jpg") or data == whole[name], name
            if name.endswith(".jsonl"):
                assert all(row in json.loads(whole["manifest.jsonl"]) for row in json.loads(data)), name


class Store(Writer):
    """`jaxstyle publish` to a store whose objects are files, over an older publication."""

    def __init__(self, root):
        super().__init__(root)
        fsspec.register_implementation("memory", stores.InFolder, clobber=True)
        stores.InFolder.root = root / "store"
        (root / "out/.jaxstyle-publisher").write_text("ab" * 16)
        for n in range(0, NUMBER, 3):
            save(root / f"in/deep{n % 2}/{n:02}.jpg", photo(32, 24, 50 + n))
        self.render(root / "older")
        (root / "older/.jaxstyle-publisher").write_text("ab" * 16)

    def url(self, place: Path) -> str:
        return f"memory://bucket/{place.name}"

    def begin(self, place, older):
        if older:
            forked(lambda: publish(self.root / "older", self.url(place)))

    def write(self, place):
        publish(self.root / "out", self.url(place))

    def found(self, place):
        found = super().found(self.root / "store/bucket" / place.name)
        return {name: data for name, data in found.items() if name != RECORD and not name.endswith(".part")}

    def check(self, place, whole):
        found = self.found(place)
        if MARKER in found:
            marker, rows = json.loads(found[MARKER]), [json.loads(one) for one in found["manifest.jsonl"].splitlines()]
            assert marker["manifest_sha256"] == hashlib.sha256(found["manifest.jsonl"]).hexdigest()
            assert len(rows) == marker["objects"] == NUMBER
            for row in rows:
                assert hashlib.sha256(found[row["key"]]).hexdigest() == row["output_sha256"], row["key"]


class S3(Store):
    """The same to moto's server of S3, in a process of its own."""

    def __init__(self, root):
        import boto3

        super().__init__(root)
        code = "import sys; from moto.server import ThreadedMotoServer as Server; s = Server(port=0, verbose=False); " \
               "s.start(); print(*s.get_host_and_port(), flush=True); sys.stdin.read()"  # fmt: skip
        self.server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        address = "http://{}:{}".format(*self.server.stdout.readline().split())
        os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL": address}
        self.client = boto3.client("s3", region_name="us-east-1")
        self.client.create_bucket(Bucket="bucket")

    def url(self, place):
        return f"s3://bucket/{place.name}"

    def found(self, place):
        prefix = f"{place.name}/"
        keys = [one["Key"] for one in self.client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", ())]
        read = {key: self.client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}
        return {key.removeprefix(prefix): data for key, data in read.items() if not key.endswith(RECORD)}


WRITERS = {
    "tar": Tar,
    "parquet": Parquet,
    "hdf5": Hdf5,
    "manifest": Manifest,
    "folder": Folder,
    "store": Store,
    "s3": S3,
}


def forked(do: Callable[[], object], point: int | None = None, seconds: float | None = None) -> int | None:
    """Does something in a new process, which is killed before one change too many or after a time.

    Returns:
        the number of changes; None if it was killed.
    """
    reading, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = [0]

        def look(event: str, *_: object) -> None:
            if event in CHANGES:
                count[0] += 1
                if point is not None and count[0] > point:
                    os.kill(os.getpid(), signal.SIGKILL)

        writing._own = f"{os.getpid()}-x"
        sys.addaudithook(look)
        for module, name in ((parquet_file, "_images"), (hdf5_file, "_decoded")):
            whole = getattr(module, name)
            setattr(module, name, lambda *given, whole=whole: look("step") or whole(*given))
        try:
            do()
            os.write(told, b"%d" % count[0])
        finally:
            os._exit(0)
    os.close(told)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    assert answer or code == -signal.SIGKILL, "the writer failed"
    return None if code == -signal.SIGKILL else int(answer)


def run(name: str, kills: int, seed: int = 0) -> dict[str, int]:
    """Kills a writer; returns how often, and how many of the kills found one that was already done."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writer = WRITERS[name](root)
        writer.begin(root / "undisturbed", False)
        writer.write(root / "undisturbed") if name not in ("s3", "store") else forked(
            lambda: writer.write(root / "undisturbed")
        )
        whole = writer.found(root / "undisturbed")
        writer.begin(root / "counted", False)
        began = time.monotonic()
        total = forked(lambda: writer.write(root / "counted"))
        lasted = time.monotonic() - began
        assert writer.found(root / "counted") == whole, "two undisturbed writers differ"
        points = [total * (n + 1) // (kills // 2 + 1) for n in range(kills // 2)] if kills > 1 else [total // 2]
        killed = late = number = 0
        while killed < kills:
            place = root / f"killed-{number}"
            writer.begin(place, number % 2 == 1)
            number += 1
            times = [{"point": points.pop()}] if points else [{"seconds": chance.uniform(0, lasted)}]
            for when in [*times, {"seconds": chance.uniform(0, lasted)}][: kills - killed]:
                ended = forked(lambda: writer.write(place), **when)  # noqa: B023
                killed, late = killed + (ended is None), late + (ended is not None)
                writer.check(place, whole)
            assert forked(lambda: writer.write(place)) is not None  # noqa: B023
            assert writer.found(place) == whole, f"{place.name} ends with other files"
    return {"kills": killed, "too late": late, "rounds": number, "changes": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--writer", choices=WRITERS, nargs="+", default=[*WRITERS])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stub.install()
    for name in given.writer:
        print(name, json.dumps(run(name, given.kills, given.seed)), flush=True)


if __name__ == "__main__":
    main()
