"""A run on a cluster, from its checks to its summary."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from jaxstyle.cluster import coordinator
from jaxstyle.cluster.messages import order
from jaxstyle.data import lock
from jaxstyle.data.folder import Folder
from jaxstyle.data.layout import TEMPORARY
from jaxstyle.data.problems import storage_error
from jaxstyle.data.reading import LastRows
from jaxstyle.data.sinks.folders import make_output_folder
from jaxstyle.data.sources import close
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine.events import ClusterProgress, Progress, Summary
from jaxstyle.engine.pipeline import unite
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.engine.watchdog import Calls
from jaxstyle.errors import OutputLocked, SettingsError, StorageError
from jaxstyle.planning import preflight
from jaxstyle.planning.scales import total_evaluations
from jaxstyle.ray_settings import RaySettings
from jaxstyle.settings import RenderSettings

LOCK_SECONDS = 15.0
"""Time for the shards of a coordinator that was killed to end."""
LOCK_PAUSE = 1.0
"""Between two attempts at the lock."""


class Workplace(coordinator.Cluster, Protocol):
    """A cluster that has been joined."""

    def start(self, told: dict[str, Any]) -> None:
        """Tells what all attempts have to know; see `messages.order`."""


def check(
    inputs: Iterable[Path | str], style: Iterable[Path | str], output: Path, settings: RenderSettings
) -> preflight.Ready:
    """Checks a run before a cluster is joined or anything written; raises what `pipeline.render` raises."""
    for name, what in (("shard", "Ray gets all shards"), ("limit", "each shard would have its own")):
        if getattr(settings, name) is not None:
            raise SettingsError(f"{name} is {getattr(settings, name)!r} with --ray: {what}", "Leave one of them out.")
    if settings.existing == "overwrite":
        raise SettingsError("existing is 'overwrite' with --ray", "Empty the output folder first.")
    with decoders_for(replace(settings, workers=1)) as decoders:
        ready = preflight.check(inputs, style, output, settings, decoders=decoders)
    close(ready.source)
    return ready


def render(
    ready: preflight.Ready,
    inputs: Iterable[Path | str],
    style: Iterable[Path | str],
    cluster: Workplace,
    shards: int,
    given: RaySettings,
    *,
    progress: ClusterProgress,
    stop: Stop,
) -> tuple[Summary, coordinator.Totals]:
    """Renders a run that `check` has passed and returned, on a cluster.

    The coordinator holds the lock of the folder's shard 0 of N: it admits the shards of N, refuses every other run and
    a second coordinator, and is told by `jaxstyle status`. Since it is held, no shard unites the ledgers: that is done
    once, at the end.

    Raises:
        OutputLocked: another run is at work in the folder.
        StorageError: the folder cannot be written.
        JaxstyleError: what no shard could begin with.
    """
    began, settings, output = time.monotonic(), ready.settings, ready.output
    folder = make_output_folder(output)
    with _locked(folder, shards, progress), _token(folder) as token:
        told = order(inputs, style, output, settings, shards, token)
        cluster.start(told)
        totals = coordinator.Coordinator(
            cluster, shards, progress, stop, Limits(settings), tries=given.ray_tries, silence=told["silence"]
        ).run(total_evaluations(settings))
    summary = Summary(output, rendered=totals.rendered, looked_at=totals.rows, skipped_kinds=totals.kinds)
    ready = replace(ready, folder=folder)
    try:
        lock.if_unlocked(folder, lambda: unite(ready, folder, summary, progress, Calls()))
    except (OutputLocked, StorageError) as error:
        progress.say(f"The shards' manifests stay apart until another run unites them: {error}")
    with LastRows(folder) as rows:
        for row in rows:
            setattr(summary, row.status, getattr(summary, row.status) + 1)
    summary.seconds = time.monotonic() - began
    if totals.device_seconds:
        summary.occupancy = totals.lane_seconds / totals.device_seconds
        summary.device_seconds = summary.seconds * totals.device_seconds / totals.seconds  # the mean of the shards
    summary.stopped = stop.reason if totals.unfinished else ""
    return summary, totals


@contextmanager
def _locked(folder: Folder, shards: int, progress: Progress) -> Iterator[None]:
    """Holds the coordinator's lock; waits for shards of one that was killed a moment ago."""
    until, told = time.monotonic() + LOCK_SECONDS, False
    while True:
        held = lock.locked(folder, (0, shards))
        try:
            held.__enter__()
            break
        except OutputLocked as error:
            if time.monotonic() >= until:
                raise
            if not told:
                progress.say(f"{error.what}: waiting up to {LOCK_SECONDS:g} s for it.")
            told = True
            time.sleep(LOCK_PAUSE)
    try:
        yield
    finally:
        held.__exit__(None, None, None)


@contextmanager
def _token(folder: Folder) -> Iterator[str]:
    """Makes an empty file by whose name workers know the folder."""
    name = f"{TEMPORARY}ray-{secrets.token_hex(8)}"
    try:
        folder.open(name, "r+b", 0, extra=os.O_CREAT | os.O_EXCL).close()
    except OSError as error:
        raise storage_error(folder / name, "written", error) from error
    try:
        yield name
    finally:
        with suppress(OSError):
            folder.remove(name)
