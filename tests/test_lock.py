"""One run at a time in an output folder: another process, another thread, a killed run, a file system without locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxstyle.data import identity, lock, mounts, mutex
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import LOCK, TEMPORARY, lock_name
from jaxstyle.data.lock import holders, if_unlocked, locked
from jaxstyle.data.sinks.folders import FolderSink
from jaxstyle.data.writing import write_file
from jaxstyle.errors import OutputLocked, StorageError

HOST = socket.gethostname()
WHOLE = (1, 1)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path) -> list[str]:
    """Files but the mutex, which stays where there is flock."""
    return [name for name in files(folder) if name != LOCK]


def excluded(output: Path, part=WHOLE) -> bool:
    try:
        with locked(output, part):
            return False
    except OutputLocked:
        return True


def no_flock(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(params=["flock", "markers"])
def system(request, monkeypatch):
    """A file system with flock, and one without."""
    if request.param == "markers":
        monkeypatch.setattr(fcntl, "flock", no_flock)
    return request.param


@contextlib.contextmanager
def other_process(output: Path, part=WHOLE, before=""):
    """A process that holds the folder until it is killed."""
    code = f"""
import sys
from pathlib import Path
from jaxstyle.data.lock import locked
{before}
with locked(Path({str(output)!r}), {part}):
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


WITHOUT_FLOCK = """
import errno, fcntl
def refuse(*_): raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = refuse
"""


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (WHOLE, WHOLE, False), (WHOLE, (2, 3), False), ((2, 3), WHOLE, False), ((2, 3), (2, 3), False),
        ((1, 3), (2, 3), True), ((1, 3), (3, 3), True), ((1, 3), (1, 4), False), ((1, 3), (2, 4), False),
        ((1, 3), (3, 33), False), ((1, 12), (11, 12), True),
    ],
)  # fmt: skip
def test_who_excludes_whom(tmp_path, system, first, second, both):
    with locked(tmp_path, first):
        assert excluded(tmp_path, second) is not both
        assert excluded(tmp_path, first)  # the refused one took nothing away
    assert not excluded(tmp_path, second)


def test_many_shards_at_once_and_then_the_whole(tmp_path, system):
    with contextlib.ExitStack() as stack:
        for i in (2, 1, 3):
            stack.enter_context(locked(tmp_path, (i, 3)))
        assert [one["part"] for one in holders(tmp_path)] == ["1/3", "2/3", "3/3"]
        assert excluded(tmp_path)
    assert holders(tmp_path) == []
    assert not excluded(tmp_path)


def test_the_refusal_says_who_holds_it(tmp_path):
    with other_process(tmp_path) as process:
        [holder] = holders(tmp_path)
        assert (holder["part"], holder["host"], holder["pid"]) == ("1/1", HOST, process.pid)
        with pytest.raises(OutputLocked) as caught, locked(tmp_path, (1, 2)):
            pass
        assert caught.value.what == (
            f"{tmp_path} is in use by a run on {HOST}, process {process.pid}, since {holder['since']}"
        )
        assert holder["since"].endswith("+00:00")
        assert caught.value.remedy == "Wait for it, or use another output folder." and caught.value.exit_code == 2


def test_a_killed_run_holds_nothing(tmp_path):
    with other_process(tmp_path, (2, 3)) as process:
        assert excluded(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert f"{lock_name((2, 3))}.json" in files(tmp_path)
        assert holders(tmp_path) == []
        with locked(tmp_path) as mine:
            assert [one["pid"] for one in holders(tmp_path)] == [mine["pid"]] == [os.getpid()]
    assert left(tmp_path) == []


def test_a_killed_run_holds_nothing_where_there_is_no_flock(tmp_path, monkeypatch):
    with other_process(tmp_path, before=WITHOUT_FLOCK) as process:
        monkeypatch.setattr(fcntl, "flock", no_flock)
        assert excluded(tmp_path) and [one["pid"] for one in holders(tmp_path)] == [process.pid]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert holders(tmp_path) == []
        assert not excluded(tmp_path)
    assert left(tmp_path) == []


def test_threads_exclude_each_other_and_one_wins(tmp_path, system):
    together, count = threading.Barrier(6), [0, 0]
    done = threading.Event()
    outcomes, guard = [], threading.Lock()

    def run():
        together.wait()
        try:
            with locked(tmp_path):
                with guard:
                    count[0] += 1
                    count[1] = max(count)
                done.wait(20)  # for ever, if two held it
                with guard:
                    count[0] -= 1
            outcome = "held"
        except OutputLocked:
            outcome = "refused"
        with guard:
            outcomes.append(outcome)
            if len(outcomes) == 5:
                done.set()  # all others were refused while one held it

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + 5 * ["refused"] and count == [0, 1]


def test_holders_never_overlap_whoever_comes_and_goes(tmp_path, system):
    """Threads take random parts again and again, releasing between; none ever meets one that it excludes."""
    inside, guard, wrong, wins = [], threading.Lock(), [], []

    def run(seed):
        chance, until = random.Random(seed), time.monotonic() + 60
        for turn in itertools.count():
            if turn >= 40 and (len(set(wins)) == 4 or time.monotonic() > until):  # who wins is the scheduler's choice
                break
            part = chance.choice([WHOLE, (1, 2), (2, 2), (1, 3)])
            try:
                with locked(tmp_path, part):
                    with guard:
                        wrong.extend((part, there) for there in inside if lock._exclude(part, there))
                        inside.append(part)
                        wins.append(part)
                    holders(tmp_path)
                    with guard:
                        inside.remove(part)
            except OutputLocked:
                continue

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(set(wins)) == 4
    assert left(tmp_path) == []


def test_runs_begin_one_at_a_time_with_the_lock_held(tmp_path, system):
    entered, leave = threading.Event(), threading.Event()
    calls = []

    def slow():
        calls.append("first begins")
        calls.append(mutex.take(Folder(tmp_path), LOCK) is None)  # the mutex is held too
        entered.set()
        leave.wait(20)
        calls.append("first ends")

    def first():
        with locked(tmp_path, (1, 2), slow):
            pass

    def second():
        with locked(tmp_path, (2, 2), lambda: calls.append("second")):
            pass

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(20)
    assert (tmp_path / f"{lock_name((1, 2))}.json").exists()
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert calls == ["first begins", True, "first ends", "second"]


@pytest.mark.parametrize("where", ["begin", "block"])
def test_an_error_frees_the_folder(tmp_path, system, where):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), locked(tmp_path, WHOLE, fail if where == "begin" else None):
        fail()
    assert not excluded(tmp_path)
    assert holders(tmp_path) == []


def test_a_mutex_that_stays_held_is_an_error(tmp_path, system, monkeypatch):
    monkeypatch.setattr(mutex, "MUTEX_SECONDS", 0.05)
    refused = []

    def inside():
        with pytest.raises(OutputLocked, match=r"other runs have been starting in it for 0\.05 seconds") as caught:
            locked(tmp_path, (2, 2)).__enter__()
        refused.append(caught.value)

    with locked(tmp_path, (1, 2), inside):
        assert not excluded(tmp_path, (2, 2))
    assert refused[0].remedy.endswith(f"If there are none, delete {tmp_path}/{LOCK}.")


def test_holders_do_not_disturb_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert holders(tmp_path) == [] and files(tmp_path) == ["a.jpg"]
    with locked(tmp_path, (1, 2)) as mine:
        before = files(tmp_path)
        expected = [{name: mine[name] for name in ("part", "host", "pid", "since")}]
        assert holders(tmp_path) == expected == holders(tmp_path)
        assert files(tmp_path) == before
        assert excluded(tmp_path)


def test_holders_of_a_folder_that_may_only_be_read_are_known_by_their_records(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with locked(tmp_path, (1, 2)) as mine:
        (tmp_path / f"{lock_name((2, 2))}.json").write_text('{"host": "elsewhere"}')
        (tmp_path / lock_name((3, 3))).touch()  # a killed run left it before it wrote a record
        monkeypatch.setattr(fcntl, "flock", refuse)
        assert holders(tmp_path) == [
            {name: mine[name] for name in ("part", "host", "pid", "since")},
            {"part": "2/2", "host": "elsewhere", "pid": 0, "since": ""},
        ]
        monkeypatch.undo()


def test_holders_of_a_folder_whose_mutex_is_held_are_known_by_their_records(tmp_path):
    (tmp_path / f"{lock_name((1, 2))}.json").write_text("{}")
    with mutex.mutex(tmp_path):
        assert [one["part"] for one in holders(tmp_path)] == ["1/2"]
    assert holders(tmp_path) == []


def test_a_lock_file_is_removed_with_the_mutex_held(tmp_path):
    entered, leave = threading.Event(), threading.Event()

    def run():
        with locked(tmp_path):
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(20)
    with mutex.mutex(tmp_path):
        leave.set()
        thread.join(0.3)
        assert thread.is_alive() and (tmp_path / lock_name(WHOLE)).exists()
    thread.join()
    assert not (tmp_path / lock_name(WHOLE)).exists()


def test_without_a_record_the_lock_counts_all_the_same(tmp_path):
    with locked(tmp_path):
        (tmp_path / f"{lock_name(WHOLE)}.json").unlink()
        assert holders(tmp_path) == [{"part": "1/1", "host": "", "pid": 0, "since": ""}]
        with pytest.raises(OutputLocked, match="is in use by another run"):
            locked(tmp_path, (1, 2)).__enter__()


@pytest.mark.parametrize("content", [b"", b"{", b"7", b"[1]", b"\xff", b"null", b"[" * 100_000, "pipe", "link"])
def test_an_illegible_record_neither_holds_a_folder_nor_frees_it(tmp_path, system, content):
    path = tmp_path / f"{lock_name(WHOLE)}.json"

    def spoil():
        path.unlink(missing_ok=True)
        if content == "pipe":
            os.mkfifo(path)
        elif content == "link":
            path.symlink_to(__file__)
        else:
            path.write_bytes(content)

    spoil()
    assert holders(tmp_path) == [] and not excluded(tmp_path)
    with locked(tmp_path):
        spoil()
        assert holders(tmp_path) == [{"part": "1/1", "host": "", "pid": 0, "since": ""}]
        with pytest.raises(OutputLocked, match="is in use by another run"):
            locked(tmp_path, (1, 2)).__enter__()


def test_a_marker_of_another_host_holds_until_it_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock)
    marker = tmp_path / lock_name((1, 2))
    marker.write_text("4711\nelsewhere\n")
    Path(f"{marker}.json").write_text(json.dumps({"host": "elsewhere", "pid": 4711, "since": "2020"}))
    assert [one["host"] for one in holders(tmp_path)] == ["elsewhere"]
    with pytest.raises(OutputLocked) as caught:
        locked(tmp_path).__enter__()
    assert caught.value.what == f"{tmp_path} is in use by a run on elsewhere, process 4711, since 2020"
    assert caught.value.remedy.endswith(f" If that run has ended, delete {marker}.")
    marker.unlink()
    assert not excluded(tmp_path)


@pytest.mark.parametrize("name", [LOCK, lock_name(WHOLE)])
def test_lock_files_that_are_links_or_folders_are_a_storage_error(tmp_path, name):
    target = tmp_path.parent / f"{tmp_path.name}-target"
    target.write_bytes(b"kept")
    for make in (lambda path: path.symlink_to(target), Path.mkdir):
        make(tmp_path / name)
        with pytest.raises(StorageError, match=rf"{tmp_path} cannot be written"):
            locked(tmp_path).__enter__()
        (tmp_path / name).unlink() if (tmp_path / name).is_symlink() else (tmp_path / name).rmdir()
    assert target.read_bytes() == b"kept"


@pytest.mark.parametrize("name", [LOCK, lock_name(WHOLE)])
def test_lock_files_that_are_pipes_are_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageError, match=r"cannot be written \(Not a regular file\)"):
        locked(tmp_path).__enter__()
    assert isinstance(holders(tmp_path), list)


@pytest.mark.parametrize("kind", ["ENOLCK", "ENOTSUP", "EOPNOTSUPP"])
def test_a_file_system_that_refuses_locks_is_a_storage_error_with_a_remedy(tmp_path, monkeypatch, kind):
    def refuse(*_):
        raise OSError(getattr(errno, kind), kind)

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError) as caught:
        locked(tmp_path).__enter__()
    assert caught.value.what == f"the file system of {tmp_path} has no file locks ({kind})"
    assert "mount this one with locks" in caught.value.remedy


def test_another_refusal_of_flock_is_a_storage_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=rf"{tmp_path} cannot be written \(Input/output error\)"):
        locked(tmp_path).__enter__()


def test_a_folder_that_is_absent_or_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name in ("absent", "file"):
        with pytest.raises(StorageError, match=f"{name} cannot be written"):
            locked(tmp_path / name).__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_storage_error(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        locked(tmp_path).__enter__()


def refusing(code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    return refuse


def test_a_disk_that_fails_is_a_storage_error_and_frees_the_folder(tmp_path, system, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refusing(errno.EIO))
        with pytest.raises(StorageError, match=r"cannot be written \(Input/output error\)"):
            locked(tmp_path).__enter__()
    assert holders(tmp_path) == []
    assert not excluded(tmp_path)


def test_on_a_full_disk_the_lock_counts_without_a_record(tmp_path, system, monkeypatch):
    monkeypatch.setattr(os, "replace", refusing(errno.ENOSPC))
    with locked(tmp_path):
        assert excluded(tmp_path) and holders(tmp_path) == [{"part": "1/1", "host": "", "pid": 0, "since": ""}]
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_with_rows_that_cannot_be_locked_is_only_read(tmp_path, monkeypatch, code):
    calls, os_open = [], os.open

    def only_read(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(code, os.strerror(code))
        return os_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", only_read)
    with pytest.raises(StorageError):
        locked(tmp_path).__enter__()
    monkeypatch.undo()
    (tmp_path / "manifest.jsonl").touch()
    folder = Folder(tmp_path)
    monkeypatch.setattr(os, "open", only_read)
    with locked(folder, begin=lambda: calls.append("begun")):
        monkeypatch.undo()
        assert calls == ["begun"] and folder.refusal.exit_code == 5
        sink = FolderSink(tmp_path)
        sink.begin(folder, ())
        sink.sweep()
        writes = [lambda: write_file((folder, "x"), b""), folder.require_room, lambda: sink.write("a", b"")]
        for write in (*writes, lambda: sink.withdraw("a")):
            with pytest.raises(StorageError) as caught:
                write()
            assert caught.value is folder.refusal
        assert files(tmp_path) == ["manifest.jsonl"]


def test_leaving_a_folder_that_is_gone_or_read_only_is_no_error(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    with locked(output):
        output.rename(tmp_path / "moved")
    assert files(tmp_path) == ["moved"]
    with locked(tmp_path):
        monkeypatch.setattr(os, "unlink", lambda *_, **__: no_flock())
    monkeypatch.undo()
    assert holders(tmp_path) == []
    assert not excluded(tmp_path)


def test_lock_files_may_be_written_by_whoever_may_write_the_folder(tmp_path):
    tmp_path.chmod(0o770)
    with locked(tmp_path):
        assert (tmp_path / lock_name(WHOLE)).stat().st_mode & 0o777 == 0o660
        with mutex.mutex(tmp_path):
            assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o660
        assert not [name for name in files(tmp_path) if name.startswith(TEMPORARY)]


def test_something_is_done_only_if_no_run_holds_a_part(tmp_path, system):
    calls = []

    def inside():
        started = threading.Thread(target=lambda: calls.append(excluded(tmp_path, (2, 2))))
        started.start()
        started.join(0.3)
        calls.append("done")
        waiting.append(started)

    waiting = []
    with locked(tmp_path, (1, 2)):
        assert not if_unlocked(tmp_path, inside) and not calls
    assert if_unlocked(tmp_path, inside)
    waiting[0].join(10)
    assert calls == ["done", False]


# who has ended --------------------------------------------------------------------------------------------------------


def marker(folder, part=WHOLE, **changes):
    """A marker file and a record as of this process, but for the changes."""
    stated = identity.own_identity() | {"device": folder.stat().st_dev, "flock": False} | changes
    (folder / lock_name(part)).write_text(json.dumps(stated))
    (folder / f"{lock_name(part)}.json").write_text(json.dumps(stated | {"part": "1/1", "since": "2020"}))


UNKNOWN = [
    {"boot": "another"}, {"boot": ""}, {"namespace": "pid:[1]"}, {"namespace": ""}, {"started": ""},
    {"pid": 2**22 + 7, "namespace": "pid:[1]"}, {"pid": 2**22 + 7, "boot": "another"}, {"pid": "x"}, {"pid": -1},
    {"pid": 2**70}, {"pid": True}, {},
]  # fmt: skip


@pytest.mark.parametrize("changes", UNKNOWN, ids=range(len(UNKNOWN)))
def test_where_locks_are_files_a_process_that_may_live_holds_the_folder(tmp_path, monkeypatch, changes):
    """Two containers may have one host name, and the pids of one mean nothing in the other."""
    monkeypatch.setattr(fcntl, "flock", no_flock)
    marker(tmp_path, **changes)
    before = files(tmp_path)
    for part in (WHOLE, (1, 2)):
        assert excluded(tmp_path, part)
    assert len(holders(tmp_path)) == 1 and files(tmp_path) == before
    with pytest.raises(OutputLocked) as caught:
        locked(tmp_path).__enter__()
    told = f"If that run has ended, delete {tmp_path / lock_name(WHOLE)}."
    assert (told in caught.value.remedy) is (not identity.is_here(identity.own_identity() | changes))


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 7}, {"started": "1"}])
def test_where_locks_are_files_a_process_that_has_ended_holds_nothing(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(fcntl, "flock", no_flock)
    marker(tmp_path, **changes)
    assert holders(tmp_path) == [] and not excluded(tmp_path) and files(tmp_path) == []


def test_a_marker_of_another_container_goes_when_the_kernel_has_released_its_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(mutex, "locks_reach_everyone", lambda handle: False)
    marker(tmp_path, namespace="pid:[1]", flock=True)
    with (tmp_path / lock_name(WHOLE)).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert excluded(tmp_path)
    assert not excluded(tmp_path)
    marker(tmp_path, namespace="pid:[1]", flock=True, device=7)  # the same folder through another mount
    assert excluded(tmp_path)


def test_where_flock_is_local_the_lock_of_another_machine_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(mutex, "locks_reach_everyone", lambda handle: False)
    marker(tmp_path, boot="another", host="elsewhere", flock=True)
    with pytest.raises(OutputLocked, match="a run on elsewhere") as caught:
        locked(tmp_path).__enter__()
    assert f"delete {tmp_path / lock_name(WHOLE)}" in caught.value.remedy
    (tmp_path / lock_name(WHOLE)).unlink()
    with locked(tmp_path):
        assert mutex.is_marker(Folder(tmp_path), lock_name(WHOLE)) and excluded(tmp_path)
    assert left(tmp_path) == []


def test_where_flock_reaches_everyone_it_decides_and_a_killed_run_of_any_machine_holds_nothing(tmp_path):
    (tmp_path / lock_name(WHOLE)).touch()
    stated = identity.own_identity() | {"boot": "another", "host": "elsewhere"}
    (tmp_path / f"{lock_name(WHOLE)}.json").write_text(json.dumps(stated))
    assert holders(tmp_path) == [] and not excluded(tmp_path)
    marker(tmp_path, boot="another")  # of a machine that has mounted the folder without locks
    assert excluded(tmp_path)


def test_of_many_that_find_a_dead_marker_one_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock)
    together, taken, guard = threading.Barrier(6), [], threading.Lock()

    def run():
        for turn in range(15):
            if together.wait() == 0:
                marker(tmp_path, pid=2**22 + 7)
            together.wait()
            lock = mutex.take(Folder(tmp_path), lock_name(WHOLE))
            with guard:
                taken.append((turn, lock is not None))
            together.wait()
            if lock is not None:
                lock.release()
            together.wait()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(won for at, won in taken if at == turn) for turn in range(15)] == [1] * 15


def test_a_process_of_another_pid_namespace_holds_the_folder_without_flock(tmp_path, monkeypatch):
    code = f"""
{WITHOUT_FLOCK}
import sys
from pathlib import Path
from jaxstyle.data.lock import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    line = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "held\n":
            pytest.skip("no right to make a pid namespace")
        monkeypatch.setattr(fcntl, "flock", no_flock)
        assert excluded(tmp_path)
        [one] = holders(tmp_path)
        assert one["host"] == HOST and one["pid"] == 1  # a process that is another one here
        process.stdin.close()
        process.wait()
        assert not excluded(tmp_path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_lock_file_that_another_run_has_made_meanwhile_is_left_alone(tmp_path, system):
    path = tmp_path / lock_name(WHOLE)
    with locked(tmp_path):
        path.unlink()
        path.write_text("of another run")
    assert path.read_text() == "of another run"


def test_a_lock_file_that_is_deleted_during_the_run_is_noticed(tmp_path, system):
    folder = Folder(tmp_path)
    with locked(folder):
        folder.check()
        (tmp_path / lock_name(WHOLE)).unlink()
        with pytest.raises(StorageError, match="was moved, deleted or replaced during the run"):
            folder.check()
    folder.check()


MOUNTS = [
    ("ext4", "rw", True), ("tmpfs", "rw", True), ("overlay", "rw", True), ("nfs4", "rw,local_lock=none", True),
    ("nfs", "rw,nolock,local_lock=all", False), ("nfs", "rw,local_lock=flock", False), ("nfs", "rw,nolock", False),
    ("lustre", "rw,flock", True), ("lustre", "rw,localflock", False), ("lustre", "rw", False),
    ("fuse.sshfs", "rw", False), ("9p", "rw", False), ("virtiofs", "rw", False), ("ceph", "rw", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "reach"), MOUNTS)
def test_what_a_mount_says_of_its_locks(monkeypatch, kind, options, reach):
    text = f"7 1 0:9 / / rw - ext4 x rw\n8 7 0:10 / /a\\040b rw,relatime shared:3 - {kind} server:/x {options}\n"
    monkeypatch.setattr(mounts, "mount_number", lambda handle: 8)
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    assert mounts.mount_of(0).point == "/a b" and mounts.locks_reach_everyone(0) is reach
