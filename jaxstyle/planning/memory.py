"""What one image costs in bytes on the device, from shapes alone. A bucket is (width, height) in pixels.

The bytes follow the arrays that are alive at the worst moment of `Stylizer.advance`; tests/test_cost.py compares them
with XLA's own account of the compiled program on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jaxstyle.architecture import Architecture
from jaxstyle.planning.cost import layers_used, map_size, positions, used_layers
from jaxstyle.settings import Objective, StylizeSettings
from jaxstyle.style.solvers import SOLVERS

IMAGES = 8
"""Arrays of the image's size, float32, that a solver's tick has alive beside its state during an evaluation: the trial
image, the direction, total variation's differences. Read off XLA's buffers, which hold 5 to 7."""
GRAMS = 2
"""Matrices of a Gram matrix's size alive for each style layer: its gradient, and that plus its transpose."""
MARGIN = 0.2
"""Share of the memory that `largest_batch` leaves alone: for the compiler, fragments, and what devices other than the
CPU, on which the bytes were measured, do differently."""


_FLOAT = 4
"""Bytes of a float32."""


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
    return sum(_FLOAT * objective.architecture.channels(name) ** 2 for name in used_layers(objective)[1])


def lane_bytes(bucket: tuple[int, int], settings: StylizeSettings) -> int:
    """Most memory that one lane takes during `Stylizer.advance`, its share of all temporaries included.

    A line search under `vmap` (jaxopt-zoom) has two evaluations' arrays at a time, and parameters for every lane.
    """
    objective = settings.objective()
    number = 2 if settings.precision == "bfloat16" else _FLOAT
    image = 3 * bucket[0] * bucket[1] * _FLOAT
    kind = SOLVERS[settings.solver]
    state = kind.images(settings) * image
    network = objective.architecture
    targets = number * sum(map_size(bucket, network, name) for name in used_layers(objective)[0])

    # The CPU's convolutions have memory of their own, which XLA does not account for: by the growth of the process
    # at 256 pixels 60 to 90 float32 a pixel, which is their largest input (64 channels) padded into a copy.
    scratch = _FLOAT * max((map_size(bucket, network, name) for name in layers_used(objective)), default=0)
    evaluation = number * _evaluation(bucket, objective) + GRAMS * _gram_bytes(objective) + IMAGES * image
    if kind.evaluations_at_once > 1:
        evaluation = kind.evaluations_at_once * evaluation + parameter_bytes(network, layers_used(objective))
    return state + targets + evaluation + scratch


def _evaluation(bucket: tuple[int, int], objective: Objective) -> int:
    """Numbers alive at the worst moment of one evaluation, maps and their gradients only.

    When the gradient reaches a layer, these are alive of it and of every layer before it: the map, the gradient of its
    Gram matrix, and its difference to the content's (XLA computes the last two at once and keeps them). Beside them
    the gradient that arrives and the one that leaves.
    """
    used, network = layers_used(objective), objective.architecture
    content, style = used_layers(objective)
    held = worst = 0
    for layer, after in zip(used, (*used[1:], None), strict=True):
        own = map_size(bucket, network, layer)
        held += own * (1 + (layer in style) + (layer in content))
        before = positions(bucket, layer) * network.kernel_shapes[layer][2]
        worst = max(worst, held + own + before)
        if after and after.endswith("conv1"):
            worst = max(worst, held + own + own // 4)
    return worst


def largest_batch(bucket: tuple[int, int], settings: StylizeSettings, memory: int) -> int:
    """Most lanes of a bucket that fit in so many bytes, `MARGIN` of them left free; 0 where not even one does."""
    free = int(memory * (1 - MARGIN)) - fixed_bytes(settings)
    return max(0, free // lane_bytes(bucket, settings))
