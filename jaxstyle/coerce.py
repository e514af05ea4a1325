"""Converts values of settings to the types of their fields, or refuses them with a `SettingsError`."""

from __future__ import annotations

import operator
import os
import types
import typing
from pathlib import Path
from typing import Any, Literal

from jaxstyle.errors import SettingsError


def check(good: bool, name: str, value: Any, allowed: str) -> None:
    """Raises a `SettingsError` with the value and what is allowed, unless `good`."""
    if not good:
        raise SettingsError(f"{name} is {value!r}", f"It must be {allowed}.")


def normalise(settings: Any) -> None:
    """Converts every value to its field's type or refuses it; a caller from Python has no parser in front."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
        choices = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
        if value in choices if isinstance(value, str) else value is None and type(None) in kinds:
            continue
        for kind in kinds:
            made = _as(kind, value)
            if made is not None:
                object.__setattr__(settings, name, made)
                break
        else:
            allowed = choices + [_KINDS[kind] for kind in kinds if kind in _KINDS]
            raise SettingsError(f"{name} is {value!r}", f"It must be one of {', '.join(map(str, allowed))}.")


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
    try:
        if kind is bool:
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or kind not in _KINDS:
            return None
        if kind is int:
            return operator.index(value)
        if kind is float:
            return None if isinstance(value, str) else float(value)
        if kind in (str, Path):
            return kind(os.fspath(value))
        return None if isinstance(value, str) else tuple(str(v) if kind == tuple[str, ...] else float(v) for v in value)
    except (TypeError, ValueError):
        return None
