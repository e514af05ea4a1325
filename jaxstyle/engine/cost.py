"""What an image costs: bytes and floating-point operations, from shapes alone. (Provisional.)"""

from __future__ import annotations

from jaxstyle.data.image import Size
from jaxstyle.settings import CHANNELS, LAYERS, Objective, StylizeSettings


def evaluation_flops(bucket: Size, objective: Objective) -> int:
    used = {*objective.content_layers, *objective.style_layers}
    last = max(LAYERS.index(name) for name in used)
    total, channels = 0, 3
    for name in LAYERS[: last + 1]:
        scale = 2 ** (int(name[5]) - 1)
        pixels = (bucket[0] // scale) * (bucket[1] // scale)
        out = CHANNELS[name.split("_")[0]]
        total += 2 * 2 * 9 * channels * out * pixels
        channels = out
    return total


def lane_bytes(bucket: Size, settings: StylizeSettings) -> int:
    return bucket[0] * bucket[1] * (24 * settings.history + 2500)


def fixed_bytes(settings: StylizeSettings) -> int:
    return 200 * 2**20


def largest_batch(bucket: Size, settings: StylizeSettings, memory: int) -> int:
    return max(0, int(0.8 * memory - fixed_bytes(settings)) // lane_bytes(bucket, settings))


def host_memory() -> int:
    import os

    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
