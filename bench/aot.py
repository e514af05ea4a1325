"""Compiles the renderer's programs for accelerators that are not here, and says what their compilers say of them.

    python bench/aot.py --devices h100 v5e --sizes 512 --batches 8 32
    python bench/aot.py --devices h100 a100 t4 --recorded    # compiles anew what has changed since

Nothing is run on an accelerator, so that no time is measured: the figures are the compiler's own (memory, cycles on a
TPU) or counted in the program's text (launches, bytes, copies, collectives; see bench/traffic.py). Blind spots: on CUDA
cuDNN's working memory is not counted, and its algorithms and tiles are not the ones that a GPU would choose; the cycles
of a TPU leave out scatters.

It needs JAX's plugin of the platform, for which no driver and no device need be there: extra `cuda` (5.7 GB installed)
or `tpu`. A CUDA program takes seconds, one for a TPU minutes; JAX_EXEC_TIME_OPTIMIZATION_EFFORT=-1.0 makes that half a
minute, for other code of the same structure.

The JSON file is written after every case. A case that is in it already is skipped while JAX's version and the program
that JAX hands to the compiler are the same.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # where arrays are; the described devices have none
os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # libtpu would ask the network what TPU is here
os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import harness
import jax
import numpy as np
import traffic
from engine import bytes_by_model
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from jaxstyle.architecture import ARCHITECTURES
from jaxstyle.model.weights_file import Weights
from jaxstyle.settings import RenderSettings, StylizeSettings
from jaxstyle.style.batch import Batch, all_of_it, by_lane, specs
from jaxstyle.style.initial import in_regions, lane_inputs
from jaxstyle.style.stylizer import Stylizer

GPUS = {path.stem: path for path in sorted((harness.BENCH / "devices").glob("*.txtpb"))}
"""Descriptions of GPUs in XLA's format, by name; those of an A100 and a T4 are written by hand."""
TPUS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2"}
"""Topologies of four TPUs by name."""
DEVICES = (*GPUS, *TPUS)
COMPILERS = ("jax", "jaxlib", "jax-cuda12-plugin", "nvidia-cudnn-cu12", "libtpu")
PLUGINS = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}
"""Modules of which one has the compiler, by platform."""
PROGRAMS = ("start", "advance", "put", "fill", "pick")
"""Of these `pick` moves lanes to a batch of half the size."""


class Case(NamedTuple):
    """One program of one renderer for one kind of device.

    Attributes:
        number: devices that share the batch.
        settings: JSON of settings that differ from the defaults; with "regions", lanes have masks.
    """

    device: str
    size: int
    batch: int
    precision: str
    number: int = 1
    program: str = "advance"
    settings: str = "{}"

    @property
    def bucket(self) -> tuple[int, int]:
        """Returns width and height in pixels: 4:3."""
        return self.size, self.size * 3 // 4

    @property
    def all_settings(self) -> RenderSettings:
        """Returns the settings of the renderer, and the number of regions of its lanes."""
        own = json.loads(self.settings)
        folder = harness.BENCH if "regions" in own else None  # any folder: none is read
        return RenderSettings(precision=self.precision, content_masks=folder, style_masks=folder, **own)

    @property
    def renderer(self) -> StylizeSettings:
        """Returns the settings that a renderer reads."""
        return StylizeSettings(**{one.name: getattr(self.all_settings, one.name) for one in fields(StylizeSettings)})

    @property
    def platform(self) -> str:
        """Returns JAX's name of the platform."""
        return "cuda" if self.device in GPUS else "tpu"


@cache
def described(device: str, number: int) -> list[Any]:
    """Returns that many described devices.

    Raises:
        NotImplementedError, RuntimeError: JAX's compiler for the platform is not installed.
    """
    if device in GPUS:
        told = {"target_config": GPUS[device].read_text(), "topology": f"1x1x{number}"}
        return list(topologies.get_topology_desc(platform="cuda", topology_name=device, **told).devices)
    return list(topologies.get_topology_desc(platform="tpu", topology_name=TPUS[device]).devices)[:number]


@cache
def _no_weights(network: str) -> Weights:
    """Weights of zeros: what is compiled does not depend on them."""
    shapes = ARCHITECTURES[network].kernel_shapes.items()
    zeros = {name: {"kernel": np.zeros(s, np.float32), "bias": np.zeros(s[3:], np.float32)} for name, s in shapes}
    return Weights(zeros, "torchvision", "zeros", ARCHITECTURES[network])


class Described(Stylizer):
    """A `Stylizer` whose batch is divided over described devices. Its programs are compiled, and cannot be run."""

    def __init__(self, case: Case):
        settings = case.renderer
        super().__init__(settings, _no_weights(settings.network), platform=case.platform)
        devices = described(case.device, case.number)
        self._mesh = Mesh(np.array(devices), "lanes") if case.number > 1 else None
        self._case, self._regions = case, case.all_settings.lane_regions
        self._first = SingleDeviceSharding(devices[0])
        for shared in (True, False):  # their sharding is told when they are made
            self._fill[shared] = jax.jit(self._fill[shared].__wrapped__, static_argnums=1, **self._lies(shared))
            self._pick[shared] = jax.jit(self._pick[shared].__wrapped__, **self._lies(shared))

    def _placed(self, tree: Any, spec: Any = all_of_it) -> Any:
        """Shapes of a tree of arrays with their sharding."""
        where = self._first if self._mesh is None else NamedSharding(self._mesh, spec)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jax.numpy.result_type(a), sharding=where), tree)

    def _inputs(self) -> dict[str, np.ndarray]:
        width, height = self._case.bucket
        blank = np.zeros((height, width, 3), np.float32)
        before = (blank, blank[..., 0]) if self.objective.temporal_weight else None
        return lane_inputs(blank, blank, height, width, in_regions(None, self._regions, blank.shape), before)

    def traced(self) -> Any:
        """Traces the case's program with the arguments that the renderer gives it, as shapes."""
        case, number, limit = self._case, np.int32(0), np.float32(0)
        style = self._shapes(self._regions)
        calls: list[tuple] = []
        start, self._start = self._start, lambda *arguments: calls.append(arguments) or start(*arguments)
        one = jax.eval_shape(lambda style: self.start(self._inputs(), style), style)
        if case.program == "start":
            place = partial(jax.tree.map, lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self._first))
            arguments = calls[0]
            return start.trace(*place((arguments[0], style, *arguments[2:])))
        if case.program == "fill":
            return self._fill[True].trace(self._placed(one), case.batch)
        batch = jax.eval_shape(lambda one: self.fill(one, case.batch), one)
        parts = specs(True, by_lane)
        batch = Batch(*(self._placed(getattr(batch, name), getattr(parts, name))
                        for name in ("lanes", "content", "inside", "style")), True)  # fmt: skip
        if case.program == "put":
            fresh = (one.lane, one.targets.content, one.inside, {})
            return self._put.trace(batch.parts, *self._placed((number, fresh)))
        if case.program == "pick":
            return self._pick[True].trace(batch, *self._placed((np.zeros(case.batch // 2, np.int32), number)))
        rest = Batch(None, batch.content, batch.inside, batch.style, True)
        return self._advance.trace(self._placed(self.variables), batch.lanes, rest, *self._placed((number, limit)))


def lowered(case: Case) -> tuple[Any, str]:
    """Returns the case's program before its compilation, and a checksum of it and of the compiler's versions."""
    made = Described(case).traced().lower(lowering_platforms=(case.platform,))
    return made, hashlib.sha256(f"{compiler()} {made.as_text()}".encode()).hexdigest()[:16]


def compiler() -> str:
    """Names the packages that compile, with their versions, and JAX's effort of optimisation if it is set."""
    found = []
    for name in COMPILERS:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    effort = jax.config.jax_exec_time_optimization_effort
    return ", ".join([*found, f"effort {effort:g}"] if effort else found)


def account(compiled: Any) -> dict[str, int]:
    """Returns the bytes of a compiled program on one device by its compiler; `alive` are those at its peak."""
    told = compiled.memory_analysis()
    names = ("argument", "output", "alias", "temp", "generated_code")
    found = {name: int(getattr(told, f"{name}_size_in_bytes")) for name in names}
    return found | {"alive": found["argument"] + found["output"] - found["alias"] + found["temp"]}


def estimate(case: Case) -> dict[str, int]:
    """Returns the bytes that the renderer expects of `advance` on one device, as `model`; nothing otherwise."""
    if case.program != "advance":
        return {}
    platform, lanes = "gpu" if case.platform == "cuda" else "tpu", case.batch // case.number
    return {"model": bytes_by_model(case.bucket, case.all_settings, lanes, platform, used=True)}


def compiled(case: Case, made: Any, keep: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Compiles a case and returns what there is to say of it.

    Args:
        made: its program before that, see `lowered`.
        keep: is given the text of the compiled program.
    """
    program = made.compile()
    text = program.as_text()
    if keep:
        keep(text)
    return {**case._asdict(), "memory": account(program), **traffic.summary(text, loop=case.program == "advance")}


def recorded(output: Path) -> dict[Case, dict[str, Any]]:
    """Returns what a file has, by case; nothing if there is no such file."""
    found = json.loads(output.read_text())["compiled"] if output.exists() else []
    return {Case(*(one[name] for name in Case._fields)): one for one in found}


def run(cases: list[Case], output: Path, keep: Path | None = None) -> Iterator[tuple[dict[str, Any], bool]]:
    """Compiles cases and writes the file after each; yields what is found, and whether the file had it."""
    today = {"date": datetime.date.today().isoformat(), "compiler": compiler()}
    known = recorded(output)
    for case in cases:
        made, digest = lowered(case)
        there = known.get(case, {}).get("digest") == digest
        if not there:
            write = keep and partial(_keep, keep, case)
            known[case] = {**compiled(case, made, write), "digest": digest, **today}
        known[case]["memory"] |= estimate(case)  # which may have changed where the program has not
        save([known[one] for one in sorted(known)], output)
        yield known[case], there


def save(found: list[dict[str, Any]], output: Path) -> None:
    """Writes cases to a file, one a line."""
    lines = ",\n".join(json.dumps(one) for one in found)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f'{{"date": "{max(one["date"] for one in found)}", "compiled": [\n{lines}\n]}}\n')


def _keep(folder: Path, case: Case, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in "-".join(map(str, case)).removesuffix("-{}"))
    (folder / f"{name}.hlo").write_text(text)


def line(found: dict[str, Any]) -> str:
    """Says of a case what fits in a line."""
    told, parts = found["memory"], found["parts"].items()
    name = " ".join(str(found[name]) for name in Case._fields if found[name] != "{}")
    model = f", model {told['model'] / 2**20:,.0f}" if "model" in told else ""
    shares = ", ".join(f"{part} {its['bytes'] / 1e9:.2f}" for part, its in parts)
    return (
        f"{name}: {told['alive'] / 2**20:,.0f} MiB alive{model}; {found['launches']}"
        f" launches, {found['bytes'] / 1e9:.2f} GB ({shares});"
        f" {found['cycles']:,} cycles; ReLU in {found['relu']} of {sum(found['convolutions'].values())} convolutions;"
        f" {found['copies']['launches']} copies; collectives: {found['collectives'] or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=["h100"], help="kinds of devices (h100)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[512], help="long sides in pixels, of 4:3 (512)")
    parser.add_argument("--batches", nargs="+", type=int, default=[8], help="lanes on all devices together (8)")
    parser.add_argument("--precisions", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16"])
    parser.add_argument("--numbers", nargs="+", type=int, choices=(1, 4), default=[1], help="devices of a batch (1)")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["advance"], help="(advance)")
    parser.add_argument("--settings", nargs="+", default=["{}"], help="JSON of settings; regions: number of masks")
    parser.add_argument("--recorded", action="store_true", help="the file's cases of --devices, whatever else is given")
    parser.add_argument("--keep", type=Path, help="folder for the texts of the programs")
    parser.add_argument("-o", "--output", type=Path, default=harness.BENCH / "results" / "compiled.json")
    asked = parser.parse_args()
    every = itertools.product(asked.devices, asked.sizes, asked.batches, asked.precisions, asked.numbers,
                              asked.programs, asked.settings)  # fmt: skip
    cases = [one for one in itertools.starmap(Case, every) if one.batch % one.number == 0]
    cases = [one for one in cases if one.number == 1 or one.program != "start"]  # lanes start on one device
    if asked.recorded:
        cases = [one for one in recorded(asked.output) if one.device in asked.devices]
    for platform in dict.fromkeys(case.platform for case in cases):
        if not any(map(find_spec, PLUGINS[platform])):
            parser.error(f"JAX's compiler for {platform} is not installed: pip install 'jaxstyle[{platform}]'")
    for found, known in run(cases, asked.output, asked.keep):
        print(line(found), "(known)" if known else "", flush=True)


if __name__ == "__main__":
    main()
