"""What the threads of a run do, one function a stage.

    walk -> plan -> queues -> decode -> queues -> render -> publish -> main thread
   (inputs)        (jobs)            (pictures)          (lanes)      (rows)

Every queue is bounded, so that the slowest stage sets the pace and memory does not grow with the number of inputs.
Inputs that wait for the plan lie in a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import time
from collections.abc import Callable, Iterator
from functools import partial

from jaxstyle.data.fingerprint import record_precision
from jaxstyle.data.rows import Row
from jaxstyle.data.sources.base import Input, printable
from jaxstyle.engine import steps
from jaxstyle.engine.events import Settled
from jaxstyle.engine.lanes import BatchScheduler, Ended, Saving
from jaxstyle.engine.prepare import Prepared, prepare
from jaxstyle.engine.publish import example, failed, is_new, next_job, publish
from jaxstyle.engine.shared import WAIT_SECONDS, Shared
from jaxstyle.engine.steps import Step
from jaxstyle.errors import ImageError
from jaxstyle.planning.batches import chosen_batch
from jaxstyle.planning.contract import Group, Result
from jaxstyle.planning.inputs import NO_STYLE, inputs_of
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.plan import ITS_STYLE, Before, Job, Unchanged, planned
from jaxstyle.planning.preflight import Ready
from jaxstyle.planning.styles import BrokenStyle

EXAMPLES = 8
"""Results of which a run keeps a small copy for its contact sheet."""
TOLD = 100
"""Inputs finished by an earlier run that are told of at a time."""


def works(shared: Shared) -> list[Callable[[Shared], None]]:
    """The functions of all threads of a run."""
    return [walk, plan, render, *[decode] * shared.hands, *[publish_ended] * shared.hands]


def walk(shared: Shared) -> None:
    """Deletes what killed runs left, and lists the inputs for the planner; their number is known at the end.

    With `limit` the planner asks the source itself, so that no more is listed than it needs.
    """
    of = shared.calls.of
    with of(f"sweeping {printable(shared.ready.output)}"):
        shared.ready.sink.sweep()
    if shared.ready.settings.limit is not None:
        return
    number = 0
    inputs = inputs_of(shared.ready)
    while True:
        with of("listing the inputs"):
            one = next(inputs, None)
        if one is None:
            break
        if shared.queues.stopped:
            return
        with of("writing the list of inputs to a temporary file"):
            shared.spool.write(one)
        number += 1
    shared.spool.complete()
    shared.tell("inputs", number)


def plan(shared: Shared) -> None:
    """Makes jobs and rows of the inputs, until all are planned or the limit is reached."""
    limit, seen, finished = shared.ready.settings.limit, 0, 0
    for one in planned(shared.ready, shared.before, shared.reader, _inputs(shared), shared.calls.of):
        seen += 1
        if isinstance(one, Unchanged):
            finished += 1
            if finished % TOLD == 0:
                shared.tell("finished", TOLD)
            past = shared.before.get(one.key)
            if one.frame is not None and past is not None and past.status == "done":
                shared.queues.finished(one.frame.shot, Before(one.key, one.frame.locator))
        elif isinstance(one, Row):
            shared.post(Settled(one))
        else:
            if not shared.jobs and shared.ready.folder is not None:
                shared.ready.folder.require_room()
            shared.jobs += shared.queues.offer(one)
            if shared.jobs == limit:
                break
        if shared.queues.stopped:
            break
    if shared.queues.stopped:  # the inputs may have ended for that reason
        return
    shared.tell("finished", finished % TOLD)
    if limit is not None:
        shared.tell("inputs", seen)
    shared.planned = True
    shared.queues.end()


def _inputs(shared: Shared) -> Iterator[Input]:
    if shared.ready.settings.limit is not None:
        return inputs_of(shared.ready)
    return shared.spool.read(lambda: shared.queues.stopped)


def decode(shared: Shared) -> None:
    """Decodes pictures for the device. A picture that turns out to belong to another group goes back."""
    while (taken := shared.queues.job()) is not None:
        group, job = taken
        try:
            if shared.clears_steps:
                steps.clear(job, shared.ready)
            task = prepare(job, shared.reader, shared.ready, _style_of(job, shared))
        except BrokenStyle as broken:
            if broken.row is not None:
                shared.post(Settled(broken.row))
            other = None if job.continued else _in_other_style(job, shared.ready)
            if other is not None:
                shared.queues.requeue(other)
            else:
                assignment = shared.ready.styles.assignment
                reason = ITS_STYLE if assignment is not None and assignment.fixed else NO_STYLE
                shared.post(Settled(failed(job, reason), job))
                shared.queues.settled(job, done=False)
            shared.queues.decoded(group, None)
            continue
        except ImageError as error:
            masked = shared.ready.styles.masks_sha256(job.image or job.key, job.style)
            shared.post(Settled(failed(job, str(error), masks_sha256=masked), job))
            shared.queues.settled(job, done=False)
            shared.queues.decoded(group, None)
            continue
        if task.job.group == group:
            shared.queues.decoded(group, task)
        else:
            shared.queues.requeue(task.job)
            shared.queues.decoded(group, None)


def _style_of(job: Job, shared: Shared) -> Painting:
    """The style of a job, decoded.

    Raises:
        BrokenStyle: it cannot be read.
    """
    styles = shared.ready.styles
    if styles.one is not None:
        return styles.one
    style, mended = styles.get(job.style)
    if mended is not None:
        shared.post(Settled(mended))
    return style


def _in_other_style(job: Job, ready: Ready) -> Job | None:
    """The job in the next style of its image's order; None if there is none."""
    assert ready.styles.assignment is not None
    other = ready.styles.assignment.instead(job.shot or job.image or job.key, job.position)
    if other is None:
        return None
    return job.in_style(ready.styles.listed.files[other].key, ready.settings.output_format)


def render(shared: Shared) -> None:
    """Makes the device and runs group after group on it."""
    try:
        if shared.queues.anything():
            _Renderer(shared).run()
    finally:
        for _ in range(shared.hands):
            shared.put(shared.ended, None)


class _Renderer:
    """The device's thread; remembers which batches had no room."""

    def __init__(self, shared: Shared):
        self._shared, self._most_pixels, self._warned = shared, 2**63, False
        shared.usage.since = time.monotonic()  # drivers may hang
        self._device = shared.device = shared.device_for(shared.ready)
        shared.usage.since = None
        folder = shared.ready.folder or shared.ready.output
        own, auto = self._device, shared.ready.settings.precision == "auto"
        begun = record_precision(folder, own.precision, own.name, own.products, adopt=auto)
        if (begun.precision, begun.products) != (own.precision, own.products):
            own.take(begun.precision, begun.products)
        if begun.device != own.name:
            shared.tell("say", f"This folder was begun on {begun.device}; pictures of {own.name} differ by rounding.")
        shared.queues.set_batch(self._batch)

    def run(self) -> None:
        """Renders until the queues have nothing more."""
        shared = self._shared
        shrink = shared.ready.settings.tail == "shrink"
        report = partial(shared.tell, "advance")
        scheduler = BatchScheduler(
            self._device, shared.queues, report, shared.usage, shrink=shrink, saving=self._saving()
        )
        while (chosen := shared.queues.choose()) is not None:
            group, pending = chosen
            batch = self._batch(group.bucket)
            shared.ended.maxsize = 2 * batch  # so that all lanes can end at once; only this thread blocks on it
            self._tell_if_full(group, batch)
            for ended in scheduler.run(group, pending, batch, partial(self._halved, group)):
                self._hand_on(dataclasses.replace(ended, notes=self._notes(ended, group)))

    def _saving(self) -> Saving[Prepared] | None:
        """How intermediate pictures are saved, if any are: publishers write them, like outputs."""
        every = self._shared.ready.settings.save_every
        if every is None:
            return None

        def save(task: Prepared, result: Result, evaluations: int, status: int) -> None:
            if not steps.is_final(task, status):
                self._shared.put(self._shared.ended, Step(task, result, evaluations))

        return Saving(every, lambda task: task.job.evaluations_before, save)

    def _tell_if_full(self, group: Group, batch: int) -> None:
        """Says that a batch may need more memory than is free. Its size is not adapted, since it decides rounding."""
        needed, free = self._device.memory_bytes(group.bucket, batch), self._device.free
        if needed > free and not self._warned:
            self._warned = True
            text = f"A batch of {batch} needs about {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free"
            self._shared.tell("say", f"{text}. If the run is killed, end other programs or give a smaller --batch.")

    def _notes(self, ended: Ended[Prepared], group: Group) -> tuple[str, ...]:
        """What is unusual about the sizes of an image's batches, and its tiles."""
        notes, (first, *others) = [], ended.sizes or (0,)
        wanted = self._wanted(group.bucket)
        if 0 < first <= self._batch(group.bucket) < wanted:
            notes.append(f"the device was out of memory: optimised in a batch of {first} instead of {wanted}")
        if others:
            notes.append(f"moved to smaller batches: {', '.join(map(str, others))}")
        if ended.result is not None and ended.result.tile:
            notes.append(f"computed in tiles of {ended.result.tile} pixels")
        return tuple(notes)

    def _hand_on(self, ended: Ended[Prepared]) -> None:
        job = next_job(ended, self._shared.ready)
        if job is None:
            self._shared.queues.publishing(ended.task.job)
            self._shared.put(self._shared.ended, ended)
            return
        if job.first_problem and not ended.task.job.first_problem:  # it begins again
            self._shared.begun_again.add(job.key)
            spent = ended.task.job.evaluations_before - job.evaluations_before + ended.evaluations
            self._shared.tell("advance", -spent, float("nan"))
        self._shared.queues.requeue(job)

    def _batch(self, bucket: tuple[int, int]) -> int:
        """Lanes side by side: as asked or as the device prefers, and no more pixels than it has had room for."""
        count = self._device.count
        return max(count, min(self._wanted(bucket), self._most_pixels // (bucket[0] * bucket[1]) // count * count))

    def _wanted(self, bucket: tuple[int, int]) -> int:
        return chosen_batch(self._device, bucket, self._shared.ready.settings.batch, self._shared.ready.shots)

    def _halved(self, group: Group, batch: int) -> None:
        width, height = group.bucket
        self._most_pixels = batch * width * height
        text = f"The device is out of memory: going on with {batch} images of {width} x {height} at a time."
        self._shared.tell("say", text)


def publish_ended(shared: Shared) -> None:
    """Writes the images of lanes that have ended."""
    output = printable(shared.ready.output)
    while (ended := _next(shared)) is not None:
        if isinstance(ended, Step):
            _write_step(ended, shared)
            continue
        with shared.calls.of(f"writing an output to {output}"):
            made = publish(ended, shared.ready)
        wanted = is_new(made) and next(shared.results) < EXAMPLES
        shared.post(Settled(made, ended.task.job, example(ended, shared.ready.settings) if wanted else None))
        shared.queues.settled(ended.task.job, done=made.status == "done")


def _write_step(step: Step, shared: Shared) -> None:
    """Writes an intermediate picture, unless its image has begun again; tells once that one cannot be written."""
    job = step.task.job
    if job.key in shared.begun_again and not job.first_problem:
        return
    with shared.calls.of(f"writing an intermediate picture to {printable(shared.ready.output)}"):
        refused = steps.write(step, shared.ready)
    if refused and not shared.steps_refused:
        shared.steps_refused = True
        shared.tell("say", f"Some intermediate pictures cannot be written, such as those of {printable(job.key)}: "
                    f"{refused}")  # fmt: skip


def _next(shared: Shared) -> Ended[Prepared] | Step | None:
    """The next lane to publish, or intermediate picture to write; None at the end, and as soon as the run is over."""
    while not shared.left.is_set():
        with contextlib.suppress(queue.Empty):
            return shared.ended.get(timeout=WAIT_SECONDS)
    return None
