"""`jaxstyle render --ray`: the shards of a run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxstyle.engine.stop import Stop, on_signals
from jaxstyle.errors import EXIT_LIMIT, EXIT_OK, EXIT_SOME_FAILED
from jaxstyle.printing import echo
from jaxstyle.ray_settings import RaySettings
from jaxstyle.settings import RenderSettings

if TYPE_CHECKING:
    from jaxstyle.cluster.on_ray import RayCluster
    from jaxstyle.planning.preflight import Ready


def render(
    inputs: Iterable[Path | str],
    style: Iterable[str],
    output: Path,
    settings: RenderSettings,
    given: RaySettings,
    quiet: bool,
    log_json: bool,
) -> int:
    """Renders all shards; returns the exit code, see `cli.render`.

    Signals are heard from their first moment but while Ray starts: it sets handlers of its own.
    """
    stop = Stop()
    with on_signals(stop):
        from jaxstyle.cluster import on_ray
        from jaxstyle.cluster.render import check

        ready = check(inputs, style, output, settings)
    if stop.signal:
        return 128 + stop.signal
    with on_ray.joined(given) as cluster:
        return _on(cluster, ready, inputs, style, given, quiet, log_json, stop)


def _on(
    cluster: RayCluster, ready: Ready, inputs: Iterable[Path | str], style: Iterable[str], given: RaySettings,
    quiet: bool, log_json: bool, stop: Stop,
) -> int:  # fmt: skip
    from jaxstyle.cluster.coordinator import exit_code
    from jaxstyle.cluster.on_ray import SHARDS_EACH
    from jaxstyle.cluster.render import render as run
    from jaxstyle.report.progress import listening

    shards, room = given.ray_shards or SHARDS_EACH * max(1, cluster.room.shards), cluster.room
    with on_signals(stop), listening(quiet, log_json) as listener:
        listener.say(f"{shards} shards on Ray, with {room.gpus:g} GPUs and {room.cpus:g} CPUs each: {room.shards} at "
                     "a time now.")  # fmt: skip
        summary, totals = run(ready, inputs, style, cluster, shards, given, progress=listener, stop=stop)
    listener.end(summary, None, None)
    for failure in totals.given_up.values():
        echo(f"jaxstyle: {failure.error()}")
    if summary.stopped:
        return 128 + stop.signal if stop.signal else EXIT_LIMIT
    if totals.given_up:
        echo("jaxstyle: not all shards are finished. Run the same command again to finish them.")
        return exit_code(totals.given_up.values())
    return EXIT_SOME_FAILED if summary.failed or summary.unfit else EXIT_OK
