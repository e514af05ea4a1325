"""The GPU program, on the CPU: a quick run of the whole, and the parts that only a GPU would reach, on made-up data."""

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from pictures import painting

from jaxstyle.architecture import VGG16
from jaxstyle.errors import WeightsError

BENCH = Path(__file__).parent.parent / "bench"
PROGRAM = BENCH / "gpu.py"
CACHE = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size", "jax_persistent_cache_min_compile_time_secs",
         "jax_persistent_cache_min_entry_size_bytes")  # fmt: skip
"""Settings of JAX's cache of programs."""


@pytest.fixture(scope="module")
def parts():
    """The program's modules, which import one another by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        patch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import gpu
        import gpu_sections
        import half_weights
        import harness
        import kernels
        import lab
        import lanes

        patch.setattr(harness, "_drawn", lambda: [painting()] * 3)  # the fixture `record` draws the demo's styles
        yield {
            "gpu": gpu, "sections": gpu_sections, "half": half_weights, "harness": harness, "kernels": kernels,
            "lab": lab, "lanes": lanes,
        }  # fmt: skip


def start(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
    )  # fmt: skip


def strict(text):
    """JSON without NaN and infinities, which other readers refuse."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def record(parts, network, cache, tmp_path_factory):
    """What a quick run writes, with weights of half precision as they are carried; it compiles no program twice."""
    folder = tmp_path_factory.mktemp("gpu")
    assert parts["half"].write(network, folder / "half.npz") < 1e-3
    kept = {name.upper(): str(getattr(jax.config, name)) for name in CACHE}
    run = start("--quick", "--weights", folder / "half.npz", OUT=str(folder / "out"), **kept)
    assert run.returncode == 0, run.stdout + run.stderr
    found = strict((folder / "out" / "gpu.json").read_text())
    for name, one in found["sections"].items():
        assert f"{name}: {one['state']}" in run.stdout
        assert all(line.strip() in run.stdout for line in one["lines"])
    return found


def test_every_section_is_measured(record):
    states = {name: one["state"] for name, one in record["sections"].items()}
    assert list(states) == ["device", "correct", "ladder", "torch", "sweep", "profile"]
    torch = record["sections"]["torch"]
    assert states.pop("torch") == "measured" or "PyTorch" in torch["reason"]
    assert set(states.values()) == {"measured"}
    assert record["scale"] == "quick" and "float16" in record["weights"]
    assert record["machine"]["backend"] == "cpu" and record["machine"]["versions"]["jax"]


def test_float32_on_the_cpu_is_its_own_reference(record):
    errors = record["sections"]["correct"]["values"]["errors"]
    assert errors["float32"]["loss"] < 1e-6 and errors["float32"]["gradient"] < 1e-5 and errors["chunk"] < 1e-5
    assert 1e-7 < errors["bfloat16"]["loss"] < 0.1  # it is another precision


def test_the_ladder_scores_every_precision_against_float32s_losses(record):
    ladder = record["sections"]["ladder"]["values"]
    assert set(ladder["losses"]) == set(ladder["seconds_chunk"]) == {"float32", "bfloat16"}
    for curves in ladder["losses"].values():
        assert np.shape(curves) == (2, 2) and all(first > last > 0 for first, last in curves)
    own = {row["part"]: row for row in ladder["to_loss"] if row["precision"] == "float32"}
    assert (own[0.5]["evaluations"], own[1.0]["evaluations"]) == (10, 20) and ladder["final"]["float32"] == 1
    assert own[1.0]["seconds"] == pytest.approx(2 * ladder["seconds_chunk"]["float32"] / ladder["lanes"])


def test_the_sweep_and_the_profile_tell_where_the_time_goes(record):
    first, rates = (record["sections"][name]["values"]["product"] for name in ("device", "sweep"))
    assert all(rates[name] >= first[name] > 0 for name in ("float32", "bfloat16"))
    for row in record["sections"]["sweep"]["values"]["rows"]:
        rate = row["batch"] * row["flops"] / row["seconds_tick"]
        assert row["utilisation"] == pytest.approx(rate / rates[row["precision"]])
        assert row["memory"]["temp"] > 0 and row["memory_by_model"] > 0 and row["compile_seconds"] >= 0
    profile = record["sections"]["profile"]["values"]
    assert sum(profile["kinds"].values()) == pytest.approx(profile["milliseconds"])
    assert profile["kinds"]["convolution"] > 0
    assert {"tick", "evaluation"} == set(profile["seconds"])


def test_without_time_everything_is_skipped_and_said_so(tmp_path):
    run = start("--quick", "--minutes", 0, "-o", tmp_path / "gpu.json")
    assert run.returncode == 0, run.stdout + run.stderr
    sections = strict((tmp_path / "gpu.json").read_text())["sections"]
    assert all(one["state"] == "skipped" and "budget" in one["reason"] for one in sections.values()) and sections


def test_a_section_that_fails_leaves_its_traceback_and_the_others_alone(parts, monkeypatch):
    gpu, lab = parts["gpu"], parts["lab"].Lab(parts["lab"].QUICK, None, 1)

    def broken(_):
        raise ZeroDivisionError("by nought")

    def skipped(_):
        raise parts["lab"].Skip("no such device")

    monkeypatch.setattr(gpu, "ALL", {
        "broken": broken, "skipped": skipped, "wrong": lambda _: ({"wrong": ["a loss is not finite"]}, ["line"]),
        "good": lambda _: ({"wrong": []}, []),
    })  # fmt: skip
    found = {name: gpu.section(name, lab) for name in gpu.ALL}
    assert {name: one["state"] for name, one in found.items()} == {
        "broken": "failed", "skipped": "skipped", "wrong": "failed", "good": "measured",
    }  # fmt: skip
    assert "ZeroDivisionError: by nought" in found["broken"]["traceback"] and "broken" in found["broken"]["traceback"]
    assert found["wrong"]["reason"] == "a loss is not finite" and found["wrong"]["lines"] == ["line"]


def test_json_has_null_for_what_is_not_finite(parts):
    assert parts["harness"].finite({1: [math.inf, (math.nan, 2.0)], "a": "b"}) == {"1": [None, [None, 2.0]], "a": "b"}


def test_time_to_a_loss_is_the_first_time_in_the_median_pair(parts):
    reference = [[4.0, 3.0, 2.0, 1.0]] * 3
    ours = [[3.0, 2.0, 2.5, 0.5], [4.0, 3.5, 2.0, 1.5], [5.0, 5.0, 5.0, 5.0]]
    half, whole = (parts["sections"].to_loss(reference, ours, part, 0.5) for part in (0.5, 1.0))
    assert half == {"evaluations": 30, "seconds": 1.5, "reached": 2}
    assert whole["reached"] == 1 and math.isinf(whole["evaluations"]) and math.isinf(whole["seconds"])


def test_half_weights_come_back_as_float32(parts, network, tmp_path):
    half, path = parts["half"], tmp_path / "carry" / "half.npz"
    half.write(network, path)
    assert path.stat().st_size < 30e6
    back = half.load(path)
    assert back.feature_scale == network.feature_scale and back != network
    for name in VGG16.layers:
        np.testing.assert_array_equal(back.parameters[name]["bias"], network.parameters[name]["bias"])
        kernel = network.parameters[name]["kernel"]
        assert back.parameters[name]["kernel"].dtype == np.float32
        np.testing.assert_array_equal(back.parameters[name]["kernel"], kernel.astype(np.float16).astype(np.float32))
    with np.load(path) as file:
        arrays = dict(file)
    for change, error in (
        ({"block1_conv1/kernel": np.zeros((3, 3, 3, 8))}, WeightsError),
        ({"preprocessing": np.array("other")}, ValueError),
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        with pytest.raises(error):
            half.load(tmp_path / "bad.npz")


HLO = """HloModule jit_advance

%fused_computation.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %dot.1 = f32[8]{0} dot(%param_0, %param_0), lhs_contracting_dims={0}
}

ENTRY %main.9 (Arg_0: f32[8]) -> f32[8] {
  %Arg_0 = f32[8]{0} parameter(0)
  %cudnn-conv.3 = (f32[8]{0}, u8[0]{0}) custom-call(%Arg_0), custom_call_target="__cudnn$convForward", metadata={op_name="jit(advance)/while/body/conv_general_dilated"}
  %convert_fusion = bf16[8]{0} fusion(%Arg_0), kind=kLoop, calls=%other, metadata={op_name="jit(advance)/convert_element_type"}
  %while.2 = f32[8]{0} while(%Arg_0), condition=%c, body=%b
  ROOT %gemm_fusion = f32[8]{0} fusion(%Arg_0), kind=kCustom, calls=%fused_computation.1, metadata={op_name="jit(advance)/dot_general"}
}
"""  # noqa: E501


def test_kernels_of_a_gpus_trace_are_told_by_what_they_do(parts, tmp_path, monkeypatch):
    kernels = parts["kernels"]
    names = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}},
        {"ph": "M", "name": "process_name", "pid": 2, "args": {"name": "/host:CPU"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 13, "args": {"name": "Stream #13(Compute)"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "XLA Ops"}},
    ]

    def event(name, dur, pid=1, tid=13, **args):
        return {"ph": "X", "name": name, "dur": dur, "ts": 0, "pid": pid, "tid": tid, "args": args}

    events = [
        event("sm90_xmma_fprop_implicit_gemm_bf16", 3000, hlo_op="cudnn-conv.3"),
        event("sm90_xmma_fprop_implicit_gemm_bf16", 1000, hlo_op="cudnn-conv.3"),
        event("loop_convert_fusion", 500, hlo_op="convert_fusion"),
        event("triton_gemm", 250, hlo_op="gemm_fusion"),
        event("MemcpyD2D", 125),
        event("cudnn-conv.3", 4000, tid=1, hlo_op="cudnn-conv.3"),  # the same time again, on XLA's own line
        event("TransferTo", 9000, pid=2, tid=5),
    ]

    class Trace:
        def __init__(self, folder):
            self.path = Path(folder, "plugins", "host.trace.json.gz")

        def __enter__(self):
            self.path.parent.mkdir()
            self.path.write_bytes(gzip.compress(json.dumps({"traceEvents": [*names, *events]}).encode()))

        def __exit__(self, *_): ...

    monkeypatch.setattr(kernels.jax.profiler, "trace", Trace)
    found = kernels.profile(lambda: 0, HLO)
    assert found["kinds"] == {"convolution": 4.0, "other": 0.5, "matrix product": 0.25, "copy": 0.125}
    assert found["milliseconds"] == 4.875
    first = found["kernels"][0]
    assert (first["calls"], first["what"], first["operation"]) == (2, "conv_general_dilated", "cudnn-conv.3")
    assert kernels.inventory(HLO) == {"other": 4, "matrix product": 2, "convolution": 1}
    events.clear()
    with pytest.raises(LookupError, match="no kernels"):
        kernels.profile(lambda: 0, HLO)


def test_the_strong_pytorch_program_computes_the_same(parts, lab):
    pytest.importorskip("torch")
    import peers_torch
    import torch_strong

    lanes = parts["lanes"]
    engine, contents, style = lab.engine("float32"), np.stack(lab.contents(32, 2)), lab.style(0, 32)
    batch = lanes.batch_of(engine, contents, style)
    images, evaluate = np.array(batch.lanes.point.image), lanes.evaluation(engine, batch)
    losses, gradient = map(np.asarray, evaluate(images))
    strong = torch_strong.Strong(engine, contents, style, device="cpu", precision="float32")
    assert strong.error(images, losses) < 1e-3
    theirs = strong.evaluate(strong.images(images))[1].permute(0, 2, 3, 1).numpy()
    assert np.linalg.norm(theirs - gradient) < 0.01 * np.linalg.norm(gradient)  # ties of maxima go elsewhere in torch
    way = peers_torch.Strong(engine, list(contents), style, "float32", compiled=False)
    for _ in range(20):
        way.evaluate()
    np.testing.assert_allclose(way.losses[0], losses, rtol=1e-3)
    assert (np.array(way.losses[-1]) < losses).all() and way.seconds == sorted(way.seconds)


@pytest.fixture(scope="module")
def lab(parts, network):
    return parts["lab"].Lab(parts["lab"].QUICK, network, 1)


def test_the_program_that_is_measured_is_the_renderers(parts, lab):
    """To the bit, the solver's memory included."""
    lanes, engine = parts["lanes"], lab.engine("float32")
    program = lab.program("float32", lab.batch("float32", 32, 2))
    assert program is lab.program("float32", lab.batch("float32", 32, 2))
    ours = program.advance(lab.batch("float32", 32, 2), 7)
    theirs = engine.advance(lab.batch("float32", 32, 2), 7)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert ours.lanes.evaluations.tolist() == [7, 7]

    images = np.array(ours.lanes.point.image)
    losses, _ = lanes.evaluation(engine, ours)(images)
    np.testing.assert_allclose(losses, ours.lanes.point.loss, rtol=1e-5)
    moved = lanes.evaluation(engine, ours, times=2)(images)
    np.testing.assert_allclose(moved, images, atol=1e-6)
    again = lanes.batch_of(engine, lab.contents(32, 2), lab.style(0, 32), 5, inits=images)
    np.testing.assert_array_equal(again.lanes.point.image, images)
    assert again.lanes.budget.tolist() == [5, 5]


def test_memory_counts_once_what_is_written_in_place(parts, lab):
    lanes, shapes = parts["lanes"], jax.eval_shape(lambda: lab.batch("float32", 32, 2))
    donated = lab.program("float32", shapes)
    kept = lanes.program(lab.engine("float32"), shapes, donate=False)
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.lanes))
    assert kept.bytes_alive - donated.bytes_alive >= 0.9 * state
    batch = lab.batch("float32", 32, 2)
    kept.advance(batch, 1)
    assert kept.advance(batch, 1).lanes.evaluations.tolist() == [1, 1]  # the batch is still there
