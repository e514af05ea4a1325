"""Costs by hand for small shapes, against JAX's own program and XLA's account of it, and the memory that there is."""

import os
import subprocess
import sys
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstyle.architecture import ARCHITECTURES, VGG16, VGG19
from jaxstyle.model.weights_file import Weights
from jaxstyle.planning import cost, host, memory
from jaxstyle.presets import PRESETS, Objective
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.initial import lane_inputs
from jaxstyle.style.stylizer import Stylizer

PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=100)
SHALLOW = dict(content_layers=("relu1_1",), style_layers=("relu1_1",))
SIDE = st.integers(1, 64).map(lambda n: 32 * n)
CHOICES = st.builds(
    StylizeSettings,
    preset=st.sampled_from([*PRESETS]),
    solver=st.sampled_from(["lbfgs", "adam", "jaxopt-zoom"]),
    history=st.integers(1, 40),
    precision=st.sampled_from(["auto", "bfloat16"]),
)
GIB = 2**30


def engine(**fields):
    """A stylizer whose weights are all 0: what it costs does not depend on them."""
    chosen = StylizeSettings(**fields)
    network = ARCHITECTURES[chosen.network]
    zeros = {
        name: {"kernel": np.zeros(s, np.float32), "bias": np.zeros(s[3:], np.float32)}
        for name, s in network.kernel_shapes.items()
    }
    return Stylizer(chosen, Weights(zeros, "torchvision", "zeros", network))


def batch_of(stylizer, bucket, size):
    """Shapes of a batch of lanes that share a style, and of one lane with its targets."""
    width, height = bucket
    blank = np.zeros((height, width, 3), np.float32)
    inputs = lane_inputs(blank, blank, height, width)
    picture = np.zeros((32, 32, 3), np.float32)
    style = jax.eval_shape(lambda: stylizer.style_targets(picture))
    one = jax.eval_shape(lambda style: stylizer.start(inputs, style), style)
    return jax.eval_shape(lambda one: stylizer.fill(one, size), one), one


def compiled(stylizer, bucket, size):
    """The program of `Stylizer.advance` for lanes of this shape."""
    batch, _ = batch_of(stylizer, bucket, size)
    program, calls = stylizer._advance, []
    stylizer._advance = lambda *arguments: calls.append(arguments)
    stylizer.advance(batch, 10)
    return program.lower(*calls[0]).compile()


def test_operations_by_hand():
    one = Objective(content_layers=("relu1_1",), style_layers=("block1_conv1",))
    convolution, product = 32 * 32 * 64 * 3 * 9, 32 * 32 * 64 * 64
    assert cost.evaluation_flops((32, 32), one) == 2 * 2 * (convolution + product) == 23_855_104
    two = Objective(content_layers=("relu1_1",), style_layers=("relu2_1",))
    convolutions = 64 * 32 * (64 * 3 * 9 + 64 * 64 * 9) + 32 * 16 * 128 * 64 * 9
    assert cost.evaluation_flops((64, 32), two) == 2 * 2 * (convolutions + 32 * 16 * 128 * 128) == 500_695_040


def test_the_whole_network_at_256_and_512_pixels():
    deepest = Objective(content_layers=("relu5_3",), style_layers=("relu1_1",))
    gram = 4 * 256**2 * 64**2
    assert cost.evaluation_flops((256, 256), deepest) - gram == pytest.approx(80e9, rel=0.01)  # the known figures
    assert cost.evaluation_flops((512, 512), deepest) - 4 * gram == pytest.approx(320e9, rel=0.01)


def products(jaxpr):
    """Operations of all convolutions and matrix products of a program, from the shapes in it."""
    total = 0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval.shape
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape  # height, width, in, out
            total += 2 * int(np.prod(out)) * int(np.prod(kernel[:3]))
        elif equation.primitive.name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            total += 2 * int(np.prod(out)) * int(np.prod([equation.invars[0].aval.shape[d] for d in summed]))
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                total += products(inner) if hasattr(inner, "eqns") else 0
    return total


DEEP_VGG19 = dict(network="vgg19", content_layers=("relu3_4", "relu5_4"))


@pytest.mark.parametrize(
    "fields", [*(dict(preset=one) for one in PRESETS), DEEP_VGG19, dict(style_loss="w2"), dict(style_loss="moments")],
    ids=[*PRESETS, "vgg19", "w2", "moments"],
)  # fmt: skip
def test_operations_are_those_of_the_program(fields):
    stylizer = engine(**fields)
    _, one = batch_of(stylizer, (96, 64), 1)
    evaluate = lambda image, targets, inside: stylizer.evaluate(stylizer.variables, targets, inside)(image)  # noqa: E731
    expected = products(jax.make_jaxpr(evaluate)(one.lane.point.image, one.targets, one.inside).jaxpr)
    if (
        stylizer.objective.padding == "replicate"
    ):  # the gradient of the padding, too, is convolved: two rows, two columns
        expected -= 2 * ((96 + 2) * (64 + 2) - 96 * 64) * 3 * 64 * 9
    assert cost.evaluation_flops((96, 64), stylizer.objective) == expected


@pytest.mark.parametrize("network", [VGG16, VGG19], ids=["vgg16", "vgg19"])
def test_parameters_are_those_of_the_network(network):
    stylizer = engine(network=network.name)
    variables = stylizer.variables
    for layers in (network.layers, network.layers[:5]):
        held = {part: {name: variables[part][name] for name in layers} for part in ("params", "backward")}
        assert memory.parameter_bytes(network, layers) == sum(leaf.nbytes for leaf in jax.tree.leaves(held))
    grams = memory.fixed_bytes(stylizer.settings) - memory.parameter_bytes(network, network.layers)
    assert grams == 4 * sum(network.channels(name) ** 2 for name in stylizer.objective.style_layers)


def test_bytes_by_hand():
    parameters, biases, grams = 14_714_688, 4224, 64**2 + 128**2 + 256**2 + 2 * 512**2
    assert memory.fixed_bytes(StylizeSettings()) == 4 * (2 * parameters - biases + grams)
    image, feature_map, gram = 32 * 32 * 3 * 4, 32 * 32 * 64 * 4, 64**2 * 4
    for preset, loss in (("balanced", "moments"), ("classic", "gram")):
        adam = StylizeSettings(preset=preset, solver="adam", **SHALLOW)
        # The map; the gradients of its Gram matrix and of its content term; their sum, and behind the convolution.
        evaluation = 4 * feature_map + image + memory.GRAMS[loss] * gram + memory.IMAGES * image
        target = scratch = feature_map
        assert memory.lane_bytes((32, 32), adam) == 5 * image + target + evaluation + scratch


def test_a_pair_of_the_history_costs_two_images():
    five, six = (memory.lane_bytes((96, 64), StylizeSettings(history=n, preconditioner="none")) for n in (5, 6))
    assert six - five == 2 * 96 * 64 * 3 * 4


def test_a_preconditioner_costs_a_third_more_for_the_history_and_a_direction():
    plain, other = (memory.lane_bytes((96, 64), StylizeSettings(preconditioner=p)) for p in ("none", "pyramid"))
    assert other - plain == pytest.approx(96 * 64 * 3 * 4 * (21 / 3 + 2 * 4 / 3 - 1), abs=2)


def test_xla_keeps_two_pyramids_a_pair_and_no_copy_of_the_history():
    """Beside the history itself, which is an argument that is written in place, it takes no memory.

    The preconditioner's diagonal reads all of it at every tick.
    """
    sizes = {}
    for history in (2, 12):
        found = compiled(engine(history=history, **SHALLOW), (64, 64), 2).memory_analysis()
        sizes[history] = found.temp_size_in_bytes, found.argument_size_in_bytes, found.alias_size_in_bytes
    temporary, arguments, alias = (many - few for few, many in zip(*sizes.values(), strict=True))
    pyramid = sum(side**2 for side in (64, 32, 16, 8, 4, 2)) * 3 * 4
    pairs = 10 * 2 * 2 * pyramid  # of two pyramids each, in two lanes
    assert abs(temporary) < 0.01 * pairs
    assert arguments == pytest.approx(pairs, rel=0.01) and alias == pytest.approx(pairs, rel=0.01)


def test_bfloat16_halves_the_maps_and_nothing_else():
    wide, narrow = (
        memory.lane_bytes((32, 32), StylizeSettings(solver="adam", precision=p, **SHALLOW))
        for p in ("auto", "bfloat16")
    )
    assert wide - narrow == 2 * (5 * 32 * 32 * 64 + 32 * 32 * 3)  # the content's target and what `evaluation` has above


@PROPERTY
@given(first=st.tuples(SIDE, SIDE), second=st.tuples(SIDE, SIDE), chosen=CHOICES)
def test_more_pixels_cost_more_whichever_way_they_lie(first, second, chosen):
    small = tuple(map(min, first, second))
    objective = chosen.objective()
    for measure in (lambda b: memory.lane_bytes(b, chosen), lambda b: cost.evaluation_flops(b, objective)):
        assert measure(small) <= measure(first)
        assert (measure(small) < measure(first)) == (small != first)
        assert measure(first) == measure(first[::-1]) > 0


@pytest.mark.parametrize("fields", [{}, {"solver": "adam"}], ids=["lbfgs", "adam"])
def test_against_the_program_that_xla_makes(fields):
    bucket, batch = (128, 128), 2
    stylizer = engine(**fields)
    program = compiled(stylizer, bucket, batch)
    chosen, objective = stylizer.settings, stylizer.objective

    # XLA counts the body of a loop once and no taps beyond a border: 4% at this size, fewer at larger ones.
    ratio = batch * cost.evaluation_flops(bucket, objective) / program.cost_analysis()["flops"]
    assert 1 < ratio < 1.08

    # The program gets no layers that it does not use. The model adds what the convolutions take outside of it.
    account = program.memory_analysis()
    xla = account.argument_size_in_bytes + account.output_size_in_bytes + account.temp_size_in_bytes
    xla -= account.alias_size_in_bytes
    unused = set(VGG16.layers) - set(cost.layers_used(objective))
    model = (
        memory.fixed_bytes(chosen) - memory.parameter_bytes(VGG16, unused) + batch * memory.lane_bytes(bucket, chosen)
    )
    assert 0.9 < model / xla < 1.2


@PROPERTY
@given(bucket=st.tuples(SIDE, SIDE), chosen=CHOICES, room=st.integers(0, 400 * GIB))
def test_the_largest_batch_fits_and_one_more_does_not(bucket, chosen, room):
    batch = memory.largest_batch(bucket, chosen, room)
    fixed, lane, usable = memory.fixed_bytes(chosen), memory.lane_bytes(bucket, chosen), (1 - memory.MARGIN) * room
    assert batch >= 0
    assert batch == 0 or fixed + batch * lane <= usable
    assert fixed + (batch + 1) * lane > usable - 1


def test_no_lane_fits_where_there_is_no_room():
    assert memory.largest_batch((512, 512), StylizeSettings(), 100 * 2**20) == 0
    assert memory.largest_batch((512, 512), StylizeSettings(), 80 * GIB) > 64


def test_it_is_known_without_jax():
    show = "import sys, jaxstyle.planning.cost; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_memory_of_this_machine():
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < host.host_memory() <= physical


def machine(root, files):
    """A file system with these files, and 8 GiB of RAM available."""
    for name, text in {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 * 2**20} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
GROUPS = {
    "no groups": ({}, 8 * GIB),
    "no limit": ({"proc/self/cgroup": "0::/a", f"{V2}/a/memory.max": "max", f"{V2}/a/memory.current": "5"}, 8 * GIB),
    "2": ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{3 * GIB}", f"{V2}/memory.current": f"{GIB}"}, 2 * GIB),
    "2, cached files": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{3 * GIB}\n", f"{V2}/memory.current": f"{2 * GIB}",
         f"{V2}/memory.stat": f"anon 9\ninactive_file {GIB}\nactive_file 7\n"},
        2 * GIB,
    ),
    "2, a group above": (
        {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/memory.max": f"{GIB}", f"{V2}/a/memory.current": "24",
         f"{V2}/a/b/memory.max": f"{2 * GIB}", f"{V2}/a/b/memory.current": "7"},
        GIB - 24,
    ),
    "2, limit above the RAM": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{50 * GIB}\n", f"{V2}/memory.current": "0"}, 8 * GIB,
    ),
    "2, used up": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "100\n", f"{V2}/memory.current": "101"}, 0,
    ),
    "1": (
        {"proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n0::/\n", f"{V1}/memory.limit_in_bytes": str(2**63 - 4096),
         f"{V1}/memory.usage_in_bytes": "1", f"{V1}/a/memory.limit_in_bytes": f"{4 * GIB}",
         f"{V1}/a/memory.usage_in_bytes": f"{3 * GIB}", f"{V1}/a/memory.stat": f"total_inactive_file {GIB}"},
        2 * GIB,
    ),
    "1, path of the host in a container": (
        {"proc/self/cgroup": "4:memory:/docker/abc\n", f"{V1}/memory.limit_in_bytes": f"{GIB}",
         f"{V1}/memory.usage_in_bytes": "1"},
        GIB - 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("files, expected", GROUPS.values(), ids=GROUPS)
def test_the_memory_that_a_control_group_leaves(tmp_path, files, expected):
    assert host.host_memory(machine(tmp_path, files)) == expected


@pytest.mark.parametrize(("files", "expected"), [(GROUPS["no limit"][0], 99 * 1024), (GROUPS["2"][0], 99 * 1024)])
def test_the_whole_memory_does_not_depend_on_what_is_in_use(tmp_path, files, expected):
    assert host.total_memory(machine(tmp_path, files)) == expected


@pytest.mark.parametrize("used", [0, 1, 3])
def test_a_limit_of_a_control_group_is_a_limit_of_the_whole_memory(tmp_path, used):
    root = machine(tmp_path, GROUPS["2"][0] | {f"{V2}/memory.current": str(used * GIB)})
    (root / "proc/meminfo").write_text(f"MemTotal: {64 * 2**20} kB\nMemAvailable: 5 kB\n")
    assert host.total_memory(root) == 3 * GIB
    assert 0 < host.total_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_without_proc_it_is_the_whole_memory_and_without_that_a_guess(tmp_path, monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert host.host_memory(tmp_path) == 4_096_000
    monkeypatch.delattr(os, "sysconf")
    assert host.host_memory(tmp_path) == 4 * GIB


def test_deeper_layers_cost_more():
    shallow = VGG16.layers[:1]
    costs = [
        cost.evaluation_flops((64, 64), Objective(content_layers=(name,), style_layers=shallow))
        for name in VGG16.layers
    ]
    assert all(less < more for less, more in pairwise(costs))


def test_an_objective_without_layers_costs_no_layers():
    none = StylizeSettings(content_weight=0, style_weight=0)
    assert 0 < memory.lane_bytes((64, 64), none) < memory.lane_bytes((64, 64), StylizeSettings(**SHALLOW))
    assert cost.evaluation_flops((64, 64), none.objective()) >= 1
