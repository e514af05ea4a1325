"""One run, from inputs to outputs: plan, decode, optimise, publish; one row in the manifest for every input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxstyle.data import fingerprint, ledger, lock
from jaxstyle.data.manifest import Manifest
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import make_output_folder, sweep, withdraw
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.pool import decoders_for
from jaxstyle.engine.events import Progress, Silent, Summary
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.engine.threads import Crew
from jaxstyle.errors import JaxstyleError, OutputLocked, StorageError
from jaxstyle.planning import preflight
from jaxstyle.planning.contract import Device
from jaxstyle.planning.plan import planned
from jaxstyle.settings import RenderSettings


def device_for(ready: preflight.Ready) -> Device:
    """The device that a run renders on; jax is imported here, when everything else has been found in order."""
    from jaxstyle.engine.device import JaxDevice

    return JaxDevice(ready.settings, ready.network, ready.style_image)


def render(
    inputs: Path | str | Iterable[Path | str],
    style: Path | str,
    output: Path | str,
    settings: RenderSettings | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    **overrides: Any,
) -> Summary:
    """Renders files and folders of photographs in one style, several at a time.

    Every input gets one row in OUTPUT/manifest.jsonl; a picture that cannot be read is a row, not an error. Called
    again, it renders what is missing.

    Args:
        inputs: a file or folder, or several; folders are searched recursively, and mirrored in the output.
        style: the style picture's file.
        output: folder for the results; made if absent.
        settings: defaults of `RenderSettings` where left out. Sizes are in pixels.
        progress: told how it goes on, by the calling thread.
        stop: ends the run early when asked to, with its batch finished.
        **overrides: single fields of `settings`.

    Raises:
        InputError: no such input, an unreadable style, an output among the inputs.
        SettingsError, SettingsMismatch: an impossible setting; the output folder has results of other settings.
        OutputLocked: another run is writing there.
        WeightsError: the network's weights cannot be had.
        StorageError: the output cannot be written.
        DeviceError: no device works, or it stops answering.
    """
    settings = dataclasses.replace(settings or RenderSettings(), **overrides)
    ready = preflight.check(inputs, style, output, settings)
    output, progress, stop = ready.output, progress or Silent(), stop or Stop()
    overwrite, part = settings.existing == "overwrite", settings.part()
    common: dict[str, Any] = {"style": printable(Path(style).name), "seed": settings.seed}

    make_output_folder(output, ready.inputs)
    with ExitStack() as opened:
        begin = lambda: fingerprint.write_fingerprint(output, ready.run, overwrite=overwrite)  # noqa: E731
        opened.enter_context(lock.locked(output, part, begin))
        rows = Manifest(output, part)
        opened.push(_without_hiding(rows.close))
        decoders = decoders_for(settings)
        opened.callback(decoders.close)

        summary, limits = Summary(output), Limits(settings)
        failed = 0

        def keep(new: list[Row]) -> None:
            nonlocal failed
            new = [dataclasses.replace(row, **common) for row in new]
            for row in new:
                if row.status != "done" and row.input_modified:  # its file was looked at, and is no longer what it was
                    past = rows.before.get(row.key)
                    if past is not None and past.status == "done":
                        withdraw(output / row.key)
            rows.append(*new)
            for row in new:
                failed += row.status == "failed"
                summary.looked_at += 1
                summary.rendered += row.status == "done"
                progress.row(row)

        crew = Crew(ready, planned(ready, rows.before, decoders), decoders, device_for, progress, keep)
        opened.push(_without_hiding(crew.leave))
        crew.work(stop, lambda: limits.exceeded(failed, summary.looked_at))
        summary.stopped = stop.reason if crew.unfinished else ""
        crew.account(summary)
        summary.done, summary.skipped, summary.failed = map(rows.count, ("done", "skipped", "failed"))
    if part != (1, 1):
        try:
            lock.if_unlocked(output, lambda: _unite(output))  # else the last shard does it
        except (OutputLocked, StorageError) as error:
            progress.say(f"The shards' manifests stay apart until another run unites them: {error}")
    return summary


def _unite(output: Path) -> None:
    """Makes one manifest of the shards', and removes what no shard knows for its own."""
    ledger.compact(output)
    sweep(output)


def _without_hiding(leave: Callable[[], None]) -> Callable[..., None]:
    """For `ExitStack.push`: what goes wrong in leaving is told only if nothing went wrong before."""

    def exit(kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            leave()
        except JaxstyleError:
            if error is None:
                raise

    return exit
