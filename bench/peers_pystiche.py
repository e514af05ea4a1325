"""Runs pystiche for bench/peers.py, in a separate interpreter, as a `ways.Way`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lanes import starts
from ways import Way

from jaxstyle.style.stylizer import Stylizer
from jaxstyle.style.terms.style import layer_weights

PYTHON = os.environ.get("PYSTICHE_PYTHON", sys.executable)


def missing() -> str:
    """Returns why pystiche cannot be imported, or nothing if it can."""
    run = subprocess.run([PYTHON, "-c", "import pystiche"], capture_output=True, text=True)
    return run.stderr.strip().splitlines()[-1].split(" (/")[0] if run.returncode else ""


class Pystiche(Way):
    """One image after another by pystiche's image_optimization; seconds by the worker's own clock."""

    def __init__(self, engine: Stylizer, contents: list[np.ndarray], style: np.ndarray):
        super().__init__()
        command = [PYTHON, str(Path(__file__).with_name("pystiche_worker.py"))]
        with tempfile.TemporaryDirectory() as folder:
            problem = Path(folder) / "problem.npz"
            np.savez(problem, **_problem(engine, contents, style))
            self._worker = subprocess.Popen(
                [*command, str(problem)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self.about = {"device": "cpu", **self._told()}  # and the file has been read

    def _told(self) -> dict[str, Any]:
        assert self._worker.stdout
        line = self._worker.stdout.readline()
        if not line:
            raise RuntimeError(f"pystiche's worker ended with {self._worker.wait()}; it says above why.")
        return json.loads(line)

    def close(self) -> None:
        """Ends the worker."""
        self._worker.communicate()

    def evaluate(self) -> None:
        assert self._worker.stdin
        print(file=self._worker.stdin, flush=True)
        told = self._told()
        self.note(told["seconds"], told["losses"])


def _problem(engine: Stylizer, contents: list[np.ndarray], style: np.ndarray) -> dict[str, Any]:
    """Arrays of the file that the worker reads."""
    objective, weights = engine.objective, engine.weights
    assert objective.normalization == "energy" and not objective.tv_weight and objective.padding == "zero", objective
    content = {name: objective.content_weight / len(objective.content_layers) for name in objective.content_layers}
    style_weights = zip(objective.style_layers, layer_weights(objective), strict=True)
    parameters = {f"conv{name[5]}_{name[-1]}": layer for name, layer in weights.parameters.items()}
    scale = objective.style_weight * objective.style_share(contents[0].shape[0] * contents[0].shape[1])
    wanted = {
        "content": {_name(layer): weight for layer, weight in content.items()},
        "style": {_name(layer): scale * weight for layer, weight in style_weights},
    }
    return {
        **{f"{name}.weight": layer["kernel"] for name, layer in parameters.items()},
        **{f"{name}.bias": layer["bias"] for name, layer in parameters.items()},
        "mean": np.asarray(weights.mean), "std": np.asarray(weights.std), "objective": json.dumps(wanted),
        "contents": np.stack(contents), "style": style,
        "starts": starts(contents, style),
    }  # fmt: skip


def _name(layer: str) -> str:
    """Keras's block1_conv2 as pystiche's relu1_2."""
    return f"relu{layer[5]}_{layer[-1]}"
