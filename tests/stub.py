"""A renderer without network, weights or jax: about 1 ms an image, with switches for whatever can go wrong.

Run as a program it is the command line over this renderer. Switches are environment variables, or arguments of
`StubDevice` without "STUB_":

    STUB_COUNT=n        it is n devices
    STUB_SHRINK=no      moving to a smaller batch never pays
    STUB_ROOM=n         batches over n lanes are out of memory, in the call named by STUB_FULL (put unless set)
    STUB_FULL=call      batch, put, advance or select
    STUB_NAN=text       images whose mean colour begins with this (in hexadecimal) come out not finite, on every try
    STUB_NAN_ONCE=text  the same, on the first try only
    STUB_BLACK=text     come out black
    STUB_HANG=n         the n-th chunk never ends
    STUB_CRASH=n        the n-th chunk ends the process with signal 11
    products            argument only: it is a CPU whose measurement chose these
    STUB_SECONDS=s      of ten ticks (0.001 unless set)
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np

from jaxstyle.engine import pipeline
from jaxstyle.planning import preflight
from jaxstyle.planning.contract import OutOfMemory, Result, Snapshot
from jaxstyle.style.status import Status

NOWHERE = 10**9
TERMS = ("content", "style", "tv")


def hexed(image):
    """An image's mean colour, as the switches know it."""
    return bytes(np.round(image.reshape(-1, 3).mean(0) * 255).astype(np.uint8)).hex()


class StubDevice:
    """See `jaxstyle.planning.contract.Device`. The result of an image is decided by its own pixels alone.

    Attributes:
        made: (group, size) of all batches.
        put: how many images were put into batches, by (group, size).
        chunks: calls of `advance`.
        ticks: of each.
        inputs, styles: what was put, if asked for.
    """

    precision, products, memory, free, name = "float32", {}, 2**30, 2**30, "a stub"

    def __init__(self, record=False, **switches):
        self.made, self.chunks, self.ticks, self.put = set(), 0, [], Counter()
        self.inputs = [] if record else None
        self.styles = []
        self.switches = {name[5:].lower(): value for name, value in os.environ.items() if name.startswith("STUB_")}
        self.switches |= switches
        self.count = int(self.switches.get("count", 1))
        if "products" in self.switches:
            self.take("mixed", self.switches["products"])

    @property
    def n_compiled(self):
        return len(self.made)

    def take(self, precision, products):
        self.precision, self.products = precision, products

    def memory_bytes(self, bucket, lanes):
        return lanes * 2**20

    def max_batch(self, bucket):
        return NOWHERE

    def preferred_batch(self, bucket):
        return 8

    def worth_shrinking(self, group, lanes, evaluations):
        return self.switches.get("shrink") != "no"

    def room(self, call, lanes):
        """Raises OutOfMemory where the switches say so."""
        if call == self.switches.get("full", "put") and lanes > int(self.switches.get("room", NOWHERE)):
            raise OutOfMemory(f"RESOURCE_EXHAUSTED: the stub has no room for {call}")

    def batch(self, group, size):
        assert size % self.count == 0
        self.room("batch", size)
        self.made.add((group, size))
        return StubBatch(self, group, size)


class StubBatch:
    """See `jaxstyle.planning.contract.Batch`."""

    def __init__(self, device, group, size):
        self.device, self.group = device, group
        self.images = [None] * size
        self.evaluations, self.budget = np.zeros(size, int), np.zeros(size, int)
        self.status = np.full(size, Status.BUDGET)

    def put(self, lane, inputs, evaluations, style=None):
        self.device.room("put", len(self.images))
        width, height = self.group.bucket
        assert inputs["content"].shape == inputs["init"].shape == (height, width, 3)
        assert inputs["inside"].shape == (height, width) and inputs["inside"].dtype == bool
        if self.device.inputs is not None:
            self.device.styles.append(style)
            self.device.inputs.append((self.group, evaluations, dict(inputs)))
        self.device.put[self.group, len(self.images)] += 1
        self.images[lane], self.evaluations[lane], self.budget[lane] = inputs["content"], 0, evaluations
        self.status[lane] = Status.RUNNING

    def advance(self, ticks):
        device, switches = self.device, self.device.switches
        device.room("advance", len(self.images))
        device.chunks += 1
        device.ticks.append(ticks)
        hangs = device.chunks == int(switches.get("hang", 0))
        time.sleep(3600 if hangs else float(switches.get("seconds", 0.001)) * ticks / 10)
        if device.chunks == int(switches.get("crash", 0)):
            os.kill(os.getpid(), signal.SIGSEGV)
        running = self.status == Status.RUNNING
        self.evaluations[running] = np.minimum(self.evaluations + ticks, self.budget)[running]
        self.status[running & (self.evaluations == self.budget)] = Status.BUDGET
        for lane in np.flatnonzero(running):
            if not np.isfinite(self._image(lane)).all():
                self.status[lane] = Status.DIVERGED
        return Snapshot(self.status.copy(), self.evaluations.copy(), np.ones(len(self.images)), self._terms())

    def _terms(self):
        each = [
            (np.nan,) * len(TERMS) if image is None else self._of(self._image(lane))
            for lane, image in enumerate(self.images)
        ]
        return dict(zip(TERMS, np.array(each).T, strict=True))

    @staticmethod
    def _of(image):
        return float(np.mean(image)), 1.0, 0.0

    def _image(self, lane):
        """The image mirrored, with its colours turned round: easily told from its input."""
        image, switches = self.images[lane], self.device.switches
        name = hexed(image)
        broken = [switches.get("nan")] + ([] if self.group.careful else [switches.get("nan_once")])
        if any(text and name.startswith(text) for text in broken):
            return np.full_like(image, np.nan)
        if name.startswith(switches.get("black", "none")):
            return np.zeros_like(image)
        return 1 - image

    def result(self, lane):
        image = self._image(lane)
        terms = dict(zip(TERMS, self._of(image), strict=True))
        return Result(image, sum(terms.values()), terms, 4.0, self.device.precision)

    def select(self, lanes, size):
        self.device.room("select", len(self.images))
        smaller = self.device.batch(self.group, size)
        for new, old in enumerate(lanes):
            smaller.images[new], smaller.status[new] = self.images[old], self.status[old]
            smaller.evaluations[new], smaller.budget[new] = self.evaluations[old], self.budget[old]
        return smaller


def install(patch=setattr, **options):
    """Puts the stub in the place of the device and of the weights; returns a list that devices will be added to."""
    devices = []

    def device_for(ready, own_process=False):
        devices.append(StubDevice(**options))
        return devices[-1]

    patch(pipeline, "device_for", device_for)
    patch(preflight.weights, "load", lambda *_: SimpleNamespace(digest="stub", source="stub"))
    return devices


if __name__ == "__main__":
    from jaxstyle import cli

    install()
    cli.main()
