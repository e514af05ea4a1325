"""The list between the walk and the planner: complete, in order, flat in memory, and never a reason to hang."""

import errno
import os
import threading
from pathlib import Path

import pytest

from jaxstyle.data.sources.base import Input
from jaxstyle.engine import spool as module
from jaxstyle.engine.spool import Spool
from jaxstyle.errors import StorageError

INPUTS = [
    Input("a.jpg", Path("in/a.jpg")),
    Input(os.fsdecode(b"caf\xe9\n.png"), Path(os.fsdecode(b"in/caf\xe9\n.png")), note="a note"),
    Input("tar", "shard.tar:3", failed="cut", skipped="hidden"),
]
running = lambda: False  # noqa: E731


@pytest.fixture
def spool():
    made = Spool()
    yield made
    made.close()


def test_what_is_written_is_read_in_order_with_the_kinds_of_its_locators(spool):
    for one in INPUTS:
        spool.write(one)
    spool.complete()
    read = list(spool.read(running))
    assert read == INPUTS and [type(one.locator) for one in read] == [type(one.locator) for one in INPUTS]


@pytest.mark.parametrize("in_memory", [1, 500, 10**6])
def test_a_reader_that_keeps_up_and_one_that_falls_behind_read_all(spool, monkeypatch, in_memory):
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    spool = Spool()
    reader, read = spool.read(running), []
    for n in range(200):
        spool.write(Input(f"{n}.jpg", Path(f"in/{n}.jpg")))
        if n % 3 == 0:
            read.append(next(reader).key)
    spool.complete()
    read += [one.key for one in reader]
    spool.close()
    assert read == [f"{n}.jpg" for n in range(200)]


def test_a_long_list_goes_to_a_file(monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 150)
    spool = Spool()
    spool.write(INPUTS[0])
    assert not spool._file._rolled
    for one in INPUTS:
        spool.write(one)
    assert spool._file._rolled
    spool.close()


@pytest.mark.parametrize("end", ["complete", "stopped"])
def test_a_waiting_reader_ends_with_the_list_or_the_run(spool, end):
    stop, read = threading.Event(), []
    spool.write(INPUTS[0])
    thread = threading.Thread(target=lambda: read.extend(spool.read(stop.is_set)), daemon=True)
    thread.start()
    spool.complete() if end == "complete" else stop.set()
    thread.join(60)
    assert not thread.is_alive() and read == INPUTS[:1]


def test_a_full_disk_is_a_storage_error(spool, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spool._file, "write", full)
    with pytest.raises(
        StorageError,
        match=r"the list of inputs cannot be kept in a temporary file \(No space left on device\)\. .*TMPDIR",
    ):
        spool.write(INPUTS[0])


def test_a_full_disk_is_a_storage_error_wherever_the_buffer_is_written(monkeypatch):
    class Full:
        """A file whose buffer finds no room once there is something in it."""

        def __init__(self):
            self.told = 0

        def write(self, line):
            self.told += len(line)

        def _refuse(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

        seek = readline = close = _refuse

    full = Spool()
    full._file = Full()
    full.write(INPUTS[0])
    with pytest.raises(StorageError, match="No space left"):
        next(full.read(running))
    full.close()  # says nothing further
