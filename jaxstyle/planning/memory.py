"""Estimates the device memory of an image in bytes, from shapes alone. A bucket is (width, height) in pixels.

The estimate counts the arrays that are alive at the peak of `Stylizer.advance`, which differ between platforms, since
XLA has a compiler for each. tests/test_cost.py compares it with XLA's memory analysis of the program that is compiled
for the CPU, tests/test_memory.py with recorded ones of programs that bench/aot.py has compiled for accelerators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxstyle.architecture import Architecture
from jaxstyle.planning.cost import compared_layers, layers_used, map_size, positions, sorted_layers
from jaxstyle.presets import Objective
from jaxstyle.settings import StylizeSettings
from jaxstyle.style.grid import Block, blocks
from jaxstyle.style.solvers import SOLVERS

IMAGES = 8
"""Float32 arrays of the image's size that are alive during an evaluation beside the solver's state: the trial image,
the direction, total variation's differences. XLA's buffers hold 5 to 8."""
GRAMS = {"gram": 2, "moments": 3, "w2": 8}
"""Arrays of a Gram matrix's size alive for each style layer, by style loss: its gradient, and the gradient plus its
transpose; for "moments" also the covariance, and for "w2" the iterates of the matrix root. GPUs keep two."""
MIXED = 3
"""Float32 arrays of the size of the largest feature map that convolutions in products take more where the precision is
"mixed": padded inputs, strips and their outputs. At 256 x 192 XLA's buffers of a tick are 91 MiB larger, of which 54
are rounded kernels, which all lanes share (bench/LOG.md)."""
SECOND = 0.6
"""Share of the largest style layer's map in float32 that GPUs hold more with style losses of means and covariances: on
an A100 and a T4 the programs keep it in a second order of axes as well; on an H100 they do not."""
MARGIN = 0.2
"""Share of the memory that `largest_batch` leaves free: for fragmentation, for what libraries such as cuDNN take
outside the compiler's account, and since no accelerator has run the programs whose bytes the estimate follows."""


TILES = (1024, 512, 256, 128)
"""Sides in pixels of the tiles that "auto" chooses from. Larger ones waste less on halos; below 256 there is hardly any
memory left to save (bench/LOG.md)."""
_FLOAT = 4
"""Bytes of a float32."""


class Platform(NamedTuple):
    """What the programs of a platform keep in memory during an evaluation.

    Attributes:
        early: whether the gradients that the terms give each feature map are computed before the backward pass, and
            kept until it arrives there. Otherwise only those of a layer and the one before it are alive at a time.
        spread: arrays of a feature map's size that the gradient of its pooling takes.
        scratch: float32 arrays of the size of the largest feature map that convolutions take outside XLA's account.
        channels: of which number the channels of feature maps are padded to a multiple.
        fused: whether the network is that of `model/fused.py`: of a map before max pooling that nothing else reads four
            bits a window are kept, and kernels are rounded to copies of half their size.
        copies: whether kernels in float32 are copied, too, into the order of axes that the convolutions want.
        sorted: float32 arrays of a feature map's size for each layer of the histogram term: sorted features, their
            places, the quantiles and the gradient.
        pairs: whether the first block's maps are packed by `model/pairs.py`, and so are not padded, except in tiles and
            where a term reads them whole.
    """

    early: bool
    spread: int
    scratch: int
    channels: int
    fused: bool
    copies: bool
    sorted: int
    pairs: bool = False


PLATFORMS = {
    # Convolutions take 60 to 90 float32 a pixel by the growth of the process at 256 pixels: the size of a padded copy
    # of their largest input, which has 64 channels.
    "cpu": Platform(early=True, spread=1, scratch=1, channels=1, fused=False, copies=False, sorted=4),
    # Compiled for H100, A100 and T4, see bench/REPORT.md: 0.81 to 1.01 of the estimate, but 1.65 on a T4 in
    # bfloat16, for which it has no units.
    "gpu": Platform(early=False, spread=1, scratch=0, channels=1, fused=True, copies=True, sorted=3),
    # Compiled for v5e: 64 channels lie in 128 lanes where they are not packed, and the four parts of a pooling's
    # gradient in arrays of their own. A batch of one lies otherwise: 0.7 to 0.8 of it at 512 pixels, 1.06 at 1024.
    "tpu": Platform(early=False, spread=6, scratch=0, channels=128, fused=False, copies=True, sorted=3, pairs=True),
}
"""By JAX's name of the platform; other platforms are taken for a CPU."""


def _of(platform: str) -> Platform:
    return PLATFORMS.get(platform, PLATFORMS["cpu"])


def parameter_bytes(network: Architecture, layers: Iterable[str]) -> int:
    """Returns the bytes of kernels, flipped kernels and biases of layers in float32."""
    return sum(_FLOAT * (2 * math.prod(network.kernel_shapes[name]) + network.channels(name)) for name in layers)


def fixed_bytes(settings: StylizeSettings, platform: str = "cpu") -> int:
    """Returns the bytes that all lanes share: the parameters of all layers, used or not, and the style's Gram matrices.

    In bfloat16 also the rounded kernels, counted as float32 where the platform keeps them so; in mixed also the
    prepared ones, of which Winograd's have 0.89 of the bytes of float32; on some platforms also copies in float32.

    Args:
        platform: JAX's name of it.
    """
    objective = settings.objective()
    network = objective.architecture
    grams = max(1, settings.lane_regions) * _gram_bytes(objective)
    on, rounded = _of(platform), settings.precision == "bfloat16"
    copies = parameter_bytes(network, layers_used(objective))
    if not (rounded or on.copies or settings.precision == "mixed"):
        copies = 0
    elif rounded and on.fused:
        copies //= 2
    return parameter_bytes(network, network.layers) + copies + grams


def _gram_bytes(objective: Objective) -> int:
    return sum(_FLOAT * objective.architecture.channels(name) ** 2 for name in compared_layers(objective)[1])


def lane_bytes(
    bucket: tuple[int, int], settings: StylizeSettings, tile: int | None = None, platform: str = "cpu"
) -> int:
    """Returns the peak bytes of one lane during `Stylizer.advance`, including its share of all temporaries.

    A line search under `vmap` (jaxopt-zoom) has the arrays of two evaluations alive, and parameters for every lane.

    Args:
        tile: longest side of a tile in pixels [default: the picture is computed whole]
        platform: JAX's name of it.
    """
    on, objective = _of(platform), settings.objective()
    number = 2 if settings.precision == "bfloat16" else _FLOAT
    image = 3 * bucket[0] * bucket[1] * _FLOAT
    kind = SOLVERS[settings.solver]
    if kind.evaluations_at_once > 1:  # a loop of its own keeps the gradients for the next round
        on = on._replace(early=True)
    if tile is not None or settings.lane_regions:
        on = on._replace(pairs=False)
    more = kind.images_on.get(platform, lambda settings, width: 0)(settings, bucket[0])
    state = math.ceil((kind.images(settings) + more) * image)
    network, used = objective.architecture, layers_used(objective)
    targets = number * sum(map_size(bucket, network, name) for name in compared_layers(objective)[0])
    cut = blocks(network, used, bucket[1], bucket[0], tile or max(bucket))
    largest = max((math.prod(one.window) * network.channels(name) for one in cut for name in one.layers), default=0)
    grams = min(GRAMS[objective.style_loss], 2 if on.fused else 8) * _gram_bytes(objective)
    images = IMAGES + kind.images_of_a_tick(settings)
    evaluation = (
        number * _evaluation(bucket, objective, cut, on, _bits(objective, on, number, tile))
        + grams
        + math.ceil(images * image)
    )
    if kind.evaluations_at_once > 1:
        evaluation = kind.evaluations_at_once * evaluation + parameter_bytes(network, used)
    before = _FLOAT * 4 * bucket[0] * bucket[1] if objective.temporal_weight else 0  # the warped image and its weights
    ordered = on.sorted * _FLOAT * sum(map_size(bucket, network, name) for name in sorted_layers(objective))
    scratch = (on.scratch + (MIXED if settings.precision == "mixed" else 0)) * _FLOAT * largest
    if on.fused and number == _FLOAT and objective.style_loss != "gram" and tile is None:
        largest = max((map_size(bucket, network, name) for name in compared_layers(objective)[1]), default=0)
        scratch += math.ceil(SECOND * _FLOAT * largest)
    regions = _region_bytes(bucket, settings, number if on.fused else _FLOAT)
    return state + targets + evaluation + scratch + regions + before + ordered


def _region_bytes(bucket: tuple[int, int], settings: StylizeSettings, number: int) -> int:
    """Returns the bytes that regions add: their weights at each style layer, and by region the weighted map of the
    largest layer and the Gram matrices with their gradients.

    Args:
        number: bytes of a value of the weighted map.
    """
    objective, regions = settings.objective(), settings.lane_regions
    network, (_, style) = objective.architecture, compared_layers(objective)
    if not regions or not style:
        return 0
    weights = _FLOAT * sum(positions(bucket, name) for name in style)
    weighted = number * max(map_size(bucket, network, name) for name in style)
    return regions * (weights + weighted + (1 + GRAMS[objective.style_loss]) * _gram_bytes(objective))


def _bits(objective: Objective, on: Platform, number: int, tile: int | None) -> float:
    """Returns the share of a map before a pooling, which nothing else reads, that is kept for the gradient: four bits a
    window, an eighth in bfloat16; more in float32, for devices that keep maps in a second order of axes."""
    return {2: 1 / 8, 4: 0.3}[number] if on.fused and objective.pooling == "max" and tile is None else 1


def _evaluation(bucket: tuple[int, int], objective: Objective, cut: Sequence[Block], on: Platform, bits: float) -> int:
    """Returns the most values alive during one evaluation, in feature maps and their gradients only.

    The blocks with several tiles come first. Their inputs are alive throughout, and so are the maps that are read whole
    with their gradients. While such a block goes back, the gradients of its input and of its output are alive beside
    what one tile takes.

    Args:
        bits: see `_bits`.
    """
    network, read_whole = objective.architecture, (*compared_layers(objective)[0], *sorted_layers(objective))
    tiled = [block for block in cut if not block.whole]
    whole = [name for block in cut[len(tiled) :] for name in block.layers]
    held = 2 * sum(map_size(bucket, network, name) for block in tiled for name in block.layers if name in read_whole)
    inputs = [_input(network, block) for block in cut[: len(tiled) + 1]]
    worst = _maps(objective, whole, lambda name: positions(bucket, name), on, bits)
    for number, block in enumerate(tiled):
        area = dict.fromkeys(block.layers, math.prod(block.window))
        worst = max(
            worst, sum(inputs[number : number + 2]) + _maps(objective, block.layers, area.__getitem__, on, bits)
        )
    return held + (sum(inputs) if tiled else 0) + worst


def _input(network: Architecture, block: Block) -> int:
    """Returns the number of values in a block's input."""
    return block.height * block.width * network.kernel_shapes[block.layers[0]][2]


def _maps(objective: Objective, layers: Sequence[str], area: Callable[[str], int], on: Platform, bits: float) -> int:
    """Returns the most values alive in these layers and their gradients.

    When the backward pass reaches a layer, this layer and every earlier one keep their map, and where the platform
    computes them early also the map's gradient from the Gram matrix and its difference from the content's. The incoming
    and the outgoing gradient of the layer are alive too.

    Args:
        area: number of positions of a layer.
        bits: see `_bits`.
    """
    network, (content, style) = objective.architecture, compared_layers(objective)
    whole = {*content, *sorted_layers(objective)}
    read = {*whole, *style}
    held = worst = below = 0
    for layer, after in zip(layers, (*layers[1:], ""), strict=False):  # without layers there is nothing to pair
        packed = on.pairs and layer.startswith("block1_") and layer not in whole
        own = area(layer) * _padded(network.channels(layer), on, packed)
        terms = own * ((layer in style) + (layer in content))
        pools = after.endswith("conv1")
        kept = bits if pools and layer not in read else 1
        held += math.ceil(own * kept) + on.early * terms
        before = area(layer) * _padded(network.kernel_shapes[layer][2], on, packed)
        late = 0 if on.early else terms if on.fused else max(terms, below)
        worst = max(worst, held + own + before + late)
        if pools:
            worst = max(worst, held + on.spread * own + own // 4 + late)
        below = terms
    return worst


def _padded(channels: int, on: Platform, packed: bool) -> int:
    """Returns a number of channels as a platform pads it; images of three channels and packed maps are not padded."""
    return channels if channels == 3 or packed else -(-channels // on.channels) * on.channels


def largest_batch(
    bucket: tuple[int, int], settings: StylizeSettings, memory: int, tile: int | None = None, platform: str = "cpu"
) -> int:
    """Returns the most lanes of a bucket that fit in `memory` bytes less `MARGIN`; 0 if none fits.

    Args:
        tile, platform: see `lane_bytes`.
    """
    free = int(memory * (1 - MARGIN)) - fixed_bytes(settings, platform)
    return max(0, free // lane_bytes(bucket, settings, tile, platform))


def chosen_tile(bucket: tuple[int, int], settings: StylizeSettings, memory: int, platform: str = "cpu") -> int | None:
    """Returns the longest side in pixels of the tiles for a bucket; None if its pictures are computed whole.

    `settings.tile` decides, and for "auto" the memory: tiles if no lane fits whole, as large as fit, or the smallest if
    none fit.

    Args:
        memory: bytes of one device.
        platform: JAX's name of it.
    """
    if settings.tile == "none" or settings.lane_regions:  # regions are computed whole
        return None
    if settings.tile == "auto" and largest_batch(bucket, settings, memory, None, platform):
        return None
    sides = [side for side in (TILES if settings.tile == "auto" else (settings.tile,)) if side < max(bucket)]
    return next(
        (side for side in sides if largest_batch(bucket, settings, memory, side, platform)),
        sides[-1] if sides else None,
    )
