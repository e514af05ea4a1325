"""Several devices share the lanes of a batch: four are forced upon the CPU, in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import dataclasses, json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from pictures import painting, photo
from jaxstyle.style.initial import lane_inputs
from jaxstyle.engine.device import JaxDevice
from jaxstyle.planning.painting import Painting
from jaxstyle.planning.contract import Group
from jaxstyle.engine.queues import Queues
from jaxstyle.engine.lanes import BatchScheduler
from jaxstyle.errors import SettingsError
from jaxstyle.model import weights
from jaxstyle.settings import RenderSettings
from jaxstyle.style.stylizer import stylizer

STYLE = Painting.of((painting() / 255).astype(np.float32))

class Task:
    style = STYLE

    def __init__(self, number):
        self.number, self.evaluations = number, 10
        self.content = self.init = photo(32, 32, seed=number).astype(np.float32) / 255
        self.inputs = lane_inputs(self.content, self.init, 32, 32)

def rendered(devices, batch, order=range(6)):
    few = dict(style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))  # quickly compiled
    settings = RenderSettings(preset="classic", size=32, evaluations=10, devices=devices, **few)
    device = JaxDevice(settings, weights.load(None), Painting.of(painting().astype(np.float32) / 255))
    queues = Queues(lambda _: batch, window=100)
    for number in order:
        queues.ready(Group((32, 32)), Task(number))
    queues.end()
    lanes = BatchScheduler(device, queues, lambda *_: None)
    ended = list(lanes.run(*queues.choose(), batch, print))
    return device, {e.task.number: e for e in ended}

one, alone = rendered(1, 1)
four, shared = rendered("all", 4)
moved = rendered("all", 4, [5, 2, 0, 3, 1, 4])[1]
loss = lambda ended: sum(ended.result.terms.values())
same = [bool((shared[n].result.image == moved[n].result.image).all()) for n in moved]
apart = [abs(loss(shared[n]) / loss(alone[n]) - 1) for n in alone]
batch = four.batch(Group((32, 32)), 4)
for lane in range(4):
    batch.put(lane, Task(lane).inputs, 24, STYLE)
engine, lanes = batch._engine, batch._batch.lanes
rest = dataclasses.replace(batch._batch, lanes=None)
limits = engine._on_all((np.int32(2), np.float32(0)))
text = engine._advance.lower(engine._everywhere, lanes, rest, *limits).compile().as_text()
collectives = [name for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
               if name + "(" in text or name + "-start(" in text]
starts = [engine._start._cache_size()]
smaller = four.batch(Group((32, 32)), 8)
for lane in range(8):
    smaller.put(lane, Task(lane).inputs, 24, STYLE)
order = [7, 0, 3, 5, 1]
mixed = smaller.select(order, 8)
picked = smaller.select([6, 1, 3], 4)
programs = [one.n_compiled, four.n_compiled]
starts.append(engine._start._cache_size())
jax.config.update("jax_transfer_guard", "disallow")
guarded = four.batch(Group((32, 32)), 4)
guarded.put(1, Task(1).inputs, 3, STYLE)
guarded = guarded.select([1], 4)
guarded.advance(3)
guarded = guarded.result(0).loss
in_products = stylizer(one.settings, devices=4, forms=(("block1_conv2", "rows", "tall"),))
targets = in_products.style_targets(STYLE.parts[0].levels)
stacked = in_products.stack([in_products.start(Task(n).inputs, targets, 10) for n in range(4)])
stacked = np.asarray(jax.device_get(in_products.advance(stacked, 10).lanes.result.loss)).tolist()
jax.config.update("jax_transfer_guard", "allow")
try:
    JaxDevice(RenderSettings(devices=5), weights.load(None), None)
    refused = ""
except SettingsError as error:
    refused = str(error)
print(json.dumps({
    "devices": len(jax.local_devices()), "count": four.count, "same": same, "apart": apart, "refused": refused,
    "products": [s / loss(alone[n]) for n, s in enumerate(stacked)],
    "programs": programs, "collectives": collectives,
    "running": (np.asarray(mixed._batch.lanes.status) == 0).tolist(),
    "mixed": [bool((mixed.result(k).image == Task(n).init).all()) for k, n in enumerate(order)],
    "spread": len(lanes.point.image.sharding.device_set), 
    "shard": list(lanes.point.image.addressable_shards[0].data.shape),
    "starts": starts, "guarded": guarded,
    "picked": [bool((picked.result(k).image == Task(n).init).all()) for k, n in enumerate([6, 1, 3])],
    "preferred_batch": [one.preferred_batch((32, 32)), four.preferred_batch((32, 32))],
}))
"""


@pytest.fixture(scope="module")
def found(network, cache):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_all_devices_are_used_with_equal_parts_of_a_batch(found):
    assert found["devices"] == found["count"] == found["spread"] == 4
    assert found["shard"] == [1, 32, 32, 3] and found["preferred_batch"] == [2, 8]


def test_a_lane_is_the_same_to_the_bit_on_whichever_device_it_is(found):
    assert found["same"] == [True] * 6


def test_a_lane_comes_out_as_on_a_single_device_but_for_rounding(found):
    # another program, with sums in another order; see test_device.py for what that may do to single lanes
    assert sorted(found["apart"])[2] < 1e-5 and max(found["apart"]) < 0.02, found["apart"]


def test_every_device_has_the_kernels_of_products(found):
    """Without a transfer, which the guard would refuse; the loss is that of float32 up to bfloat16's rounding."""
    assert all(0.95 < one < 1.05 for one in found["products"]), found["products"]
    assert found["products"] != [1.0] * 4


def test_one_program_and_nothing_passes_between_devices_while_lanes_advance(found):
    assert found["programs"][1] == 2  # for four lanes and for eight, however often they are filled
    assert found["collectives"] == []


def test_targets_are_computed_by_one_program_on_one_device(found):
    assert found["starts"] == [1, 1]


def test_several_devices_work_under_the_transfer_guard(found):
    assert found["guarded"] > 0


def test_lanes_move_to_a_smaller_batch(found):
    assert found["picked"] == [True] * 3 and found["mixed"] == [True] * 5
    assert found["running"] == [True] * 5 + [False] * 3


def test_more_devices_than_there_are_are_refused(found):
    assert "devices is 5" in found["refused"] and "at most 4" in found["refused"]


DIVIDED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from pictures import painting
from jaxstyle.engine import device, jax_setup
from jaxstyle.planning import host
from jaxstyle.model import weights
from jaxstyle.settings import RenderSettings

jax_setup.cores = lambda: int(sys.argv[2])
jax_setup.set_up()
network, found = weights.load(None), []
for gibibytes, devices in json.loads(sys.argv[3]):
    host.total_memory = lambda: int(gibibytes * 2**30)
    made = device.JaxDevice(RenderSettings(size=512, devices=devices), network, None)
    sizes = [made.preferred_batch(bucket) for bucket in ((512, 384), (64, 48))]
    found.append([jax.local_device_count(), made.count, *sizes])
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "cores, flags, expected",
    [
        (16, "", {(8, "all"): [4, 4, 4, 8], (3, "all"): [4, 2, 2, 4],  # a quarter of it has no room for 512 x 512
                  (1.5, "all"): [4, 1, 1, 2], (8, 1): [4, 1, 1, 2]}),
        (1, "", {(8, "all"): [1, 1, 1, 2]}),
        (4, "--xla_force_host_platform_device_count=3", {(8, "all"): [3, 3, 3, 6]}),
    ],
)  # fmt: skip
def test_a_cpu_of_several_cores_is_several_devices_unless_jax_was_told(network, cache, cores, flags, expected):
    """Expected of (memory in GiB, setting `devices`): devices of JAX, devices in use, batches of two shapes."""
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", DIVIDED, str(Path(__file__).parent), str(cores), json.dumps([*expected])]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [*expected.values()]


BENCHED = """
import jax
from jaxstyle.bench import measure, rates
from jaxstyle.engine import jax_setup
from jaxstyle.settings import RenderSettings

def product(*_):
    print(jax.local_device_count())
    raise KeyboardInterrupt

jax_setup.cores, rates.product = lambda: 4, product
try:
    measure.measure(RenderSettings(), tell=lambda _: None)
except KeyboardInterrupt:
    pass
"""


def test_the_bench_measures_a_cpu_divided_as_in_a_run():
    command, environment = [sys.executable, "-c", BENCHED], os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.stdout.split() == ["2"], run.stderr
