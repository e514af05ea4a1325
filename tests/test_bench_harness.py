"""The bench's harness: pictures, the timer, processes, records; which file of the bench may use what."""

import argparse
import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from pictures import photo, save

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BENCH = Path(__file__).parent.parent / "bench"
FILES = sorted(BENCH.rglob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def path():
    """The bench's modules import one another by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        yield


@pytest.fixture
def harness():
    import harness

    return harness


def imports(path):
    """Names of the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_one_file_uses_the_engine():
    """Of those that measure rendering; two others measure a run's bookkeeping alone."""
    bookkeeping = {"coordinator.py", "report_page.py"}
    inner = ("jaxstyle.engine", "jaxstyle.planning", "jaxstyle.decode", "jaxstyle.data")
    assert {path.name for path in FILES if any(name.startswith(inner) for name in imports(path))} == {
        "engine.py", *bookkeeping,
    }  # fmt: skip


def test_the_imports_of_the_bench_have_no_circle():
    names = {".".join(path.relative_to(BENCH).with_suffix("").parts): path for path in FILES}
    waiting = {name: {*imports(path)} & names.keys() for name, path in names.items()}
    while free := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BENCH)))
def test_a_file_reads_in_one_sitting_and_uses_only_public_names_of_others(path):
    tree, allowed = ast.parse(path.read_text()), {"pystiche_worker.py": {"_target_repr"}}  # pystiche has no other way
    assert ast.get_docstring(tree) and len(path.read_text().splitlines()) <= 320
    foreign = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    foreign |= {name.split(".")[-1] for name in imports(path)}
    private = {name for name in foreign if name.startswith("_") and not name.startswith("__")}
    public = {"_exit", "_asdict", "_fields"}  # of os and of named tuples
    assert private - public == allowed.get(path.name, set())


def test_photographs_are_cropped_and_come_again_changed(harness, tmp_path):
    found = harness.photographs(64, 48, 7)
    assert {picture.shape for picture in found} == {(48, 64, 3)} and found[0].dtype == np.float32
    assert min(p.min() for p in found) >= 0 and max(p.max() for p in found) <= 1
    assert len({picture.tobytes() for picture in found}) == 7
    np.testing.assert_array_equal(harness.photographs(64, 48)[1], found[1])
    save(tmp_path / "a.jpg", photo(80, 40))
    save(tmp_path / "b.png", photo(40, 80))
    asked = harness.Asked(contents=tmp_path, styles=tmp_path)
    assert [p.shape for p in asked.photographs(32)] == [(24, 32, 3)] * 2
    assert [p.shape for p in asked.photographs(32, 1, square=True)] == [(32, 32, 3)]
    assert [p.shape for p in asked.all_styles(32)] == [(16, 32, 3), (32, 16, 3)]  # not cropped
    assert asked.style(1000).shape == (40, 80, 3)  # nor enlarged
    assert (asked.pick(1, 2), harness.Asked(quick=True).pick(1, 2)) == (2, 1)


def test_calls_take_turns_after_one_that_is_not_timed(harness, monkeypatch):
    order, clock = [], [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])

    def call(name, seconds):
        order.append(name)
        clock[0] += next(seconds)
        return jnp.zeros(())

    a, b = iter([100.0, 1, 5, 2]), iter([200.0, 10, 30, 20])
    calls = {"a": lambda: call("a", a), "b": lambda: call("b", b)}
    assert harness.medians(calls, 3) == {"a": 2, "b": 20}
    assert order == ["a", "b"] * 4


def test_the_timer_waits_for_the_result(harness, monkeypatch):
    waited = []
    monkeypatch.setattr(harness.jax, "block_until_ready", lambda value: waited.append(value) or value)
    assert harness.timed(lambda: "result")[1] == "result" and waited == ["result"]


def test_a_function_runs_in_a_process_of_its_own(harness, tmp_path, monkeypatch):
    (tmp_path / "other.py").write_text(
        "import os\ndef told(*words):\n    print('talk')\n    return [os.getpid(), os.environ['WORD'], *words]\n"
    )
    monkeypatch.setattr(harness, "BENCH", tmp_path)
    process, *told = harness.in_process("other", "told", 1, "b", WORD="c")
    assert process != os.getpid() and told == ["c", "1", "b"]
    with pytest.raises(subprocess.CalledProcessError):
        harness.in_process("other", "absent")


def test_results_replace_those_of_the_same_bench_on_the_same_machine(harness, tmp_path):
    import run

    path = tmp_path / "made" / "a.json"
    for bench, value in (("one", 1.0), ("two", float("nan")), ("one", 3.0)):
        assert run.keep([{"bench": bench, **harness.result("what", value)}], path) == path
    record = json.loads(path.read_text())
    assert [(r["bench"], r["value"]) for r in record["results"]] == [("two", None), ("one", 3.0)]
    assert record["results"][0] == {"bench": "two", "what": "what", "value": None, "goal": ""}
    record["machine"]["cpu"] = "Another"
    path.write_text(json.dumps(record))
    run.keep([{"bench": "three", **harness.result("what", 1.0)}], path)
    assert [r["bench"] for r in json.loads(path.read_text())["results"]] == ["three"]


def test_names_that_do_not_exist_end_the_program(harness, capsys):
    assert harness.chosen(argparse.ArgumentParser(), [], ["a", "b"]) == ["a", "b"]
    assert harness.chosen(argparse.ArgumentParser(), ["b"], ["a", "b"]) == ["b"]
    with pytest.raises(SystemExit):
        harness.chosen(argparse.ArgumentParser(), ["c"], ["a", "b"])
    assert "unknown: c; there are a, b" in capsys.readouterr().err


def test_a_stepper_makes_the_first_two_ticks_apart_and_divides_the_others_into_chunks():
    import lanes

    class Made:
        lanes = type("Lanes", (), {"point": type("Point", (), {"loss": 1.5})})

    asked = []
    step = lanes.stepper(lambda batch, ticks: asked.append(ticks) or Made, Made, 10, 5)
    assert asked == [2] and step() == 1.5
    lanes.stepper(lambda batch, ticks: asked.append(ticks) or Made, Made, 4)()
    assert asked == [2, 5, 5, 2, 4]


def test_a_solver_reaches_a_loss_where_it_first_was_at_it(monkeypatch):
    import solvers

    monkeypatch.setattr(solvers, "timed", lambda step: (0.5, step()))

    told = iter([(1, [4.0, 4.0]), (3, [3.0, float("nan")]), (5, [9.0, 1.0])])
    curve = solvers.curve_of(lambda: next(told), 4)
    assert [(place.evaluations, place.loss) for place in curve] == [(1, 8.0), (3, 7.0), (5, 4.0)]  # the best so far
    assert [place.seconds for place in curve] == [0.5, 1.0, 1.5]
    assert solvers.reached(curve, 7.5) == curve[1] and solvers.reached(curve, 3.9) is None
    three = iter([(1, [1.0])] * 3)
    assert len(solvers.curve_of(lambda: next(three), 9, steps=2)) == 2


def test_variants_of_operations_compute_the_same():
    """Values and gradients; the gradient of XLA's own pooling goes to one of several equal maxima, so without ties."""
    import ablations
    import jax

    from jaxstyle.model import ops

    random = np.random.default_rng(0)
    x, bias = random.standard_normal((7, 5, 3)), random.standard_normal(4)
    kernel = random.standard_normal((3, 3, 3, 4))
    inside = np.ones((7, 5), bool)
    inside[5:] = False
    arguments = {
        "conv_relu": (kernel, ops.flip(kernel), bias, inside),
        "max_pool": (),
        "gram_sum": (),
    }

    def of(function, name, x, **named):
        value = lambda x: function(x, *arguments[name], **named)  # noqa: E731
        y, back = jax.vjp(value, jnp.asarray(x, jnp.float32))
        return y, back(jnp.cos(y))[0]

    for choice, (_, name, variant) in ablations.VARIANTS.items():
        assert not name.startswith("_")
        if "upper bound" in choice or "costs" in choice:
            continue
        image = x.reshape(-1, 3) if name == "gram_sum" else x
        for named in ({"replicate": True}, {"replicate": False}) if name == "conv_relu" else ({},):
            for ours, theirs in zip(
                of(getattr(ops, name), name, image, **named), of(variant, name, image, **named), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=choice)
