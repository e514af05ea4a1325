"""Number types on this device: of the convolutions, and of float32 products."""

from __future__ import annotations

import jax


def precision(asked: str) -> str:
    """Resolves the precision of the convolutions: "auto" is bfloat16 on devices with fast units for it, else float32.

    NVIDIA GPUs have such units from compute capability 8 on; older ones are slower in bfloat16 than in float32. For a
    CPU's units see `model.choice`: "mixed" is float32 with some products in bfloat16, so here it is float32.
    """
    if asked == "mixed":
        return "float32"
    if asked != "auto":
        return asked
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", None)  # "9.0" for an NVIDIA GPU, "gfx90a" for an AMD GPU
    old = isinstance(capability, str) and capability.partition(".")[0].isdecimal() and float(capability) < 8
    return "float32" if device.platform == "cpu" or old else "bfloat16"


def is_gpu(platform: str) -> bool:
    """Tells whether a platform of JAX is one of GPUs; "cuda" and "rocm" are those of a described device."""
    return platform in ("gpu", "cuda", "rocm")


def highest_precision(function):
    """Makes a function compute float32 products in float32: by default some devices use TF32 or bfloat16."""

    def traced(*arguments):
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return traced
