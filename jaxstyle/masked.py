"""Checks the settings of masks, and reads the colour of the region that is kept."""

from __future__ import annotations

import re
from pathlib import Path

from jaxstyle.coerce import check as _check
from jaxstyle.errors import SettingsError
from jaxstyle.presets import Objective

KEPT = {"black": "#000000", "white": "#ffffff"}
"""Names of colours."""
MOST = 16
"""Most regions."""


def check(content_masks: Path | None, style_masks: Path | None, regions: int, keep: str | None) -> None:
    """Checks the settings of masks, see `RenderSettings`.

    Raises:
        SettingsError: a value is invalid, or masks are given that would do nothing.
    """
    for name, path in (("content_masks", content_masks), ("style_masks", style_masks)):
        _check(path is None or path.exists(), name, path and str(path), "a folder of masks, or the path of one")
    _check(1 <= regions <= MOST, "regions", regions, f"1 to {MOST}")
    good = keep is None or keep in KEPT or re.fullmatch("#[0-9a-fA-F]{6}", keep)
    _check(bool(good), "keep", keep, "black, white, or #rrggbb")
    if content_masks is not None:
        if style_masks is None and keep is None:
            raise SettingsError("content_masks is given alone", "Give style_masks, or the colour to keep, or both.")
    elif style_masks is not None or keep is not None:
        name = "keep" if style_masks is None else "style_masks"
        raise SettingsError(f"{name} is given without content_masks", "Give the photographs' masks.")


def check_objective(tile: int | str, objective: Objective) -> None:
    """Checks that regions can be computed.

    Raises:
        SettingsError: they cannot.
    """
    for wrong, what in (
        (isinstance(tile, int), f"tile is {tile}"),
        (objective.style_loss == "w2", "style_loss is 'w2'"),
        (objective.histogram_weight, f"histogram_weight is {objective.histogram_weight:g}"),
    ):
        if wrong:
            raise SettingsError(f"{what} with masks", "Leave one out: regions have Gram matrices or moments, untiled.")


def colour(keep: str) -> int:
    """Returns a colour as a whole number: red, green and blue with 16 bits each."""
    red, green, blue = bytes.fromhex(KEPT.get(keep, keep)[1:])
    return 257 * (red << 32 | green << 16 | blue)
