"""Measures whole runs over files: the engine's overhead and the growth with the number of inputs."""

from __future__ import annotations

import io
import json
import statistics
import tempfile
from pathlib import Path

import engine
import numpy as np
from harness import Asked, Results, in_process, result, save, timed
from PIL import Image

from jaxstyle.settings import RenderSettings


def throughput(asked: Asked) -> Results:
    """Measures occupancy with early stopping, and a whole run's images/s against the device's fed from memory."""
    number, evaluations = asked.pick((6, 20), (60, 100))
    # a tolerance at which photographs end between some 60 and 100 evaluations, most of them on their own
    settings = RenderSettings(size=64, evaluations=evaluations, tolerance=0.03, batch=8)
    with tempfile.TemporaryDirectory() as folder:
        style, inputs, out = (Path(folder, name) for name in ("style.png", "in", "out"))
        save(asked.style(512), style)
        for k, photograph in enumerate(asked.photographs(512, number)):
            save(photograph, inputs / f"{k}.jpg")
        alone = engine.alone(inputs, style, settings)
        seconds = [alone()]
        whole, summary = timed(lambda: engine.render(inputs, style, out, settings))
        seconds.append(alone())
        assert (summary.done, summary.programs) == (number, 0), summary
        spread = [json.loads(row)["evaluations"] for row in (out / "manifest.jsonl").read_text().splitlines()]
    yield result(
        f"occupancy, {number} photographs in a batch of 8, early stopping", summary.occupancy, "at least 0.95",
        evaluations=[min(spread), statistics.median(spread), max(spread)],
    )  # fmt: skip
    yield result(
        f"images/s of a whole run / of the device alone, {settings.size}px, batch 8", statistics.mean(seconds) / whole,
        "at least 0.95", seconds={"device alone": seconds, "whole run": whole},
    )  # fmt: skip


def memory(asked: Asked) -> Results:
    """Compares the peak memory of a process that renders 40 photographs with one that renders 8."""
    photographs, peaks = asked.photographs(1024, 40), {}
    with tempfile.TemporaryDirectory() as folder:
        save(asked.style(1024), style := Path(folder, "style.png"))
        for number in (8, 40):
            inputs = Path(folder, f"in{number}")
            for k in range(number):
                save(photographs[k], inputs / f"{k}.jpg")
            peaks[number] = in_process("engine", "peak_of_a_run", inputs, style, Path(folder, f"out{number}"))
    yield result("peak memory, 40 photographs / 8", peaks[40] / peaks[8], "at most 1.10", bytes=peaks)


def scale(asked: Asked) -> Results:
    """Compares 100,000 tiny pictures with 10,000, with the stand-in renderer of the tests."""
    few, many = asked.pick((200, 2000), (10_000, 100_000))
    random, samples, found = np.random.default_rng(0), [], {}
    for _ in range(256):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(buffer, "PNG")
        samples.append(buffer.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder, "style.png")
        style.write_bytes(samples[0])
        for number in (few, many):
            inputs, out = Path(folder, f"in{number}"), Path(folder, f"out{number}")
            for k in range(number):
                path = inputs / f"{k // 1000:03}" / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(samples[k % 256])
            for name in ("run", "resume"):
                found[number, name] = in_process("engine", "stand_in_run", inputs, style, out)
                assert found[number, name]["done"] == number, found
    first, last, again = found[few, "run"], found[many, "run"], found[many, "resume"]
    assert again["rendered"] == 0 and again["first"] is None
    raw = {f"{name} of {number}": values for (number, name), values in found.items()}
    yield result(f"peak memory, {many} pictures / {few}", last["peak"] / first["peak"], "at most 1.20", raw=raw)
    yield result(
        f"seconds to the first work of {many}, imports apart", last["first"] - last["imported"], "at most 2"
    )  # fmt: skip
    tenths = last["rates"][-1] / last["rates"][0]
    yield result(f"images/s, last tenth / first tenth of {many}", tenths, "does not fall")
    rates = (many / last["seconds"]) / (few / first["seconds"])
    yield result(f"images/s, {many} / {few}", rates, "does not fall")
    yield result(f"seconds to resume a finished run of {many}", again["seconds"], "under 20")


def startup(asked: Asked) -> Results:
    """Measures the seconds from the end of the imports to the first tick, with and without a compile cache."""
    with tempfile.TemporaryDirectory() as folder:
        style, inputs, cache = (Path(folder, name) for name in ("style.png", "in", "cache"))
        save(asked.style(512), style)
        for k, photograph in enumerate(asked.photographs(512, 2)):
            save(photograph, inputs / f"{k}.png")
        runs = [
            in_process("engine", "first_tick", inputs, style, Path(folder, f"out{k}"), JAXSTYLE_CACHE=str(cache))
            for k in range(4)
        ]
    later = statistics.median(one["first tick"] for one in runs[1:])
    what = "seconds from the imports to the first tick, second run, 256px, batch 2"
    yield result(what, later, "under 3", runs=runs)
    yield result("the same, first run / second run", runs[0]["first tick"] / later)


ALL = {"throughput": throughput, "scale": scale, "startup": startup, "memory": memory}
"""Measurement functions by name."""
