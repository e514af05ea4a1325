"""Chooses how each layer's convolutions are computed on this CPU, by a measurement whose rates the cache keeps.

A choice holds for the sizes of one run, and a folder remembers it (`data.fingerprint`), because it changes rounding.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstyle.architecture import STRIDE, Architecture
from jaxstyle.cache import cache_directory, cpu_facts, has_cache
from jaxstyle.errors import SettingsError
from jaxstyle.model import ops
from jaxstyle.model.products import FORMS, STRIP, Forms
from jaxstyle.trust import distrust, make_private

Choice = Mapping[str, Mapping[str, Sequence[str]]]
"""By the long side in pixels, as text, and by layer: the forms of its convolution and of its input gradient. Layers in
which neither gains are left out, and so are sizes without any. It is a JSON value."""
UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of CPUs with units for products in bfloat16, as Linux has them: Intel's AMX, AVX-512's, arm64's."""
SINCE = (0, 12)
"""First version of JAX whose products in bfloat16 use these units on the CPU (bench/LOG.md)."""
LEAST_SIZE = 128
"""Sizes below it, in pixels, are computed in float32: they take little time, and are not measured."""
GAIN = 1.1
"""A form is chosen if its rate is at least this much higher than the convolution's in float32."""
OPERATIONS = 4e9
"""Most floating-point operations of a convolution that is timed; larger maps are cut to fewer rows."""
MEASUREMENT = "kernels prepared beforehand"
"""What is timed: rates of another measurement do not count."""
ROUNDS, REPEATS = 2, 3
"""Convolutions in one timed call, and timed calls of each form, which take turns; the fastest counts."""


def units() -> str:
    """Returns the CPU's flags in `UNITS`, separated by spaces: "" if it has none, or on a system that names none."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
            return "bf16" if told == "1" else ""
    flags = {flag for line in cpu_facts() if line.startswith(("flags", "Features")) for flag in line.split()}
    return " ".join(one for one in UNITS if one in flags)


def obstacle() -> str:
    """Says why "auto" is float32 on this CPU without a measurement; "" if it is measured."""
    if jax.__version_info__[:2] < SINCE:
        return f"JAX {jax.__version__} does not use a CPU's bfloat16 units; JAX {'.'.join(map(str, SINCE))} does"
    if units():
        return ""
    known = platform.system() == "Linux" or (platform.system() == "Darwin" and platform.machine() == "arm64")
    return "the CPU has no bfloat16 units" if known else "whether the CPU has bfloat16 units is not known here"


def chosen(network: Architecture, layers: Sequence[str], sizes: Mapping[int, int]) -> dict[str, dict[str, list[str]]]:
    """Chooses the forms of layers by the rates of this CPU, measured at first use: some seconds for each size.

    Args:
        layers: Keras's names; the first layer of a network always has its convolution.
        sizes: lanes of a device by the long side of their pictures in pixels.
    """
    shapes = {
        (size, name): _shape(network, name, size, lanes)
        for size, lanes in sizes.items()
        for name in layers[1:]
        if size >= LEAST_SIZE
    }
    wanted = {one for i, o, h, w in shapes.values() for one in ((i, o, h, w), (o, i, h, w))}
    rates = _rates(wanted)
    found: dict[str, dict[str, list[str]]] = {}
    for (size, name), (i, o, h, w) in shapes.items():
        forms = [_fastest(rates[one]) for one in ((i, o, h, w), (o, i, h, w))]
        if forms != ["float32", "float32"]:
            found.setdefault(str(size), {})[name] = forms
    return found


def forms_of(choice: Choice, size: int) -> Forms:
    """Returns the forms for pictures with this long side: those of the chosen size that is nearest."""
    if size < LEAST_SIZE or not choice:
        return ()
    nearest = min(choice, key=lambda one: (abs(np.log(int(one) / size)), int(one)))
    return tuple((name, *forms) for name, forms in choice[nearest].items())  # type: ignore[misc]


def checked(choice: Any, network: Architecture) -> Choice:
    """Returns a choice from a file.

    Raises:
        SettingsError: it is no choice for this network.
    """
    known = {"float32", *FORMS}
    try:
        good = all(int(size) > 0 and layers for size, layers in choice.items()) and all(
            name in network.layers[1:] and len(forms) == 2 and known.issuperset(forms)
            for layers in choice.values()
            for name, forms in layers.items()
        )
    except (AttributeError, TypeError, ValueError):
        good = False
    if not good:
        raise SettingsError(
            "the choice of products in settings.json is damaged, or of a newer version",
            "Use that version, or another output folder.",
        )
    return choice


def _fastest(rates: Mapping[str, float]) -> str:
    best = max(FORMS, key=lambda name: rates[name])
    return best if rates[best] >= GAIN * rates["float32"] else "float32"


def _shape(network: Architecture, layer: str, size: int, lanes: int) -> tuple[int, int, int, int]:
    """Channels in and out, rows and columns of a layer's maps for a picture of 4:3, with the rows of all lanes."""
    shrink = 2 ** (int(layer.split("_")[0].removeprefix("block")) - 1)
    sides = [-(-side // STRIDE) * STRIDE // shrink for side in (size * 3 // 4, size)]
    i, o = network.kernel_shapes[layer][2:]
    most = int(OPERATIONS / (18 * sides[1] * i * o)) // STRIP * STRIP
    return i, o, max(min(lanes * sides[0], most), min(lanes * sides[0], STRIP)), sides[1]


@functools.cache
def _file() -> Path | None:
    """Returns the cache's file for this CPU, version of JAX and these forms; None if there is no private folder."""
    if not has_cache():
        return None
    facts = [*cpu_facts(), str(os.cpu_count()), jax.__version__, *FORMS, str(STRIP), str(OPERATIONS), MEASUREMENT]
    name = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return cache_directory() / "products" / f"{name}.json"


def _rates(shapes: Iterable[tuple[int, int, int, int]]) -> dict[tuple[int, int, int, int], dict[str, float]]:
    """Returns operations a second by form for each shape, measured where the cache does not have them."""
    wanted, path = sorted(shapes), _file()
    kept = {} if path is None else _read(path)
    missing = [one for one in wanted if _name(one) not in kept]
    for shape in missing:
        kept[_name(shape)] = _measured(*shape)
    if missing and path is not None:
        with suppress(OSError):  # the cache cannot be written: the next run measures again
            _write(path, kept)
    return {one: kept[_name(one)] for one in wanted}


def _name(shape: tuple[int, int, int, int]) -> str:
    return "{} to {} channels, {} x {}".format(*shape)


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        if distrust(path):
            return {}
        kept = json.loads(path.read_text())
        names = ["float32", *FORMS]
        return {str(k): {name: float(one[name]) for name in names} for k, one in kept["rates"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent or damaged: measured again
        return {}


def _write(path: Path, rates: Mapping[str, Mapping[str, float]]) -> None:
    if make_private(path.parent):
        return
    about = {"cpu": [line for line in cpu_facts() if line.startswith("model name")], "units": units()}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(about | {"jax": jax.__version__, "unit": "floating-point operations a second", "rates": rates}, file)
    os.replace(file.name, path)


def _measured(i: int, o: int, h: int, w: int) -> dict[str, float]:
    """Measures operations a second of each form for maps h x w x i and a kernel 3 x 3 x i x o."""
    random = np.random.default_rng(0)
    x = random.random((h, w, i), np.float32)
    kernel = random.standard_normal((3, 3, i, o), np.float32) / np.float32(9 * i) ** 0.5
    x, kernel, number = jax.device_put((x, kernel, np.int32(ROUNDS)))
    calls = {"float32": functools.partial(_timed(ops.convolve), x, kernel, number)}
    for name, form in FORMS.items():
        calls[name] = functools.partial(_timed(form.convolve), x, jax.jit(form.prepare)(kernel), number)
    best = dict.fromkeys(calls, np.inf)
    for repeat in range(1 + REPEATS):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            if repeat:  # the first call compiles
                best[name] = min(best[name], time.perf_counter() - began)
    return {name: ROUNDS * 18 * h * w * i * o / seconds for name, seconds in best.items()}


def _timed(convolve: Any) -> Any:
    """Compiles some rounds of a convolution, in a loop like the optimisation's; each depends on the one before."""

    @jax.jit
    def rounds(x, kernel, number):
        with jax.default_matmul_precision("highest"):
            return jax.lax.fori_loop(0, number, lambda _, s: 1e-12 * convolve(x + s, kernel).sum(), jnp.float32(0))

    return rounds
