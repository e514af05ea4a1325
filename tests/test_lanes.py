"""The host's side of the lanes: full, refilled, shared out fairly, and complete even where the memory runs out."""

import threading
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from jaxstyle.engine import lanes
from jaxstyle.engine.lanes import BatchScheduler
from jaxstyle.engine.queues import Queues
from jaxstyle.errors import DeviceError
from jaxstyle.planning.batches import batch_sizes
from jaxstyle.planning.contract import Group, OutOfMemory, Result, Snapshot

GROUP = Group((32, 32))
RUNNING, BUDGET, CONVERGED = 0, 1, 2


class Task:
    """Its number is its picture; it converges after `length` evaluations."""

    def __init__(self, number, length, evaluations):
        self.number, self.length, self.evaluations = number, length, evaluations
        self.inputs = {"content": np.full((32, 32, 3), number, np.float32)}


class Device:
    """A device that counts. Its clock, in seconds, is that of the scheduler.

    Args:
        tasks: by number.
        room: lanes that fit; or what is asked before each call, (call, lanes) -> whether it fits.
        each: evaluations a tick.
        tick: seconds that a tick takes.
    """

    count, precision = 1, "float32"

    def __init__(self, tasks, room=10**9, shrinks=True, each=1, tick=1.0):
        self.tasks, self.each, self.tick, self.calls, self.sizes = tasks, each, tick, [], []
        self.fitting = room if callable(room) else lambda call, lanes: lanes <= room
        self.shrinks, self.asked, self.put, self.ticks, self.clock = shrinks, [], [], [], 0.0

    def worth_shrinking(self, group, lanes, evaluations):
        self.asked.append((lanes, evaluations))
        return self.shrinks

    def call(self, name, size):
        self.calls.append((name, size))
        if not self.fitting(name, size):
            raise OutOfMemory(f"{name} of {size}")

    def batch(self, group, size):
        assert group == GROUP
        self.call("batch", size)
        self.sizes.append(size)
        return Batch(self, size)


class Batch:
    def __init__(self, device, size):
        self.device, self.lost = device, False
        self.tasks, self.spent, self.budget = [None] * size, np.zeros(size, int), np.zeros(size, int)

    def call(self, name):
        assert not self.lost, "a batch is lost after OutOfMemory, and used up by select"
        self.lost = True
        self.device.call(name, len(self.tasks))
        self.lost = False

    def put(self, lane, inputs, evaluations):
        number = int(inputs["content"][0, 0, 0])
        assert self.tasks[lane] is None or self._status()[lane] != RUNNING
        self.call("put")
        self.tasks[lane], self.spent[lane], self.budget[lane] = self.device.tasks[number], 0, evaluations
        self.device.put.append(number)

    def _status(self):
        ends = zip(self.tasks, self.spent, self.budget, strict=True)
        return np.array([CONVERGED if t and n >= t.length else RUNNING if t and n < b else BUDGET for t, n, b in ends])

    def advance(self, ticks):
        assert ticks >= 1
        self.call("advance")
        self.device.ticks.append(ticks)
        for _ in range(ticks):
            self.device.clock += self.device.tick
            self.spent[self._status() == RUNNING] += self.device.each
        loss = np.array([t.number if t else np.nan for t in self.tasks])
        return Snapshot(self._status(), self.spent.copy(), loss)

    def result(self, lane):
        self.call("result")
        image = self.tasks[lane].inputs["content"] + self.spent[lane] / 1000
        return Result(image, {"content": 1.0}, 2.0, "float32")

    def select(self, lanes, size):
        assert len(lanes) <= size < len(self.tasks)
        self.call("select")
        self.lost = True
        self.device.sizes.append(size)
        smaller = Batch(self.device, size)
        for new, old in enumerate(lanes):
            smaller.tasks[new], smaller.spent[new] = self.tasks[old], self.spent[old]
            smaller.budget[new] = self.budget[old]
        return smaller


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The scheduler's time is the device's."""
    now = SimpleNamespace(device=None)
    fake = SimpleNamespace(perf_counter=lambda: now.device.clock, monotonic=lambda: now.device.clock)
    monkeypatch.setattr(lanes, "time", fake)
    monkeypatch.setattr(Rig, "clock", now)


class Rig:
    """A device, its scheduler, and queues of decoded tasks with these lengths."""

    clock = None

    def __init__(self, lengths, batch, budget=20, **options):
        self.tasks = [Task(n, length, budget) for n, length in enumerate(lengths)]
        self.device, self.batch = Device(self.tasks, **options), batch
        self.clock.device = self.device
        self.queues, self.smaller, self.reported = Queues(lambda _: batch, window=10**6), [], []
        for task in self.tasks:
            self.queues.ready(GROUP, task)
        self.queues.end()
        self.scheduler = BatchScheduler(self.device, self.queues, lambda *told: self.reported.append(told))

    def run(self, pending=None):
        group, there = self.queues.choose()
        return self.scheduler.run(group, there if pending is None else pending, self.batch, self.smaller.append)

    def all(self, pending=None):
        """Every task's end, by number; each is there once, with its own picture."""
        ended = list(self.run(pending))
        assert Counter(one.task.number for one in ended) == Counter(range(len(self.tasks)))
        for one in ended:
            if one.result is not None:
                expected = one.task.number + one.evaluations / 1000
                np.testing.assert_allclose(one.result.image, np.full((32, 32, 3), expected), rtol=1e-6)
                assert one.status == (CONVERGED if one.evaluations >= one.task.length else BUDGET)
                assert one.evaluations >= min(one.task.length, one.task.evaluations)
        return sorted(ended, key=lambda one: one.task.number)

    @property
    def occupancy(self):
        return self.scheduler.usage.spent / self.scheduler.usage.offered


def test_each_rung_is_half_of_the_one_before():
    assert (
        batch_sizes(8) == [8, 4, 2, 1]
        and batch_sizes(1) == [1]
        and batch_sizes(6) == [6, 3, 1]
        and batch_sizes(100)[:3] == [100, 50, 25]
    )


@pytest.mark.parametrize("number", [1, 3, 4, 9, 24])
def test_several_devices_get_equal_numbers_of_lanes(number):
    assert batch_sizes(12, 4) == [12, 4] and batch_sizes(32, 4) == [32, 16, 8, 4] and batch_sizes(3, 3) == [3]
    rig = Rig([3 + 7 * n % 31 for n in range(number)], 12, budget=20)
    rig.device.count = 4
    ended = rig.all()
    assert sorted(one.task.number for one in ended) == list(range(number))
    assert {size for _, size in rig.device.calls} <= {12, 4}


def test_one_lane_a_device_that_is_too_much_is_each_ones_end():
    rig = Rig([10] * 9, batch=8, room=lambda call, lanes: call == "batch")
    rig.device.count = 4
    ended = rig.all()
    assert rig.smaller == [4] and len(ended) == 9 and all(one.result is None for one in ended)


@pytest.mark.parametrize("number", [8, 24, 64])
def test_of_equal_budgets_no_tick_is_lost(number):
    rig = Rig([10**6] * number, batch=8, budget=25)
    assert [one.evaluations for one in rig.all()] == [25] * number
    assert rig.device.sizes == [8] and rig.scheduler.usage.spent == rig.scheduler.usage.offered == 25 * number


def test_lanes_that_end_early_are_refilled_at_once():
    rig = Rig([10, 20, 30, 20, 10, 10, 40, 40], batch=2, budget=40)
    rig.all()
    assert rig.occupancy == 1.0 and rig.device.sizes == [2]  # these lengths fill two lanes without a gap


@pytest.mark.parametrize("number", [1, 2, 3, 7, 9, 13])
@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_every_task_ends_once_whatever_the_numbers(number, batch):
    rig = Rig([3 + 7 * n % 31 for n in range(number)], batch, budget=20)
    rig.all()
    assert sum(used for used, _ in rig.reported) == sum(min(3 + 7 * n % 31, 20) for n in range(number))
    assert set(rig.device.sizes) <= set(batch_sizes(batch))


def test_the_first_batch_is_no_larger_than_what_is_known():
    for pending, size in ((9, 8), (8, 8), (7, 4), (3, 2), (1, 1), (0, 1)):
        rig = Rig([10] * 8, batch=8)
        rig.all(pending)
        assert rig.device.sizes[0] == size


def test_the_last_lanes_move_to_smaller_batches_if_that_pays():
    lengths = [20, 40, 60, 80, 100, 100, 100, 200]
    rig = Rig(lengths, batch=8, budget=200)
    rig.all()
    assert rig.device.sizes == [8, 4, 1]
    assert rig.scheduler.usage.offered == 80 * 8 + 20 * 4 + 100  # as soon as half of the lanes are idle
    assert rig.device.asked[0] == (4, 200 - 80)  # lanes and evaluations that would be saved
    stays = Rig(lengths, batch=8, budget=200, shrinks=False)
    stays.all()
    assert stays.device.sizes == [8] and stays.scheduler.usage.offered == 200 * 8
    assert stays.scheduler.usage.spent == rig.scheduler.usage.spent == sum(lengths)


def test_a_batch_stays_as_it_is_while_more_may_come(monkeypatch):
    monkeypatch.setattr(lanes, "CHUNK_SECONDS", 0.001)  # it waits in real time
    rig = Rig([20, 20, 20, 200], batch=4, budget=200, tick=0.0001)
    rig.queues._planned = False
    ended = rig.run()
    assert next(ended).task.number == 0
    assert rig.queues.offer(SimpleNamespace(group=GROUP))  # which is not decoded in time
    assert [next(ended).task.number for _ in range(3)] == [1, 2, 3]
    rig.queues.stop()
    assert list(ended) == [] and rig.device.sizes == [4] and not rig.device.asked


def test_lanes_of_many_lengths_are_occupied_for_95_of_100_ticks():
    order = np.random.default_rng(0).permutation(60)
    rig = Rig([60 + 10 * (n % 15) for n in order], batch=8, budget=200)
    rig.all()
    assert rig.occupancy >= 0.95
    stays = Rig([60 + 10 * (n % 15) for n in order], batch=8, budget=200, shrinks=False)
    stays.all()
    assert stays.occupancy < rig.occupancy and stays.scheduler.usage.spent == rig.scheduler.usage.spent == 60 * 130


def test_out_of_memory_the_batch_is_halved_until_it_fits_and_the_caller_is_told():
    rig = Rig([10] * 16, batch=8, room=lambda call, lanes: call == "batch" or lanes <= 2)
    rig.all()
    assert rig.smaller == [4, 2] and rig.device.sizes == [8, 4, 2]
    assert rig.scheduler.usage.spent == rig.scheduler.usage.offered == 16 * 10


LENGTHS = [5, 30, 12, 40, 40, 7, 22, 33, 8, 40, 1, 19, 26]


@pytest.mark.parametrize("call", ["batch", "put", "advance", "result", "select"])
@pytest.mark.parametrize("turn", range(1, 12))
def test_nothing_is_lost_or_doubled_wherever_the_memory_runs_out(call, turn):
    """The n-th call of a kind fails, and so does whatever batches as large as that one are asked."""
    well = Rig(LENGTHS, batch=8, budget=40)
    well.all()
    sizes = [size for name, size in well.device.calls if name == call]
    seen, room = Counter(), [10**9]

    def fits(name, lanes):
        seen[name] += 1
        if name == call and seen[name] == turn and lanes > 1:
            room[0] = lanes - 1
        return lanes <= room[0]

    rig = Rig(LENGTHS, batch=8, budget=40, room=fits)
    ended = rig.all()
    assert [one.evaluations for one in ended] == LENGTHS  # from the beginning: nothing of a lost batch counts
    assert all(one.result is not None for one in ended)
    assert rig.smaller[:1] == [size // 2 for size in sizes[turn - 1 : turn] if size > 1]


def test_what_was_spent_on_a_lost_batch_is_reported_as_taken_back():
    turns = [True, True, False]
    rig = Rig([100] * 4, batch=4, budget=100, tick=0.1)
    rig.device.fitting = lambda call, lanes: call != "advance" or not turns or turns.pop(0)
    rig.all()
    assert rig.reported[:2] == [(4, 1.5), (40, 1.5)] and rig.reported[2][0] == -44
    assert sum(used for used, _ in rig.reported) == 400


def test_images_that_were_lost_begin_again_before_others():
    turns = [True, True, True, False]
    rig = Rig([100, 10, 100, 100, 10, 10, 10, 10], batch=4, budget=100, tick=0.1)
    rig.device.fitting = lambda call, lanes: call != "advance" or not turns or turns.pop(0)
    ended = [one.task.number for one in rig.run()]
    assert rig.smaller == [2] and ended[:2] == [1, 4] and sorted(ended) == list(range(8))
    assert rig.device.put == [0, 1, 2, 3, 4, 5, 0, 5, 2, 3, 6, 7]  # the fourth chunk was lost, with 0, 5, 2, 3


def test_an_image_that_does_not_fit_alone_ends_without_a_result_and_the_others_go_on():
    rig = Rig([10] * 5, batch=4)
    rig.device.fitting = lambda call, lanes: call != "advance" or rig.device.put[-lanes:].count(2) == 0
    ended = rig.all()
    lost = [(one.task.number, one.evaluations, one.status, one.seconds) for one in ended if one.result is None]
    assert lost == [(2, 0, RUNNING, 0.0)]
    assert rig.smaller == [2, 1]


@pytest.mark.parametrize("room", [0, lambda call, lanes: call != "put"], ids=["batch", "put"])
def test_a_device_with_no_room_at_all(room):
    rig = Rig([10] * 3, batch=4, room=room)
    if callable(room):  # it has room for the network, and for no image
        assert [one.result for one in rig.all()] == [None] * 3 and rig.smaller == [1]
    else:
        with pytest.raises(DeviceError, match="no room for the network"):
            list(rig.run())


@pytest.mark.parametrize("ended_before", [0, 1, 4])
def test_an_abandoned_feed_ends_the_run(ended_before):
    rig = Rig([10, 20, 50] * 5, batch=2, budget=100)
    ended = rig.run()
    for _ in range(ended_before):
        next(ended)
    rig.queues.abandon()
    chunks = rig.device.calls.count(("advance", 2))
    assert list(ended) == [] and rig.device.calls.count(("advance", 2)) == chunks


def test_an_abandoned_feed_ends_a_run_that_waits_for_its_first_picture():
    rig, made = Rig([], batch=4), []
    assert rig.queues.offer(SimpleNamespace(group=GROUP))  # and nobody decodes it
    thread = threading.Thread(target=lambda: made.extend(rig.run()), daemon=True)
    thread.start()
    rig.queues.abandon()
    thread.join(60)
    assert not thread.is_alive() and made == []


def test_a_stopped_feed_lets_the_lanes_finish():
    rig = Rig([10, 20, 30] * 5, batch=2)
    ended = rig.run()
    first = next(ended)
    rig.queues.stop()
    assert [one.task.number for one in (first, *ended)] == [0, 1]


def test_the_time_of_a_chunk_is_shared_by_the_lanes_that_run():
    rig = Rig([10, 30, 30, 30], batch=4, budget=40, shrinks=False, tick=1.0)
    ended = rig.all()
    assert [one.seconds for one in ended] == pytest.approx([10 / 4] + [10 / 4 + 20 / 3] * 3)
    assert rig.scheduler.usage.seconds == pytest.approx(30) and rig.scheduler.usage.since is None


@pytest.mark.parametrize(
    ("tick", "chunks"),
    [(0.1, [1, 10, 10, 10, 10, 9]), (0.45, [1] + [2] * 24 + [1]), (1.5, [1] * 50), (0.001, [1, 49]), (0.0, [1, 49])],
)
def test_a_chunk_takes_a_second_and_the_first_one_is_a_tick(tick, chunks):
    rig = Rig([10**6] * 4, batch=4, budget=50, tick=tick)
    assert [one.evaluations for one in rig.all()] == [50] * 4 and rig.device.ticks == chunks


def test_a_chunk_is_no_longer_than_the_shortest_rest_of_a_budget():
    rig = Rig([10**6] * 2, batch=2, tick=0.001)
    rig.tasks[0].evaluations, rig.tasks[1].evaluations = 30, 45
    assert [one.evaluations for one in rig.all()] == [30, 45] and rig.device.ticks[:2] == [1, 29]


def test_a_smaller_batch_is_measured_anew():
    rig = Rig([10, 100], batch=2, budget=100, tick=0.1)
    rig.all()
    assert rig.device.sizes == [2, 1] and rig.device.ticks[:5] == [1, 10, 1, 10, 10]


def test_the_call_that_the_device_is_in_can_be_seen():
    rig = Rig([10], batch=1, tick=0.1)
    seen = []
    rig.device.fitting = lambda call, lanes: seen.append((call, rig.scheduler.usage.since is not None)) or True
    rig.all()
    assert seen == [("batch", False), ("put", True), ("advance", True), ("advance", True), ("result", True)]


def test_compiling_is_no_call_that_may_hang():
    rig = Rig([10, 20], batch=2)
    seen = {}
    rig.device.fitting = lambda call, lanes: seen.update({call: rig.scheduler.usage.since is None}) or True
    rig.all()
    assert {call for call, compiles in seen.items() if compiles} == {"batch", "select"}


def test_a_solver_that_evaluates_several_times_a_tick_keeps_its_lanes_occupied():
    rig = Rig([10**6] * 8, batch=4, budget=50, each=3)
    ended = rig.all()
    assert {one.evaluations for one in ended} == {51}  # the last tick went one over
    assert rig.scheduler.usage.spent == rig.scheduler.usage.offered > 0  # three evaluations a tick do not count thrice
    assert sum(used for used, _ in rig.reported) == 8 * 51


def test_reports_tell_evaluations_and_the_mean_loss_of_the_lanes_that_run():
    rig = Rig([10, 20, 20], batch=4, budget=20, shrinks=False, tick=0.1)
    rig.all(pending=4)
    assert rig.reported == [(3, 1.0), (29, 1.0), (18, 1.5)]  # losses are 0, 1 and 2; the idle lane's is not a number
