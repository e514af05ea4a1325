"""Continuous batching: lanes are full, refilled, and shared out fairly; chunks take a second."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from counting import GROUP, Rig, clock  # noqa: F401

from jaxstyle.engine import lanes
from jaxstyle.planning import batches
from jaxstyle.planning.batches import batch_sizes


@pytest.mark.parametrize("number", [1, 3, 4, 9, 24])
def test_several_devices_get_equal_numbers_of_lanes(number):
    assert batch_sizes(12, 4) == [12, 4] and batch_sizes(32, 4) == [32, 16, 8, 4] and batch_sizes(3, 3) == [3]
    rig = Rig([3 + 7 * n % 31 for n in range(number)], 12, budget=20)
    rig.device.count = 4
    ended = rig.all()
    assert sorted(one.task.number for one in ended) == list(range(number))
    assert {size for _, size in rig.device.calls} <= {12, 4}


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


@pytest.mark.parametrize("number", [1, 3, 8, 13])
def test_every_batch_has_one_size_unless_the_last_lanes_may_move(number):
    rig = Rig([3 + 7 * n % 31 for n in range(number)], batch=8, budget=40, shrink=False)
    ended = rig.all(pending=1)
    assert rig.device.sizes == [8] and not rig.device.asked
    assert {one.sizes for one in ended} == {(8,)}


def test_an_image_knows_the_sizes_of_its_batches():
    rig = Rig([20, 40, 60, 80, 100, 100, 100, 200], batch=8, budget=200)
    assert [one.sizes for one in rig.all()] == [(8,)] * 4 + [(8, 4)] * 3 + [(8, 4, 1)]


def test_what_is_saved_lasts_until_the_last_lane_has_spent_its_budget():
    rig = Rig([5, 5, 10**6, 10**6], batch=4, shrinks=False)
    rig.tasks[2].evaluations, rig.tasks[3].evaluations = 30, 100
    rig.all()
    assert rig.device.asked[0] == (2, 95)


def test_a_batch_stays_as_it_is_while_more_may_come(monkeypatch):
    monkeypatch.setattr(batches, "CALL_SECONDS", 0.001)  # it waits in real time
    rig = Rig([20, 20, 20, 200], batch=4, budget=200, tick=0.0001)
    rig.queues._planned = False
    ended = rig.run()
    assert next(ended).task.number == 0
    assert rig.queues.offer(SimpleNamespace(group=GROUP, shot=""))  # which is not decoded in time
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


@pytest.mark.parametrize("ended_before", [0, 1, 4])
def test_abandoned_queues_end_the_run(ended_before):
    rig = Rig([10, 20, 50] * 5, batch=2, budget=100)
    ended = rig.run()
    for _ in range(ended_before):
        next(ended)
    rig.queues.abandon()
    chunks = rig.device.calls.count(("advance", 2))
    assert list(ended) == [] and rig.device.calls.count(("advance", 2)) == chunks


def test_abandoned_queues_end_a_run_that_waits_for_its_first_picture():
    rig, made = Rig([], batch=4), []
    assert rig.queues.offer(SimpleNamespace(group=GROUP, shot=""))  # and nobody decodes it
    thread = threading.Thread(target=lambda: made.extend(rig.run()), daemon=True)
    thread.start()
    rig.queues.abandon()
    thread.join(60)
    assert not thread.is_alive() and made == []


def test_stopped_queues_let_the_lanes_finish():
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
    rig.device.fitting = lambda call, _: (
        seen.append((call, rig.scheduler.usage.since <= lanes.time.monotonic())) or True
    )
    rig.all()
    assert seen == [("batch", False), ("put", True), ("advance", True), ("advance", True), ("result", True)]


def test_a_call_that_compiles_may_take_an_hour_longer():
    rig = Rig([10, 20], batch=2)
    seen = {}
    later = lambda: rig.scheduler.usage.since > lanes.time.monotonic() + 3500  # noqa: E731
    rig.device.fitting = lambda call, _: seen.update({call: later()}) or True
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


@pytest.mark.parametrize("each", [1, 3])
def test_each_lane_is_saved_at_its_own_multiples_and_by_its_true_number(each):
    """Lanes begin at different times, and a solver may spend several evaluations a tick."""
    rig, told = Rig([5, 12, 39, 39, 39], batch=2, budget=39, shrink=False, each=each), []

    def note(task, result, evaluations, status):
        assert result.image[0, 0, 0] == pytest.approx(task.number + (evaluations - 3) / 1000)
        told.append((task.number, evaluations, status))

    rig.scheduler._saving = lanes.Saving(10, lambda task: 3, note)
    rig.all()
    found = {number: [n for task, n, _ in told if task == number] for number in range(5)}
    whole = [10, 20, 30, 40] if each == 1 else [12, 21, 30, 42]
    assert found == {0: [], 1: [10] if each == 1 else [12], 2: whole, 3: whole, 4: whole}
