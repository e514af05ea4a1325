"""Reads the settings of `render` and `plan` from a TOML file, and refuses what would otherwise be ignored."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jaxstyle import toml_file
from jaxstyle.coerce import kinds_of, nearest, shown, typed
from jaxstyle.errors import SettingsError, printable
from jaxstyle.paths import given_path
from jaxstyle.ray_settings import RaySettings
from jaxstyle.settings import RenderSettings

STYLES = str | tuple[str, ...]
FLAGS: dict[str, dict[str, Any]] = {
    "render": {
        "style": STYLES,
        "output": Path,
        "dry_run": bool,
        "json": bool,
        "measure": bool,
        "quiet": bool,
        "log_json": bool,
        **typing.get_type_hints(RaySettings),
    },
    "sweep": {"style": STYLES, "output": Path},
    "targets": {"output": Path},
    "plan": {"style": STYLES, "output": Path, "json": bool, "measure": bool},
}
"""Keys of each command's table beside the settings."""


def read(path: Path, command: str) -> dict[str, Any]:
    """Reads the values for a command, by name: those at the top, of [render], and of the command.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or has a key or value that is not a setting's; the message
            names the file and the key.
    """
    where = f"the settings file {printable(path)}"
    tables = toml_file.read(path, where)
    top = {name: value for name, value in tables.items() if not (name in FLAGS and isinstance(value, Mapping))}
    parts = [("", top, {"style": STYLES, "output": Path})]
    parts += [(f"[{name}] ", tables[name], FLAGS[name]) for name in FLAGS if isinstance(tables.get(name), Mapping)]
    values: dict[str, Any] = {}
    for table, entries, more in parts:
        checked = _checked(entries, more, table, where)
        if table not in ("", "[render] ", f"[{command}] "):
            continue
        for name in checked:
            if name in values:
                raise SettingsError(f"{where} has {name} twice, once in {table.strip()}", "Remove one of them.")
        values |= checked
    return {name: value for name, value in values.items() if name in FLAGS[command] or name in setting_types()}


@cache
def setting_types() -> dict[str, Any]:
    """The type of every setting, by name. Resolving the annotations takes a millisecond."""
    hints = typing.get_type_hints(RenderSettings)
    return {field.name: hints[field.name] for field in dataclasses.fields(RenderSettings)}


def _checked(entries: Mapping[str, Any], more: Mapping[str, Any], table: str, where: str) -> dict[str, Any]:
    """Returns the entries of a table by field name, each with a value of its field's type."""
    known, values = {**setting_types(), **more}, {}
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in known:
            tables = [f"[{one}]" for one in FLAGS]
            what = f"[{printable(key)}]" if isinstance(value, Mapping) and not table else printable(key)
            guess = nearest(what, tables if what.startswith("[") else known)
            raise SettingsError(f"{where} has an unknown key {table}{what}", f"{guess}Its keys are flags of render.")
        if name in values:
            raise SettingsError(f"{where} has {table}{name} twice", "Remove one of them.")
        if value in ("", []):
            raise SettingsError(f"{where} has an empty {table}{name}", "Give it a value, or leave it out.")
        good, _, allowed = typed(known[name], value)
        if not good or (isinstance(value, float) and not math.isfinite(value)):
            raise SettingsError(f"{where} has {table}{name} = {shown(value)}", f"It must be {allowed}.")
        values[name] = given_path(value, f"{where}: {table}{name}", SettingsError) if _is_path(known[name]) else value
    return values


def _is_path(hint: Any) -> bool:
    return Path in kinds_of(hint)
