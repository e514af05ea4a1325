"""Where the memory of the device runs out, batches are halved and nothing is lost or done twice."""

from collections import Counter

import pytest
from counting import RUNNING, Rig, clock  # noqa: F401

from jaxstyle.errors import DeviceError

LENGTHS = [5, 30, 12, 40, 40, 7, 22, 33, 8, 40, 1, 19, 26]


def test_one_lane_a_device_that_is_too_much_is_each_ones_end():
    rig = Rig([10] * 9, batch=8, room=lambda call, lanes: call == "batch")
    rig.device.count = 4
    ended = rig.all()
    assert rig.smaller == [4] and len(ended) == 9 and all(one.result is None for one in ended)


def test_out_of_memory_the_batch_is_halved_until_it_fits_and_the_caller_is_told():
    rig = Rig([10] * 16, batch=8, room=lambda call, lanes: call == "batch" or lanes <= 2)
    rig.all()
    assert rig.smaller == [4, 2] and rig.device.sizes == [8, 4, 2]
    assert rig.scheduler.usage.spent == rig.scheduler.usage.offered == 16 * 10


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
