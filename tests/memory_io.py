"""A source and a sink in memory, for tests: `CONTENT` and `OUTPUTS` are what an input folder and an output folder hold.

`install` registers both as "memory".
"""

import hashlib
import io

from jaxstyle.data.layout import STEPS
from jaxstyle.data.sinks import SINKS
from jaxstyle.data.sources import SOURCES
from jaxstyle.data.sources.base import Input, Stamp
from jaxstyle.errors import InputError


class MemorySource:
    """See `jaxstyle.data.sources.base.Source`. An input's time of change is made of its content."""

    def __init__(self, content):
        self.content, self.opened = content, []

    roots = ()

    def check(self, output):
        if not self.content:
            raise InputError("there is no input", "Put something into the memory.")

    def inputs(self):
        return (Input(key, f"memory:{key}") for key in sorted(self.content))

    def open(self, locator):
        key = locator.removeprefix("memory:")
        self.opened.append(key)
        if key not in self.content:
            raise FileNotFoundError(2, "No such input")
        return io.BytesIO(self.content[key])

    def stamp(self, locator):
        with self.open(locator) as file:
            data = file.read()
        return Stamp(len(data), int.from_bytes(hashlib.sha256(data).digest()[:7], "big"))


class MemorySink:
    """See `jaxstyle.data.sinks.base.Sink`."""

    case_insensitive = False

    def __init__(self, outputs):
        self.outputs, self.committed, self.calls = outputs, set(), []

    def begin(self, folder, protected):
        self.calls.append("begin")

    def write(self, key, data):
        self.outputs[key] = data

    def commit(self, keys):
        keys = set(keys)
        assert keys <= self.outputs.keys()
        self.committed |= keys

    def has(self, key):
        return key in self.outputs

    def withdraw(self, key):
        self.outputs.pop(key, None)

    def clear_steps(self, key):
        for name in [name for name in self.outputs if name.startswith(f"{STEPS}/{key}/")]:
            del self.outputs[name]

    def sweep(self):
        self.calls.append("sweep")

    def close(self):
        self.calls.append("close")


def install(patch, content, outputs):
    """Registers both; returns the lists that the sources and the sinks of runs will be added to."""
    sources, sinks = [], []

    def source(inputs, *, case_insensitive):
        sources.append(MemorySource(content))
        return sources[-1]

    def sink(output, part):
        sinks.append(MemorySink(outputs))
        return sinks[-1]

    patch(SOURCES, "memory", source)
    patch(SINKS, "memory", sink)
    return sources, sinks
