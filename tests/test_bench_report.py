"""The bench's report: what stands in it, what it says of goals and of what nobody has measured; that it is fresh."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import report  # noqa: E402

MACHINE = {"device": "cpu", "backend": "cpu", "cpu": "Made up", "cores": 2, "python": "3.11.7", "jax": "0.10.2"}
GPU = {"device": "Fast One", "backend": "gpu", "cpu": "Made up", "cores": 16, "python": "3.12.1",
       "versions": {"jax": "0.11.2", "torch": None}}  # fmt: skip


def result(bench, what, value, goal="", **more):
    return {"bench": bench, "what": what, "value": value, "goal": goal, **more}


RESULTS = [
    result("tick", "tick / evaluation, 256px 4:3, batch 4", 1.03, "at most 1.10"),
    result("tick", "tick / evaluation, 256px 4:3, batch 8", 1.2, "at most 1.10"),
    result("torch", "evaluation in a chunk / PyTorch's in its faster layout, 256px, batch 4", 0.95, "at most 1.0"),
    result("torch", "evaluation / PyTorch's", "not measured: no | torch", "at most 1.0"),
    result("batching", "median final loss, batch / single", 1.004, "within 1%"),
    result("batching", "largest difference of loss", 0.004, "rounding"),
    result("scale", "images/s, 2000 / 200", 0.97, "does not fall"),
    result("startup", "seconds from the imports to the first tick, second run, 256px, batch 2", 3.0, "under 3"),
    result("peers", "time to SciPy's loss after 60 evaluations, SciPy / the renderer, 128px", 1.5, images_an_hour=300),
    result("peers", "time to SciPy's loss after 60 evaluations, PyTorch / the renderer, 128px", "not within 160",
           images_an_hour=None),
    result("solvers", "curves", 2, curves={"the tick": [[1, 0.1, 9], [2, 0.2, 5]], "Adam": [[1, 0.1, 9], [2, 0.2, 8]]}),
    result("growth", "GFLOP/s at 64px / at 128px", 0.9, axis="size", x=64, seconds=0.01),
    result("growth", "GFLOP/s at 128px / at 128px", 1.0, axis="size", x=128, seconds=0.04),
    result("growth", "seconds an image and tick, batch 2 / batch 1, 64px", 0.9, axis="batch, 64px", x=2, seconds=0.01),
    result("new", "something of a new bench", 1.0),
]  # fmt: skip


def record(date, results, machine=MACHINE):
    return {"date": date, "machine": machine, "results": results}


def of(folder, **records):
    """The report of some files."""
    (folder / "results").mkdir()
    for name, content in records.items():
        (folder / "results" / f"{name}.json").write_text(json.dumps(content))
    return report.write(folder / "results", folder).read_text()


def row(text, beginning):
    """The cells of the first row that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_section_is_there_and_goals_are_judged(tmp_path):
    text = of(tmp_path, a=record("2026-01-02", RESULTS))
    for title in ("Targets", *report.SECTIONS, "new", "GPU"):
        assert f"\n## {title}\n" in text
    assert "*cpu; Made up, 2 cores; 2026-01-02; Python 3.11.7, jax 0.10.2*" in text
    assert row(text, "Tick / evaluation") == [
        "Tick / evaluation, 256 px, batch 4", "1.03", "at most 1.05", "met", "cpu", "2026-01-02"
    ]  # fmt: skip
    assert row(text, "Evaluation / PyTorch's")[1:4] == ["0.95", "at most 0.90", "**missed**"]
    assert row(text, "Seconds to the first tick")[1:4] == ["3", "under 3", "**missed**"]
    assert row(text, "Final loss scored in float32")[1:4] == ["unmeasured", "at most 1.02", "unmeasured"]
    assert row(text, "tick / evaluation, 256px 4:3, batch 8")[3] == "**missed**"
    assert row(text, "evaluation / PyTorch's")[1:4] == ["not measured: no \\| torch", "at most 1.0", "unmeasured"]
    assert "Of 7 results with goals of their own: 4 met, 2 missed, 1 unmeasured." in text
    assert "## Precision\n\nunmeasured\n" in text
    assert "## Ablations\n\nunmeasured\n" in text


def test_results_with_another_jax_stand_beside(tmp_path):
    """A newer run replaces an older one of the same machine and JAX, whose last number does not count."""
    new = [result("new", "something of a new bench", value) for value in (2.0, 3.0)]
    text = of(
        tmp_path, a=record("2026-01-02", RESULTS), b=record("2026-01-03", new[:1], MACHINE | {"jax": "0.10.9"}),
        c=record("2026-01-04", new[1:], MACHINE | {"versions": {"jax": "0.12.0"}}),
    )  # fmt: skip
    values = [row(line, "something")[1] for line in text.splitlines() if line.startswith("| something")]
    assert values == ["2", "3"]


def test_what_no_gpu_has_run_is_marked(tmp_path):
    """A run of the GPU program on a CPU is none on a GPU."""
    small = {"date": "2026-01-02", "machine": GPU | {"backend": "cpu"}, "sections": {}}
    text = of(tmp_path, a=record("2026-01-02", RESULTS), gpu=small)
    assert text.endswith("## GPU\n\nunmeasured: no GPU has run this\n")
    assert row(text, "Share of a GPU's")[1] == "unmeasured: no GPU has run this"


@pytest.mark.parametrize(("theirs", "value", "judged"), [(12.0, "12", "met"), (4.0, "4", "**missed**"),
                                                         (None, "inf", "met")])  # fmt: skip
def test_a_gpu_s_sections_are_told_as_they_are(tmp_path, theirs, value, judged):
    """PyTorch's L-BFGS may never reach the loss: its seconds are null then."""
    descent = {"precision": "bfloat16", "compiled": True, "losses": [[3.0, None]], "seconds": [1.0, 2.0],
               "to_loss": [{"part": 1.0, "seconds": theirs}]}  # fmt: skip
    sections = {
        "ladder": {"state": "measured", "seconds": 9, "lines": ["bfloat16 was fast"], "values": {
            "losses": {"bfloat16": [[3.0, 2.0], [2.0, 1.0]]}, "seconds_chunk": {"bfloat16": 0.5}, "lanes": 2,
            "to_loss": [{"part": 1.0, "seconds": 1.0}, {"part": 0.5, "seconds": 0.1}]}},
        "torch": {"state": "measured", "seconds": 9, "lines": [], "values": {"descents": [descent]}},
        "sweep": {"state": "measured", "seconds": 9, "lines": [], "values": {"rows": [
            {"precision": "bfloat16", "side": 512, "batch": 8, "utilisation": 0.5, "seconds_tick": 0.01},
            {"precision": "bfloat16", "side": 512, "batch": 32, "reason": "out of memory"}]}},
        "profile": {"state": "skipped", "seconds": 0, "lines": [], "reason": "no time"},
    }  # fmt: skip
    text = of(tmp_path, gpu={"date": "2026-01-02", "machine": GPU, "sections": sections})
    assert row(text, "Share of a GPU's")[1:5] == ["0.5", "at least 0.45", "met", "Fast One"]
    assert row(text, "Time to the float32-scored")[1:4] == [value, "at least 10", judged]
    assert "```text\nbfloat16 was fast\n```" in text
    assert "### profile\n\nskipped in 0 s: no time\n" in text
    assert "*Fast One; Made up, 16 cores; 2026-01-02; Python 3.12.1, jax 0.11.2*" in text
    assert (tmp_path / "plots" / "gpu.png").exists()


def test_the_newest_measurement_of_a_machine_counts(tmp_path):
    other = MACHINE | {"cpu": "Another"}
    text = of(
        tmp_path,
        a=record("2026-01-03", [result("tick", "tick / evaluation, 256px, batch 4", 1.01)]),
        b=record("2026-01-02", RESULTS),
        c=record("2026-01-01", [result("tick", "tick / evaluation, 256px, batch 4", 1.5)], other),
        d=record("2026-01-01", [r for r in RESULTS if r["bench"] == "solvers"], other),
    )
    rows = re.findall(r"\| Tick / evaluation.*", text)
    assert [one.split(" | ")[1] for one in rows] == ["1.5", "1.01"]  # one for each machine
    assert "at most 1.10" not in text  # of the older file
    assert "something of a new bench" in text  # which the newer file has not measured again
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "solvers.png", "solvers-2.png", "peers.png", "growth.png"
    }  # fmt: skip


def test_another_file_among_the_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"other\.json"):
        of(tmp_path, other={"date": "2026-01-02"})


def test_the_committed_report_is_what_the_committed_results_make(tmp_path):
    """After a measurement: python bench/report.py."""
    made = report.write(BENCH / "results", tmp_path).read_text()
    assert (BENCH / "REPORT.md").read_text() == made
    for name in re.findall(r"\]\((plots/.+?)\)", made):
        with Image.open(BENCH / name) as picture:
            assert picture.format == "PNG"
        assert (BENCH / name).stat().st_size <= 150_000
