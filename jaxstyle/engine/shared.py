"""What the threads of a run share."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jaxstyle.data.ledger import Ledger
from jaxstyle.decode.reader import Reader
from jaxstyle.engine.events import Broken, Settled, Tell
from jaxstyle.engine.lanes import Ended, Usage
from jaxstyle.engine.prepare import Prepared
from jaxstyle.engine.queues import Queues
from jaxstyle.engine.spool import Spool
from jaxstyle.engine.steps import Step, clears
from jaxstyle.engine.watchdog import Calls
from jaxstyle.planning.contract import Device
from jaxstyle.planning.preflight import Ready

WINDOW = 2048
"""Jobs that the planner may be ahead."""
FRAMES = 2**16
"""The same where the inputs are frames: most wait for others, and the frames of all lanes' shots must fit in."""
EVENTS = 4096
"""Events that may wait for the main thread."""
WAIT_SECONDS = 0.2
"""Between two looks of a blocked thread at whether the run is over."""
Event = Settled | Tell | Broken | threading.Thread


def _queues(ready: Ready) -> Queues[Prepared]:
    """Queues that collect jobs for the batch that was asked for; "auto" is 2 until the device is known."""
    batch = 2 if ready.settings.batch == "auto" else int(ready.settings.batch)
    batch = min(batch, ready.shots or batch)
    return Queues(lambda _: batch, window=max(FRAMES if ready.shots else WINDOW, 4 * batch))


@dataclass
class Shared:
    """What the threads of a run share.

    Attributes:
        before: rows of earlier runs.
        reader: of the inputs.
        device_for: makes the device, when there is something to render.
        queues: between planner, decoders and device.
        spool: from the walk to the planner.
        ended: lanes to be published and intermediate pictures to be written; None ends a publisher. Its size is set
            when the device is known.
        events: for the main thread, from `post` and `tell`.
        usage: what the device does.
        device: once it is made.
        calls: calls of storage, for the watchdog.
        results: counts the results, for the examples of a contact sheet.
        jobs: number of jobs offered so far.
        planned: whether the plan is complete.
        clears_steps: see `steps.clears`.
        steps_refused: whether it was told that an intermediate picture cannot be written.
        begun_again: keys of images that are at their second try.
        left: set when the run is over and no thread may block any more.
    """

    ready: Ready
    before: Ledger
    reader: Reader
    device_for: Callable[[Ready], Device]
    calls: Calls = field(default_factory=Calls)
    queues: Queues[Prepared] = field(init=False)
    spool: Spool = field(default_factory=Spool)
    ended: queue.Queue[Ended[Prepared] | Step | None] = field(default_factory=queue.Queue)
    events: queue.Queue[Event] = field(default_factory=lambda: queue.Queue(maxsize=EVENTS))
    usage: Usage = field(default_factory=Usage)
    device: Device | None = None
    results: Iterator[int] = field(default_factory=itertools.count)
    jobs: int = 0
    planned: bool = False
    clears_steps: bool = False
    steps_refused: bool = False
    begun_again: set[str] = field(default_factory=set)
    left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.queues = _queues(self.ready)
        self.clears_steps = clears(self.ready)

    @property
    def hands(self) -> int:
        """Number of decoding threads, and of publishing ones."""
        return max(1, self.reader.workers)

    def post(self, event: Event) -> None:
        """Hands an event to the main thread."""
        self.put(self.events, event)

    def tell(self, name: str, *arguments: Any) -> None:
        """Has the main thread call a method of `Progress`."""
        self.post(Tell(name, arguments))

    def put(self, where: queue.Queue, what: Any) -> None:
        """Adds to a queue; blocks while it is full, unless the run is over."""
        while not self.left.is_set():
            try:
                where.put(what, timeout=WAIT_SECONDS)
                return
            except queue.Full:
                continue
