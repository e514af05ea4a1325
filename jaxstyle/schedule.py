"""Reads the settings of coarse-to-fine optimisation: sizes, and evaluations at each, from texts such as "128,256"."""

from __future__ import annotations

import itertools
import re

from jaxstyle.architecture import STRIDE
from jaxstyle.coerce import check

_SEVERAL = r"\d{1,10}(,\d{1,10})+"


def sizes(scales: str, size: int) -> tuple[int, ...]:
    """Returns the lengths of the long side in pixels at which images are optimised, ascending; the last is `size`.

    Args:
        scales, size: see `RenderSettings`.

    Raises:
        SettingsError: `scales` is something else.
    """
    half = max(STRIDE, size // 2)
    if scales in ("none", "auto"):
        return (half, size) if scales == "auto" and half < size else (size,)
    found = _numbers(scales)
    rising = all(one < other for one, other in itertools.pairwise(found))
    allowed = f'none, auto, or ascending sizes from {STRIDE} to size, which is {size}, such as "{half},{size}"'
    check(len(found) > 1 and found[0] >= STRIDE and rising and found[-1] == size, "scales", scales, allowed)
    return found


def budgets(evaluations: int | str) -> tuple[int, ...]:
    """Returns the evaluations as given: one number, or one for each scale.

    Raises:
        SettingsError: they are something else.
    """
    found = (evaluations,) if isinstance(evaluations, int) else _numbers(evaluations)
    allowed = '1 to 1000000000 (a whole number), or one for each scale, as "120,80"'
    check(bool(found) and 1 <= min(found) <= max(found) <= 10**9, "evaluations", evaluations, allowed)
    return found


def divided(evaluations: int | str, number: int) -> tuple[int, ...]:
    """Returns the evaluations of each of `number` scales.

    One number is divided equally; what is left over goes to the last scale.

    Raises:
        SettingsError: they cannot be divided so.
    """
    found = budgets(evaluations)
    if len(found) == 1:
        check(found[0] >= number, "evaluations", evaluations, f"at least {number}, one for each scale")
        share = found[0] // number
        return (*[share] * (number - 1), found[0] - share * (number - 1))
    each = f"one number, or {number} numbers, one for each scale" if number > 1 else "one number, or give scales"
    check(len(found) == number, "evaluations", evaluations, each)
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if re.fullmatch(_SEVERAL, text) else ()
