"""How many images are optimised side by side, and how many ticks a call has. The first decides how sums are rounded."""

from __future__ import annotations

from jaxstyle.data.image import Size
from jaxstyle.planning.contract import Device

CALL_SECONDS = 1.0
"""Target duration of a call of the device."""


def ticks_of_call(ran: int, seconds: float) -> int:
    """Returns the ticks of the next call of the device, from those that the last one ran and its seconds."""
    return max(1, round(CALL_SECONDS * ran / max(seconds, 1e-6)))


def batch_sizes(batch: int, count: int = 1) -> list[int]:
    """Sizes that a batch may shrink to, largest first: each half of the one before, so that few are compiled.

    Args:
        count: of devices; all sizes are multiples of it.
    """
    sizes = [batch]
    while sizes[-1] > count:
        sizes.append(max(count, sizes[-1] // 2 // count * count))
    return sizes


def batch_size(batch: int, pending: int, count: int = 1) -> int:
    """The largest of `batch_sizes` that so many tasks fill; the smallest if they fill none. For `tail` = shrink."""
    return next(size for size in batch_sizes(batch, count) if size <= max(pending, count))


def chosen_batch(device: Device, bucket: Size, asked: int | str, shots: int = 0) -> int:
    """Most lanes of a bucket: the number asked for if it fits, or what the device prefers ("auto").

    Rounded up to a multiple of the devices.

    Args:
        shots: most images that there are side by side; 0 if nothing limits them.
    """
    wanted = device.preferred_batch(bucket) if asked == "auto" else min(int(asked), device.max_batch(bucket))
    wanted = min(wanted, shots or wanted)
    return -(-wanted // device.count) * device.count
