"""The combinations of `jaxstyle sweep`: flags with several values make several command lines."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxstyle.errors import SettingsError

MOST = 400
"""Combinations of a sweep."""
OWN_COMMAS = ("--scales", "--evaluations")
"""Flags whose values may have commas in them: their alternatives are separated by semicolons only."""


@dataclass(frozen=True)
class Variant:
    """One combination.

    Attributes:
        words: the command's words, with one value for each flag.
        values: the values that differ between the combinations, by flag.
    """

    words: tuple[str, ...]
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of its folder below the output."""
        return re.sub(r"[^\w.,=+-]", "_", " ".join(self._told())) or "result"

    @property
    def label(self) -> str:
        """What stands above its results."""
        return "\n".join(self._told())

    def _told(self) -> list[str]:
        return [f"{flag.removeprefix('--')}={value}" for flag, value in self.values.items()]


def variants(words: Sequence[str], flags: frozenset[str]) -> list[Variant]:
    """All combinations of the alternatives in the words, in their order; the last flag's values change fastest.

    `--style-weight 10,40` and `--scales 'none;128,256'` are two alternatives each.

    Args:
        flags: that may have alternatives.

    Raises:
        SettingsError: too many combinations.
    """
    parts: list[list[tuple[str, ...]]] = []
    varied: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag not in flags or not (equals or waiting):
            parts.append([(word,)])
            continue
        value = value if equals else waiting.pop(0)
        choices = [*dict.fromkeys(_split(flag, value))]
        varied += [flag] if len(choices) > 1 else []
        parts.append([(flag, choice) for choice in choices])
    number = math.prod(map(len, parts))
    if number > MOST:
        raise SettingsError(f"the sweep has {number} combinations", f"Give at most {MOST}.")
    found = []
    for chosen in itertools.product(*parts):
        values = {one[0]: one[1] for one in chosen if len(one) == 2 and one[0] in varied}
        found.append(Variant(tuple(word for one in chosen for word in one), values))
    return found


def _split(flag: str, value: str) -> list[str]:
    if ";" in value:
        return value.split(";")
    return [value] if flag in OWN_COMMAS else value.split(",")
