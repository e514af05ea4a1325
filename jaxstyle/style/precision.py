"""Which number type the convolutions have on this device."""

from __future__ import annotations

import jax


def precision(asked: str) -> str:
    """Resolves the precision of the convolutions: "auto" is bfloat16 on devices with fast units for it, else float32.

    NVIDIA GPUs have such units from compute capability 8 on; older ones are slower in bfloat16 than in float32.
    """
    if asked != "auto":
        return asked
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", None)  # "9.0" for an NVIDIA GPU, "gfx90a" for an AMD GPU
    old = isinstance(capability, str) and capability.partition(".")[0].isdecimal() and float(capability) < 8
    return "float32" if device.platform == "cpu" or old else "bfloat16"
