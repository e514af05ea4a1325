"""A renderer without network, weights or jax: about 1 ms an image, with switches for whatever can go wrong.

Run as a program it is the command line over this renderer. Switches are environment variables:

    STUB_ROOM=n         batches over n lanes are out of memory
    STUB_NAN=text       images whose mean colour begins with this (in hexadecimal) come out not finite, on every try
    STUB_NAN_ONCE=text  the same, on the first try only
    STUB_BLACK=text     come out black
    STUB_HANG=n         the n-th chunk never ends
    STUB_CRASH=n        the n-th chunk ends the process with signal 11
    STUB_SECONDS=s      of a chunk (0.001 unless told)
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


def hexed(image):
    """An image's mean colour, as the switches know it."""
    return bytes(np.round(image.reshape(-1, 3).mean(0) * 255).astype(np.uint8)).hex()


class StubDevice:
    """See `jaxstyle.engine.lanes.Device`. The result of an image is decided by its own pixels alone."""

    def __init__(self, ready):
        self.ready, self.made, self.chunks, self.put, self.memory = ready, set(), 0, Counter(), 2**30
        self.switches = {name[5:].lower(): value for name, value in os.environ.items() if name.startswith("STUB_")}

    @property
    def n_compiled(self):
        return len(self.made)

    count, precision = 1, "float32"

    def memory_bytes(self, bucket, lanes):
        return lanes * 2**20

    def max_batch(self, bucket):
        return 10**6

    def preferred_batch(self, bucket):
        return 8

    def worth_shrinking(self, group, lanes, evaluations):
        return True

    def batch(self, group, size):
        self.made.add((group, size))
        return StubBatch(self, group, size)


class StubBatch:
    def __init__(self, device, group, size):
        self.device, self.group = device, group
        self.images = [None] * size
        self.evaluations, self.status = np.zeros(size, int), np.full(size, Status.BUDGET)

    def put(self, lane, inputs, evaluations):
        content, init = inputs["content"], inputs["init"]
        if len(self.images) > int(self.device.switches.get("room", 10**9)):
            raise OutOfMemory("RESOURCE_EXHAUSTED: the stub has no room")
        width, height = self.group.bucket
        assert content.shape == init.shape == (height, width, 3)
        self.device.put[self.group, len(self.images)] += 1
        self.images[lane], self.evaluations[lane], self.status[lane] = content, 0, 0

    def advance(self, ticks):
        device, switches = self.device, self.device.switches
        device.chunks += 1
        time.sleep(3600 if device.chunks == int(switches.get("hang", 0)) else float(switches.get("seconds", 0.001)))
        if device.chunks == int(switches.get("crash", 0)):
            os.kill(os.getpid(), signal.SIGSEGV)
        running = self.status == 0
        self.evaluations[running] += ticks
        self.status[running & (self.evaluations >= device.ready.settings.evaluations)] = Status.BUDGET
        for lane in np.flatnonzero(running):
            if not np.isfinite(self._image(lane)).all():
                self.status[lane] = Status.DIVERGED
        return Snapshot(self.status.copy(), self.evaluations.copy(), np.ones(len(self.images)))

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
        return Result(image, {"content": float(np.mean(image)), "style": 1.0, "tv": 0.0}, 4.0, "float32")

    def select(self, lanes, size):
        smaller = self.device.batch(self.group, size)
        for new, old in enumerate(lanes):
            smaller.images[new], smaller.evaluations[new] = self.images[old], self.evaluations[old]
            smaller.status[new] = self.status[old]
        return smaller


def install(patch=setattr):
    """Puts the stub in the place of the device and of the weights; returns a list that devices will be added to."""
    devices = []

    def device_for(ready):
        devices.append(StubDevice(ready))
        return devices[-1]

    patch(pipeline, "device_for", device_for)
    patch(preflight.weights, "load", lambda *_: SimpleNamespace(digest="stub", source="stub"))
    return devices


if __name__ == "__main__":
    from jaxstyle import cli

    install()
    cli.main()
