"""What one image costs, from shapes alone: floating-point operations, bytes on the device, and the bytes there are.

A bucket is (width, height) in pixels. The bytes follow the arrays that are alive at the worst moment of
`Stylizer.advance`; tests/test_cost.py holds them against XLA's own account of the compiled program on the CPU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxstyle.architecture import Architecture
from jaxstyle.settings import Objective, StylizeSettings

IMAGES = 8
"""Arrays of the image's size, float32, that a solver's tick has alive beside its state during an evaluation: the trial
image, the direction, total variation's differences. Read off XLA's buffers, which hold 5 to 7."""
GRAMS = 2
"""Matrices of a Gram matrix's size alive for each style layer: its gradient, and that plus its transpose."""
MARGIN = 0.2
"""Share of the memory that `largest_batch` leaves alone: for the compiler, fragments, and what devices other than the
CPU, on which the bytes were measured, do differently."""

_FLOAT = 4
_UNKNOWN = 4 * 2**30
"""Bytes of memory assumed where no system tells."""


def _positions(bucket: tuple[int, int], layer: str) -> int:
    """Positions of a layer's map."""
    shrink = 2 ** (int(layer.split("_")[0].removeprefix("block")) - 1)
    return (bucket[0] // shrink) * (bucket[1] // shrink)


def _map(bucket: tuple[int, int], network: Architecture, layer: str) -> int:
    """Numbers in a layer's map."""
    return _positions(bucket, layer) * network.channels(layer)


def layers_used(objective: Objective) -> tuple[str, ...]:
    """The layers that an evaluation computes, from shallow to deep."""
    network = objective.architecture
    wanted = map(network.layer_name, (*objective.content_layers, *objective.style_layers))
    return network.layers[: 1 + max(map(network.layers.index, wanted))]


def evaluation_flops(bucket: tuple[int, int], objective: Objective) -> int:
    """Operations of one evaluation of loss and gradient for one image; a multiplication and an addition are two.

    Convolutions and Gram products, each with a gradient of the same work (`ops.gram_sum` has one product there); the
    rest, about 1%, is left out. Taps that read zeros beyond a border count, as if it had none.
    """
    network, total = objective.architecture, 0
    for layer in layers_used(objective):
        total += 4 * _positions(bucket, layer) * math.prod(network.kernel_shapes[layer])
    for layer in map(network.layer_name, objective.style_layers):
        total += 4 * _positions(bucket, layer) * network.channels(layer) ** 2
    return total


def parameter_bytes(network: Architecture, layers: Iterable[str]) -> int:
    """Kernels, flipped kernels and biases of layers, float32."""
    return sum(_FLOAT * (2 * math.prod(network.kernel_shapes[name]) + network.channels(name)) for name in layers)


def fixed_bytes(settings: StylizeSettings) -> int:
    """Memory that all lanes share: the parameters of all layers, used or not, and the style's Gram matrices.

    In bfloat16 also the rounded kernels, which a program makes once a call; the CPU keeps them in float32, and so
    they are counted.
    """
    objective = settings.objective()
    network = objective.architecture
    rounded = parameter_bytes(network, layers_used(objective)) if settings.precision == "bfloat16" else 0
    return parameter_bytes(network, network.layers) + rounded + _gram_bytes(objective)


def _gram_bytes(objective: Objective) -> int:
    return sum(_FLOAT * objective.architecture.channels(name) ** 2 for name in objective.style_layers)


def lane_bytes(bucket: tuple[int, int], settings: StylizeSettings) -> int:
    """Most memory that one lane takes during `Stylizer.advance`, its share of all temporaries included.

    jaxopt-zoom: its line search, under `vmap`, has two evaluations' arrays at a time, and parameters for every lane.
    """
    objective = settings.objective()
    number = 2 if settings.precision == "bfloat16" else _FLOAT
    image = 3 * bucket[0] * bucket[1] * _FLOAT
    if settings.solver == "adam":
        state = 4 * image  # image, gradient and two moments
    else:
        # Image, gradient, and the pairs s and y; the donated pairs count once, but a rejected step wants the old ones
        # back, so that the new ones are a copy.
        state = (2 + 2 * 2 * settings.history) * image
    network = objective.architecture
    targets = number * sum(_map(bucket, network, name) for name in objective.content_layers)

    # The CPU's convolutions have memory of their own, which XLA does not account for: by the growth of the process
    # at 256 pixels 60 to 90 float32 a pixel, which is their largest input (64 channels) padded into a copy.
    scratch = _FLOAT * max(_map(bucket, network, name) for name in layers_used(objective))
    evaluation = number * _evaluation(bucket, objective) + GRAMS * _gram_bytes(objective) + IMAGES * image
    if settings.solver == "jaxopt-zoom":
        evaluation = 2 * evaluation + parameter_bytes(network, layers_used(objective))
    return state + targets + evaluation + scratch


def _evaluation(bucket: tuple[int, int], objective: Objective) -> int:
    """Numbers alive at the worst moment of one evaluation, maps and their gradients only.

    When the gradient reaches a layer, alive are, of it and of all layers before it: the map (where it is 0 the ReLU
    has no gradient); the gradient of its Gram matrix and its difference to the content's, both of which XLA computes
    at once and keeps; and, of a map before a max pooling, the ties of its maxima, one number each. Beside them the
    gradient that arrives and the one that leaves.
    """
    used, network = layers_used(objective), objective.architecture
    held = worst = 0
    for layer, after in zip(used, (*used[1:], None), strict=True):
        own = _map(bucket, network, layer)
        held += own * (1 + (layer in objective.style_layers) + (layer in objective.content_layers))
        before = _positions(bucket, layer) * network.kernel_shapes[layer][2]
        worst = max(worst, held + own + before)
        if after and after.endswith("conv1"):
            held += own * (objective.pooling == "max")
            worst = max(worst, held + own + own // 4)
    return worst


def largest_batch(bucket: tuple[int, int], settings: StylizeSettings, memory: int) -> int:
    """Most lanes of a bucket that fit in so many bytes, `MARGIN` of them left free; 0 where not even one does."""
    free = int(memory * (1 - MARGIN)) - fixed_bytes(settings)
    return max(0, free // lane_bytes(bucket, settings))


def host_memory(root: Path = Path("/")) -> int:
    """Bytes of RAM that this process may still take: what the machine has available, or its control group if less.

    Args:
        root: of the file system with `proc` and `sys`.

    Cached file contents that nobody reads at the moment are no usage: the kernel drops them first. Where the system
    does not tell what is available it is the whole RAM, and where not even that, 4 GiB.
    """
    offers = [*_meminfo(root), *_groups(root)]
    if offers:
        return max(0, min(offers))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such function, others not these names
        return _UNKNOWN


def _meminfo(root: Path) -> Iterator[int]:
    """MemAvailable in bytes."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[int]:
    """What each control group with a limit leaves, from the process's own to the topmost; versions 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        # In a container the path may be that outside of it; the mount's own top is then the process's group.
        group = Path(path.lstrip("/"))
        for one in (group, *group.parents) if group.parts else (group,):
            folder = root / mount / one
            most, taken = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdecimal() and taken.isdecimal():
                stat = (entry.split() for entry in _text(folder / "memory.stat").splitlines())
                cache = sum(int(entry[1]) for entry in stat if entry[0] == cached)
                yield int(most) - max(0, int(taken) - cache)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
