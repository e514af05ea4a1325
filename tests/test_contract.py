"""What every device must do, whatever is behind it; see jaxstyle/planning/contract.py.

MAKERS has the stand-ins; the real one is made from the real weights. All have room for four lanes at least.
"""

import numpy as np
import pytest
from pictures import painting, photo
from stub import StubDevice

from jaxstyle.engine.device import JaxDevice
from jaxstyle.planning.batches import batch_size, batch_sizes, chosen_batch
from jaxstyle.planning.contract import Group, OutOfMemory
from jaxstyle.planning.painting import Painting
from jaxstyle.settings import RenderSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.status import Status

BUCKET = (64, 32)
GROUP = Group(BUCKET)
SHALLOW = dict(style_layers=("relu1_1",), content_layers=("relu2_1",))  # quickly compiled
SETTINGS = RenderSettings(preset="classic", size=64, **SHALLOW)
STYLE = Painting.of(painting().astype(np.float32) / 255)
MAKERS = {
    "stub": lambda: StubDevice(),
    "two stubs": lambda: StubDevice(count=2),
    "a stub that does not shrink": lambda: StubDevice(shrink="no"),
}


@pytest.fixture(params=[*MAKERS, "jax"])
def device(request):
    if request.param == "jax":
        return JaxDevice(SETTINGS, request.getfixturevalue("network"), STYLE)
    return MAKERS[request.param]()


def inputs(seed, width=60, height=30):
    """A picture that does not fill its bucket."""
    picture = photo(width, height, seed).astype(np.float32) / 255
    return lane_inputs(picture, picture, BUCKET[1], BUCKET[0])


def filled(device, size=4, evaluations=6, group=GROUP):
    batch = device.batch(group, size)
    for lane in range(size):
        batch.put(lane, inputs(lane), evaluations, STYLE)
    return batch


def test_it_says_what_it_is_and_costs(device):
    assert device.count >= 1 and device.memory > 0 and device.n_compiled == 0
    assert device.precision in ("float32", "bfloat16")
    assert 0 < device.memory_bytes(BUCKET, 1) < device.memory_bytes(BUCKET, 4)
    assert 1 <= device.preferred_batch(BUCKET) <= device.max_batch(BUCKET)
    assert isinstance(device.worth_shrinking(GROUP, 1, 1), bool)


def test_every_size_of_a_batch_is_a_multiple_of_the_devices(device):
    wanted = 3 + device.count  # 4 by one device: the batches of the other tests; 5 by two, one more than a multiple
    most = chosen_batch(device, BUCKET, wanted)
    assert most % device.count == 0 and wanted <= most < wanted + device.count
    for size in batch_sizes(most, device.count):
        device.batch(GROUP, size)


def test_a_new_batch_is_idle(device):
    snapshot = device.batch(GROUP, 4).advance(3)
    assert snapshot.status.shape == snapshot.evaluations.shape == snapshot.loss.shape == (4,)
    assert (snapshot.status != Status.RUNNING).all() and not snapshot.evaluations.any()


def test_a_lane_ends_with_its_own_budget_and_holds_its_own_image(device):
    batch = device.batch(GROUP, 4)
    batch.put(1, inputs(1), 3, STYLE)
    batch.put(2, inputs(2), 5, STYLE)
    snapshot = batch.advance(2)
    assert snapshot.evaluations.tolist() == [0, 2, 2, 0] and snapshot.status[1] == snapshot.status[2] == Status.RUNNING
    snapshot = batch.advance(2)
    assert snapshot.evaluations[1:3].tolist() == [3, 4]
    assert (snapshot.status[1], snapshot.status[2]) == (Status.BUDGET, Status.RUNNING)
    first, second = batch.result(1), batch.result(2)
    assert {name: float(values[1]) for name, values in snapshot.terms.items()} == first.terms
    assert first.image.shape == (32, 64, 3) and first.image.dtype == np.float32
    assert np.isfinite(first.start_loss) and sum(first.terms.values()) < first.start_loss
    assert first.precision == device.precision and not np.array_equal(first.image, second.image)


def test_an_ended_lane_stays_as_it_is_and_can_be_filled_again(device):
    batch = filled(device, evaluations=2)
    batch.advance(2)
    before = batch.result(0).image
    batch.put(3, inputs(9), 4, STYLE)
    snapshot = batch.advance(4)
    assert snapshot.evaluations.tolist() == [2, 2, 2, 4]
    np.testing.assert_array_equal(batch.result(0).image, before)


def test_a_result_does_not_depend_on_the_lane_or_on_what_lies_beside_it(device):
    one, other = device.batch(GROUP, 4), filled(device)
    one.put(3, inputs(7), 4, STYLE)
    other.put(0, inputs(7), 4, STYLE)
    one.advance(1), other.advance(4)
    one.advance(3)  # nor on where the host looks
    np.testing.assert_array_equal(one.result(3).image, other.result(0).image)


def test_a_smaller_batch_goes_on_with_the_lanes_that_were_chosen(device):
    batch, whole = filled(device), filled(device)
    batch.advance(2)
    smaller = batch.select([3, 1], 2)
    snapshot = smaller.advance(1)
    assert snapshot.evaluations.tolist() == [3, 3] and (snapshot.status == Status.RUNNING).all()
    smaller.advance(3), whole.advance(6)
    for new, old in enumerate((3, 1)):
        np.testing.assert_allclose(smaller.result(new).image, whole.result(old).image, atol=0.05)


def test_a_smaller_batch_may_have_idle_lanes(device):
    batch = filled(device)
    batch.advance(2)
    snapshot = batch.select([2], 2).advance(1)
    assert snapshot.status[0] == Status.RUNNING != snapshot.status[1] and snapshot.evaluations[0] == 3


def test_only_making_batches_compiles(device):
    batch = device.batch(GROUP, 4)
    made = device.n_compiled
    batch.put(0, inputs(0), 3, STYLE)
    batch.advance(1), batch.advance(2), batch.result(0)
    assert device.n_compiled == made
    assert made >= 1 or isinstance(device, JaxDevice)  # which shares the programs of earlier ones
    device.batch(GROUP, 4)
    assert device.n_compiled == made


def test_a_careful_group_has_a_batch_of_its_own(device):
    batch = filled(device, group=Group(BUCKET, careful=True))
    batch.advance(6)
    assert batch.result(0).precision == "float32"


@pytest.mark.parametrize("call", ["batch", "put", "advance", "select"])
def test_the_stub_runs_out_of_memory_where_it_is_told(call):
    device, steps = StubDevice(full=call, room=3), []
    with pytest.raises(OutOfMemory, match="no room for"):
        steps.append("batch")
        batch = device.batch(GROUP, 4)
        steps.append("put")
        batch.put(0, inputs(0), 4, STYLE)
        steps.append("advance")
        batch.advance(1)
        steps.append("select")
        batch.select([0], 2)
    assert steps[-1] == call
    small = StubDevice(full=call, room=3).batch(GROUP, 2)
    small.put(0, inputs(0), 4, STYLE)
    small.advance(1)


def test_the_stub_that_does_not_shrink_says_so():
    assert StubDevice().worth_shrinking(GROUP, 4, 100) and not StubDevice(shrink="no").worth_shrinking(GROUP, 4, 100)


def test_sizes_of_batches_are_halves_in_multiples_of_the_devices():
    assert batch_sizes(8) == [8, 4, 2, 1] and batch_sizes(1) == [1] and batch_sizes(6) == [6, 3, 1]
    assert batch_sizes(100)[:3] == [100, 50, 25]
    assert batch_sizes(12, 4) == [12, 4] and batch_sizes(32, 4) == [32, 16, 8, 4] and batch_sizes(3, 3) == [3]
    assert [batch_size(8, n) for n in (9, 8, 7, 3, 1, 0)] == [8, 8, 4, 2, 1, 1]
    assert [batch_size(8, n, 2) for n in (8, 3, 1)] == [8, 2, 2]


def test_a_batch_is_as_asked_if_it_fits_or_as_the_device_prefers(monkeypatch):
    device = StubDevice(count=2)
    assert [chosen_batch(device, BUCKET, asked) for asked in ("auto", 1, 2, 5, "6")] == [8, 2, 2, 6, 6]
    monkeypatch.setattr(device, "max_batch", lambda bucket: 4)
    assert chosen_batch(device, BUCKET, 64) == 4
