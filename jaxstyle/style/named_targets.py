"""Style targets as arrays by name, for a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxstyle.errors import SettingsError


def as_arrays(targets: Any) -> dict[str, np.ndarray]:
    """Returns a tree of targets as arrays by name, such as "style/block1_conv1" and "style/block1_conv1/mean"."""
    found, _ = jax.tree_util.tree_flatten_with_path(targets)
    return {_name(path): np.asarray(array) for path, array in jax.device_get(found)}


def as_targets(arrays: Mapping[str, np.ndarray], like: Any, *, whole: bool = False) -> Any:
    """Returns arrays by name as a tree of targets.

    Args:
        like: targets of the same objective, see `Stylizer.no_targets`.
        whole: those are of one region, which is to have the arrays of whole pictures.

    Raises:
        SettingsError: an array is absent or has another shape.
    """

    def one(path: Any, zeros: Any) -> np.ndarray:
        found = arrays.get(_name(path))
        found = found[None] if whole and found is not None else found
        if found is None or found.shape != zeros.shape:
            what = "absent" if found is None else f"of shape {found.shape} instead of {zeros.shape}"
            raise SettingsError(
                f"the style targets {_name(path)} are {what} in the file", "Give the pictures themselves as --style."
            )
        return found

    return jax.device_put(jax.tree_util.tree_map_with_path(one, like))


def _name(path: Any) -> str:
    """Joins the keys and fields that lead to an array."""
    return "/".join(str(getattr(part, "key", getattr(part, "name", part))) for part in path)
