"""One run, from inputs to outputs: plan, decode, optimise, publish; one row in the manifest for every input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstyle.coerce import combined
from jaxstyle.data import fingerprint, ledger, lock
from jaxstyle.data.folder import Folder
from jaxstyle.data.manifest import Manifest
from jaxstyle.data.mutex import MUTEX_SECONDS
from jaxstyle.data.rows import Row
from jaxstyle.data.sinks.folders import drop_unfinished, make_output_folder, sweep
from jaxstyle.data.sources import close
from jaxstyle.data.sources.base import printable
from jaxstyle.decode.pool import Decoders, decoders_for
from jaxstyle.decode.reader import Reader
from jaxstyle.engine.events import Progress, Silent, Summary
from jaxstyle.engine.flow import opencv
from jaxstyle.engine.frames import UNWARPED
from jaxstyle.engine.shared import Shared
from jaxstyle.engine.stages import works
from jaxstyle.engine.steps import clears
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.engine.threads import Threads
from jaxstyle.engine.watchdog import Calls, Watchdog
from jaxstyle.errors import DeviceError, ImageError, JaxstyleError, OutputLocked, StorageError
from jaxstyle.model.weights_file import Weights
from jaxstyle.planning import preflight
from jaxstyle.planning.contract import Device, OutOfMemory
from jaxstyle.planning.description import rounding
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.plan import skipped_kind
from jaxstyle.settings import RenderSettings

if TYPE_CHECKING:
    from jaxstyle.engine.device import JaxDevice


def device_for(ready: preflight.Ready, *, own_process: bool = False) -> Device:
    """The device that a run renders on; see `jax_device`."""
    products = fingerprint.recorded_products(ready.folder or ready.output)
    return jax_device(ready.settings, ready.network, ready.styles.shared, products, own_process=own_process)


def jax_device(
    settings: RenderSettings,
    network: Weights,
    style: Painting | None,
    products: Mapping[str, Any] | None = None,
    *,
    own_process: bool,
) -> JaxDevice:
    """Makes a device. jax is imported here, after everything else has been checked.

    Args:
        style: the one of all images, or None.
        products: what the output folder remembers of them, see `JaxDevice`.
        own_process: the process is there for this run, so that JAX's global settings may be changed; see
            `engine.jax_setup`.

    Raises:
        DeviceError: no device works, or it has no room for the network.
    """
    from jaxstyle.engine.device import JaxDevice

    if own_process:
        from jaxstyle.engine.jax_setup import set_up

        set_up(settings.cpu_devices)
    try:
        return JaxDevice(settings, network, style, products)
    except OutOfMemory as error:
        raise DeviceError(
            f"the device has no room for the network ({error})",
            "End other programs that use the device, or use one with more memory.",
        ) from error


def render(
    inputs: Path | str | Iterable[Path | str],
    style: Path | str | Iterable[Path | str],
    output: Path | str,
    settings: RenderSettings | Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    at_end: Callable[[Summary], None] | None = None,
    own_process: bool = False,
    source: str = "folders",
    sink: str = "folders",
    only: str = "",
    **overrides: Any,
) -> Summary:
    """Renders files and folders of photographs in one style or in many, several at a time.

    Every input gets one row in OUTPUT/manifest.jsonl; a picture that cannot be read is a row, not an error. Called
    again, it renders what is missing.

    Args:
        inputs: a file, folder or URL of an object store, or several; folders are searched recursively, and mirrored in
            the output.
        style: a picture's file, or several files, folders, patterns and lists, see `data.styles.listed`.
        output: folder for the results; made if absent.
        settings: defaults of `RenderSettings` where left out, or a dict of its fields. Sizes are in pixels.
        progress: listens to the run; called by the calling thread.
        stop: ends the run early on request, with its batch finished.
        at_end: called with the summary before the output folder is unlocked.
        own_process: see `device_for`.
        source, sink: names in `data.sources.SOURCES` and `data.sinks.SINKS`.
        only: key of the one output to render, as `jaxstyle replay` does; all inputs are listed.
        **overrides: single fields of `settings`.

    Raises:
        InputError: no such input, an unreadable style, an output among the inputs.
        SettingsError, SettingsMismatch: an impossible setting; the output folder has results of other settings.
        OutputLocked: another run is writing there.
        WeightsError: the network's weights cannot be had.
        StorageError: the output cannot be written.
        DeviceError: no device works, it has no room for the network, or it does not answer.
    """
    settings = combined(RenderSettings, settings, overrides)
    calls, progress, stop = Calls(), progress or Silent(), stop or Stop()
    with Watchdog(settings.stall_timeout, calls, own_process=own_process) as watchdog, decoders_for(settings) as pool:
        ready = preflight.check(
            inputs, style, output, settings, source=source, sink=sink, decoders=pool, watch=calls.of, only=only
        )
        try:
            return _render(ready, pool, progress, stop, at_end, watchdog, own_process)
        finally:
            close(ready.source)


def _render(
    ready: preflight.Ready,
    decoders: Decoders,
    progress: Progress,
    stop: Stop,
    at_end: Callable[[Summary], None] | None,
    watchdog: Watchdog,
    own_process: bool,
) -> Summary:
    """A run that has been checked. See `render`."""
    output, settings, calls = ready.output, ready.settings, watchdog.calls
    place = printable(output)
    if settings.existing != "overwrite" and (text := rounding(output, ready.run)):
        progress.say(text)
    for name in ("style", "init"):
        if note := ready.run.about.get(f"{name}_notes"):
            progress.say(f"the {name} picture: {note}")
    if ignored := ready.styles.listed.ignored:
        kinds = ", ".join(f"{number} {kind}" for kind, number in ignored.most_common())
        progress.say(f"Left out of the styles, since their names are no pictures': {kinds}.")
    if settings.frames and not opencv():
        progress.say(UNWARPED)
    part, summary = settings.part(), Summary(output)
    with calls.of(f"making {place}"):
        folder = make_output_folder(output)
    ready = dataclasses.replace(ready, folder=folder)
    with ExitStack() as opened:
        overwrite = settings.existing == "overwrite"
        continues = settings.existing == "continue"
        begin = partial(fingerprint.write_fingerprint, folder, ready.run, overwrite=overwrite, continues=continues)
        with calls.of(f"locking {place}", MUTEX_SECONDS):
            opened.enter_context(lock.locked(folder, part, begin))
        with calls.of(f"looking at the inputs and at {place}"):
            ready.sink.begin(folder, preflight.protected(ready))
        opened.callback(calls.watched(ready.sink.close, f"closing {place}"))
        with calls.of(f"reading the manifest of {place}"):
            rows = Manifest(folder, part, whole=continues)
        opened.push(_without_hiding(calls.watched(rows.close, f"closing the manifest of {place}")))
        opened.callback(decoders.close)
        shared = Shared(
            ready,
            rows.before,
            Reader(ready.source, decoders, calls.of),
            partial(device_for, own_process=own_process),
            calls,
        )
        opened.callback(shared.spool.close)
        for key in ready.styles.begin(rows.before):
            progress.say(f"The style {printable(key)} could not be read by an earlier run and is left out.")
        common: dict[str, Any] = {"seed": settings.seed, "run": rows.run}
        if ready.styles.one is not None:
            common["style"] = ready.styles.one.name
        keeper = _Keeper(ready, rows, summary, progress, common)
        threads = Threads(shared, works(shared), progress, keeper.keep, watchdog)
        opened.push(_without_hiding(threads.leave))
        limits = Limits(settings)
        threads.supervise(stop, lambda: limits.exceeded(keeper.failed, summary.looked_at))
        summary.style_image = None if ready.styles.one is None else ready.styles.one.picture
        summary.stopped = stop.reason if threads.unfinished else ""
        threads.account(summary)
        summary.done, summary.skipped, summary.failed = map(rows.count, ("done", "skipped", "failed"))
        if part == (1, 1):
            _carry(ready, summary, progress, calls)
        if at_end is not None:
            with calls.of(f"finishing {place}"):
                at_end(summary)
    if part != (1, 1):
        try:
            with calls.of(f"uniting the manifests of {place}", MUTEX_SECONDS):
                # if other shards are at work, the last one does it
                lock.if_unlocked(folder, lambda: unite(ready, folder, summary, progress, calls))
        except (OutputLocked, StorageError) as error:
            progress.say(f"The shards' manifests stay apart until another run unites them: {error}")
    return summary


class _Keeper:
    """Keeps rows: on the disk, in the summary, and for the listener."""

    def __init__(
        self, ready: preflight.Ready, rows: Manifest, summary: Summary, progress: Progress, common: dict[str, Any]
    ):
        """Args:
        common: fields that all rows have in common.
        """
        self._ready, self._rows, self._summary, self._progress = ready, rows, summary, progress
        self._common = common
        self.failed = 0

    def keep(self, new: list[Row]) -> None:
        """Keeps rows; the old output of an input that has changed and is no longer done is deleted first."""
        new = [dataclasses.replace(row, **self._common) for row in new]
        new = [self._without_old_output(row) for row in new]
        self._rows.append(*new)
        for row in new:
            self.failed += row.status == "failed"
            if row.status == "skipped":
                self._summary.skipped_kinds[skipped_kind(row)] += 1
            self._summary.looked_at += 1
            self._summary.rendered += row.status == "done"
            self._progress.row(row)

    def _without_old_output(self, row: Row) -> Row:
        past = self._rows.before.get(row.key)
        changed = row.status != "done" and row.input_modified  # 0: the input was not even looked at
        if changed and past is not None and past.status == "done":
            try:
                self._ready.sink.withdraw(row.key)
                if clears(self._ready):
                    self._ready.sink.clear_steps(row.key)
            except ImageError as error:
                return dataclasses.replace(row, notes=(*row.notes, str(error)))
        return row


def _carry(ready: preflight.Ready, summary: Summary, progress: Progress, calls: Calls) -> None:
    """Copies the annotations of what is done to the output folder."""
    if ready.annotations is not None and ready.folder is not None:
        with calls.of(f"copying annotations to {printable(ready.output)}"):
            carried = ready.annotations.carry(ready.folder)
        summary.unfit = carried.number_unfit
        progress.say(carried.told())


def unite(ready: preflight.Ready, output: Folder, summary: Summary, progress: Progress, calls: Calls) -> None:
    """Makes one manifest of the shards' and deletes unfinished files of all of them."""
    ledger.compact(output)
    _carry(ready, summary, progress, calls)
    sweep(output)
    drop_unfinished(output)


def _without_hiding(leave: Callable[[], None]) -> Callable[..., None]:
    """For `ExitStack.push`: an error of `leave` is raised only if there was none before."""

    def exit(kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            leave()
        except JaxstyleError:
            if error is None:
                raise

    return exit
