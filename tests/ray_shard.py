"""A shard's process over the stub: the program that workers start in place of `python -m jaxstyle.cluster.shard`.

    python tests/ray_shard.py [FILE]

It holds after its first result as long as there is such a file, until it is told to stop.
"""

import sys
import time
from pathlib import Path

import stub

from jaxstyle.cluster import shard

stops = []


class Teller(shard.Teller):
    """Hears of the stop."""

    def say(self, text):
        super().say(text)
        stops.extend([text] if text.startswith("Stopping") else [])


class Holding(stub.StubDevice):
    """A stub that holds."""

    results = 0

    def batch(self, group, size):
        batch = super().batch(group, size)
        advance, result = batch.advance, batch.result

        def held(ticks):
            while self.results and not stops and Path(sys.argv[1]).exists():
                time.sleep(0.01)
            return advance(ticks)

        def counted(lane):
            self.results += 1
            return result(lane)

        batch.advance, batch.result = held, counted
        return batch


if __name__ == "__main__":
    stub.install()
    if len(sys.argv) > 1:
        stub.StubDevice, shard.Teller = Holding, Teller
    shard.main()
