"""A Ray cluster: its resources, an actor for the news, and a task for every attempt at a shard.

Ray places the tasks, waits for room and notices lost machines; the coordinator begins lost attempts again, since it
tells a lost machine from wrong settings by the exit code, and counts attempts that got on.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jaxstyle.cluster import worker
from jaxstyle.cluster.board import Board
from jaxstyle.cluster.messages import GO_ON, LOST, Call, Failure, News, Outcome
from jaxstyle.errors import ClusterError, SettingsError, printable
from jaxstyle.ray_settings import RaySettings

CONNECT_SECONDS = 10.0
"""Timeout for a connection to the cluster's address."""
BOARD_SECONDS = 30.0
"""Timeout for a call of the board, which may be being started again."""
SHARDS_EACH = 4
"""Shards for each that the cluster renders at a time: what a lost machine had is spread, and new machines get some."""


class Room:
    """What the cluster has and a shard takes.

    Attributes:
        gpus, cpus: of a shard.
        shards: that the cluster renders at a time.
    """

    def __init__(self, machines: Sequence[Mapping[str, float]], given: RaySettings):
        """Args:
        machines: resources of each, as Ray names them.
        """
        has_gpus = any(one.get("GPU", 0) for one in machines)
        self.gpus = float(has_gpus) if given.ray_gpus is None else given.ray_gpus
        smallest = min((one["CPU"] for one in machines if one.get("CPU", 0)), default=1.0)
        self.cpus = (1.0 if self.gpus else smallest) if given.ray_cpus is None else given.ray_cpus
        self.shards = sum(self._in(one) for one in machines)

    def _in(self, machine: Mapping[str, float]) -> int:
        wanted = [(name, each) for name, each in (("GPU", self.gpus), ("CPU", self.cpus)) if each]
        return int(min((math.floor(machine.get(name, 0) / each) for name, each in wanted), default=1))


class RayCluster:
    """See `coordinator.Cluster`."""

    def __init__(self, ray: Any, given: RaySettings, program: Sequence[str]):
        self._ray, self._program = ray, tuple(program)
        self.room = Room([one["Resources"] for one in ray.nodes() if one["Alive"]], given)
        self._board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
        self._attend = ray.remote(
            num_cpus=self.room.cpus, num_gpus=self.room.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )(_attend)
        self._attempts: dict[Any, tuple[int, int]] = {}

    def start(self, told: Mapping[str, Any]) -> None:
        """Makes the board, and stores what all attempts have to know; see `messages.order`."""
        self._told = self._ray.put(dict(told))
        self._news = self._board.options(scheduling_strategy=self._here()).remote()

    def _here(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)

    def begin(self, shard: int, attempt: int, avoid: frozenset[str]) -> None:
        from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

        options: dict[str, Any] = {"name": f"jaxstyle shard {shard}, attempt {attempt}"}
        if avoid:
            others = NodeLabelSchedulingStrategy(hard={}, soft={"ray.io/node-id": NotIn(*avoid)})
            options["scheduling_strategy"] = others
        task = self._attend.options(**options).remote(self._told, shard, attempt, self._news, self._program)
        self._attempts[task] = shard, attempt

    def ended(self, seconds: float) -> list[tuple[int, int, Outcome]]:
        if not self._attempts:
            threading.Event().wait(seconds)
            return []
        if not self._ray.wait([*self._attempts], num_returns=1, timeout=seconds)[0]:
            return []
        tasks, _ = self._ray.wait([*self._attempts], num_returns=len(self._attempts), timeout=0)
        return [(*self._attempts.pop(task), self._outcome(task)) for task in tasks]

    def _outcome(self, task: Any) -> Outcome:
        try:
            return Outcome(*self._ray.get(task))
        except self._ray.exceptions.RayError as error:  # the machine or the worker has gone, or could not begin
            task = isinstance(error, self._ray.exceptions.RayTaskError)  # its cause stands last
            what = _said(error, last=True) if task else f"{type(error).__name__}: {_said(error).split('. ')[0]}"
            return Outcome(None, Failure(LOST, what))

    def news(self, stop: bool) -> list[News]:
        try:
            return [News(*one) for one in self._ray.get(self._news.take.remote(stop), timeout=BOARD_SECONDS)]
        except self._ray.exceptions.RayError:  # it is being started again; the next call asks anew
            return []

    def cancel(self, shard: int, attempt: int) -> None:
        for task, which in self._attempts.items():
            if which == (shard, attempt):
                self._ray.cancel(task, force=True)


def _attend(told: Mapping[str, Any], shard: int, attempt: int, board: Any, program: Sequence[str]) -> tuple[Any, ...]:
    """A task of Ray: one attempt at a shard."""
    import ray

    def tell(calls: list[Call]) -> str:
        try:
            return ray.get(board.tell.remote(shard, attempt, calls))
        except ray.exceptions.RayActorError:  # its machine has gone: the rows are in the ledger
            return GO_ON

    outcome = worker.attend(told, shard, tell, program)
    return tuple(outcome._replace(node_id=ray.get_runtime_context().get_node_id()))


@contextmanager
def joined(given: RaySettings, program: Sequence[str] | None = None) -> Iterator[RayCluster]:
    """Joins or starts the cluster; leaves or ends it after the block.

    Set handlers of signals in the block: Ray sets its own here, which are put back, and its processes inherit the mask.

    Args:
        program: of a shard's process.

    Raises:
        SettingsError: Ray is not installed.
        ClusterError: the cluster cannot be reached or started.
    """
    try:
        import ray
    except ImportError as error:
        raise SettingsError(f"--ray {given.ray} is given, and Ray cannot be imported ({error})",
                            "Install it: pip install 'jaxstyle[ray]'.") from error  # fmt: skip
    assert given.ray is not None
    where = "the Ray cluster" if given.ray in ("auto", "local") else f"the Ray cluster at {given.ray}"
    remedy = "Start it with `ray start --head`, and run this command on one of its machines, with the same versions."
    if given.ray == "local":
        where, remedy = "a Ray cluster on this machine", "See Ray's log in /tmp/ray/session_latest/logs."
    here = ray.is_initialized()
    if not here:
        _check_address(given.ray, where, remedy)
        handler = signal.getsignal(signal.SIGTERM)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        more = {"include_dashboard": False} if given.ray == "local" else {}
        try:
            ray.init(given.ray, log_to_driver=False, logging_level="ERROR", **more)
        except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
            raise ClusterError(f"{where} cannot be reached ({_said(error)})", remedy) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
    try:
        yield RayCluster(ray, given, program or worker.PROGRAM)
    finally:
        if not here:
            ray.shutdown()


def _said(error: Exception, *, last: bool = False) -> str:
    """Returns the first or the last line of an error's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return printable(lines[-1 if last else 0])


def _check_address(address: str, where: str, remedy: str) -> None:
    """Raises a ClusterError if nothing listens at HOST:PORT, which Ray would notice after a minute."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ClusterError(f"{where} cannot be reached ({why})", remedy) from error
