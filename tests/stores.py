"""An object store for tests: fsspec's in memory, whose calls can fail, stop, answer short or change things."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

CALLS = ("info", "ls", "cat_file", "pipe_file", "put_file", "rm_file")
"""Calls of jaxstyle."""


class Faulty(MemoryFileSystem):
    """The store in memory; `fault` is called before each of `CALLS` with its name and path, and may raise."""

    cachable = False
    fault = None
    short = None
    """Counts the answers to `cat_file`, of which every second lacks its last byte; None for whole answers."""

    def _before(self, name, path):
        if Faulty.fault is not None:
            Faulty.fault(name, path.removeprefix("memory://"))

    def info(self, path, **options):
        self._before("info", path)
        return super().info(path, **options)

    def ls(self, path, detail=True, **options):
        self._before("ls", path)
        return super().ls(path, detail=detail, **options)

    def cat_file(self, path, start=None, end=None, **options):
        self._before("cat_file", path)
        data = super().cat_file(path, start=start, end=end, **options)
        return data[:-1] if Faulty.short is not None and next(Faulty.short) % 2 == 0 else data

    def pipe_file(self, path, value, **options):
        self._before("pipe_file", path)
        return super().pipe_file(path, value, **options)

    def put_file(self, local, path, **options):
        self._before("put_file", path)
        return super().put_file(local, path, **options)

    def rm_file(self, path):
        self._before("rm_file", path)
        return super().rm_file(path)


def install(patch):
    """Makes memory:// a `Faulty` store that is empty; returns a MemoryFileSystem without faults."""
    patch.setattr(MemoryFileSystem, "store", {})
    patch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    patch.setattr(Faulty, "fault", None)
    patch.setattr(Faulty, "short", None)
    fsspec.register_implementation("memory", Faulty, clobber=True)
    patch.setattr("jaxstyle.data.stores.PAUSE", 0)
    return MemoryFileSystem(skip_instance_cache=True)


class InFolder(fsspec.AbstractFileSystem):
    """A store whose objects are files of a folder, so that they outlive a process; each appears when it is complete."""

    protocol = "memory"
    cachable = False
    root = Path("store")

    def _file(self, path):
        return self.root / str(path).removeprefix("memory://").strip("/")

    def info(self, path, **_):
        found = self._file(path)
        state = found.stat()
        kind = "directory" if found.is_dir() else "file"
        return {
            "name": f"/{found.relative_to(self.root)}",
            "type": kind,
            "size": state.st_size,
            "mtime": state.st_mtime,
        }

    def ls(self, path, detail=True, **_):
        return [self.info(one.relative_to(self.root)) for one in self._file(path).iterdir() if one.suffix != ".part"]

    def cat_file(self, path, start=None, end=None, **_):
        return self._file(path).read_bytes()[start:end]

    def pipe_file(self, path, value, **_):
        found = self._file(path)
        found.parent.mkdir(parents=True, exist_ok=True)
        part = found.with_name(f"{found.name}-{os.getpid()}.part")
        part.write_bytes(value)
        os.replace(part, found)

    def put_file(self, local, path, **_):
        self.pipe_file(path, Path(local).read_bytes())

    def rm_file(self, path):
        self._file(path).unlink()
