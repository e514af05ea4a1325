"""Where a run's files lie, as settings.json records it for replays, and a run's settings from there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxstyle.data.layout import SETTINGS
from jaxstyle.data.rows import Row
from jaxstyle.errors import InputError
from jaxstyle.paths import is_url
from jaxstyle.settings import INITS, RULES, RenderSettings

PLACES = ("init", "assign", "content_masks", "style_masks", "weights")
"""Settings that are paths, or may be; settings.json compares what they hold."""


def places_of(
    inputs: Iterable[Path | str], style: Iterable[Path | str], settings: RenderSettings, source: str
) -> dict[str, Any]:
    """Where a run's files lie, for `jaxstyle replay`: absolute paths, URLs, and what else says how to read them."""
    found: dict[str, Any] = {
        "inputs": [one if is_url(one) else os.path.abspath(one) for one in inputs],
        "style": [os.path.abspath(one) for one in style],
    }
    values = {name: getattr(settings, name) for name in PLACES}
    found |= {
        name: os.path.abspath(value)
        for name, value in values.items()
        if value is not None and value not in (*INITS, *RULES)
    }
    extra = {"source": (source, "folders"), "dataset": (settings.dataset, None), "member": (settings.member, None)}
    extra["path_column"] = (settings.path_column, RenderSettings.path_column)
    return found | {name: value for name, (value, usual) in extra.items() if value != usual}


def settings_of(recorded: Mapping[str, Any], row: Row, places: Mapping[str, Any]) -> RenderSettings:
    """The settings of a run into a folder, from its settings.json.

    The batch is the row's, except of several scales, whose batches may differ and of which a row has the last.

    Raises:
        SettingsError, InputError: they are damaged, of another version, or name files that are not there.
    """
    values, about = recorded["decides"]["settings"], recorded["about"]
    names = {one.name for one in dataclasses.fields(RenderSettings)}
    chosen: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in values.items() if name in names
    }
    rounding = about.get("rounding")
    chosen |= {name: one for name, one in (rounding if isinstance(rounding, dict) else {}).items() if name in names}
    for name in ("scales", "evaluations"):
        if isinstance(chosen.get(name), tuple):
            chosen[name] = ",".join(map(str, chosen[name]))
    chosen["scales"] = chosen.get("scales") or "none"
    if chosen["scales"] == "none" and row.batch:
        chosen["batch"] = row.batch
    chosen["tail"] = "same"  # a batch that has shrunk is the row's
    chosen["styles"] = "assign" if recorded["decides"].get("style") == "assigned" else "blend"
    if row.input_size is not None:
        chosen["max_pixels"] = max(RenderSettings.max_pixels, row.input_size[0] * row.input_size[1])
    markers: dict[str, tuple[str, ...]] = {"init": ("a picture", "a folder"), "assign": ("a mapping",)}
    for name in PLACES:
        if name not in places and chosen.get(name) in markers.get(name, ("masks",)):
            raise InputError(
                f"{SETTINGS} does not say which file its {name} was", "It is of a version of jaxstyle without replay."
            )
        if name in places:
            chosen[name] = places[name]
    chosen |= {name: places[name] for name in ("dataset", "member", "path_column") if name in places}
    return RenderSettings(**chosen)
