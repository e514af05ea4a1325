"""Hands out the shards of a run, tries lost ones again, and adds up what they tell. It knows nothing of Ray.

Its memory is a few numbers a shard; rows pass through it to the listener.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from jaxstyle.cluster.messages import LOST, Call, Failure, News, Outcome
from jaxstyle.cluster.tally import Tally
from jaxstyle.data.rows import Row
from jaxstyle.engine.events import ClusterProgress
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.errors import ClusterError
from jaxstyle.planning.plan import skipped_kind

POLL_SECONDS = 1.0
"""Longest time between two looks at the cluster."""
GRACE_SECONDS = 60.0
"""Time after the silence at which a worker ends its shard, until the worker itself counts as lost."""
LOCK_SECONDS = 120.0
"""Time for the process of an earlier attempt to give up the shard's lock."""
LOCK_PAUSE = 3.0
"""Between two attempts at a shard whose lock is held."""
IDLE_SECONDS = 60.0
"""Time without any shard at work after which the coordinator says that it is waiting for machines."""
MOST_SAID = 1000
"""Messages of shards that are remembered, so that each is printed once."""


class Cluster(Protocol):
    """Runs attempts at shards, each where there is room for it."""

    def begin(self, shard: int, attempt: int, avoid: frozenset[str]) -> None:
        """Begins an attempt as soon as there is room, if possible on none of these nodes."""

    def ended(self, seconds: float) -> list[tuple[int, int, Outcome]]:
        """Waits at most this long for attempts to end; returns those that have: shard, attempt, outcome."""

    def news(self, stop: bool) -> list[News]:
        """Returns what attempts have told, and tells all to stop if wanted."""

    def cancel(self, shard: int, attempt: int) -> None:
        """Ends an attempt at once. It may still come back from `ended`."""


@dataclass
class Totals:
    """What became of a run.

    Attributes:
        rows, failed, rendered: rows of this run by status.
        kinds: its skipped inputs, see `Summary.skipped_kinds`.
        given_up: what shards failed with that were tried too often.
        unfinished: shards that are not.
        seconds, device_seconds, lane_seconds: sums over shards; device_seconds with an image in each lane.
    """

    rows: int = 0
    failed: int = 0
    rendered: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    given_up: dict[int, Failure] = field(default_factory=dict)
    unfinished: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    lane_seconds: float = 0.0


class Coordinator:
    """One run on a cluster."""

    def __init__(
        self, cluster: Cluster, number: int, progress: ClusterProgress, stop: Stop, limits: Limits, *, tries: int,
        silence: float, clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        """Args:
        number: of shards.
        tries: attempts without a row at a shard.
        silence: see `messages.order`.
        """
        self._cluster, self._progress, self._stop, self._limits = cluster, progress, stop, limits
        self._tries, self._silence, self._clock = tries, silence + GRACE_SECONDS, clock
        self._shards = {shard: Tally() for shard in range(1, number + 1)}
        self._running: set[int] = set()
        self._later: dict[int, float] = {}
        self._done = 0
        self._told: int | None = None
        self._said: set[str] = set()
        self._fatal: Failure | None = None
        self._begun = False
        self.totals = Totals()

    def run(self, evaluations: int) -> Totals:
        """Runs until every shard is finished or given up, or until the run is stopped.

        Args:
            evaluations: see `Progress.begin`.

        Raises:
            JaxstyleError: what no shard could begin with.
        """
        self._progress.begin(evaluations)
        for shard in self._shards:
            self._begin(shard)
        stopping, busy = False, self._clock()
        while self._running or self._later:
            ended = self._cluster.ended(POLL_SECONDS)
            for news in self._cluster.news(self._stopping):  # all that those who have ended have told is among it
                self._hear(news)
            for shard, attempt, outcome in ended:
                if attempt == self._shards[shard].attempt and shard in self._running:
                    self._end(shard, outcome)
            now = self._clock()
            self._tell_shards(now, evaluations)
            if reason := self._limits.exceeded(self.totals.failed, self.totals.rows):
                self._stop.request(reason)
            if self._stopping and not stopping:
                stopping = True
                self._leave_waiting()
            for shard in [shard for shard, when in self._later.items() if when <= now]:
                del self._later[shard]
                self._begin(shard)
            at_work = [shard for shard in self._running if self._shards[shard].alive is not None]
            busy = now if at_work or not self._running else busy
            if now - busy > IDLE_SECONDS:
                busy = math.inf
                self._progress.say("No shard is at work: waiting for the cluster to have room for one.")
            for shard in at_work:
                if now - (self._shards[shard].alive or 0) > self._silence:
                    self._lose(shard)
        self.totals.unfinished = len(self._shards) - self._done
        if self._fatal is not None:
            raise self._fatal.error()
        return self.totals

    @property
    def _stopping(self) -> bool:
        return bool(self._stop.reason) or self._fatal is not None

    def _tell_shards(self, now: float, evaluations: int) -> None:
        """Tells how each shard is; see `ShardState`."""

        def state(shard: int, one: Tally) -> str:
            if one.whole:
                return "finished"
            if shard in self.totals.given_up:
                return "given up"
            if shard in self._running and one.alive is not None:
                return "at work"
            return "waiting" if shard in self._running or shard in self._later else "left"

        self._progress.shards(
            [one.as_state(shard, state(shard, one), now, evaluations) for shard, one in self._shards.items()]
        )

    def _begin(self, shard: int) -> None:
        """Begins the next attempt at a shard."""
        one = self._shards[shard]
        one.begin_attempt()
        self._running.add(shard)
        self._cluster.begin(shard, one.attempt, one.avoid)

    def _leave_waiting(self) -> None:
        """The run stops: shards that are not at work are left."""
        if self._stop.reason:
            self._progress.say(f"Stopping ({self._stop.reason}): finishing the images on the devices.")
        self._later.clear()
        for shard in [shard for shard in self._running if self._shards[shard].alive is None]:
            self._running.discard(shard)
            self._cluster.cancel(shard, self._shards[shard].attempt)

    def _lose(self, shard: int) -> None:
        """The worker of a shard is not heard of any more."""
        one = self._shards[shard]
        self._cluster.cancel(shard, one.attempt)
        self._end(shard, Outcome(None, Failure(LOST, f"its worker has not been heard of for {self._silence:g} s")))

    def _hear(self, news: News) -> None:
        one = self._shards[news.shard]
        present = news.attempt == one.attempt
        if present:
            one.hear(self._clock())
        for call in news.calls:
            self._take(news.shard, one, call, present)

    def _take(self, shard: int, one: Tally, call: Call, present: bool) -> None:
        """Takes one call of a shard. Rows count whoever tells them: they are in the ledger."""
        name, arguments = call
        if name == "row":
            row = Row.from_json(arguments[0])
            one.add(row, present)
            self.totals.rows += 1
            self.totals.failed += row.status == "failed"
            self.totals.rendered += row.status == "done"
            if row.status == "skipped":
                self.totals.kinds[skipped_kind(row)] += 1
            self._progress.row(row)
        elif name == "say":
            stops = self._stopping and arguments[0].startswith("Stopping")  # as was said
            if not stops and arguments[0] not in self._said and len(self._said) < MOST_SAID:
                self._said.add(arguments[0])
                self._progress.say(f"shard {shard}/{len(self._shards)}: {arguments[0]}")
        elif not present:
            return
        elif name == "begin":
            self._begun = True
        elif name == "advance":
            one.spent += arguments[0]
            self._progress.advance(*arguments)
        elif name == "finished":
            one.finished += arguments[0]
            more = one.finished - one.rows_before - one.known  # rows of attempts before are no earlier run's
            if more > 0:
                one.known += more
                self._progress.finished(more)
        elif name == "inputs" and one.inputs is None:
            one.inputs = arguments[0]
            self._tell_inputs()
        elif name == "end":
            one.end = arguments[0]

    def _tell_inputs(self) -> None:
        """Tells the number of inputs: an estimate once all shards at work have counted theirs, then the number."""
        numbers = [one.inputs for one in self._shards.values() if one.inputs is not None]
        whole = len(numbers) == len(self._shards)
        at_work = sum(one.alive is not None for one in self._shards.values())
        if not whole and (self._told is not None or len(numbers) < at_work):
            return
        total = round(sum(numbers) * len(self._shards) / len(numbers))
        if total != self._told:
            if not whole:
                self._progress.say(f"Estimated from {len(numbers)} of {len(self._shards)} shards:")
            self._told = total
            self._progress.inputs(total)

    def _end(self, shard: int, outcome: Outcome) -> None:
        """An attempt has ended: the shard is finished, left, tried again or given up."""
        one = self._shards[shard]
        one.end_attempt(self._clock())
        self._running.discard(shard)
        if one.spent != one.settled:
            self._progress.advance(one.settled - one.spent, math.nan)  # images that begin again
        if outcome.code in (0, 3) and not one.end.get("stopped"):
            self._done += 1
            one.whole = True
            self._add_figures(one.end)
            return
        if self._stopping:
            self._add_figures(one.end)
            if outcome.failure and outcome.code is not None and outcome.code > 0 and outcome.failure.kind != LOST:
                self.totals.given_up.setdefault(shard, outcome.failure)
            return
        failure = outcome.failure or Failure(LOST, f"it ended with exit code {outcome.code}")
        if failure.kind == "OutputLocked":
            one.locked = self._clock() if one.locked is None else one.locked
            if self._clock() - one.locked < LOCK_SECONDS:
                self._later[shard] = self._clock() + LOCK_PAUSE
                return
        else:
            one.locked = None
        if outcome.code == 2 and not self._begun:
            self._fatal = failure
            return
        one.tries = 0 if one.rows > one.rows_before else one.tries + 1
        one.avoid = one.avoid | {outcome.node_id} if outcome.node_id else one.avoid
        where = f" on {outcome.node}" if outcome.node else ""
        what = f"shard {shard}/{len(self._shards)}{where}: {failure.what}"
        if one.tries < self._tries:
            self._progress.say(f"{what}. It is tried again.")
            self._begin(shard)
        elif self.totals.rows or self._done:
            self._progress.say(f"{what}. It is given up after {one.tries} tries without a row.")
            self.totals.given_up[shard] = failure._replace(what=what)
        else:
            self._fatal = failure._replace(what=what)

    def _add_figures(self, end: dict[str, Any]) -> None:
        if end:
            self.totals.seconds += end["seconds"]
            self.totals.device_seconds += end["device_seconds"]
            self.totals.lane_seconds += end["occupancy"] * end["device_seconds"]


def exit_code(failures: Iterable[Failure]) -> int:
    """Returns the exit code for shards that were given up: their own where they have one in common, else 1."""
    codes = {failure.error().exit_code for failure in failures}
    return codes.pop() if len(codes) == 1 else ClusterError.exit_code
