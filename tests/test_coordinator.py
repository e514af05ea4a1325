"""The coordinator of shards, over a cluster that only pretends: retries, deadlines, limits, and what is told."""

from collections import deque
from pathlib import Path

import pytest
from whole_runs import Ear

from jaxstyle.cluster import coordinator as C
from jaxstyle.cluster.board import MOST_CALLS, Board
from jaxstyle.cluster.coordinator import Coordinator, exit_code
from jaxstyle.cluster.messages import GO_ON, HOLD, LOST, STOP, Failure, News, Outcome
from jaxstyle.data.reading import LastRows
from jaxstyle.engine.stop import Limits, Stop
from jaxstyle.errors import ClusterError, InputError
from jaxstyle.settings import RenderSettings

GONE = Outcome(None, Failure(LOST, "its machine has gone"), "host", "id")
SILENCE = 30.0


def row(key, status="done", evaluations=10):
    return ["row", [{"key": str(key), "status": status, "evaluations": evaluations, "reason": "torn"}]]


def ended(stopped=""):
    figures = {"rendered": 1, "stopped": stopped, "occupancy": 0.5, "seconds": 4.0, "device_seconds": 2.0}
    return ["end", [figures]]


WHOLE = [["begin", [10]], ["inputs", [2]], ["advance", [20, 1.0]], row("a"), row("b"), ended()]


FINISHED = (WHOLE, Outcome(0))


class Pretended:
    """A cluster whose attempts do what `plays` says: (shard, attempt) -> (calls, outcome); a lack of both hangs.

    A second passes in each look at it.
    """

    def __init__(self, plays, usual=FINISHED):
        self.plays, self.usual, self.now = plays, usual, 0.0
        self.begun, self.cancelled, self.stopped = [], [], False
        self.waiting, self.told, self.gone = deque(), [], []

    def clock(self):
        return self.now

    def begin(self, shard, attempt, avoid):
        self.begun.append((shard, attempt, avoid))
        self.waiting.append((shard, attempt))

    def ended(self, seconds):
        self.now += 1
        assert self.now < 2000, "the run does not end"
        found, self.gone = self.gone, []
        for shard, attempt in [*self.waiting]:
            calls, outcome = self.plays.get((shard, attempt), self.usual)
            self.told.append(News(shard, attempt, calls))
            if outcome is not None:
                self.waiting.remove((shard, attempt))
                found.append((shard, attempt, outcome))
        return found

    def news(self, stop):
        self.stopped = self.stopped or stop
        told, self.told = self.told, []
        return told

    def cancel(self, shard, attempt):
        self.cancelled.append((shard, attempt))
        self.waiting.remove((shard, attempt))
        self.gone.append((shard, attempt, GONE))


def coordinate(cluster, number, ear=None, *, tries=3, stop=None, settings=None):
    limits = Limits(settings or RenderSettings())
    one = Coordinator(cluster, number, ear or Ear(), stop or Stop(), limits, tries=tries, silence=SILENCE,
                      clock=cluster.clock)  # fmt: skip
    return one.run(10)


def test_every_shard_is_begun_once_and_its_figures_add_up():
    cluster, ear = Pretended({}), Ear()
    totals = coordinate(cluster, 3, ear)
    assert cluster.begun == [(shard, 1, frozenset()) for shard in (1, 2, 3)]
    assert (totals.rows, totals.rendered, totals.unfinished) == (6, 6, 0) and not totals.given_up
    assert (totals.seconds, totals.device_seconds, totals.lane_seconds) == (12, 6, 3)
    assert (len(ear.rows), ear.number, ear.spent) == (6, 6, 60)


def test_a_lost_shard_is_tried_again_elsewhere_and_what_its_lanes_had_no_longer_counts():
    lost = [["begin", [10]], ["inputs", [2]], ["finished", [3]], ["advance", [17, 1.0]], row("a")]
    again = [["inputs", [2]], ["finished", [4]], ["advance", [10, 1.0]], row("b"), ended()]
    cluster, ear = Pretended({(1, 1): (lost, GONE), (1, 2): (again, Outcome(0))}), Ear()
    totals = coordinate(cluster, 1, ear)
    assert cluster.begun == [(1, 1, frozenset()), (1, 2, frozenset({"id"}))]
    assert totals.rows == 2 and ear.spent == 20  # 7 of the evaluations were spent on an image that began again
    assert ear.before == 3  # of the 4 that the second attempt found, one is the first attempt's
    assert "shard 1/1 on host: its machine has gone. It is tried again." in ear.said


def test_the_listener_is_told_how_each_shard_is():
    """Shard 1 is lost and tried again, shard 2 is finished at once, shard 3 is at work until the run is stopped."""
    stop, told = Stop(), []

    class Watching(Ear):
        def shards(self, states):
            assert [one.shard for one in states] == [1, 2, 3]
            told.append(states)
            if len(told) == 3:
                stop.request("SIGTERM", 15)
                cluster.plays[3, 1] = ([ended("SIGTERM")], Outcome(143))

    lost = [["begin", [10]], ["inputs", [5]], ["finished", [1]], ["advance", [15, 1.0]], row("a")]
    again = [["finished", [2]], ["advance", [10, 1.0]], row("b", "failed"), row("c"), ended()]
    cluster = Pretended({(1, 1): (lost, GONE), (1, 2): (again, Outcome(3)), (3, 1): ([["advance", [2, 1.0]]], None)})
    coordinate(cluster, 3, Watching(), stop=stop)
    assert [[one.state for one in states] for states in told] == [
        ["waiting", "finished", "at work"], ["finished", "finished", "at work"], ["finished", "finished", "at work"],
        ["finished", "finished", "left"],
    ]  # fmt: skip
    assert told[0][0] == (1, "waiting", 1, 0, 1, 0.0, 5, 1, 0.0)
    assert told[-1][0] == (1, "finished", 2, 1, 3, 0.0, 5, 1, 0.0)
    assert [(states[2].lanes, states[2].seconds) for states in told] == [(0.2, 0), (0.4, 1), (0.6, 2), (0, 3)]


def test_a_shard_is_given_up_after_tries_without_a_row_and_the_others_go_on():
    got_on = [["begin", [10]], row("a")]
    plays = {(1, n): ([["begin", [10]]], GONE) for n in range(1, 9)} | {(1, 2): (got_on, GONE)}
    cluster, ear = Pretended(plays), Ear()
    totals = coordinate(cluster, 2, ear)
    assert [n for shard, n, _ in cluster.begun if shard == 1] == [1, 2, 3, 4, 5]  # the row of the second starts anew
    assert totals.unfinished == 1 and list(totals.given_up) == [1]
    assert exit_code(totals.given_up.values()) == ClusterError.exit_code
    assert "its machine has gone" in str(totals.given_up[1].error())
    assert any("given up after 3 tries" in said for said in ear.said)


def test_what_no_shard_can_begin_with_ends_the_run():
    wrong = Outcome(2, Failure("InputError", "no such input", "Correct it."))
    cluster = Pretended({}, ([], wrong))
    with pytest.raises(InputError, match="no such input. Correct it."):
        coordinate(cluster, 4)
    assert len(cluster.begun) == 4  # none twice
    cluster = Pretended({}, ([], GONE))
    with pytest.raises(ClusterError, match="shard ./4 on host: its machine has gone"):
        coordinate(cluster, 4)


def test_a_machine_that_lacks_something_costs_an_attempt_once_others_have_begun():
    wrong = Outcome(2, Failure("InputError", "not mounted here"), "host", "id")
    cluster = Pretended({(2, 1): ([], wrong)})
    assert coordinate(cluster, 2).unfinished == 0
    assert (2, 2, frozenset({"id"})) in cluster.begun


def test_a_shard_whose_lock_is_held_waits_for_it():
    locked = Outcome(2, Failure("OutputLocked", "in use"))
    plays = {(1, n): ([], locked) for n in range(1, 6)}
    cluster = Pretended(plays)
    assert coordinate(cluster, 1, tries=1).unfinished == 0
    assert len(cluster.begun) == 6 and cluster.now >= 5 * C.LOCK_PAUSE
    cluster = Pretended({}, ([], locked))
    with pytest.raises(Exception, match="in use"):
        coordinate(cluster, 1)
    assert C.LOCK_SECONDS <= cluster.now <= C.LOCK_SECONDS + 10


def test_a_worker_that_is_not_heard_of_is_cancelled_and_its_shard_tried_again():
    class Silent(Pretended):
        def news(self, stop):
            told = [one for one in super().news(stop) if one[:2] != (1, 1) or self.now < 5]
            return told

    cluster = Silent({(1, 1): ([], None)})
    assert coordinate(cluster, 1).unfinished == 0
    assert cluster.cancelled == [(1, 1)]
    assert SILENCE + C.GRACE_SECONDS <= cluster.now <= SILENCE + C.GRACE_SECONDS + 10


def test_a_shard_that_waits_for_room_is_not_taken_for_lost():
    class Full(Pretended):
        def ended(self, seconds):
            if self.now < 500:
                self.now += 1
                return []
            return super().ended(seconds)

    cluster, ear = Full({}), Ear()
    assert coordinate(cluster, 1, ear).unfinished == 0 and not cluster.cancelled
    assert sum("waiting for the cluster" in said for said in ear.said) == 1


def test_a_stop_ends_the_shards_at_work_and_leaves_the_others():
    stop = Stop()

    class Room1(Pretended):
        def ended(self, seconds):
            if self.stopped:
                self.plays[1, 1] = ([row("b"), ended("SIGTERM")], Outcome(143))
            if self.now == 3:
                stop.request("SIGTERM", 15)
            others = [one for one in self.waiting if one != (1, 1)]
            self.waiting = deque(one for one in self.waiting if one == (1, 1))
            found = super().ended(seconds)
            self.waiting.extend(others)
            return found

    cluster = Room1({(1, 1): ([row("a")], None)})
    totals = coordinate(cluster, 3, stop=stop)
    assert cluster.stopped and cluster.cancelled == [(2, 1), (3, 1)]
    assert totals.unfinished == 3 and not totals.given_up and totals.device_seconds == 2
    assert len(cluster.begun) == 3


def test_limits_count_over_all_shards():
    bad = [["begin", [10]], row("a", "failed"), row("b", "skipped"), ended()]
    stop = Stop()
    totals = coordinate(Pretended({}, (bad, Outcome(3))), 5, stop=stop, settings=RenderSettings(max_failures=4))
    assert totals.failed == 5 and stop.reason == "5 inputs have failed, more than 4"
    assert totals.kinds == {"torn": 5}


def test_rows_of_an_attempt_that_was_taken_for_lost_count():
    late = News(1, 1, [row("late"), ["advance", [5, 1.0]]])

    class Late(Pretended):
        def news(self, stop):
            return super().news(stop) + ([late] if self.now == 2 else [])

    cluster, ear = Late({(1, 1): ([["begin", [10]]], GONE), (1, 2): ([ended()], Outcome(0))}), Ear()
    totals = coordinate(cluster, 1, ear)
    assert totals.rows == 1 and ear.spent == 0


def test_a_message_of_many_shards_is_printed_once():
    ear = Ear()
    coordinate(Pretended({}, ([["say", ["Mind the gap."]], *WHOLE], Outcome(0))), 9, ear)
    assert [said for said in ear.said if "gap" in said] == ["shard 1/9: Mind the gap."]


def test_the_number_of_inputs_is_estimated_from_the_shards_at_work_until_all_have_counted():
    class Room2(Pretended):
        def ended(self, seconds):
            others = [*self.waiting][2:]
            self.waiting = deque([*self.waiting][:2])
            found = super().ended(seconds)
            self.waiting.extend(others)
            return found

    class Numbers(Ear):
        def inputs(self, number):
            super().inputs(number)
            self.said.append(number)

    ear = Numbers()
    coordinate(Room2({(4, 1): ([["inputs", [5]], ended()], Outcome(0))}), 4, ear)
    assert ear.said == ["Estimated from 1 of 4 shards:", 8, 11]


def test_exit_codes_of_shards_that_were_given_up():
    full, gone = Failure("StorageError", "full"), Failure(LOST, "gone")
    assert [exit_code(some) for some in ([full], [full, full], [gone], [full, gone])] == [5, 5, 1, 1]


def test_a_board_hands_news_on_once_tells_of_the_stop_and_makes_workers_wait():
    board = Board()
    assert board.tell(1, 1, [["begin", [1]]]) == GO_ON == board.tell(2, 1, []) == board.tell(1, 1, [["say", [""]]])
    assert board.take(True) == [(1, 1, [["begin", [1]], ["say", [""]]]), (2, 1, [])]
    assert board.take(True) == [] and board.tell(1, 1, []) == STOP
    board.take(False)
    board.tell(1, 1, [["say", [""]]] * (MOST_CALLS + 1))
    assert board.tell(2, 1, [["say", [""]]]) == HOLD and board.tell(2, 1, []) == GO_ON
    assert sum(len(one.calls) for one in board.take(False)) == MOST_CALLS + 1
    assert board.tell(2, 1, [["say", [""]]]) == GO_ON


def test_the_benchmark_of_the_coordinator_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "bench"))
    import coordinator as bench

    bench.coordinate(60, 3)
    bench.write_ledgers(tmp_path, 10, 3)
    with LastRows(tmp_path) as rows:
        assert sorted(row.key for row in rows) == sorted(bench.keys(10))
    assert len([*tmp_path.glob("manifest-*-of-3.jsonl")]) == 3
