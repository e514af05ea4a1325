"""An object store for tests: fsspec's in memory, whose calls can fail, stop, answer short or change things."""

from __future__ import annotations

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

CALLS = ("info", "ls", "cat_file", "pipe_file", "put_file", "rm_file")
"""Calls of jaxstyle."""


class Faulty(MemoryFileSystem):
    """The store in memory; `fault` is called before each of `CALLS` with its name and path, and may raise."""

    cachable = False
    fault = None
    short = 0
    """Answers to `cat_file` that lack their last byte."""

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
        if Faulty.short:
            Faulty.short -= 1
            return data[:-1]
        return data

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
    patch.setattr(Faulty, "short", 0)
    fsspec.register_implementation("memory", Faulty, clobber=True)
    patch.setattr("jaxstyle.data.stores.PAUSE", 0)
    return MemoryFileSystem(skip_instance_cache=True)
