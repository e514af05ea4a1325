"""Converts values of settings to the types of their fields, or refuses them with a `SettingsError`.

No value is rounded or cut to fit: a fraction is no whole number, True is no number, and a text is none.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxstyle.errors import SettingsError
from jaxstyle.paths import given_path

Kind = typing.TypeVar("Kind")


def check(good: bool, name: str, value: Any, allowed: str) -> None:
    """Raises a `SettingsError` with the value and what is allowed, unless `good`."""
    if not good:
        raise SettingsError(f"{name} is {shown(value)}", f"It must be {allowed}.")


def shown(value: Any) -> str:
    """Formats a value for a message: at most 100 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def normalise(settings: Any) -> None:
    """Converts every value to its field's type or refuses it; a caller from Python has no parser in front."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        found = typed(hint, value)
        check(found.good, name, value, found.allowed)
        if Path in kinds_of(hint) and value is not None:
            found = found._replace(value=given_path(value, name, SettingsError))
        object.__setattr__(settings, name, found.value)


def combined(kind: type[Kind], settings: Kind | Mapping[str, Any] | None, overrides: Mapping[str, Any]) -> Kind:
    """Returns settings of a class with some fields replaced.

    Args:
        kind: `StylizeSettings` or `RenderSettings`.
        settings: one of that class, a mapping of its fields, or None for the defaults.
        overrides: fields to replace.

    Raises:
        SettingsError: a name is no field, or the settings are something else; a value is invalid.
    """
    if isinstance(settings, Mapping):
        overrides, settings = {**settings, **overrides}, None
    if not (settings is None or isinstance(settings, kind)):
        raise SettingsError(f"settings is {shown(settings)}", f"Give a {kind.__name__}, or a dict of its fields.")
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in overrides:
        if name not in names:
            raise SettingsError(f"{name!r} is no field of {kind.__name__}", nearest(str(name), names) + "See its help.")
    return kind(**overrides) if settings is None else settings.changed(**overrides)  # type: ignore[attr-defined]


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Returns "Did you mean ...? " for the name that looks most like this one, or "". `prefix` is put before it."""
    close = difflib.get_close_matches(name, list(names), 1, 0.6)
    return f"Did you mean {prefix}{close[0]}? " if close else ""


class Typed(NamedTuple):
    """A value of a field's type.

    Attributes:
        good: whether the value can be one of that type.
        allowed: the type, for messages.
    """

    good: bool
    value: Any
    allowed: str


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """Returns the types that a field's annotation allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def typed(hint: Any, value: Any) -> Typed:
    """Converts a value to the type of an annotation."""
    kinds = kinds_of(hint)
    choices = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    allowed = [*map(str, choices), *(_KINDS[kind] for kind in kinds if kind in _KINDS)]
    words = allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}"
    if value in choices if isinstance(value, str) else value is None and type(None) in kinds:
        return Typed(True, value, words)
    for kind in kinds:
        made = _as(kind, value)
        if made is not None:
            return Typed(True, made, words)
    return Typed(False, value, words)


_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    tuple[str, ...]: "several texts",
    tuple[float, ...]: "several numbers",
}
"""Types of settings as messages name them."""


def _as(kind: Any, value: Any) -> Any:
    """Converts the value to this type; returns None if that is impossible."""
    truth = isinstance(value, bool) or type(value).__name__ == "bool"  # numpy's, too
    if kind is bool:
        return bool(value) if truth else None
    if truth or kind not in _KINDS:
        return None
    if kind in (tuple[str, ...], tuple[float, ...]):
        return None if isinstance(value, str | bytes | Mapping | Set) else _several(typing.get_args(kind)[0], value)
    try:
        if kind is int:
            return operator.index(value)
        if kind is float:
            return None if isinstance(value, str | bytes | bytearray) else float(value)
        return kind(value) if isinstance(value, str | os.PathLike) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _several(kind: Any, values: Any) -> tuple[Any, ...] | None:
    try:
        made = tuple(_as(kind, value) for value in values)
    except TypeError:
        return None
    return None if None in made else made


def number_from(kind: type[int] | type[float], text: str) -> int | float | None:
    """Reads a number in the decimal system from a text; returns None if it is none of that type.

    A whole number has digits and a sign only: `1.5` and `1e2` are not rounded, and `0x10` and `1_0` may be mistakes.
    """
    try:
        if kind is int:
            return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        number = float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", text) else None
    except ValueError:
        return None
    return number if number is None or math.isfinite(number) else None
