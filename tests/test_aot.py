"""The structure of the renderer's programs, compiled for described H100s: what moves memory to no purpose is not there.

It needs JAX's CUDA plugin, which is 5.7 GB and is not installed where the other tests run; `.ci/compiled` installs it.
"""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("jax_cuda12_plugin") is None:
    pytest.skip("JAX's CUDA plugin is not installed: pip install '.[cuda]'", allow_module_level=True)
sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import aot
import hlo
import traffic

SIZE, BATCH, HISTORY, FORWARD = 256, 8, 10, 11
"""Long side in pixels of the compiled lanes, their number, pairs of a history, and convolutions of an evaluation."""


@pytest.fixture(scope="module")
def programs():
    """Returns a function of a case: what aot.py found, and the program's text; each compiled once."""
    found = {}

    def program(name, number=1, **fields):
        usual = {"size": SIZE, "batch": BATCH, "precision": "bfloat16", "settings": '{"preset":"classic"}'}
        case = aot.Case("h100", **{**usual, **fields}, number=number, program=name)
        if case not in found:
            texts = []
            found[case] = (
                aot.compiled(case, aot.lowered(case)[0], texts.append) | {"model": aot.estimate(case).get("model")},
                texts[0],
            )
        return found[case]

    return program


def largest(rows):
    """Elements of the largest array that any of these instructions makes."""
    return max((math.prod(one.shape) for row in rows for one in hlo.arrays(row.one.type)), default=0)


def test_no_history_is_copied(programs):
    """It is written in place: nothing copies it, and nothing writes as much as a whole history."""
    text = programs("advance")[1]
    read = hlo.read(text)
    image = 3 * SIZE * SIZE * 3 // 4
    copies = [row for row in traffic.moved(read, read.entry) if row.part == "copies"]
    assert largest(copies) < BATCH * image * HISTORY
    assert largest(row for row in traffic.moved(read, read.tick()) if row.part == "copies") <= BATCH * image
    written = [row.written for row in traffic.moved(read, read.tick()) if row.part == "solver"]
    assert 4 * BATCH * image <= max(written) < 4 * BATCH * image * HISTORY / 2


def test_the_default_takes_few_more_launches_and_bytes_than_classic(programs):
    """One launch does for all levels of its pyramid what it does level by level, and no loop reads the history."""
    found, text = programs("advance", settings="{}")
    plain, _ = programs("advance")
    read = hlo.read(text)
    assert {row.times for row in traffic.moved(read, read.tick())} == {1}
    assert found["launches"] <= 1.3 * plain["launches"] and found["bytes"] <= 1.15 * plain["bytes"]


def test_a_relu_is_in_the_kernel_of_its_convolution(programs):
    found, _ = programs("advance")
    assert found["relu"] == FORWARD and sum(found["convolutions"].values()) == 2 * FORWARD


def test_maps_keep_their_layout(programs):
    """Every convolution takes and gives channels last in bfloat16, and no map is transposed between two of them."""
    found, text = programs("advance")
    assert {kind.split(" ", 1)[1] for kind in found["convolutions"]} == {"bf16 b01f_o01i->b01f"}
    read = hlo.read(text)
    rows = [row for row in traffic.moved(read, read.tick()) if row.part == "copies"]
    smallest = BATCH * (SIZE // 16) * (SIZE * 3 // 4 // 16) * 512  # the map of block5_conv1
    assert all("bf16" not in row.one.type for row in rows) or largest(rows) < smallest


@pytest.mark.parametrize("name", ["advance", "put", "fill"])
def test_devices_do_not_communicate(programs, name):
    assert programs(name, 4)[0]["collectives"] == {}


def test_communication_would_be_seen(programs):
    """Lanes that move to a batch of half the size pass between devices, and nothing else does. They take no more memory
    than a tick."""
    found, advance = programs("pick", 4)[0], programs("advance", 4)[0]
    assert found["collectives"].keys() == {"all-gather", "reduce-scatter"}
    assert found["memory"]["alive"] <= advance["memory"]["alive"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("advance", {}),
        ("advance", {"batch": 1}),
        ("advance", {"precision": "float32"}),
        ("advance", {"number": 4}),
        ("advance", {"settings": "{}"}),
    ],
    ids=["a batch", "one lane", "float32", "four devices", "the default"],
)
def test_the_estimate_of_memory_is_enough(programs, name, fields):
    found, _ = programs(name, **fields)
    assert found["memory"]["alive"] <= found["model"] <= 1.3 * found["memory"]["alive"]
